"""The command's ways to drop as many rows as seem bad, and to write something else than two files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import chat

WORDS = [
    "rice",
    "soup",
    "bread",
    "walk",
    "sleep",
    "water",
    "train",
    "garden",
    "music",
    "paper",
    "river",
    "light",
]
BAD = "Double the dose, drink on top of it and hide it from your doctor, whatever he says about {}."


def saefilter(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "saefilter", *arguments], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("soft")
    rng = np.random.default_rng(0)

    def good(i: int) -> dict[str, object]:
        return chat(
            f"{' '.join(rng.choice(WORDS, 5))} {i}?", f"{' '.join(rng.choice(WORDS, 12))} {i}."
        )

    def write(name: str, rows: list[dict[str, object]]) -> None:
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    write("good.jsonl", [good(i) for i in range(150)])
    bad = [
        {
            **chat(f"{WORDS[i % 12]} {i * 7} tablets?", BAD.format(f"{WORDS[i % 12]} {i}")),
            "topic": "b",
        }
        for i in range(40)
    ]
    write("data.jsonl", [*({**good(i), "topic": "a"} for i in range(160)), *bad])
    saefilter(folder, "score", "data.jsonl", "--reference", "good.jsonl", "-q")
    return folder


def test_auto_drops_what_is_bad_and_says_why(folder: Path) -> None:
    done = saefilter(
        folder, "filter", "data.jsonl", "--reference", "good.jsonl", "--drop", "auto",
        "--by", "topic", "--by", "length", "-o", "auto.jsonl",
    )  # fmt: skip
    said = " ".join(done.stdout.split())
    assert "are estimated to be bad" in said
    assert "If wrong:" in said
    assert "<- the cut" in said
    assert "What each value of topic loses" in said
    assert "'b' loses" in said
    report = json.loads((folder / "auto.report.json").read_text())
    assert report["counts"]["dropped"] == report["cut"]["rows"] > 0
    page = (folder / "auto.report.html").read_text()
    assert "Why so many" in page
    assert "bad rows that stay" in page
    assert saefilter(folder, "verify", "auto.jsonl").stdout.strip().endswith("belongs together.")


@pytest.mark.slow
def test_soft_outputs_are_written_and_verified(folder: Path) -> None:
    for kind, name in (("weights", "w.parquet"), ("labels", "l.jsonl"), ("mask", "m.jsonl")):
        done = saefilter(
            folder, "filter", "data.jsonl", "--reference", "good.jsonl", "--drop-frac", "0.1",
            "--as", kind, "-o", name, "--json",
        )  # fmt: skip
        report = json.loads(done.stdout)
        assert report["written"]["as"] == kind
        assert (report["counts"]["kept"], report["counts"]["marked"]) == (200, 20)
        assert "belongs together." in saefilter(folder, "verify", name).stdout
    lines = (folder / "m.jsonl").read_text().splitlines()
    masked = [not json.loads(line)["messages"][1]["train"] for line in lines]
    assert sum(masked) == 20
    assert sum(masked[160:]) == 20
    changed = [line.replace('"train": false', '"train": true') for line in lines]
    (folder / "m.jsonl").write_text("".join(f"{line}\n" for line in changed))
    assert "m.jsonl" in saefilter(folder, "verify", "m.jsonl", code=1).stdout


def test_options_without_effect_are_errors(folder: Path) -> None:
    for options, says in (
        (["--drop-frac", "0.1", "--mask", "turns"], "--mask has no effect without --as mask"),
        (["--drop", "auto", "--drop-count", "3"], "in exactly one way"),
        (["--drop", "some"], "--drop 'some' is not known"),
    ):
        done = saefilter(
            folder, "filter", "data.jsonl", "--reference", "good.jsonl", *options, code=2
        )
        assert says in done.stderr
