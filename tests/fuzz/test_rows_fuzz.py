"""Damaged rows in bulk, through everything that a row goes through: no traceback, none lost."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from checkpoints import TEMPLATE_TOKENS, chat_tokenizer
from damage import EITHER, SCORED, SET_ASIDE, damaged_line, lines, mutated, sound_files
from hypothesis import given, settings
from hypothesis import strategies as st

from saefilter.artifacts.scores import Scores
from saefilter.encode.presets import resolve
from saefilter.encode.rendering import build_renderer
from saefilter.errors import SaefilterError
from saefilter.filtering.filter import filter_file
from saefilter.rows.chat import ChatRenderer
from saefilter.rows.formats import RowProblem, recognise
from saefilter.rows.parse import parse_line
from saefilter.rows.read import Source
from saefilter.rows.render import PlainRenderer, load_tokenizer
from saefilter.rows.rendered import RenderOptions
from saefilter.rows.row import Row
from saefilter.scoring.prepare import conversation_of
from saefilter.scoring.score import score_file
from saefilter.scoring.scorer import RowScorer
from saefilter.select.strategies import Selection
from saefilter.settings import ScoreSettings

CHUNK = 512


@pytest.fixture(scope="module")
def renderer() -> PlainRenderer:
    """The one that preset `minilm` uses."""
    preset = resolve("minilm", None, None, None)
    tokenizer = load_tokenizer(preset.model_path())
    return build_renderer(tokenizer, preset, context=512, prepend_bos=False)


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A file that must not come to be."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "something in a row was executed"


def write(path: Path, count: int, share: float, canary: Path, **options: Any) -> list[Any]:
    made = list(lines(count, share=share, canary=str(canary), **options))
    path.write_bytes(b"\n".join(line.raw for line in made) + b"\n")
    return made


def verdicts(rows: list[Row], renderer: PlainRenderer) -> list[str | None]:
    """Why each row cannot be scored, as scoring finds out; None for those that can."""
    found = [conversation_of(row) for row in rows]
    rendered, windows = renderer.render([item for item in found if not isinstance(item, str)])
    assert {window.row for window in windows} == {
        number for number, row in enumerate(rendered) if row.problem is None
    }
    problems = iter([row.problem for row in rendered])
    return [item if isinstance(item, str) else next(problems) for item in found]


def through_everything(path: Path, made: list[Any], renderer: PlainRenderer) -> Counter[str]:
    source = Source.open(path)
    rows = list(source.rows())
    assert [row.index for row in rows] == list(range(len(made)))
    assert source.count_rows() == len(made)
    outcome: Counter[str] = Counter()
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        for row, line, reason in zip(
            part, made[start : start + CHUNK], verdicts(part, renderer), strict=True
        ):
            assert re.fullmatch("[0-9a-f]{16}", row.digest())
            assert row.raw == line.raw.strip(b" \t\r\n")
            got = SCORED if reason is None else SET_ASIDE
            assert line.expected in (EITHER, got), (line.kind, reason, line.raw[:200])
            assert reason is None or 0 < len(reason) <= 400
            outcome[got] += 1
    return outcome


def test_damaged_rows_are_scored_or_set_aside(
    tmp_path: Path, renderer: PlainRenderer, canary: Path
) -> None:
    made = write(tmp_path / "data.jsonl", 2000, 0.7, canary)
    outcome = through_everything(tmp_path / "data.jsonl", made, renderer)
    assert min(outcome.values()) > 500


@pytest.mark.slow
def test_twenty_thousand_damaged_rows(
    tmp_path: Path, renderer: PlainRenderer, canary: Path
) -> None:
    made = write(tmp_path / "data.jsonl", 20_000, 1.0, canary, seed=1)
    outcome = through_everything(tmp_path / "data.jsonl", made, renderer)
    print(dict(outcome))
    assert sum(outcome.values()) == 20_000


@pytest.mark.parametrize("family", TEMPLATE_TOKENS)
def test_damaged_rows_in_a_chat_template(tmp_path: Path, canary: Path, family: str) -> None:
    chat = ChatRenderer(chat_tokenizer(family), context=4096, options=RenderOptions(4096))
    write(tmp_path / "data.jsonl", 300, 0.8, canary, seed=2)
    rows = list(Source.open(tmp_path / "data.jsonl").rows())
    reasons = verdicts(rows, chat)
    assert len(reasons) == 300
    assert reasons.count(None) > 100


@given(seed=st.integers(0, 2**32), extra=st.binary(max_size=12), at=st.integers(0, 10_000))
@settings(deadline=None, max_examples=300)
def test_any_bytes_in_any_row(renderer: PlainRenderer, seed: int, extra: bytes, at: int) -> None:
    raw = damaged_line(random.Random(seed), "/nowhere/canary").raw
    at %= len(raw) + 1
    raw = raw[:at] + extra + raw[at:]
    data, error = parse_line(raw)
    assert (data is None) != (error is None)
    row = Row(0, 1, data, error, raw)
    row.digest()
    verdicts([row], renderer)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
TURNS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "tool", "system"]) | JSON, "content": JSON},
        optional={"tool_calls": JSON, "name": JSON, "weight": JSON, "thinking": JSON},
    ),
    max_size=3,
)


@given(turns=TURNS | JSON, tools=JSON)
@settings(deadline=None, max_examples=300)
def test_any_values_where_a_conversation_should_be(
    renderer: PlainRenderer, turns: Any, tools: Any
) -> None:
    for row in ({"messages": turns, "tools": tools}, {"prompt": turns, "completion": tools}):
        try:
            conversation = recognise(row)
        except RowProblem:
            continue
        renderer.render([conversation])


@pytest.fixture(scope="module")
def scorer() -> RowScorer:
    return RowScorer.load(ScoreSettings("minilm", device="cpu"))


@pytest.mark.parametrize(("suffix", "seed"), [(".parquet", 3), (".jsonl", 4)])
def test_every_row_is_kept_dropped_or_quarantined(
    tmp_path: Path, scorer: RowScorer, canary: Path, suffix: str, seed: int
) -> None:
    made = write(tmp_path / "data.jsonl", 300, 0.6, canary, seed=seed)
    source = Source.open(tmp_path / "data.jsonl")
    score_file(source, tmp_path / "s.parquet", scorer.settings, scorer=scorer)
    assert Scores.open(tmp_path / "s.parquet").provenance.rows == 300
    out = tmp_path / f"out{suffix}"
    filter_file(source, Scores.open(tmp_path / "s.parquet"), out, Selection(drop_frac=0.3))
    ids: list[int] = []
    counts = {}
    for part in ("", ".dropped", ".quarantined"):
        path = tmp_path / f"out{part}{suffix}"
        if suffix == ".parquet":
            rows = pq.read_table(path).to_pylist()
        else:
            rows = []
            for raw in path.read_bytes().split(b"\n")[:-1]:
                value, problem = parse_line(raw)
                assert problem is None, problem
                rows.append(value)
        counts[part] = len(rows)
        ids += [row["saefilter_row_id"] for row in rows if part]
        if part == ".quarantined":
            for row in rows:
                raw_hex = row["saefilter_bytes_hex"]
                text = row["saefilter_text"].encode()
                line = made[row["saefilter_row_id"]].raw.strip(b" \t\r\n")
                assert (bytes.fromhex(raw_hex) if raw_hex else text) == line
    assert sum(counts.values()) == 300
    assert len(set(ids)) == counts[".dropped"] + counts[".quarantined"]
    page = (tmp_path / "out.report.html").read_text(encoding="utf-8")
    # ours stand at the end, the rows within as JSON
    rest = re.sub(
        r"<script( type=.application/json. id=[^>]*)?>[^<]*(?:<(?!/script)[^<]*)*</script>",
        "",
        page.split("</main>")[1],
    )
    assert "<script" not in page.split("</main>")[0] + rest
    assert "<img" not in page
    json.loads((tmp_path / "out.report.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.json", "a.csv", "a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.arrow"]
)
def test_damaged_files_are_rows_or_one_error(tmp_path: Path, name: str) -> None:
    rng = random.Random(name)
    sound = sound_files(rng, tmp_path)[name]
    outcome: Counter[str] = Counter()
    for _ in range(150):
        (tmp_path / name).write_bytes(mutated(rng, sound))
        try:
            source = Source.open(tmp_path / name)
            rows = list(source.rows())
            assert source.count_rows() == len(rows)
        except SaefilterError as error:
            outcome["error" if str(tmp_path / name) in str(error) else "error without a place"] += 1
            continue
        for row in rows:
            assert (row.data is None) != (row.error is None)
            row.digest()
            conversation_of(row)
        outcome["rows"] += 1
    assert outcome.total() == 150
    assert not outcome["error without a place"]


def test_a_footer_on_which_pyarrow_aborts_does_not_end_the_process() -> None:
    """`metadata.row_group(0).column(0)` of it ends the process (pyarrow 26.0.1); nothing here asks
    for that."""
    path = Path(__file__).parent / "data" / "aborts-pyarrow.parquet"
    read = "import sys; from saefilter.rows.read import Source; print(len(list(Source.open(sys.argv[1]).rows())))"
    found = subprocess.run([sys.executable, "-c", read, str(path)], capture_output=True, text=True)
    assert found.returncode == 0 or "SaefilterError" in found.stderr, found.stderr
