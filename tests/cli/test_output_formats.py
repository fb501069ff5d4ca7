"""What `filter` writes by default is of the input's format, in folders that it makes, every file always there."""

from __future__ import annotations

import csv
import gzip
import io
import json
from codecs import BOM_UTF8
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scored import ROWS, write_scores
from typer.testing import CliRunner

from saefilter.cli import app, commands
from saefilter.errors import SaefilterError
from saefilter.rows.inputs import open_input
from saefilter.toxic.load import load_toxic_set
from saefilter.verify.findings import Given
from saefilter.verify.verify import verify

commands()
SET = load_toxic_set("minilm")
LINES = [json.dumps(row, separators=(", ", ":  ")).encode() for row in ROWS[:20]]
"""With spaces that no writer of JSON would put there."""
ODD = [
    'a "quote"',
    "two\nlines",
    "one\rreturn",
    "with, comma",
    " spaces ",
    "é ü 漢",
    "",
    "'",
    "x\r\n",
]
FACES = {f"d.filtered.report.{ending}" for ending in ("html", "json", "md")}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def filtered(name: str, *options: Any) -> set[str]:
    """What is there besides the data after its rows were filtered by scores that are made up."""
    if not (scores := Path("d.scores.parquet")).exists():
        write_scores(open_input(name), scores, toxic_set="minilm",
                     toxic_set_sha256=SET.sha256(), sae_fingerprint=SET.fingerprint)  # fmt: skip
    asked = [
        str(one) for one in ("filter", name, "--scores", scores, "--drop-frac", "0.25", *options)
    ]
    done = CliRunner().invoke(app, asked)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return {p.relative_to(".").as_posix() for p in Path().rglob("*") if p.is_file()} - {
        name, str(scores)
    }  # fmt: skip


def all_is_well(kept: str) -> None:
    for path in (Path(kept), Path(kept.replace("filtered", "filtered.dropped"))):
        findings = verify(path, Given())
        assert findings.exit_code == 0, findings.checks


def csv_of(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


@pytest.mark.parametrize(
    ("ending", "packed"), [("jsonl", False), ("jsonl.gz", True), ("json", False)]
)
def test_json_lines_are_copied(folder: Path, ending: str, packed: bool) -> None:
    raw = b"\n".join([*LINES, b"{broken"]) + b"\n"
    (folder / f"d.{ending}").write_bytes(gzip.compress(raw) if packed else raw)
    suffix = ".jsonl.gz" if packed else ".jsonl"
    made = {f"d.filtered{role}{suffix}" for role in ("", ".dropped", ".quarantined")}
    assert filtered(f"d.{ending}") == made | FACES
    read = (folder / f"d.filtered{suffix}").read_bytes()
    kept = (gzip.decompress(read) if packed else read).splitlines()
    assert len(kept) == 15
    assert [line for line in LINES if line in kept] == kept
    all_is_well(f"d.filtered{suffix}")


def test_csv_stays_csv_and_no_text_changes(folder: Path) -> None:
    rows = [["prompt", "completion", "id"]]
    rows += [[f"q{odd}", f"{odd}a", str(i)] for i, odd in enumerate([*ODD, *ODD])]
    (folder / "d.csv").write_bytes(BOM_UTF8 + csv_of([*rows, ["too", "few"]]))
    made = {f"d.filtered{role}.csv" for role in ("", ".dropped", ".quarantined")}
    assert filtered("d.csv") == made | FACES
    back = {}
    for role in ("", ".dropped", ".quarantined"):
        raw = Path(f"d.filtered{role}.csv").read_bytes()
        assert raw.startswith(BOM_UTF8)  # Excel takes it for Latin without
        with open(f"d.filtered{role}.csv", newline="", encoding="utf-8-sig") as file:
            back[role] = list(csv.reader(file, strict=True))
    head, dropped = back[".dropped"][0], back[".dropped"][1:]
    assert head[:5] == [*rows[0], "saefilter_distance", "saefilter_percentile"]
    assert back[""][0] == rows[0]
    assert sorted([*back[""][1:], *(row[:3] for row in dropped)]) == sorted(rows[1:])
    assert dict(zip(*back[".quarantined"], strict=True))["saefilter_text"] == "too,few"
    all_is_well("d.filtered.csv")
    asked = {"--format": "jsonl", "-o": "other.parquet"}
    for option, value in asked.items():  # other formats on request
        made = filtered("d.csv", option, value, "--overwrite")
    assert {"d.filtered.jsonl", "other.parquet", "other.quarantined.parquet"} <= made
    assert "d.filtered.csv" not in made
    # weights are numbers, which CSV has not: it is another format then, or an error
    assert "d.filtered.jsonl" in filtered("d.csv", "--as", "weights", "--overwrite")
    with pytest.raises(SaefilterError, match="--as weights writes numbers and lists"):
        filtered("d.csv", "--as", "weights", "-o", "w.csv")
    filtered("d.csv", "--as", "labels", "-o", "labels.csv")
    with open("labels.csv", newline="") as file:
        assert {row["saefilter_label"] for row in csv.DictReader(file)} == {"keep", "drop"}
    assert verify(Path("labels.report.json"), Given()).exit_code == 0


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_tables_stay_tables(folder: Path, kind: str) -> None:
    table = pa.Table.from_pylist(ROWS)
    if kind == "parquet":
        pq.write_table(table, "d.parquet")
    else:
        with pa.OSFile("d.arrow", "wb") as file, pa.ipc.new_file(file, table.schema) as to:
            to.write_table(table)
    made = {f"d.filtered{role}.parquet" for role in ("", ".dropped", ".quarantined")}
    assert filtered(f"d.{kind}") == made | FACES
    assert pq.read_table("d.filtered.parquet").schema.equals(table.schema)
    all_is_well("d.filtered.parquet")
    edited = folder / "d.filtered.dropped.parquet"
    edited.write_bytes(b"mine")
    made = filtered(f"d.{kind}", "--format", "jsonl", "--overwrite")
    # rows of the run before would be of no report; what somebody changed is left alone
    assert {name for name in made if name.endswith(".parquet")} == {edited.name}


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet", "x.csv"])
def test_a_quarantine_that_is_declared_is_there_without_rows(folder: Path, name: str) -> None:
    suffix = Path(name).suffix
    data = (
        csv_of([["text"], *([f"row {i}"] for i in range(20))])
        if suffix == ".csv"
        else b"\n".join(LINES)
    )
    source = "d.csv" if suffix == ".csv" else "d.jsonl"
    (folder / source).write_bytes(data)
    assert f"x.quarantined{suffix}" in filtered(source, "-o", name)
    assert len(list(open_input(f"x{suffix}").rows())) == 15
    if suffix == ".parquet":
        assert "saefilter_text" in pq.read_schema("x.quarantined.parquet").names
    findings = verify(Path(f"x.quarantined{suffix}"), Given())
    assert findings.exit_code == 0, findings.checks
    soft = filtered(source, "--as", "labels", "-o", f"soft{suffix}")
    assert f"soft.quarantined{suffix}" in soft
    assert f"soft.dropped{suffix}" not in soft


def test_folders_are_made_where_an_output_is_to_go(folder: Path) -> None:
    (folder / "d.jsonl").write_bytes(b"\n".join(LINES))
    made = filtered("d.jsonl", "-o", "new/deep/x.jsonl")
    assert {"new/deep/x.jsonl", "new/deep/x.report.html"} <= made
    assert "other/saefilter.report.json" in filtered("d.jsonl", "-o", "other")
    assert "far/other/d.jsonl" in filtered("d.jsonl", "-o", "far/other")
    with pytest.raises(
        SaefilterError, match=r"d\.jsonl is a file, and d\.jsonl/a would have to be"
    ):
        filtered("d.jsonl", "-o", "d.jsonl/a/x.jsonl")
    (folder / "d.jsonl").write_bytes(b"\n".join(LINES[1:]))
    with pytest.raises(SaefilterError, match="content differs"):
        filtered("d.jsonl", "-o", "none/x.jsonl")
    assert not Path("none").exists()  # what failed leaves no folder


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--format", "parquet", "-o", "x.jsonl"], "--format parquet and -o x.jsonl disagree"),
        (["--format", "parquet", "-o", "out"], "--format is of one file"),
        (["-o", "x.csv"], "only the rows of one CSV file can be written as CSV"),
        (["-o", "x.tsv"], "cannot tell the format from the name"),
        (["-o", "x.parquet.gz"], "cannot tell the format from the name"),
    ],
)
def test_formats_that_cannot_be_are_refused(folder: Path, options: list[str], says: str) -> None:
    (folder / "d.jsonl").write_bytes(b"\n".join(LINES))
    with pytest.raises(SaefilterError, match=says):
        filtered("d.jsonl", *options)
    assert sorted(p.name for p in folder.iterdir()) == ["d.jsonl", "d.scores.parquet"]


@pytest.mark.parametrize("rows", [0, 8])
def test_csv_stays_as_packed_as_it_was(folder: Path, rows: int) -> None:
    raw = csv_of([["prompt", "completion"], *([f"q{i}", f'"{i}",\r\n'] for i in range(rows))])
    (folder / "d.csv.gz").write_bytes(gzip.compress(raw))
    made = {f"d.filtered{role}.csv.gz" for role in ("", ".dropped", ".quarantined")}
    assert filtered("d.csv.gz") == made | FACES
    kept = gzip.decompress((folder / "d.filtered.csv.gz").read_bytes()).decode()
    assert kept.startswith("prompt,completion\n")
    assert len(list(csv.reader(io.StringIO(kept, newline="")))) == 1 + rows * 3 // 4
    all_is_well("d.filtered.csv.gz")


def test_a_readme_that_quotes_the_mark_of_a_card_is_not_replaced(folder: Path) -> None:
    Path("d.jsonl").write_bytes(b"\n".join(LINES))
    own = "# My data\n\nWhat this line means: # made by saefilter filter --card\n"
    Path("README.md").write_text(own)
    with pytest.raises(SaefilterError, match="is never replaced"):
        filtered("d.jsonl", "--card", "--overwrite")
    assert Path("README.md").read_text() == own


@pytest.mark.parametrize("kept", ["out/d.jsonl", "out/D.JSONL", "out/D.PARQUET"])
def test_kept_rows_called_like_the_data_or_in_capitals_are_verified(
    folder: Path, kept: str
) -> None:
    Path("d.jsonl").write_bytes(b"\n".join(LINES))
    filtered("d.jsonl", "-o", kept)
    stem, _, ending = kept.partition(".")
    for path in (kept, f"{stem}.dropped.{ending}", f"{stem}.quarantined.{ending}"):
        findings = verify(Path(path), Given(input="d.jsonl", scores=Path("d.scores.parquet")))
        assert findings.exit_code == 0, findings.checks
        Path("d.jsonl").rename("moved.jsonl")
        Path("d.scores.parquet").rename("moved.parquet")
        lacking = verify(Path(path), Given())  # which is no proof of a change
        assert lacking.exit_code == 2, lacking.checks
        Path("moved.jsonl").rename("d.jsonl")
        Path("moved.parquet").rename("d.scores.parquet")


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_a_column_of_json_whose_values_differ_in_type(folder: Path, ending: str) -> None:
    odd = [1, "x", {"a": [1, None]}, None, [True], 2.5, "null", {}] * 5
    texts = [None if value is None else json.dumps(value) for value in odd]
    rows = pa.Table.from_pylist(ROWS[:40])
    cells = pa.ExtensionArray.from_storage(pa.json_(), pa.array(texts, pa.string()))
    pq.write_table(rows.append_column("odd", cells), "d.parquet")
    kept = f"o.filtered.{ending}"
    filtered("d.parquet", "-o", kept)
    written = {
        place: pq.read_table(name).to_pylist() if ending == "parquet" else
        [json.loads(line) for line in Path(name).read_text().splitlines()]
        for place, name in (("kept", kept), ("dropped", f"o.filtered.dropped.{ending}"))
    }  # fmt: skip
    dropped = [row["saefilter_row_id"] for row in written["dropped"]]
    expected = texts if ending == "parquet" else odd
    assert [row["odd"] for row in written["dropped"]] == [expected[i] for i in dropped]
    left = [value for i, value in enumerate(expected) if i not in dropped]
    assert [row["odd"] for row in written["kept"]] == left
    findings = verify(Path(kept), Given(input="d.parquet", scores=Path("d.scores.parquet")))
    assert findings.exit_code == 0, findings.checks


def test_standard_output_is_no_place_for_rows(folder: Path) -> None:
    Path("d.jsonl").write_bytes(b"\n".join(LINES))
    with pytest.raises(SaefilterError, match=r"- is no place to write to.*Name a file"):
        filtered("d.jsonl", "-o", "-")


def test_a_cut_that_leaves_nothing_says_so(folder: Path) -> None:
    Path("d.jsonl").write_bytes(b"\n".join(LINES))
    filtered("d.jsonl")
    asked = ["filter", "d.jsonl", "--scores", "d.scores.parquet", "--drop-frac"]
    said = [
        CliRunner().invoke(app, [*asked, share, "--overwrite"]).output for share in ("100%", "50%")
    ]
    assert ["nothing is left to train on" in one for one in said] == [True, False]
