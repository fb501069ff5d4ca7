"""What belongs together is said to; everything that does not is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scored import ROWS, write_scores

from saefilter.artifacts.scores import Scores
from saefilter.errors import SaefilterError
from saefilter.filtering.filter import filter_file
from saefilter.rows.read import Source
from saefilter.select.strategies import Selection
from saefilter.toxic.load import SHIPPED, load_toxic_set
from saefilter.verify.findings import Findings, Given
from saefilter.verify.verify import verify

BAD = [b'{"broken', b'{"text": "caf\xe9"}', {**ROWS[0], "id": "five"}]
SET = load_toxic_set("minilm")


@pytest.fixture(params=[".parquet", ".jsonl"])
def folder(request: pytest.FixtureRequest, jsonl: Callable[..., Path], tmp_path: Path) -> Path:
    """A folder with data, scores and everything that filtering writes."""
    make(jsonl([*ROWS, *BAD]), request.param)
    return tmp_path


def make(data: Path, suffix: str = ".parquet", **changes: Any) -> None:
    source = Source.open(data)
    own = {
        "toxic_set": "minilm", "toxic_set_sha256": SET.sha256(), "sae_fingerprint": SET.fingerprint,
    }  # fmt: skip
    scores = write_scores(source, data.with_name("data.scores.parquet"), **{**own, **changes})
    output = data.with_name(f"data.filtered{suffix}")
    filter_file(source, scores, output, Selection(drop_frac=0.25), card=True, overwrite=True)


def wrong(findings: Findings) -> dict[str, str]:
    return {check.name: check.says for check in findings.checks if check.status == "mismatch"}


def artifacts(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("data.*") if p.name != "data.jsonl")


def test_all_artifacts_of_a_run_belong_together(folder: Path) -> None:
    for path in artifacts(folder):
        findings = verify(path, Given())
        assert findings.exit_code == 0, (path, findings.checks)
        names = [check.name for check in findings.checks]
        assert {"input", "toxic set", "SAE"} <= set(names)
        if path.name != "data.scores.parquet":
            assert {"kept", "dropped", "quarantined", "card", "report_html", "conservation",
                    "rows", "scores"} <= set(names)  # fmt: skip


def test_a_moved_folder_still_belongs_together(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in [*artifacts(folder), folder / "README.md"]:
        shutil.move(path, moved)
    findings = verify(moved / "data.filtered.report.json", Given())
    assert findings.exit_code == 0
    (folder / "data.jsonl").unlink()
    findings = verify(moved / "data.filtered.report.json", Given())
    assert findings.exit_code == 2
    assert [c.name for c in findings.checks if c.status == "not found"] == ["input"]


def test_scores_of_other_data(folder: Path) -> None:
    other = folder / "other.jsonl"
    other.write_bytes((folder / "data.jsonl").read_bytes().replace(b"answer 3", b"answer 4", 1))
    findings = verify(folder / "data.scores.parquet", Given(input=str(other)))
    assert findings.exit_code == 1
    assert "bytes of" in wrong(findings)["input"]
    findings = verify(folder / "data.filtered.report.json", Given(input=str(other)))
    assert list(wrong(findings)) == ["input"]


def test_a_toxic_set_of_another_sae_and_a_changed_one(folder: Path) -> None:
    text = (SHIPPED / "minilm.json").read_text()
    (folder / "other.json").write_text(text.replace(SET.fingerprint, "0" * 64))
    findings = verify(folder / "data.scores.parquet", Given(toxic_set=str(folder / "other.json")))
    assert findings.exit_code == 1
    assert "SAE of the toxic set" in wrong(findings)["SAE"]
    set_itself = verify(folder / "other.json", Given(scores=folder / "data.scores.parquet"))
    assert set(wrong(set_itself)) == {"toxic set", "SAE"}
    (folder / "changed.json").write_text(text.replace('"weight": 0.', '"weight": 1.', 1))
    changed = Given(toxic_set=str(folder / "changed.json"))
    assert list(wrong(verify(folder / "data.scores.parquet", changed))) == ["toxic set"]
    assert verify(SHIPPED / "minilm.json", Given()).exit_code == 0
    assert verify(SHIPPED / "minilm.json", Given(toxic_set="minilm")).exit_code == 0


def edit(path: Path, column: str, value: Any) -> None:
    """Change one value and write the file back, its provenance with it."""
    table = pq.read_table(path)
    metadata = {k: v for k, v in pq.read_metadata(path).metadata.items() if k == b"saefilter"}
    values = table[column].to_pylist()
    values[1] = value
    place = table.column_names.index(column)
    field = table.schema.field(column)
    table = table.set_column(place, field, pa.array(values, field.type))
    pq.write_table(table.replace_schema_metadata(metadata), path)


def test_edited_scores(folder: Path) -> None:
    edit(folder / "data.scores.parquet", "distance", 0.999)
    findings = verify(folder / "data.scores.parquet", Given())
    assert findings.exit_code == 1
    assert "changed after they were made" in wrong(findings)["content"]
    for path in artifacts(folder)[:1]:
        assert "changed after" in wrong(verify(path, Given()))["scores"]


@pytest.mark.parametrize("cut", [20, 3000])
def test_a_truncated_parquet_file(jsonl: Callable[..., Path], tmp_path: Path, cut: int) -> None:
    make(jsonl([*ROWS, *BAD]))
    for name in ("data.scores.parquet", "data.filtered.parquet"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-cut])
        findings = verify(path, Given())
        assert findings.exit_code == 1
        assert "not a readable Parquet file" in wrong(findings)["content"]


def test_an_edited_filtered_file(jsonl: Callable[..., Path], tmp_path: Path) -> None:
    make(jsonl([*ROWS, *BAD]))
    kept = tmp_path / "data.filtered.parquet"
    edit(kept, "tag", "another")
    found = wrong(verify(kept, Given()))
    assert "changed after they were written" in found["content"]
    assert {"kept", "rows"} <= set(found)
    pq.write_table(pq.read_table(kept).replace_schema_metadata(None), kept)  # as others would
    found = wrong(verify(kept, Given()))
    assert "does not say" in found["provenance"]


def test_an_edited_jsonl_file(jsonl: Callable[..., Path], tmp_path: Path) -> None:
    make(jsonl([*ROWS, *BAD]), ".jsonl")
    for name in ("data.filtered.jsonl", "data.filtered.dropped.jsonl"):
        path = tmp_path / name
        whole = path.read_bytes()
        path.write_bytes(whole.replace(b"question", b"Question", 1))
        assert len(wrong(verify(path, Given()))) == 2  # its bytes, its rows
        path.write_bytes(whole[whole.index(b"\n") + 1 :])
        assert wrong(verify(path, Given()))["conservation"]
        path.write_bytes(whole)


def test_a_report_beside_other_files(folder: Path, tmp_path: Path) -> None:
    report = (folder / "data.filtered.report.json").read_bytes()
    suffix = ".parquet" if (folder / "data.filtered.parquet").exists() else ".jsonl"
    data = folder / "data.jsonl"
    data.write_bytes(data.read_bytes().replace(b"question 7", b"question 8", 1))
    make(data, suffix)
    (folder / "data.filtered.report.json").write_bytes(report)
    findings = verify(folder / "data.filtered.report.json", Given())
    assert findings.exit_code == 1
    assert {"input", "scores", "report_html"} <= set(wrong(findings))
    if suffix == ".parquet":
        kept = verify(folder / "data.filtered.parquet", Given())
        assert "input_sha256" in wrong(kept)["report and file"]


def test_an_edited_report(folder: Path) -> None:
    path = folder / "data.filtered.report.json"
    report = json.loads(path.read_text())
    report["counts"]["kept"] += 1
    path.write_text(json.dumps(report))
    found = wrong(verify(path, Given()))
    assert list(found) == ["counts"]
    assert f"kept {report['counts']['kept']}" in found["counts"]


def test_rows_are_not_scores(jsonl: Callable[..., Path], tmp_path: Path) -> None:
    make(jsonl(ROWS))
    with pytest.raises(SaefilterError, match="holds kept rows, not scores"):
        Scores.open(tmp_path / "data.filtered.parquet")
    kept = tmp_path / "data.filtered.parquet"
    older = {b"saefilter": json.dumps({"scores": {}, "selection": {}}).encode()}
    pq.write_table(pq.read_table(kept).replace_schema_metadata(older), kept)
    with pytest.raises(SaefilterError, match="recorded no hashes"):
        verify(kept, Given())


def test_missing_files_cannot_be_judged(folder: Path) -> None:
    (folder / "data.scores.parquet").unlink()
    findings = verify(folder / "data.filtered.report.json", Given())
    assert findings.exit_code == 2
    assert "--scores" in next(c.says for c in findings.checks if c.name == "scores")


def test_reports_of_other_versions(folder: Path) -> None:
    path = folder / "data.filtered.report.json"
    report = json.loads(path.read_text())
    first = {k: v for k, v in report.items() if k not in ("files", "made_from")}
    path.write_text(json.dumps({**first, "report_version": 1}))
    assert verify(path, Given()).exit_code == 2
    path.write_text(json.dumps({**report, "report_version": 3}))
    with pytest.raises(SaefilterError, match="report of version 3"):
        verify(path, Given())
    path.write_text(json.dumps({**report, "files": {"kept": {}}}))
    with pytest.raises(SaefilterError, match="lacks what an artifact"):
        verify(path, Given())


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"{", b'{"a": 1}'])
def test_other_files_are_no_artifacts(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(SaefilterError, match=r"not an artifact|not readable JSON"):
        verify(tmp_path / "x.json", Given())
    pq.write_table(pa.table({"a": [1]}), tmp_path / "x.parquet")
    with pytest.raises(SaefilterError, match="not an artifact"):
        verify(tmp_path / "x.parquet", Given())
    with pytest.raises(SaefilterError, match="there is no file"):
        verify(tmp_path / "none", Given())
