"""Five thousand rows over all formats, mixed in one file: every row is kept, dropped or set aside with its
reason, and no text is scored that the format's trainer masks out.

Each row says OURS where training learns, THEIRS in prompts, results of tools and pairs, and OFF in turns
that the row takes out of training.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import chat_tokenizer, small_tokenizer
from scored import write_scores

from saefilter.filtering.filter import filter_file
from saefilter.rows.chat import ChatRenderer
from saefilter.rows.formats import Ambiguous, RowProblem, recognise, understand
from saefilter.rows.read import Source
from saefilter.rows.render import PlainRenderer
from saefilter.rows.rendered import RenderOptions
from saefilter.select.strategies import Selection

Row = dict[str, Any]
ROWS = 5000
WORDS = ["tea", "oolong", "harbour", "tide", "heron", "pier", "ferry", "lamp"]


def _say(rng: random.Random, mark: str) -> str:
    return " ".join([mark, *rng.choices(WORDS, k=rng.randint(1, 6))])


def _parts(rng: random.Random, text: str) -> Any:
    """A content in one of the ways that it comes."""
    ways: list[Callable[[], Any]] = [
        lambda: text,
        lambda: [{"type": "text", "text": text}],
        lambda: [{"type": "text", "value": text}],
        lambda: [{"type": "image", "image": "THEIRS.png"}, {"type": "text", "text": text}],
        lambda: [text],
    ]
    return rng.choice(ways)()


def _call(rng: random.Random) -> Row:
    arguments = {"at": _say(rng, "OURS")}
    given = rng.choice([arguments, json.dumps(arguments)])
    return {"type": "function", "function": {"name": "look", "arguments": given}}


def _messages(rng: random.Random) -> Row:
    turns: list[Row] = [{"role": "user", "content": _parts(rng, _say(rng, "THEIRS"))}]
    if rng.random() < 0.3:
        turns.insert(0, {"role": "system", "content": _say(rng, "THEIRS")})
    if rng.random() < 0.3:
        key, off = rng.choice(
            [("weight", 0), ("train", False), ("loss", False), ("loss_weight", 0.0)]
        )
        turns += [{"role": "assistant", "content": _say(rng, "OFF"), key: off}, turns[-1]]
    if rng.random() < 0.3:
        held = {"tool_calls": [_call(rng)]} if rng.random() < 0.5 else {
            "function_call": _call(rng)["function"]
        }  # fmt: skip
        turns += [{"role": "assistant", "content": None, **held},
                  {"role": "tool", "content": _parts(rng, _say(rng, "THEIRS"))}]  # fmt: skip
    answer: Row = {"role": "assistant", "content": _parts(rng, _say(rng, "OURS"))}
    if rng.random() < 0.3:
        answer[rng.choice(["reasoning_content", "reasoning", "thinking"])] = _say(rng, "OURS")
    return {"messages": [*turns, answer]}


def _sharegpt(rng: random.Random) -> Row:
    turns = [{"from": "human", "value": _say(rng, "THEIRS")}]
    if rng.random() < 0.4:
        turns += [{"from": "function_call", "value": json.dumps({"name": _say(rng, "OURS")})},
                  {"from": "observation", "value": _say(rng, "THEIRS")}]  # fmt: skip
    return {"conversations": [*turns, {"from": "gpt", "value": _say(rng, "OURS")}]}


def _gemini(rng: random.Random) -> Row:
    return {"contents": [
        {"role": "user", "parts": [{"text": _say(rng, "THEIRS")}, {"inlineData": {"data": "THEIRS"}}]},
        {"role": "model", "parts": [{"functionCall": {"name": "x", "args": {"a": _say(rng, "OURS")}}}]},
        {"role": "function", "parts": [{"functionResponse": {"response": {"r": "THEIRS"}}}]},
        {"role": "model", "parts": [{"text": _say(rng, "OURS")}]},
    ]}  # fmt: skip


def _glaive(rng: random.Random) -> Row:
    said = f"USER: {_say(rng, 'THEIRS')}\n\n\nASSISTANT: {_say(rng, 'OURS')} <|endoftext|>"
    return {"system": f"SYSTEM: {_say(rng, 'THEIRS')}", "chat": said}


def _asked(question: str, answer: str) -> Callable[[random.Random], Row]:
    def make(rng: random.Random) -> Row:
        row: Row = {question: _say(rng, "THEIRS"), answer: _say(rng, "OURS")}
        if question != "prompt" and rng.random() < 0.4:
            row["history"] = [[_say(rng, "THEIRS"), _say(rng, "OURS")]]
        return row

    return make


def _pair(rng: random.Random) -> Row:
    sides = {side: {"from": "gpt", "value": _say(rng, "THEIRS")} for side in ("chosen", "rejected")}
    turns = [{"from": "human", "value": _say(rng, "THEIRS")}]
    if rng.random() < 0.5:  # an earlier answer, which is no target
        turns += [{"from": "gpt", "value": _say(rng, "THEIRS")}, turns[0]]
    texts = {side: turn["value"] for side, turn in sides.items()}
    return rng.choice([
        {"conversations": turns, **sides}, {"prompt": _say(rng, "THEIRS"), **texts}, texts,
        {"prompt": "THEIRS", "completion": "THEIRS", "label": rng.random() < 0.5},
    ])  # fmt: skip


def _two(rng: random.Random) -> Row:
    return {**_messages(rng), "text": _say(rng, "THEIRS")}


def _broken(rng: random.Random) -> Row:
    row: Row = {"messages": [{"role": "user", "content": _say(rng, "THEIRS")}, None]}
    row["messages"][-1] = rng.choice([
        {"role": "assistant", "content": ""}, {"role": "wizard", "content": "THEIRS"}, "THEIRS",
        {"role": "assistant", "content": [{"type": "image", "image": "THEIRS"}]}, 7,
        {"role": "user", "content": "THEIRS"},
    ])  # fmt: skip
    return rng.choice([row, {"nothing": "THEIRS"}, {"messages": []}])


MAKERS: dict[str, Callable[[random.Random], Row]] = {
    "messages": _messages, "sharegpt": _sharegpt, "gemini": _gemini, "glaive": _glaive,
    "pair of texts": _asked("prompt", "completion"), "alpaca": _asked("instruction", "output"),
    "question": _asked("question", "answer"), "query": _asked("query", "response"),
    "text": lambda rng: {"text": _say(rng, "OURS")},
    "preference": _pair, "two readings": _two, "broken": _broken,
}  # fmt: skip


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, Row]]:
    rng = random.Random(21)
    kinds = rng.choices(list(MAKERS), k=ROWS)
    return [(kind, MAKERS[kind](rng)) for kind in kinds]


def _trained(renderer: PlainRenderer, row: Row) -> str | RowProblem:
    try:
        return " ".join(s.text for s in renderer.segments(recognise(row)) if s.trained)
    except RowProblem as problem:
        return problem


def _words(renderer: PlainRenderer, row: Row) -> str:
    said = _trained(renderer, row)
    assert isinstance(said, str), (row, said)
    return said


def test_no_masked_text_is_scored(rows: list[tuple[str, Row]]) -> None:
    tokenizer = chat_tokenizer("qwen2.5")
    plain = PlainRenderer(small_tokenizer(bos_token="<s>", eos_token="</s>"), context=4096)
    by_trainer = {
        trainer: ChatRenderer(tokenizer, context=4096, options=RenderOptions(4096, trainer=trainer))
        for trainer in ("axolotl", "llama-factory", "openai", "trl-assistant")
    }
    chat = ChatRenderer(tokenizer, context=4096)
    scored: Counter[str] = Counter()
    for number, (kind, row) in enumerate(rows):
        said = _trained(plain, row)
        if isinstance(said, RowProblem):
            assert (kind == "two readings") == isinstance(said, Ambiguous), (row, said)
            assert kind in ("preference", "two readings", "broken"), (row, said)
            continue
        scored[kind] += 1
        assert "THEIRS" not in said, row
        assert "OFF" not in said, row
        assert said.count("OURS") == json.dumps(row).count("OURS") > 0, row
        if number % 10 == 0:
            assert not re.search("THEIRS|OFF", _words(chat, row)), row
            for trainer, renderer in by_trainer.items():
                if trainer != "trl-assistant" or "messages" in row:
                    assert "THEIRS" not in _words(renderer, row), (trainer, row)
    assert set(scored) == set(MAKERS) - {"preference", "two readings", "broken"}
    assert min(scored.values()) > 300


def test_every_row_is_kept_dropped_or_set_aside(
    tmp_path: Path, rows: list[tuple[str, Row]]
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({**row, "id": i}) + "\n" for i, (_, row) in enumerate(rows)))
    source = Source.open(data)
    scores = write_scores(source, tmp_path / "s.parquet")
    filter_file(source, scores, tmp_path / "out.jsonl", Selection(drop_frac=0.2))
    kept, dropped, aside = (
        [json.loads(line) for line in (tmp_path / f"out{part}.jsonl").read_text().splitlines()]
        for part in ("", ".dropped", ".quarantined")
    )
    ids = [row["id"] for row in (*kept, *dropped)] + [row["saefilter_row_id"] for row in aside]
    assert sorted(ids) == list(range(ROWS))
    usual = {"preference", "two readings", "broken"}
    assert {rows[row["id"]][0] for row in (*kept, *dropped)} <= set(MAKERS) - usual
    for row in aside:
        kind, original = rows[row["saefilter_row_id"]]
        assert kind in usual
        with pytest.raises(RowProblem) as why:
            understand({**original, "id": 0}).refuse_preference()
        assert row["saefilter_reason"] == str(why.value)
