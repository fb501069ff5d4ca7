"""Plugins of a real installed package: a folder with its metadata on the path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = '''
import json
import numpy as np
from saefilter.geometry.metrics import METRICS, Metric

def read_words(path):
    """One row per line: question | answer."""
    for line in open(path):
        question, _, answer = line.strip().partition("|")
        yield {"prompt": question, "completion": answer} if answer else None

half = Metric(
    "half", "half of nearest",
    lambda space, sample: METRICS["nearest"].proximity(space, sample) / 2,
    METRICS["nearest"].push,
)

def longest_first(candidates, selection):
    tokens = candidates.scores.read(["n_tokens"])["n_tokens"].to_numpy(zero_copy_only=False)
    return np.argsort(-tokens[candidates.row_ids], kind="stable")

def wordy(candidates, selection):
    from saefilter.select.ranking import Ranking
    words = [len(said[-1].content.split()) for said in candidates.conversations()]
    return Ranking.by_score(np.array(words), "words", "it is wordy", details={"counted": len(words)})

def lazy(candidates, selection):
    return [0, 0]
'''
ENTRIES = """
[saefilter.readers]
words = others:read_words
[saefilter.metrics]
half = others:half
broken = others:missing
[saefilter.strategies]
longest-first = others:longest_first
wordy = others:wordy
lazy = others:lazy
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    package = tmp_path / "site"
    info = package / "others-1.0.dist-info"
    info.mkdir(parents=True)
    (package / "others.py").write_text(CODE)
    (info / "entry_points.txt").write_text(ENTRIES)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (tmp_path / "d.words").write_text("Hi?|Hello.\nodd line\nWhy?|Because it is so, and long.\n")
    return tmp_path


def saefilter(folder: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "saefilter", *arguments], cwd=folder, text=True,
        capture_output=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": f"{folder / 'site'}:{os.environ.get('PYTHONPATH', '')}"},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_a_reader_a_metric_and_a_strategy_of_another_package(folder: Path) -> None:
    saefilter(folder, "score", "d.words", "--metric", "half", "-q")
    shown = saefilter(
        folder, "filter", "d.words", "--strategy", "longest-first", "--drop-count", "1",
        "-o", "f.jsonl",
    )  # fmt: skip
    assert "1 kept + 1 dropped + 1 quarantined = 3 rows in" in shown
    assert '"completion": "Hello."' in (folder / "f.jsonl").read_text()
    shown = saefilter(
        folder, "filter", "d.words", "--strategy", "wordy", "--drop-count", "1", "-o", "g.jsonl"
    )
    assert "first by wordy, words from 6.000" in shown
    (dropped,) = (folder / "g.dropped.jsonl").read_text().splitlines()
    row = json.loads(dropped)
    assert (row["saefilter_score"], row["saefilter_reason"]) == (6.0, "it is wordy")
    assert json.loads((folder / "g.report.json").read_text())["selection"]["details"] == {
        "counted": 2
    }


@pytest.mark.slow
def test_mistakes_of_plugins_are_errors_with_their_names(folder: Path) -> None:
    shown = saefilter(folder, "score", "d.words", "--metric", "broken", code=2)
    assert "the plugin others:missing cannot be loaded (AttributeError" in shown
    shown = saefilter(folder, "score", "d.words", "--metric", "none", code=2)
    assert "Metrics: contrast, probe" in shown
    assert "half" in shown
    saefilter(folder, "score", "d.words", "-q")
    shown = saefilter(folder, "filter", "--strategy", "lazy", "--drop-count", "1", code=2)
    assert "the strategy 'lazy' did not order the 2 scored rows" in shown
    shown = saefilter(folder, "filter", "--strategy", "none", "--drop-count", "1", code=2)
    assert "Strategies: closest, chosen-side, random, " in shown
    assert ", lazy, longest-first, wordy." in shown


def test_nothing_of_a_package_is_imported_unasked(folder: Path) -> None:
    (folder / "site/others.py").write_text("raise SystemExit('imported')")
    (folder / "d.jsonl").write_text('{"text": "Hello there."}\n')
    saefilter(folder, "score", "d.jsonl", "-q")
