"""examples/plugin as an installed package: its files with the metadata that its pyproject.toml gives."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """What pip makes of it, but for the record of its files."""
    project = tomllib.loads((EXAMPLES / "plugin/pyproject.toml").read_text())["project"]
    info = tmp_path / "site" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    shutil.copytree(
        EXAMPLES / "plugin/saefilter_example", tmp_path / "site/saefilter_example",
        ignore=shutil.ignore_patterns("__pycache__"),
    )  # fmt: skip
    groups = project["entry-points"].items()
    lines = [
        line
        for group, entries in groups
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    return tmp_path / "site"


def saefilter(site: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "saefilter", *arguments], cwd=site.parent, text=True,
        capture_output=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": f"{site}:{os.environ.get('PYTHONPATH', '')}"},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_its_metric_and_its_strategy_work_from_the_command_line(site: Path) -> None:
    lines = (EXAMPLES / "advice.jsonl").read_bytes().splitlines(keepends=True)
    (site.parent / "d.jsonl").write_bytes(b"".join(lines[:120]))
    saefilter(site, "score", "d.jsonl", "--metric", "sharp-nearest", "-o", "s.parquet", "-q")
    saefilter(site, "score", "d.jsonl", "-q")
    saefilter(
        site, "filter", "d.jsonl", "--strategy", "in-turn", "--drop-count", "12", "-o", "f.jsonl", "-q"
    )  # fmt: skip
    rows = [json.loads(line) for line in (site.parent / "f.dropped.jsonl").read_text().splitlines()]
    reasons = [row["saefilter_reason"] for row in rows]
    firsts = [reason for reason in reasons if reason.startswith("number 1 of ")]
    assert len(firsts) > 4  # the closest of so many themes
    assert len(set(reasons)) == 12
    themes = json.loads((site.parent / "f.report.json").read_text())["selection"]["details"][
        "themes"
    ]
    assert f"number 1 of {max(themes, key=themes.get)}" in firsts

    broken = site / "saefilter_example/strategy.py"
    broken.write_text(broken.read_text().replace("found[0]", "found[9]"))
    shown = saefilter(
        site, "filter", "d.jsonl", "--strategy", "in-turn", "--drop-count", "12", "-o", "g.jsonl",
        code=2,
    )  # fmt: skip
    assert shown.splitlines()[-1].startswith(
        "saefilter: the strategy 'in-turn' of saefilter-example 0.1.0 (saefilter_example.strategy:in_turn) failed "
        "(IndexError: list index out of range, in strategy.py line "
    )
