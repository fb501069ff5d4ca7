"""Soft outputs: what is added, that nothing else changes, and that an edit is noticed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scored import ROWS, write_scores

from saefilter.artifacts.integrity import file_sha256
from saefilter.errors import SaefilterError
from saefilter.filtering.filter import filter_file
from saefilter.filtering.soft import SoftOptions, falling
from saefilter.rows.read import Source
from saefilter.select.strategies import Selection
from saefilter.toxic.load import load_toxic_set
from saefilter.verify.findings import Given
from saefilter.verify.verify import verify

BAD = [b'{"broken', {**ROWS[0], "id": "five"}]
SET = load_toxic_set("minilm")
DISTANCES = [((i * 37) % 101) / 101 for i in range(40)] + [0.998, 0.999]


def written(
    jsonl: Callable[..., Path], tmp_path: Path, suffix: str = ".parquet", *, rows: Any = None,
    drop: dict[str, Any] | None = None, **options: Any,
) -> tuple[Any, list[dict[str, Any]]]:  # fmt: skip
    """The report of a soft output, and its rows."""
    # of another type than the others, which only a table minds; or no row in any format
    bad = BAD if suffix == ".parquet" else [BAD[0], b"[1, 2]"]
    source = Source.open(jsonl(rows or [*ROWS, *bad]))
    scores = write_scores(
        source, tmp_path / "data.scores.parquet", DISTANCES, toxic_set="minilm",
        toxic_set_sha256=SET.sha256(), sae_fingerprint=SET.fingerprint,
    )  # fmt: skip
    output = tmp_path / f"data.filtered{suffix}"
    result = filter_file(
        source, scores, output, Selection(**(drop or {"drop_count": 10})), overwrite=True,
        card=True, options=SoftOptions(**options),
    )  # fmt: skip
    return result.report, read(output)


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
@pytest.mark.parametrize("kind", ["linear", "exponential"])
def test_weights_take_out_as_much_as_dropping_would(
    jsonl: Callable[..., Path], tmp_path: Path, suffix: str, kind: str
) -> None:
    report, rows = written(jsonl, tmp_path, suffix, written_as="weights", weights=kind)
    assert [{k: v for k, v in row.items() if k != "weight"} for row in rows] == ROWS
    weight = np.array([row["weight"] for row in rows])
    order = np.argsort(DISTANCES[:40], kind="stable")
    assert (np.diff(weight[order]) >= 0).all()
    place = np.arange(40) + 0.5
    expected = np.minimum(1, place / 20) if kind == "linear" else 1 - np.exp(-place / 10)
    assert np.allclose(weight[order], expected, atol=1e-6)
    assert abs((1 - weight).sum() - 10) < 0.3
    counts = report.counts
    assert (counts["kept"], counts["dropped"], counts["marked"]) == (40, 0, 10)
    assert counts["quarantined"] == 2
    assert report.written["removed"] == pytest.approx((1 - weight).sum(), abs=0.05)
    assert not (tmp_path / f"data.filtered.dropped{suffix}").exists()
    assert "Weighted down 10 of the 42 rows" in (tmp_path / "data.filtered.report.md").read_text()
    assert "--as weights" in (tmp_path / "README.md").read_text()


def test_nothing_to_drop_weighs_nothing_down(jsonl: Callable[..., Path], tmp_path: Path) -> None:
    _, rows = written(jsonl, tmp_path, drop={"drop_count": 0}, written_as="weights")
    assert {row["weight"] for row in rows} == {1.0}


def test_weights_of_a_mixture_are_probabilities_of_being_harmless(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    bad = np.arange(600) < 200
    place = np.where(bad, 0.98 + 0.02 * rng.random(600), rng.random(600))
    words = [" ".join(rng.choice(list("abcdefghijkl"), 30)) for _ in bad]
    rows = [{"prompt": f"{w[:20]} {i}", "completion": w, "id": i} for i, w in enumerate(words)]
    source = Source.open(jsonl(rows))
    scores = write_scores(
        source, tmp_path / "s.parquet", (1 - place).tolist(), reference_rows=1000,
        reference={"groups": 1000.0, "held_out": []},
    )  # fmt: skip
    options = SoftOptions("weights", "mixture")
    filter_file(source, scores, tmp_path / "o.parquet", Selection(drop="auto"), options=options)
    weight = np.array([row["weight"] for row in read(tmp_path / "o.parquet")])
    assert weight[bad].mean() < 0.1
    assert weight[place < 0.9].mean() > 0.9
    assert abs((1 - weight).sum() - 200) < 40


def test_values_that_rise_are_made_even() -> None:
    width = np.array([1.0, 1.0, 2.0, 1.0])
    assert falling(np.array([4.0, 1.0, 3.0, 2.0]), width).tolist() == pytest.approx(
        [4, 7 / 3, 7 / 3, 2]
    )


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_labels_say_what_would_go_and_why(
    jsonl: Callable[..., Path], tmp_path: Path, suffix: str
) -> None:
    _, rows = written(jsonl, tmp_path, suffix, written_as="labels")
    gone = set(np.argsort(DISTANCES[:40], kind="stable")[:10].tolist())
    assert {row["id"] for row in rows if row["saefilter_label"] == "drop"} == gone
    assert {row["saefilter_reason"] for row in rows if row["saefilter_label"] == "keep"} == {None}
    assert [row["saefilter_row_id"] for row in rows] == list(range(40))
    assert rows[3]["saefilter_distance"] == DISTANCES[3]
    assert [{k: v for k, v in row.items() if "saefilter" not in k} for row in rows] == ROWS


def test_the_dropped_rows_of_an_earlier_run_are_taken_away(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    written(jsonl, tmp_path)
    assert (tmp_path / "data.filtered.dropped.parquet").exists()
    written(jsonl, tmp_path, written_as="labels")
    assert not (tmp_path / "data.filtered.dropped.parquet").exists()


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
@pytest.mark.parametrize("kind", ["weights", "labels"])
def test_verify_finds_soft_outputs_whole_and_notices_an_edit(
    jsonl: Callable[..., Path], tmp_path: Path, suffix: str, kind: str
) -> None:
    written(jsonl, tmp_path, suffix, written_as=kind)
    path = tmp_path / f"data.filtered{suffix}"
    findings = verify(path, Given())
    assert findings.exit_code == 0, findings.checks
    assert {"conservation", "rows"} <= {check.name for check in findings.checks}
    column, value = ("weight", 0.25) if kind == "weights" else ("saefilter_label", "other")
    edit(path, lambda rows: rows[5].update({column: value}))
    assert verify(path, Given()).exit_code == 1
    # whoever edits a row and its file's hash too still meets the data
    edit(path, lambda rows: rows[5].update({"tag": "other"}))
    report = tmp_path / "data.filtered.report.json"
    told = json.loads(report.read_text())
    told["files"]["kept"]["sha256"] = file_sha256(path)
    report.write_text(json.dumps(told))
    wrong = {c.name: c.says for c in verify(path, Given()).checks if c.status == "mismatch"}
    assert "row 6" in wrong["rows"]


def edit(path: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    rows = read(path)
    change(rows)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("options", "drop", "says"),
    [
        ({"weights": "linear"}, {}, "--weights has no effect without --as weights"),
        ({"written_as": "labels", "mask": "turns"}, {}, "--mask has no effect without --as mask"),
        ({"written_as": "mask", "tokenizer": "x"}, {}, "no effect without --mask-for trl"),
        ({"written_as": "mask", "mask": "sentences", "mask_for": "openai"}, {}, "no marks of sentences"),
        ({"written_as": "weights", "weights": "mixture"}, {}, "needs the estimate of --drop auto"),
        ({"written_as": "mask"}, {"strategy": "random"}, "does not go with --strategy random"),
        ({"written_as": "weights"}, {"keep_balance": "tag"}, "--keep-balance does not go"),
        ({"written_as": "some"}, {}, "--as 'some' is not known"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(
    jsonl: Callable[..., Path], tmp_path: Path, options: Any, drop: Any, says: str
) -> None:
    with pytest.raises(SaefilterError, match=says):
        written(jsonl, tmp_path, drop={"drop_count": 3, **drop}, **options)


def test_a_column_that_would_be_added_is_not_overwritten(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [{**row, "weight": 2} for row in ROWS]
    with pytest.raises(SaefilterError, match="has the column 'weight', which --as weights adds"):
        written(jsonl, tmp_path, rows=rows, written_as="weights")
    assert not (tmp_path / "data.filtered.parquet").exists()
