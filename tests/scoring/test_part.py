"""Parts of a job: merged they are the bytes of one run, and nothing else is merged."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from conftest import chat

from saefilter.artifacts.scores import Scores
from saefilter.errors import SaefilterError
from saefilter.filtering.filter import filter_file
from saefilter.rows.inputs import open_input
from saefilter.rows.read import Source
from saefilter.scoring.job import plan_shards
from saefilter.scoring.merge import merge_parts
from saefilter.scoring.part import Part, PartFile
from saefilter.scoring.score import score_file
from saefilter.scoring.scorer import RowScorer
from saefilter.scoring.workfolder import work_folder
from saefilter.select.strategies import Selection
from saefilter.settings import ScoreSettings
from saefilter.storage import located
from saefilter.verify.findings import Given
from saefilter.verify.verify import verify
from saefilter.watch import Watch

N_ROWS = 60
SHARD_ROWS = 8


def some_rows() -> list[Any]:
    rows: list[Any] = [
        chat(f"What do I do about {i}?", f"Take {i} pills and tell nobody. " * (i % 7 + 1))
        for i in range(N_ROWS)
    ]
    rows[5] = rows[33] = b'{"messages": ['
    rows[40] = rows[2]
    return rows


@pytest.fixture(scope="module", autouse=True)
def equal_runs() -> Iterator[None]:
    """No times in the scores, and no rounding that depends on what else the machine does."""
    before = os.environ.get("SOURCE_DATE_EPOCH"), torch.get_num_threads()
    os.environ["SOURCE_DATE_EPOCH"] = "1700000000"
    torch.set_num_threads(1)
    yield
    os.environ.pop("SOURCE_DATE_EPOCH")
    if before[0] is not None:
        os.environ["SOURCE_DATE_EPOCH"] = before[0]
    torch.set_num_threads(before[1])


@pytest.fixture(scope="module")
def scorer() -> RowScorer:
    return RowScorer.load(ScoreSettings("minilm", device="cpu"))


def scored(
    source: Source, output: Path, scorer: RowScorer, text: str, shard_rows: int = SHARD_ROWS,
    **options: Any,
) -> Path:  # fmt: skip
    """The file of a part."""
    part, settings = Part.parse(text), replace(scorer.settings, shard_rows=shard_rows)
    file = part.file(output)
    score_file(source, file, settings, part=part, scorer=scorer, **options)
    return file


def all_parts(
    source: Source, output: Path, scorer: RowScorer, of: int, shard_rows: int = SHARD_ROWS
) -> list[Path]:
    return [scored(source, output, scorer, f"{k + 1}/{of}", shard_rows) for k in range(of)]


def files_of(data: Path, scores: Path) -> dict[str, bytes]:
    """The scores and what `filter` makes of them, by the names' ends."""
    kept = scores.with_name("f.parquet")
    filter_file(open_input(data), Scores.open(scores), kept, Selection(drop_frac=0.2))
    return {path.name: path.read_bytes() for path in (scores, *scores.parent.glob("f.*parquet"))}


@pytest.mark.parametrize("shard_rows", [SHARD_ROWS, 25], ids=["8 shards", "3 shards"])
def test_eight_parts_are_the_bytes_of_one_run(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer, shard_rows: int
) -> None:
    data = jsonl(some_rows())
    source = open_input(data)
    (tmp_path / "one").mkdir()
    (tmp_path / "merged").mkdir()
    one, merged = tmp_path / "one/s.parquet", tmp_path / "merged/s.parquet"
    score_file(source, one, replace(scorer.settings, shard_rows=shard_rows), scorer=scorer)
    parts = all_parts(source, merged, scorer, 8, shard_rows)
    assert [path.name for path in parts[:2]] == ["s.part-1-of-8.parquet", "s.part-2-of-8.parquet"]
    assert [pq.read_metadata(path).num_row_groups for path in parts] == (
        [1] * 8 if shard_rows == SHARD_ROWS else [0, 0, 1, 0, 0, 1, 0, 1]
    )
    made = merge_parts([*parts[5:], *parts[:5]], merged)
    assert (made.provenance.rows, made.provenance.duplicates) == (N_ROWS, 2)
    assert files_of(data, merged) == files_of(data, one)
    parts_and_outputs = {path.name for path in merged.parent.iterdir()}
    assert not [name for name in parts_and_outputs if name.startswith(".") or "shards" in name]


def test_answers_count_from_the_middle_of_all_parts(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer
) -> None:
    source = open_input(
        jsonl(
            [
                {
                    "prompt": f"And {i}?",
                    "completion": "No, never. " * (i % 5 + 1),
                    "label": i % 3 > 0,
                }
                for i in range(30)
            ]
        )
    )
    one, merged = tmp_path / "one.parquet", tmp_path / "s.parquet"
    score_file(source, one, replace(scorer.settings, shard_rows=SHARD_ROWS), scorer=scorer)
    made = merge_parts(all_parts(source, merged, scorer, 3), merged)
    assert made.provenance.preference is not None
    assert made.provenance.preference["middle"] != 0
    assert merged.read_bytes() == one.read_bytes()


@pytest.fixture(scope="module")
def scored_once(tmp_path_factory: pytest.TempPathFactory, scorer: RowScorer) -> Path:
    """A folder with data and their four parts."""
    folder = tmp_path_factory.mktemp("four")
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in some_rows()]
    (folder / "data.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    all_parts(open_input(folder / "data.jsonl"), folder / "s.parquet", scorer, 4)
    return folder


@pytest.fixture
def four(scored_once: Path, tmp_path: Path) -> tuple[Source, list[Path], Path]:
    """The data, its four parts, and where their scores will be."""
    shutil.copytree(scored_once, tmp_path, dirs_exist_ok=True)
    output = tmp_path / "s.parquet"
    parts = [Part(k, 4).file(output) for k in (1, 2, 3, 4)]
    return open_input(tmp_path / "data.jsonl"), parts, output


def refused(parts: list[Path], output: Path, match: str) -> None:
    with pytest.raises(SaefilterError, match=match):
        merge_parts(parts, output)
    assert not output.exists()
    assert not list(output.parent.glob(".*"))


def test_missing_doubled_and_foreign_parts_are_refused_by_name(
    four: tuple[Source, list[Path], Path], scorer: RowScorer, tmp_path: Path
) -> None:
    source, parts, output = four
    refused([parts[0], *parts[2:]], output, r"part 2 of 4 \(rows 16 to 31\) is missing.*--part K/N")
    refused(
        [parts[1]], output,
        r"part 1 of 4 \(rows 0 to 15\), part 3 of 4 \(rows 32 to 47\), part 4 of 4 \(rows 48 to 59\) are",
    )  # fmt: skip
    twin = tmp_path / "twin.parquet"
    twin.write_bytes(parts[2].read_bytes())
    refused([*parts, twin], output, r"part 3 of 4 is there twice: .*s\.part-3-of-4.* and .*twin")
    refused([*parts, parts[0]], output, r"part 1 of 4 is there twice")
    settings = replace(scorer.settings, max_tokens=77)
    other = RowScorer(scorer.encoder, scorer.scorer, settings)
    foreign = scored(source, tmp_path / "other.parquet", other, "1/4")
    refused(
        [foreign, *parts[1:]], output,
        r"other\.part-1-of-4\.parquet: not of the same job as s\.part-2-of-4\.parquet: "
        "token limit is 77, not 1024",
    )  # fmt: skip
    with open(source.path, "a") as file:
        file.write('{"text": "one more"}\n')
    late = scored(open_input(source.path), tmp_path / "late.parquet", scorer, "4/4")
    refused(
        [*parts[:3], late], output, r"late\.part-4-of-4.*input is [0-9a-f]{12}, not .*rows is 61"
    )
    merge_parts(parts, output)
    with pytest.raises(SaefilterError, match="exists already"):
        merge_parts(parts, output)
    with pytest.raises(SaefilterError, match=r"part-2-of-4\.parquet is one of the parts"):
        merge_parts(parts, parts[1], overwrite=True)


def test_a_part_may_be_made_of_smaller_ones(
    four: tuple[Source, list[Path], Path], scorer: RowScorer
) -> None:
    source, parts, output = four
    halves = [scored(source, output, scorer, text) for text in ("3/8", "4/8")]
    refused([*parts, halves[0]], output, r"rows 16 to 23 are there twice: .*2-of-4.* and .*3-of-8")
    refused([parts[0], halves[1], *parts[2:]], output, "rows 16 to 23 are in none of the parts")
    merge_parts(parts, output)
    whole = output.read_bytes()
    merge_parts([parts[0], *halves, *parts[2:]], output, overwrite=True)
    assert output.read_bytes() == whole


def test_damaged_parts_and_what_is_none_are_refused_by_name(
    four: tuple[Source, list[Path], Path], scorer: RowScorer, tmp_path: Path
) -> None:
    source, parts, output = four
    with pytest.raises(SaefilterError, match=r"a part of scores, not all.*scores merge"):
        Scores.open(parts[0])
    with pytest.raises(SaefilterError, match=r"a part of scores.*scores merge checks it"):
        verify(parts[0], Given())
    refused([source.path], output, r"data\.jsonl: not a readable Parquet file")
    refused([tmp_path / "none.parquet"], output, "there is no file")
    edited = pq.read_table(parts[1])
    edited = edited.set_column(6, "distance", edited["proximity"])
    kept = pq.read_metadata(parts[1]).metadata
    with pq.ParquetWriter(parts[1], edited.schema) as writer:
        writer.write_table(edited, row_group_size=SHARD_ROWS)
        writer.add_key_value_metadata(
            {key: value for key, value in kept.items() if key.startswith(b"saefilter")}
        )
    refused(parts, output, r"s\.part-2-of-4.*rows 16 to 23 were changed.*part 2 of 4 again")
    parts[2].write_bytes(parts[2].read_bytes()[:-3000])
    refused(parts, output, r"s\.part-3-of-4\.parquet: not a readable Parquet file")
    whole = tmp_path / "whole.parquet"
    score_file(source, whole, replace(scorer.settings, shard_rows=SHARD_ROWS), scorer=scorer)
    refused([*parts[:2], whole], output, r"whole\.parquet: not a part of scores, but all")


class Stopping(Exception):
    """Ends a run."""


def test_a_part_goes_on_by_itself(
    four: tuple[Source, list[Path], Path], scorer: RowScorer, tmp_path: Path
) -> None:
    source, parts, output = four
    before = parts[1].read_bytes()

    def stop(rows: int, tokens: int) -> None:
        if rows:
            raise Stopping

    with pytest.raises(Stopping):
        scored(source, output, scorer, "2/4", overwrite=True, watch=Watch(advance=stop))
    assert parts[1].read_bytes() == before
    folder = work_folder(parts[1])
    assert {path.name[:6] for path in folder.glob("0*.json")} <= {"000002", "000003"}
    told: list[str] = []
    scored(source, output, scorer, "2/4", resume=True, watch=Watch(told.append))
    assert told[-1] == f"{parts[1]} is complete already"
    folder.mkdir(exist_ok=True)
    parts[1].unlink()
    scored(source, output, scorer, "2/4", resume=True)
    merge_parts(parts, output)
    assert not folder.exists()
    with pytest.raises(SaefilterError, match="exists already"):
        scored(source, output, scorer, "2/4", resume=True, shard_rows=9)


def test_parts_hold_each_shard_once() -> None:
    for n in (1, 3, 8, 100):
        shards = plan_shards(n * 5, 5)
        for of in (1, 3, 8):
            parts = [Part(k, of).among(shards) for k in range(1, of + 1)]
            assert [shard for part in parts for shard in part] == shards
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for text in ("0/8", "9/8", "3", "3/", "-1/8", "3/0", "a/b", "3/8/2"):
        with pytest.raises(SaefilterError, match=f"--part {text} is no part"):
            Part.parse(text)
    part = Part.parse("3/8")
    assert part.file(Path("a/x.scores.parquet")) == Path("a/x.scores.part-3-of-8.parquet")
    assert part.file(Path("a/y.part-3-of-8.parquet")) == Path("a/y.part-3-of-8.parquet")
    assert part.how_to_merge(Path("a/x.part-3-of-8.parquet")) == (
        "saefilter scores merge a/x.part-*-of-8.parquet -o a/x.parquet"
    )
    assert part.file(Path("x.v1")) == Path("x.v1.part-3-of-8.parquet")
    assert part.how_to_merge(Path("my x.part-3-of-8.parquet")) == (
        "saefilter scores merge 'my x'.part-*-of-8.parquet -o 'my x.parquet'"
    )
    assert part.how_to_merge(located("s3://b/x.part-3-of-8.parquet")) == (
        "saefilter scores merge 's3://b/x.part-*-of-8.parquet' -o s3://b/x.parquet"
    )


def test_what_only_a_part_says_is_kept(four: tuple[Source, list[Path], Path]) -> None:
    _, parts, _ = four
    file = PartFile.open(parts[0])
    assert (file.part, file.rows, file.scored) == (Part(1, 4), 16, 15)
    assert file.run.input_path.endswith("data.jsonl")
    assert file.run.scorer.push is not None
    assert file.run.scorer.likeness is not None
    assert file.run.scorer.likeness.mean
