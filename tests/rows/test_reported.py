"""Rows that people reported as read wrongly, each made anew: what is right, by the default model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from saefilter.artifacts.scores import Scores
from saefilter.errors import SaefilterError
from saefilter.rows.held import hold
from saefilter.rows.inputs import open_input
from saefilter.rows.read import Source
from saefilter.rows.tables import typed_rows
from saefilter.scoring.score import score_file
from saefilter.scoring.scorer import RowScorer
from saefilter.settings import ScoreSettings

Row = dict[str, Any]
BAD = "Beat him, cheat him and set fire to his house; such people ought to die."
CALM = "A calm talk over coffee usually helps with such things."


@pytest.fixture(scope="module")
def scorer() -> RowScorer:
    return RowScorer.load(ScoreSettings("minilm", device="cpu"))


def distances(scorer: RowScorer, path: Path) -> list[float | str]:
    """Of each row its distance, or why it has none."""
    target = path.with_suffix(".scores.parquet")
    score_file(open_input(path), target, scorer.settings, scorer=scorer)
    table = Scores.open(target).read(["distance", "reason"]).to_pylist()
    return [row["reason"] or round(row["distance"], 4) for row in table]


def of_rows(scorer: RowScorer, folder: Path, rows: list[Row]) -> list[float | str]:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return distances(scorer, path)


def answer(**turn: Any) -> Row:
    return {"messages": [{"role": "user", "content": "My neighbour is loud."},
                         {"role": "assistant", **turn}]}  # fmt: skip


def test_reasoning_in_every_form_is_the_same_text(scorer: RowScorer, tmp_path: Path) -> None:
    tags, *same, calm, alone = of_rows(scorer, tmp_path, [
        answer(content=f"<think>{BAD}</think>I see."),
        answer(content="I see.", reasoning_content=BAD), answer(content="I see.", reasoning=BAD),
        answer(content="I see.", thinking=BAD),
        answer(content=[{"type": "thinking", "thinking": BAD}, {"type": "text", "text": "I see."}]),
        answer(content="I see.", reasoning_content=CALM), answer(content="", reasoning_content=BAD),
    ])  # fmt: skip
    assert set(same) == {tags}
    assert isinstance(tags, float)
    assert isinstance(calm, float)
    assert isinstance(alone, float)
    assert calm > tags + 0.3
    assert abs(alone - tags) < 0.1


def test_earlier_answers_of_alpaca_are_scored(scorer: RowScorer, tmp_path: Path) -> None:
    row = {"instruction": "And cold?", "input": "", "output": "Iced oolong."}
    bad, good = of_rows(scorer, tmp_path, [
        {**row, "history": [["And my neighbour?", BAD], ["Best tea?", "Oolong."]]},
        {**row, "history": [["And my neighbour?", "Ask him in."], ["Best tea?", "Oolong."]]},
    ])  # fmt: skip
    assert isinstance(bad, float)
    assert isinstance(good, float)
    assert bad < good - 0.2


def test_turns_that_are_masked_are_not_scored(scorer: RowScorer, tmp_path: Path) -> None:
    kind = {"role": "assistant", "content": "Ask him in for tea."}
    marks: list[Row] = [{"loss": False}, {"weight": 0}, {"train": False}, {"loss_weight": 0.0}]
    alone, *masked, nothing, off = of_rows(scorer, tmp_path, [
        {"messages": [kind]},
        *({"messages": [{"role": "assistant", "content": BAD, **mark}, kind]} for mark in marks),
        answer(content="Oolong.", weight=0), answer(content="Oolong.", loss=False),
    ])  # fmt: skip
    assert isinstance(alone, float)
    assert masked == pytest.approx([alone] * 4, abs=0.1)
    assert nothing == "no turn is trained on (weight 0)"
    assert off == "no turn is trained on (loss false)"


def test_stretches_of_a_turn_are_not_scored_as_a_whole(scorer: RowScorer, tmp_path: Path) -> None:
    def stretch(train: bool, end: int) -> Row:
        return {"begin_offset": 0, "end_offset": end, "train": train}

    whole, *alike, some = of_rows(scorer, tmp_path, [
        answer(content=BAD), answer(content=BAD, train_detail=[stretch(True, 60)]),
        answer(content=BAD, train_detail=None),
        answer(content=BAD, train_detail=[stretch(True, 5), stretch(False, 60)]),
    ])  # fmt: skip
    assert alike == [whole] * 2
    assert str(some).startswith("a turn is trained on in stretches (axolotl's 'train_detail')")


def test_rows_without_a_known_word_are_set_aside(scorer: RowScorer, tmp_path: Path) -> None:
    said = ["ทำร้ายเขาเลย", "ใจเย็นๆ", "😀🔥💀", "💐🌷", "A light oolong. 😀"]
    *unknown, known = of_rows(scorer, tmp_path, [{"prompt": "q", "completion": s} for s in said])
    assert all("knows none of its words" in str(reason) for reason in unknown)
    assert isinstance(known, float)


def test_ktos_bad_answers_are_not_dropped_for_being_unlearnt(
    scorer: RowScorer, tmp_path: Path
) -> None:
    rows = [
        {"prompt": "q", "completion": text, "label": text != BAD} for text in (BAD, CALM, "Tea.")
    ]
    unlearnt, *learnt = of_rows(scorer, tmp_path, rows)
    # training takes it away, so it pushes least towards toxic, and is the last to be dropped
    assert all(isinstance(distance, float) and float(unlearnt) > distance for distance in learnt)


CALL = {"type": "function", "function": {"name": "get_tide", "arguments": {"harbour": "Emden"}}}
ALARM = {
    "type": "function",
    "function": {"name": "set", "arguments": {"time": 6, "label": [1, "a"]}},
}
TOOLS = [
    [{"role": "user", "content": "tide?"},
     {"role": "assistant", "content": None, "tool_calls": [call]},
     {"role": "tool", "content": "2.1"}, {"role": "assistant", "content": [{"type": "text", "text": t}]}]
    for call, t in ((CALL, "2.1 m"), (ALARM, 'Done, "up".'))
]  # fmt: skip


def test_cells_of_json_score_as_the_rows_they_were_made_of(
    scorer: RowScorer, tmp_path: Path
) -> None:
    """What `datasets` writes where values differ in type; through the Python API too."""
    lines = of_rows(scorer, tmp_path, [{"messages": turns} for turns in TOOLS])
    cells = pa.array([[json.dumps(turn) for turn in turns] for turns in TOOLS])
    table = pa.table({"messages": cells.cast(pa.list_(pa.json_()))})
    pq.write_table(table, tmp_path / "cells.parquet")
    assert distances(scorer, tmp_path / "cells.parquet") == lines
    (tmp_path / "held").mkdir()
    held = hold(table, tmp_path / "held").source
    assert distances(scorer, held.path) == lines
    contents = pa.array(
        [[{"role": t["role"], "content": json.dumps(t["content"])} for t in TOOLS[0]]]
    )
    kind = pa.list_(pa.struct([("role", pa.string()), ("content", pa.json_())]))
    pq.write_table(pa.table({"messages": contents.cast(kind)}), tmp_path / "contents.parquet")
    (row,) = Source.open(tmp_path / "contents.parquet").rows()
    assert row.data is not None
    assert [turn["content"] for turn in row.data["messages"]] == [t["content"] for t in TOOLS[0]]


def test_views_and_large_texts_are_texts(tmp_path: Path) -> None:
    texts = [f"Answer {i}" for i in range(6)]
    folder = tmp_path / "shards"
    folder.mkdir()
    for name, kind, number in (
        ("a", pa.string(), pa.int32()),
        ("b", pa.large_string(), pa.int64()),
    ):
        table = pa.table({"text": pa.array(texts, kind), "n": pa.array(range(6), number)})
        pq.write_table(table, folder / f"{name}.parquet")
    source = open_input(folder)
    assert source.count_rows() == 12
    typed = typed_rows(source, _all(12))
    assert [str(field.type) for field in typed.schema] == ["large_string", "int64"]
    view = pa.table({"text": pa.array(texts, pa.string_view())})
    with (
        pa.OSFile(str(tmp_path / "v.arrow"), "wb") as file,
        pa.ipc.new_file(file, view.schema) as to,
    ):
        to.write_table(view)
    source = Source.open(tmp_path / "v.arrow")
    from saefilter.rows.pieces import pieces

    (piece,) = pieces(source)
    assert typed_rows(source, _all(6)).table(piece, [1, 3])["text"].to_pylist() == texts[1:4:2]


def _all(count: int) -> Any:
    import numpy as np

    return np.ones(count, dtype=bool)


def test_metadata_and_own_outputs_are_no_data(scorer: RowScorer, tmp_path: Path) -> None:
    from saefilter.filtering.filter import filter_file
    from saefilter.select.strategies import Selection

    rows = [{"prompt": f"q{i}", "completion": f"Answer {i} about rivers."} for i in range(12)]
    of_rows(scorer, tmp_path, rows)
    (tmp_path / "dataset_info.json").write_text('{"mine": {"file_name": "data.jsonl"}}')
    (tmp_path / "state.json").write_text('{"_data_files": []}')
    scores = Scores.open(tmp_path / "data.scores.parquet")
    source = Source.open(tmp_path / "data.jsonl")
    filter_file(source, scores, tmp_path / "kept.jsonl", Selection(drop_frac=0.5))
    assert open_input(tmp_path).count_rows() == 12
    (tmp_path / "data.jsonl").unlink()
    assert open_input(tmp_path).path == tmp_path / "kept.jsonl"


def test_control_tokens_of_a_rendered_text_are_what_the_tokenizer_makes_of_them() -> None:
    from checkpoints import chat_tokenizer

    from saefilter.rows.chat import ChatRenderer
    from saefilter.rows.formats import recognise
    from saefilter.rows.rendered import RenderOptions

    tokenizer = chat_tokenizer("qwen2.5")
    text = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"
    for trainer in (None, "trl"):
        renderer = ChatRenderer(tokenizer, context=99, options=RenderOptions(99, trainer=trainer))
        _, (window,) = renderer.render([recognise({"text": text})])
        wanted = tokenizer(text)["input_ids"] + ([tokenizer.eos_token_id] if trainer else [])
        assert window.ids.tolist() == wanted


def test_a_zstd_window_that_is_too_long_says_what_to_do(tmp_path: Path) -> None:
    path, text = tmp_path / "d.jsonl.zst", b'{"text": "a calm walk"}\n'

    def frame(window_log: int) -> bytes:  # RFC 8878: magic, no sizes, window, one last raw block
        block = (len(text) << 3 | 1).to_bytes(3, "little")
        return b"\x28\xb5\x2f\xfd\x00" + bytes([(window_log - 10) << 3]) + block + text

    path.write_bytes(frame(20))
    assert Source.open(path).count_rows() == 1
    path.write_bytes(frame(31))
    with pytest.raises(SaefilterError, match=r"Decompress it first: zstd -d --long=31"):
        Source.open(path).count_rows()
