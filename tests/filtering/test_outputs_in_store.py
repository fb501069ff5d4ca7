"""Filtered rows in a store: several files that count together or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from s3_server import Store, s3_server
from scored import ROWS, write_scores

from saefilter.artifacts.scores import Scores
from saefilter.errors import SaefilterError
from saefilter.filtering.filter import filter_file
from saefilter.rows.inputs import open_input
from saefilter.select.strategies import Selection
from saefilter.storage import RemotePath, located, names_in
from saefilter.verify.findings import Given
from saefilter.verify.verify import verify

MADE = {
    "clean.jsonl", "clean.dropped.jsonl", "clean.quarantined.jsonl", "clean.report.json",
    "clean.report.html", "clean.report.md", "clean.manifest.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with s3_server() as running:
        yield running


@pytest.fixture
def scored(jsonl: Callable[..., Path], tmp_path: Path) -> tuple[Path, Path]:
    """Data and its scores."""
    data = jsonl([*ROWS, {"no": "conversation"}])
    write_scores(open_input(data), tmp_path / "data.scores.parquet")
    return data, tmp_path / "data.scores.parquet"


def remote(store: Store, name: str) -> RemotePath:
    place = located(store.url(name))
    assert isinstance(place, RemotePath)
    return place


def test_outputs_are_those_of_a_folder_and_verify(
    store: Store, scored: tuple[Path, Path], tmp_path: Path
) -> None:
    data, scores = scored
    output = remote(store, "whole/clean.jsonl")
    with store.fault(busy=lambda n, line: n % 12 == 0, cut=lambda n, line: n % 5 == 0):
        filter_file(open_input(data), Scores.open(scores), output, Selection(drop_frac=0.25))
    filter_file(
        open_input(data), Scores.open(scores), tmp_path / "clean.jsonl", Selection(drop_frac=0.25)
    )
    assert names_in(output.parent) == MADE
    for name in filter(lambda name: name.endswith(".jsonl"), MADE):
        assert output.with_name(name).read_bytes() == (tmp_path / name).read_bytes(), name
    findings = verify(output, Given(input=str(data), scores=scores, toxic_set=None))
    statuses = {check.name: check.status for check in findings.checks}
    assert statuses["kept"] == statuses["conservation"] == statuses["rows"] == "ok"
    assert findings.artifact == output
    assert len(list(open_input(str(output)).rows())) == 30
    assert len(list(open_input(str(output.parent)).rows())) == 30  # not what it dropped
    output.with_name("clean.dropped.jsonl").write_bytes(b"")
    with pytest.raises(SaefilterError, match=r"clean.dropped.jsonl is not what its manifest says"):
        verify(output, Given())
    with pytest.raises(SaefilterError, match=r"s3://.*clean.jsonl exists already"):
        filter_file(open_input(data), Scores.open(scores), output, Selection(drop_frac=0.5))


def test_a_run_killed_before_its_manifest_leaves_nothing_that_can_be_read(
    store: Store, scored: tuple[Path, Path]
) -> None:
    data, scores = scored
    output = remote(store, "killed/clean.jsonl")
    begun = []

    def last(line: str) -> bool:
        if line.startswith("PUT") and "clean.manifest.json" in line:
            begun.append(line)
        return len(begun) == 2  # the first says that files are on their way

    command = ["filter", str(data), "--scores", str(scores), "-o", str(output), "--drop-frac"]
    with store.fault(hold=last) as fault:
        run = subprocess.Popen([sys.executable, "-m", "saefilter", *command, "0.25"])
        try:
            assert fault.reached.wait(60), store.lines
        finally:
            run.kill()
            run.wait()
    assert names_in(output.parent) == MADE | {".clean.jsonl.lock"}  # all there, and yet not
    for name in (output, output.parent, f"{output.parent}/*.jsonl"):
        with pytest.raises(SaefilterError, match="of a run of filter that has not ended"):
            open_input(str(name))
    with pytest.raises(SaefilterError, match="of a run of filter that has not ended"):
        verify(output.with_name("clean.report.json"), Given())
    again = subprocess.run(
        [sys.executable, "-m", "saefilter", *command, "0.5", "-q"], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert names_in(output.parent) == MADE
    assert len(list(open_input(str(output)).rows())) == 20


def test_what_a_manifest_does_not_name_is_not_read(store: Store, scored: tuple[Path, Path]) -> None:
    data, scores = scored
    output = remote(store, "named/clean.jsonl")
    filter_file(open_input(data), Scores.open(scores), output, Selection(drop_frac=0.25))
    manifest = output.with_name("clean.manifest.json")
    said = json.loads(manifest.read_text())
    assert set(said["files"]) == MADE - {"clean.manifest.json"}
    del said["files"]["clean.quarantined.jsonl"]
    manifest.write_bytes(json.dumps(said).encode())
    with pytest.raises(SaefilterError, match=r"does not name clean.quarantined.jsonl"):
        open_input(str(output.with_name("clean.quarantined.jsonl")))
    said["files"]["../x"] = {}
    manifest.write_bytes(json.dumps(said).encode())
    with pytest.raises(SaefilterError, match="which is not beside it"):
        verify(output, Given())


def test_the_data_and_its_scores_are_not_replaced(store: Store, scored: tuple[Path, Path]) -> None:
    data, scores = remote(store, "in/clean.jsonl"), remote(store, "in/s.parquet")
    data.upload(scored[0])
    scores.upload(scored[1])
    for output in (data, scores):
        with pytest.raises(SaefilterError, match="is read by this command"):
            filter_file(
                open_input(str(data)), Scores.open(scores), output, Selection(drop_count=1),
                overwrite=True,
            )  # fmt: skip
