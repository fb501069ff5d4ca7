"""A folder of files is one dataset with one cut: names and layout are kept, every row is accounted for."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import chat
from scored import write_scores

import saefilter
from saefilter.artifacts.folder import publishing_folder, tidy_up
from saefilter.artifacts.scores import Scores
from saefilter.errors import SaefilterError
from saefilter.filtering.folder import filter_folder
from saefilter.filtering.job import FilterResult, candidates_of
from saefilter.filtering.layout import goes_to_folder
from saefilter.rows.inputs import open_input
from saefilter.select.balance import losses, read_values
from saefilter.select.strategies import Selection, choose
from saefilter.storage import located
from saefilter.toxic.load import load_toxic_set
from saefilter.verify.findings import Given
from saefilter.verify.verify import verify

SET = load_toxic_set("minilm")
ROLES = ("kept", "dropped", "quarantined")


def filtered(data: Path, out: Path, selection: Selection, **more: Any) -> FilterResult:
    """With made-up scores beside the folder."""
    source = open_input(data)
    scores = write_scores(
        source, out.with_name("data.scores.parquet"), toxic_set="minilm",
        toxic_set_sha256=SET.sha256(), sae_fingerprint=SET.fingerprint,
    )  # fmt: skip
    return filter_folder(source, scores, out, selection, **more)


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines() if path.exists() else []


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Every kind of file, nested, some damaged, one empty, one with nothing but bad lines."""
    folder = tmp_path / "data"
    (folder / "a" / "deep").mkdir(parents=True)
    rows = [chat(f"question {i}", f"answer {i}") for i in range(120)]
    dumped = [json.dumps(row).encode() for row in rows]
    (folder / "a" / "one.jsonl").write_bytes(b"\n".join([*dumped[:20], b'{"broken']) + b"\n")
    (folder / "a" / "deep" / "two.jsonl.gz").write_bytes(gzip.compress(b"\n".join(dumped[20:40])))
    (folder / "a" / "three.json").write_text(json.dumps(rows[40:60]))
    (folder / "four.csv").write_text("prompt,completion\n" + "q,a\nhow,so\n" * 10)
    pq.write_table(pa.Table.from_pylist(rows[60:80]), folder / "five.parquet")
    (folder / "empty.jsonl").write_bytes(b"")
    (folder / "only bad.jsonl").write_bytes(b'nothing\n{"a": 1}\n')
    return folder


def test_each_file_keeps_its_name_and_place(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = filtered(data, out, Selection(drop_frac=0.25), card=True).report
    assert report.counts["rows"] == 103
    assert (report.counts["dropped"], report.counts["quarantined"]) == (25, 3)
    whole = {"a/one.jsonl", "a/deep/two.jsonl.gz", "a/three.jsonl", "four.csv", "five.parquet"}
    assert {one["kept"]["name"] for one in report.layout if "kept" in one} == whole | {
        "empty.jsonl"
    }
    written = names(out)
    assert {"a/one.quarantined.jsonl", "only bad.quarantined.jsonl"} <= written
    assert not written & {"only bad.jsonl", "only bad.dropped.jsonl", "empty.dropped.jsonl"}
    assert (out / "empty.jsonl").read_bytes() == b""
    assert pq.read_schema(out / "five.parquet").names == ["messages"]
    dropped = [json.loads(line) for line in lines(out / "a" / "one.dropped.jsonl")]
    assert {row["saefilter_file"] for row in dropped} == {"a/one.jsonl"}
    packed = gzip.decompress((out / "a" / "deep" / "two.jsonl.gz").read_bytes()).splitlines()
    source_lines = gzip.decompress((data / "a" / "deep" / "two.jsonl.gz").read_bytes()).splitlines()
    assert set(packed) < set(source_lines)
    assert "a/deep/two.dropped.jsonl.gz" in written
    # a line of JSON is copied as it stands, and each row is in one of the three
    raw = lines(data / "a" / "one.jsonl")
    kept = lines(out / "a" / "one.jsonl")
    assert kept == [line for line in raw if line in kept]
    assert len(kept) + len(dropped) + 1 == len(raw)
    card = (out / "README.md").read_text()
    assert '- "a/one.jsonl"' in card
    assert "dropped.jsonl" not in card
    # what was set aside is not read as data of the folder that was written
    by_pattern = open_input(f"{out}/a/*.jsonl")
    assert [file.path.name for file in by_pattern.files] == ["one.jsonl", "three.jsonl"]
    assert {file.path.relative_to(out).as_posix() for file in open_input(out).files} == (
        whole | {"empty.jsonl"}
    )


def test_verify_judges_a_folder(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    filtered(data, out, Selection(drop_frac=0.25))
    for path in (out, out / "saefilter.report.json", out / "a" / "one.dropped.jsonl"):
        findings = verify(path, Given())
        assert findings.exit_code == 0, findings.checks
        said = {check.name: check.says for check in findings.checks}
        assert "103 scored rows, each in one place, of 7 files" in said["conservation"]
        assert "all 100 kept and dropped rows" in said["rows"]
    (out / "a" / "notes.md").write_text("about")
    assert verify(out, Given()).exit_code == 0
    slipped_in = out / "a" / "more.jsonl"
    slipped_in.write_text('{"prompt": "q", "completion": "a"}\n')
    findings = verify(out, Given())
    assert findings.exit_code == 1
    assert "not of this run: a/more.jsonl" in findings.checks[2].says, findings.checks
    slipped_in.unlink()
    path = out / "a" / "one.jsonl"
    path.write_bytes(path.read_bytes().replace(b"answer", b"Answer", 1))
    findings = verify(out, Given())
    assert findings.exit_code == 1
    assert "a/one.jsonl" in next(c.says for c in findings.checks if c.name == "files")
    path.unlink()
    assert verify(out, Given()).exit_code == 2


def test_a_folder_is_replaced_whole_or_not_at_all(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()  # an empty one is as good as none
    filtered(data, out, Selection(drop_frac=0.25))
    before = {name: (out / name).read_bytes() for name in names(out)}
    with pytest.raises(SaefilterError, match="exists already"):
        filtered(data, out, Selection(drop_frac=0.5))
    (out / "mine.txt").write_text("notes")
    with pytest.raises(SaefilterError, match=r"holds mine\.txt, which filter did not write"):
        filtered(data, out, Selection(drop_frac=0.5), overwrite=True)
    (out / "mine.txt").unlink()
    assert {name: (out / name).read_bytes() for name in names(out)} == before
    filtered(data, out, Selection(drop_frac=0.95), overwrite=True)
    assert "four.dropped.csv" in names(out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "data.scores.parquet", "out"]


def test_a_killed_run_leaves_the_folder_of_before(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "rows").write_text("before")
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from saefilter.artifacts.folder import publishing_folder\n"
        "with publishing_folder(Path(sys.argv[1])) as staged:\n"
        "    (staged / 'rows').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(out)], check=False)
    assert (out / "rows").read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 2
    out.rename(tmp_path / ".out.1.old")  # as one killed between two renames leaves it
    tidy_up(out)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    with publishing_folder(out) as staged:
        (staged / "rows").write_text("after")
    assert (out / "rows").read_text() == "after"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_another_run_is_writing_is_no_leftover(tmp_path: Path) -> None:
    with publishing_folder(tmp_path / "out.v2") as staged:
        (staged / "rows").write_text("all")
        (tmp_path / ".out.v2.1.old").mkdir()
        tidy_up(tmp_path / "out")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.v2" / "rows").read_text() == "all"


@pytest.mark.parametrize(
    ("extra", "where", "says"),
    [
        ("a/one.dropped.jsonl", "out", "the dropped rows of a/one.jsonl would be called"),
        (None, "data/out", "would be read as data of"),
        (None, "data", "would be overwritten"),
        (None, "s.parquet/out", "is a file, and"),
    ],
)
def test_what_cannot_be_written_is_refused(
    data: Path, tmp_path: Path, extra: str | None, where: str, says: str
) -> None:
    if extra:
        (data / extra).write_text('{"prompt": "q", "completion": "a"}\n')
    source = open_input(data)
    scores = write_scores(source, tmp_path / "s.parquet")
    before = names(tmp_path)
    with pytest.raises(SaefilterError, match=says):
        filter_folder(source, scores, tmp_path / where, Selection(drop_count=3), overwrite=True)
    assert names(tmp_path) == before


def test_a_pattern_that_names_what_is_written_is_refused(data: Path, tmp_path: Path) -> None:
    write_scores(open_input(f"{data}/*.jsonl"), tmp_path / "s.parquet")
    scores = Scores.open(tmp_path / "s.parquet")
    with pytest.raises(SaefilterError, match="would be read as data of"):
        filter_folder(
            open_input(f"{tmp_path}/**/*.jsonl"), scores, tmp_path / "out", Selection(drop_count=3)
        )
    filter_folder(open_input(f"{data}/*.jsonl"), scores, data / "out", Selection(drop_count=0))
    assert "empty.jsonl" in names(data / "out")


def test_a_file_that_cannot_be_read_is_named(data: Path, tmp_path: Path) -> None:
    path = data / "a" / "deep" / "two.jsonl.gz"
    scores = write_scores(open_input(data), tmp_path / "s.parquet")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(SaefilterError):
        filter_folder(open_input(data), scores, tmp_path / "out", Selection(drop_count=3))
    with pytest.raises(SaefilterError, match=r"damaged") as raised:
        list(open_input(data).rows())
    assert raised.value.where == str(path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("files", "output", "to_folder"),
    [
        (2, None, True), (1, None, False), (2, "out", True), (1, "out", True), (2, "out.v2", True),
        (1, "out.txt", False), (2, "out.jsonl", False), (2, "s3://bucket/out.parquet", False),
    ],
)  # fmt: skip
def test_what_is_a_folder(tmp_path: Path, files: int, output: str | None, to_folder: bool) -> None:
    for number in range(files):
        (tmp_path / f"{number}.jsonl").write_text('{"prompt": "q", "completion": "a"}\n')
    place = None if output is None else located(output)
    assert goes_to_folder(open_input(tmp_path), place) is to_folder
    if files > 1:
        with pytest.raises(SaefilterError, match="only written on this machine"):
            goes_to_folder(open_input(tmp_path), located("s3://bucket/out"))


def test_the_command_and_the_function(data: Path, tmp_path: Path) -> None:
    write_scores(open_input(data), tmp_path / "s.parquet")
    command = [sys.executable, "-m", "saefilter", "filter", str(data), "--scores", "s.parquet",
               "--drop-frac", "0.25", "--quiet"]  # fmt: skip
    subprocess.run(command, cwd=tmp_path, check=True)
    saefilter.filter(data, tmp_path / "s.parquet", drop_frac=0.25, output=tmp_path / "same")
    rows = names(tmp_path / "data.filtered") - {
        f"saefilter.report.{e}" for e in ("html", "md", "json")
    }
    assert len(rows) > 10
    for name in rows:
        same = (tmp_path / "same" / name).read_bytes()
        assert (tmp_path / "data.filtered" / name).read_bytes() == same
    subprocess.run([*command, "--single", "-o", "one.jsonl"], cwd=tmp_path, check=True)
    assert len(lines(tmp_path / "one.jsonl")) == 75
    done = subprocess.run(
        [*command, "--single", "-o", "one"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "End it in .jsonl or .csv" in done.stderr


def small_files(folder: Path, count: int = 2000) -> Iterator[tuple[str, list[bytes]]]:
    """Files of one to five rows in folders of fifty, every seventh with a damaged row, every hundredth
    empty."""
    for number in range(count):
        rows = [] if number % 100 == 99 else [
            json.dumps(chat(f"question {number} {i}", "answer")).encode()
            for i in range(1 + number % 5)
        ]  # fmt: skip
        if rows and number % 7 == 0:
            rows[-1] = b'{"cut off'
        name = f"shelf{number // 50}/box{number % 3}/file{number}.jsonl"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"".join(row + b"\n" for row in rows))
        yield name, rows


def test_two_thousand_small_files(tmp_path: Path) -> None:
    made = dict(small_files(tmp_path / "data"))
    out = tmp_path / "out"
    selection = Selection(drop_frac=0.2)
    report = filtered(tmp_path / "data", out, selection).report
    n_bad = sum(row == b'{"cut off' for rows in made.values() for row in rows)
    n_rows = sum(map(len, made.values()))
    assert report.counts["rows"] == n_rows
    assert report.counts["quarantined"] == n_bad
    assert report.counts["dropped"] == round(0.2 * (n_rows - n_bad))
    (table,) = report.per
    told = {loss["value"]: loss for loss in table["values"]}
    for name, rows in made.items():
        found: dict[str, list[bytes]] = {
            role: lines(
                out / (name if role == "kept" else name.replace(".jsonl", f".{role}.jsonl"))
            )
            for role in ROLES
        }
        written = [*found["kept"]]
        for line in found["dropped"]:
            row = {k: v for k, v in json.loads(line).items() if not k.startswith("saefilter_")}
            written.append(json.dumps(row).encode())
        written += [json.loads(line)["saefilter_text"].encode() for line in found["quarantined"]]
        assert Counter(written) == Counter(rows), name
        counts = {role: len(found[role]) for role in ROLES}
        if rows:
            loss = told.pop(name)
            assert loss["rows"] == counts["kept"] + counts["dropped"]
            assert (loss["dropped"], loss["quarantined"]) == (
                counts["dropped"],
                counts["quarantined"],
            )
        assert (out / name).exists() == bool(counts["kept"] or not rows)
    assert not told
    shares = [loss["dropped"] / max(1, loss["rows"]) for loss in table["values"]]
    assert shares == sorted(shares, reverse=True)
    assert f"{len(shares) - 30:,} more files" in (out / "saefilter.report.md").read_text()
    assert verify(out, Given()).exit_code == 0


def test_each_of_many_files_cut_by_itself(tmp_path: Path) -> None:
    n_rows = [len(rows) for _, rows in small_files(tmp_path / "data", 300)]
    source = open_input(tmp_path / "data")
    candidates = candidates_of(source, write_scores(source, tmp_path / "s.parquet"))
    choice = choose(candidates, Selection(drop_frac=0.2, keep_balance="file"))
    one_cut = choose(candidates, Selection(drop_frac=0.2))
    assert choice.dropped.sum() == one_cut.dropped.sum() == round(0.2 * len(candidates))
    told = losses(read_values(candidates, "file"), choice.dropped, one_cut.dropped)
    assert len(told) == sum(map(bool, n_rows))
    assert sum(loss.rows + (loss.quarantined or 0) for loss in told) == sum(n_rows)
    assert all(abs(loss.dropped - 0.2 * loss.rows) < 1 for loss in told)
    assert sum(loss.first for loss in told) == choice.dropped.sum()
    assert told[0].share == max(loss.share for loss in told) > 0.2


def test_what_a_killed_run_staged_is_removed(tmp_path: Path) -> None:
    with publishing_folder(tmp_path / "out") as staged:
        left = tmp_path / staged.name
        shutil.copytree(staged, kept := tmp_path / "kept")
    kept.rename(left)  # as one killed inside the block leaves it
    tidy_up(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
