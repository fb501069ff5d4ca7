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
    print("counting words")
    return Ranking.by_score(np.array(words), "words", "it is wordy", details={"counted": len(words)})

def lazy(candidates, selection):
    return [0, 0]

def divides(candidates, selection):
    return np.arange(len(candidates)) if 1 / 0 else None

def wants(candidates, selection):
    from saefilter import SaefilterError
    raise SaefilterError("there is no column 'age'", remedy="Add one.")

def leaves(candidates, selection):
    raise SystemExit("bye")

def panics(candidates, selection):
    class PanicException(BaseException):  # as pyo3 has it
        pass
    raise PanicException("index out of bounds")

def fills(candidates, selection):
    return bytearray(1 << 60)

def read_torn(path):
    yield {"text": "Tea."}
    raise EOFError("the file ends in\\na row")

flat = Metric("flat", "nothing", lambda space, sample: [float("nan")] * 7, half.push)
pushy = Metric("pushy", "nothing", half.proximity, lambda space: space.missing)
'''
ENTRIES = """
[saefilter.readers]
words = others:read_words
torn = others:read_torn
[saefilter.metrics]
half = others:half
broken = others:missing
flat = others:flat
pushy = others:pushy
words = others:read_words
[saefilter.strategies]
longest-first = others:longest_first
wordy = others:wordy
lazy = others:lazy
divides = others:divides
wants = others:wants
leaves = others:leaves
panics = others:panics
fills = others:fills
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
    shown = saefilter(
        folder,
        "filter",
        "d.words",
        "--strategy",
        "wordy",
        "--drop-count",
        "1",
        "-o",
        "h.jsonl",
        "--json",
    )
    said, _, printed = shown.partition("counting words")  # which comes behind, on standard error
    assert json.loads(said)["counts"]["dropped"] == 1
    assert printed == "\n"
    row = json.loads(dropped)
    assert (row["saefilter_score"], row["saefilter_reason"]) == (6.0, "it is wordy")
    assert json.loads((folder / "g.report.json").read_text())["selection"]["details"] == {
        "counted": 2
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("score", "d.words", "--metric", "broken"),
            "the metric 'broken' of others 1.0 (others:missing) cannot be loaded (AttributeError: module 'others' "
            "has no attribute 'missing').",
        ),
        (
            ("score", "d.words", "--metric", "words"),
            "the metric 'words' of others 1.0 (others:read_words) is no saefilter.geometry.metrics.Metric, but a function.",
        ),
        (
            ("score", "d.words", "--metric", "flat"),
            "the metric 'flat' of others 1.0 (others:flat) gave float64 of shape [7] where 3 finite numbers were due.",
        ),
        (
            ("score", "d.words", "--metric", "pushy"),
            "the metric 'pushy' of others 1.0 (others:pushy) failed (AttributeError: 'FeatureSpace' object has no attribute "
            "'missing', in others.py line 54).",
        ),
        (
            ("score", "d.torn"),
            "d.torn: the reader 'torn' of others 1.0 (others:read_torn) failed after row 1 (EOFError: the file ends in a "
            "row, in others.py line 51).",
        ),
    ],
)  # fmt: skip
def test_a_failure_is_told_as_the_plugins(
    folder: Path, arguments: tuple[str, ...], told: str
) -> None:
    (folder / "d.torn").write_text("")
    assert told_by(folder, *arguments).startswith(told + TO_DO)


TO_DO = " Tell its authors, or update or uninstall that package."


def told_by(folder: Path, *arguments: str) -> str:
    """The one line of an error."""
    return saefilter(folder, *arguments, code=2).splitlines()[-1].removeprefix("saefilter: ")


def test_a_strategy_that_fails_is_told_by_its_name(folder: Path) -> None:
    (folder / "d.jsonl").write_text('{"text": "Hello there."}\n{"text": "And so on."}\n')
    saefilter(folder, "score", "d.jsonl", "-q")
    of = "the strategy '{0}' of others 1.0 (others:{0}) "
    for name, told in (
        ("lazy", f"{of}did not order the 2 scored rows, each once.{TO_DO}"),
        ("divides", f"{of}failed (ZeroDivisionError: division by zero, in others.py line 32).{TO_DO}"),
        ("wants", f"{of}says: there is no column 'age'. Add one."),
        ("leaves", f"{of}failed (SystemExit: bye, in others.py line 39).{TO_DO}"),
    ):  # fmt: skip
        found = told_by(folder, "filter", "--strategy", name, "--drop-count", "1", "-o", "f.jsonl")
        assert found == told.format(name)
    found = told_by(folder, "filter", "--strategy", "panics", "--drop-count", "1", "-o", "f.jsonl")
    assert found.startswith(of.format("panics") + "failed (PanicException: index out of bounds, in")
    found = told_by(folder, "filter", "--strategy", "fills", "--drop-count", "1", "-o", "f.jsonl")
    assert found == "there is not enough memory for this. Give it more, or fewer rows"
    assert not (folder / "f.jsonl").exists()


@pytest.mark.slow
def test_names_that_are_not_there_are_errors_with_those_that_are(folder: Path) -> None:
    shown = saefilter(folder, "score", "d.words", "--metric", "none", code=2)
    assert "Metrics: contrast, probe" in shown
    assert "half" in shown
    saefilter(folder, "score", "d.words", "-q")
    shown = saefilter(folder, "filter", "--strategy", "none", "--drop-count", "1", code=2)
    assert "Strategies: closest, chosen-side, random, " in shown
    assert ", longest-first, panics, wants, wordy." in shown


def test_nothing_of_a_package_is_imported_unasked(folder: Path) -> None:
    (folder / "site/others.py").write_text("raise SystemExit('imported')")
    (folder / "d.jsonl").write_text('{"text": "Hello there."}\n')
    saefilter(folder, "score", "d.jsonl", "-q")
