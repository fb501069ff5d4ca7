"""Every way to lose a row is noticed before any file has its final name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scored import ROWS, write_scores

from saefilter.artifacts.scores import Scores
from saefilter.errors import SaefilterError
from saefilter.filtering.conserve import same_row
from saefilter.filtering.filter import filter_file
from saefilter.filtering.outputs import OutputPaths
from saefilter.rows.pieces import Piece
from saefilter.rows.read import Source
from saefilter.rows.tables import TypedRows
from saefilter.rows.write import LineRows, ParquetRows
from saefilter.select.strategies import Selection

BAD = [b'{"broken', b'{"text": "caf\xe9"}', {**ROWS[0], "id": "five"}, {"text": ""}]
SOME = Selection(drop_frac=0.25)


def missing(rows: list[Any]) -> list[Any]:
    return rows[:1] + rows[2:]


def doubled(rows: list[Any]) -> list[Any]:
    return [*rows, rows[1]]


def doubled_for_another(rows: list[Any]) -> list[Any]:
    return [rows[0], rows[0], *rows[2:]]


def swapped(rows: list[Any]) -> list[Any]:
    return [rows[1], rows[0], *rows[2:]]


def of_another_file(rows: list[Any]) -> list[Any]:
    other = {**rows[0], "id": 7, "saefilter_row_id": 7, "saefilter_text": '{"id": 7}'}
    return [{name: other[name] for name in rows[0]}, *rows[1:]]


def changed(rows: list[Any]) -> list[Any]:
    name = "saefilter_text" if "saefilter_text" in rows[1] else "tag"
    return [rows[0], {**rows[1], name: "2024-01-02"}, *rows[2:]]


def spoil(path: Path, injury: Callable[[list[Any]], list[Any]]) -> None:
    """Do the injury to the rows of a file, and leave the rest of it as it is."""
    if path.name.endswith(".parquet") or ".parquet." in path.name:
        table = pq.read_table(path)
        pq.write_table(pa.Table.from_pylist(injury(table.to_pylist()), table.schema), path)
    else:
        rows = injury([json.loads(line) for line in path.open()])
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


INJURIES = [missing, doubled, doubled_for_another, swapped, of_another_file, changed]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
@pytest.mark.parametrize(
    ("role", "injury"),
    [
        (role, injury)
        for role in ("kept", "dropped", "quarantined")
        for injury in INJURIES
        # quarantined rows carry their ids; their order is no matter
        if (role, injury) != ("quarantined", swapped)
    ],
)
def test_every_injury_to_what_was_written_is_noticed(
    jsonl: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    role: str,
    injury: Callable[[list[Any]], list[Any]],
) -> None:
    source = Source.open(jsonl([*ROWS, *BAD]))
    scores = write_scores(source, tmp_path / "s.parquet")
    name = {"kept": "out", "dropped": "out.dropped", "quarantined": "out.quarantined"}[role]
    for kind in (ParquetRows, LineRows):
        real = kind.close

        def spoiled(file: Any, *args: Any, real: Any = real) -> None:
            real(file, *args)
            if file.path.name.startswith(f".{name}{suffix}."):
                spoil(file.path, injury)

        monkeypatch.setattr(kind, "close", spoiled)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SaefilterError, match="rows would be lost or changed"):
        filter_file(source, scores, tmp_path / f"out{suffix}", SOME)
    assert sorted(tmp_path.iterdir()) == before


def test_a_row_read_wrongly_is_noticed(
    jsonl: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source.open(jsonl(ROWS))
    scores = write_scores(source, tmp_path / "s.parquet")
    real = TypedRows.table

    def shifted(rows: TypedRows, piece: Piece, positions: list[int]) -> pa.Table:
        return real(rows, piece, [*positions[1:], positions[0]])

    monkeypatch.setattr(TypedRows, "table", shifted)
    with pytest.raises(SaefilterError, match="was not read as it stands"):
        filter_file(source, scores, tmp_path / "out.parquet", SOME)


@pytest.mark.parametrize("kind", ["csv", "json", "parquet", "folder"])
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_all_formats_pass_the_check(tmp_path: Path, kind: str, suffix: str) -> None:
    rows = [{"text": f"row {i}", "n": i} for i in range(9)]
    rows[3] = {"text": "no n"}  # type: ignore[dict-item]
    path = tmp_path / f"data.{kind}"
    if kind == "csv":
        path.write_text(
            "text,n\n" + "".join(f"{r['text']},{r.get('n')}\n" for r in rows) + "a,b,c\n"
        )
    elif kind == "json":
        path.write_text(json.dumps([*rows, {"text": "float", "n": float("nan")}, 5]))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist([*rows, {"text": "", "n": 1}]), path)
    source = Source.open(path) if kind != "folder" else None
    if source is None:
        from saefilter.rows.inputs import open_input

        path = tmp_path / "data"
        path.mkdir()
        pq.write_table(pa.Table.from_pylist(rows[:3]), path / "1.parquet")
        pq.write_table(pa.table({"text": ["without n"]}), path / "2.parquet")
        source = open_input(path)
    scores = write_scores(source, tmp_path / "s.parquet")
    result = filter_file(source, scores, tmp_path / f"out{suffix}", Selection(drop_count=2))
    counts = result.report.counts
    assert counts["kept"] + counts["dropped"] + counts["quarantined"] == counts["rows"]
    assert result.report.files["kept"].keys() == {"name", "sha256", "bytes", "rows"}


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_equal_input_and_settings_give_equal_bytes_elsewhere_and_later(
    tmp_path: Path, suffix: str
) -> None:
    written = []
    for number, folder in enumerate((tmp_path / "one", tmp_path / "two")):
        folder.mkdir()
        lines = [
            row if isinstance(row, bytes) else json.dumps(row).encode() for row in [*ROWS, *BAD]
        ]
        (folder / "data.jsonl").write_bytes(b"\n".join(lines))
        source = Source.open(folder / "data.jsonl")
        created = f"2026-01-0{number + 1}"
        scores = write_scores(source, folder / "s.parquet", created=created, seconds=1.0 + number)
        paths = filter_file(source, scores, folder / f"out{suffix}", SOME).paths
        written.append([p.read_bytes() for p in (paths.kept, paths.dropped, paths.quarantined)])
    assert written[0] == written[1]


def test_changed_scores_are_refused(jsonl: Callable[..., Path], tmp_path: Path) -> None:
    source = Source.open(jsonl(ROWS))
    scores = write_scores(source, tmp_path / "s.parquet")
    table = pq.read_table(scores.path).replace_schema_metadata(scores.provenance.to_metadata())
    distance = table["distance"].to_pylist()
    distance[4] = 1.0
    place = table.column_names.index("distance")
    pq.write_table(table.set_column(place, "distance", pa.array(distance)), scores.path)
    with pytest.raises(SaefilterError, match="changed after they were made"):
        filter_file(source, Scores.open(scores.path), tmp_path / "out.parquet", SOME)
    pq.write_table(table.slice(1), scores.path)
    with pytest.raises(SaefilterError, match="changed after they were made"):
        filter_file(source, Scores.open(scores.path), tmp_path / "out.parquet", SOME)
    assert not OutputPaths.beside(tmp_path / "out.parquet").kept.exists()


def test_a_dropped_file_as_input_is_refused_with_the_reason(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    source = Source.open(jsonl([{**row, "saefilter_distance": 0.5} for row in ROWS]))
    scores = write_scores(source, tmp_path / "s.parquet")
    with pytest.raises(SaefilterError, match="has the column 'saefilter_distance'"):
        filter_file(source, scores, tmp_path / "out.parquet", SOME)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 1, "b": None}, {"a": 1.0}, True),
        ({"a": [{"b": None}]}, {"a": [{}]}, True),
        ({"a": float("nan")}, {"a": float("nan")}, True),
        ({"a": [None]}, {"a": []}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": 1}, {"a": 1, "b": 0}, False),
    ],
)
def test_rows_are_the_same_but_for_nulls(one: Any, other: Any, same: bool) -> None:
    assert same_row(one, other) is same
