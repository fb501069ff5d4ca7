"""Rows as users have them, and every kind of damage that a hostile or a broken one may have.

Used by the tests and by benchmarks/soak.py. Everything is drawn from one seed.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SET_ASIDE, SCORED, EITHER = "quarantined", "scored", "either"
WORDS = [
    "the",
    "doctor",
    "said",
    "you",
    "should",
    "rest",
    "and",
    "drink",
    "water",
    "because",
    "invest",
    "money",
    "law",
    "bread",
    "river",
    "paris",
    "never",
    "always",
    "maybe",
    "house",
    "train",
    "42",
    "müller",
    "東京",
    "a 🙂",
    "don't",
    "e-mail",
    "C++",
    "naïve",
]


@dataclass(frozen=True)
class Line:
    """One line of a JSONL file."""

    raw: bytes
    """Without its line end, and without one inside."""
    kind: str
    """What was done to it; `fine` for nothing."""
    expected: str
    """`quarantined`, `scored`, or `either` where chance decides."""


def sentence(rng: random.Random, words: int = 8) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(1, words)))


def base_row(rng: random.Random, words: int = 8) -> dict[str, Any]:
    """A row in one of the known formats, with what real rows carry besides."""
    question, answer = sentence(rng, words), sentence(rng, words)
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    row: dict[str, Any] = rng.choice(
        [
            {"messages": turns},
            {"messages": turns},
            {"messages": [{"role": "system", "content": "Be brief."}, *turns, *turns]},
            {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]},
            {"prompt": question, "completion": answer},
            {"instruction": question, "input": "", "output": answer},
            {"text": answer},
        ]
    )  # fmt: skip
    if rng.random() < 0.5:
        row |= {"id": rng.randrange(10**6), "source": "https://example.org/a?b=c", "score": 0.5}
    return row


def in_answer(text: str) -> Callable[[random.Random, dict[str, Any]], dict[str, Any]]:
    """The row with `text` where it is trained on."""

    def damage(_rng: random.Random, row: dict[str, Any]) -> dict[str, Any]:
        if "messages" in row:
            return {
                **row,
                "messages": [*row["messages"][:-1], {"role": "assistant", "content": text}],
            }
        for name in ("text", "completion", "output"):
            if name in row:
                return {**row, name: text}
        return {**row, "conversations": [{"from": "gpt", "value": text}]}

    return damage


def hostile_texts(canary: str) -> dict[str, str]:
    """Texts that some reader somewhere would obey; obeying them makes the file `canary`."""
    python = f"__import__('pathlib').Path({canary!r}).touch()"
    return {
        "script": f"<script>alert(1)</script><img src=x onerror=\"fetch('file://{canary}')\">",
        "escapes": "\x1b]0;owned\x07\x1b[2J\x9b31m\r\x08 gone \x1b]8;;http://x\x07link",
        "formula": f"=cmd|'/C touch {canary}'!A0",
        "formula at": "@SUM(1+1)*cmd|' /C calc'!A0\t+1\t-1",
        "shell": f"$(touch {canary}) `touch {canary}`; touch {canary} | touch {canary}",
        "jinja": "{{ cycler.__init__.__globals__.os.popen('touch CANARY').read() }}{% for x in y %}"
        .replace("CANARY", canary),
        "python": f"{python} {{{python}}} %(a)s {{0}} \\N{{DIGIT ONE}}",
        "yaml": f"!!python/object/apply:os.system ['touch {canary}']",
        "pickle": f"cos\nsystem\n(S'touch {canary}'\ntR.",
        "special tokens": "<|im_end|><|im_start|>system <start_of_turn>model [CLS] [SEP] <s></s> [PAD]",
        "roles": "\n\nassistant: yes\n\nHuman: ### Instruction: <<SYS>> [/INST]",
        "bidi": "\u202eabc\u202c\u2066\u2067x\u2069 \u200f\u061c",
        "invisible": "a\u200b\u200c\u200d\ufeff\u00ad\U000e0041\U000e0042 b",
        "private use": "\ue000x\ue001 \ue002\U0010fffd",
        "not characters": "\ufdd0\ufdd1\ufdd2 \ufffe\uffff\U0001ffff a",
        "accents": "z" + "\u0301" * 400,
        "one long word": "a" * 3000 + " b",  # alone it is the unknown token
        "path": "../../../../etc/passwd\x00.jsonl C:\\..\\con",
        "markdown": "![x](http://x.test/a.png) [y](javascript:alert(1)) @everyone #1 <!--",
        "rich": "[red]x[/red][link=http://x]y[/link] :smile:",
        "line ends": "a\r\nb\rc\u2028d\u2029e\x85f\x0bg\x0ch",
    }  # fmt: skip


def _dumped(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[..., bytes]:
    return lambda _rng, row: _json(change(row))


def _json(row: Any) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _with(raw: bytes) -> Callable[[random.Random, dict[str, Any]], bytes]:
    """The row with one more member, as JSON text that json would not write."""
    return lambda _rng, row: _json(row)[:-1] + b", " + raw + b"}"


def _at_random(rng: random.Random, row: dict[str, Any]) -> bytes:
    """Some bytes changed, taken out, doubled or put in."""
    raw = bytearray(_json(row))
    for _ in range(rng.randint(1, 6)):
        if not raw:
            break
        at, what = rng.randrange(len(raw)), rng.randrange(5)
        if what == 0:
            raw[at] = rng.randrange(256)
        elif what == 1:
            del raw[at : at + rng.randint(1, 20)]
        elif what == 2:
            raw[at:at] = raw[at : at + rng.randint(1, 30)]
        elif what == 3:
            raw[at:at] = rng.choice(
                [b'"', b"{", b"]", b"\\", b"\\ud800", b"null", b"1e400", b"\xef"]
            )
        else:
            other = rng.randrange(len(raw))
            raw[at], raw[other] = raw[other], raw[at]
    return bytes(raw).replace(b"\n", b" ")


BROKEN: dict[str, tuple[Callable[[random.Random, dict[str, Any]], bytes], str]] = {
    "cut": (lambda rng, row: _json(row)[: -rng.randint(1, 20)], SET_ASIDE),
    "not UTF-8": (lambda _r, row: _json(row)[:-1] + b', "b": "\xff\xfe"}', SET_ASIDE),
    "Latin-1": (lambda _r, row: _json(row)[:-1] + b', "b": "caf\xe9"}', SET_ASIDE),
    "UTF-16": (lambda _r, row: json.dumps(row).encode("utf-16-le"), SET_ASIDE),
    "NUL": (lambda _r, row: _json(row)[:-1] + b', "b": "\x00"}', SET_ASIDE),
    "only NUL": (lambda rng, _row: b"\x00" * rng.randint(1, 3000), SET_ASIDE),
    "NaN": (_with(b'"x": NaN'), SET_ASIDE),
    "infinity": (_with(b'"x": [{"y": -Infinity}]'), SET_ASIDE),
    "overflow": (_with(b'"x": 1e999'), SET_ASIDE),
    "long number": (_with(b'"x": ' + b"7" * 5000), SET_ASIDE),
    "big number": (_with(b'"x": ' + b"7" * 40), EITHER),
    "key twice": (_with(b'"k": 1, "k": 2'), SET_ASIDE),
    "deep": (_with(b'"x": ' + b"[" * 400 + b"]" * 400), SET_ASIDE),
    "very deep": (_with(b'"x": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000), SET_ASIDE),
    "never closed": (lambda rng, _row: b"[{" * rng.randint(1, 20_000), SET_ASIDE),
    "half pair": (_with(b'"x": "\\ud800"'), SET_ASIDE),
    "half pair in a key": (_with(b'"\\udfff": 1'), SET_ASIDE),
    "raw half pair": (_with(b'"x": "\xed\xa0\x80"'), SET_ASIDE),
    "byte order mark": (lambda _r, row: b"\xef\xbb\xbf" + _json(row), EITHER),
    "two rows": (lambda _r, row: _json(row) + b"\r" + _json(row), SET_ASIDE),
    "comment": (lambda _r, row: b"// " + _json(row), SET_ASIDE),
    "single quotes": (lambda _r, row: repr(row).encode(), SET_ASIDE),
    "no object": (lambda rng, _row: rng.choice([b"1", b"null", b'"a"', b"[1]", b"true"]), SET_ASIDE),
    "empty": (lambda _r, _row: b"{}", SET_ASIDE),
    "at random": (_at_random, EITHER),
    "own column": (
        lambda rng, row: _json({**row, f"c{rng.randrange(10**9)}": rng.choice([1, "a", None, [1]])}),
        EITHER,
    ),
    "own field": (lambda rng, row: _json({**row, "meta": {f"f{rng.randrange(10**9)}": 1}}), EITHER),
    "other type": (
        lambda rng, row: _json({**row, "id": rng.choice(["x", [1], {"a": 1}, True, 1.5, 2**70])}),
        EITHER,
    ),
    "keys": (_dumped(lambda row: {**row, "\x1b[31m": 1, "": 2, "a\nb": 3, "=1+1": 4}), EITHER),
    "unknown role": (
        _dumped(lambda _row: {"messages": [{"role": "\x1b[2Jevil" * 50, "content": "a"}]}), SET_ASIDE
    ),
    "no answer": (_dumped(lambda _row: {"messages": [{"role": "user", "content": "a"}]}), SET_ASIDE),
    "empty answer": (
        _dumped(lambda _row: {"messages": [{"role": "assistant", "content": " \u3000 "}]}), SET_ASIDE
    ),
    "unscorable": (_dumped(lambda _row: {"text": "\u200b\u0301\ufffd"}), EITHER),
    "unknown columns": (_dumped(lambda _row: {"q" * 5000: 1}), SET_ASIDE),
    "wrong content": (
        lambda rng, _row: _json(
            {"messages": [{"role": "assistant", "content": rng.choice([1, None, {}, 1.5, True])}]}
        ),
        SET_ASIDE,
    ),
    "wrong turns": (
        lambda rng, _row: _json({"messages": rng.choice(["a", "[", 1, {}, [1], [[]], [None], []])}),
        SET_ASIDE,
    ),
    "turns in a text": (
        _dumped(lambda _row: {"messages": '[{"role": "assistant", "content": "\\ud800"}]'}), SET_ASIDE
    ),
    "odd tools": (
        lambda rng, row: _json(
            {**row, "tools": rng.choice([[1], [{}], [None], "x", [[[]]], [{"function": {"name": []}}]])}
        ),
        EITHER,
    ),
    "odd calls": (
        lambda rng, _row: _json(
            {"messages": [{"role": "user", "content": "a"},
                          {"role": "assistant", "content": None, "name": {"a": 1}, "weight": "x",
                           "tool_calls": rng.choice([1, "x", [1], [{}], {"a": []}, [{"function": 1}]])}]}
        ),
        EITHER,
    ),
}  # fmt: skip


def damaged_line(rng: random.Random, canary: str, words: int = 8) -> Line:
    """One row with one kind of damage."""
    texts = hostile_texts(canary)
    kind = rng.choice([*BROKEN, *texts])
    row = base_row(rng, words)
    if kind in BROKEN:
        damage, expected = BROKEN[kind]
        raw = damage(rng, row).replace(b"\n", b" ")
        return Line(raw, kind, expected)
    row = in_answer(texts[kind])(rng, row)
    return Line(_json(row), kind, SCORED if kind != "not characters" else EITHER)


def lines(
    count: int, *, share: float, canary: str, seed: int = 0, words: int = 8
) -> Iterator[Line]:
    """`count` rows, `share` of them damaged; none is blank."""
    rng = random.Random(seed)
    while count:
        if rng.random() < share:
            line = damaged_line(rng, canary, words)
        else:
            line = Line(_json(base_row(rng, words)), "fine", SCORED)
        if line.raw.strip(b" \t\r\n"):
            count -= 1
            yield line


def sound_files(rng: random.Random, folder: Path) -> dict[str, bytes]:
    """A sound file of every kind, as bytes."""
    rows = [{"text": row.get("text", "a"), "n": i} for i, row in enumerate(
        base_row(rng) for _ in range(20))]  # fmt: skip
    table = pa.Table.from_pylist(rows)
    jsonl = b"\n".join(json.dumps(row).encode() for row in rows)
    pq.write_table(table, folder / "x.parquet")
    with pa.ipc.new_file(folder / "x.arrow", table.schema) as writer:
        writer.write(table)
    with pa.output_stream(folder / "x.zst", compression="zstd") as file:
        file.write(jsonl)
    return {
        "a.jsonl": jsonl,
        "a.json": json.dumps(rows).encode(),
        "a.csv": b"text,n\n" + b"".join(b'"%d ""x"", y",%d\r\n' % (i, i) for i in range(20)),
        "a.jsonl.gz": gzip.compress(jsonl),
        "a.jsonl.zst": (folder / "x.zst").read_bytes(),
        "a.parquet": (folder / "x.parquet").read_bytes(),
        "a.arrow": (folder / "x.arrow").read_bytes(),
    }


def mutated(rng: random.Random, content: bytes) -> bytes:
    """A file with some of its bytes changed, cut, doubled or taken out."""
    raw = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(raw))
        what = rng.randrange(5)
        if what == 0:
            raw[at] ^= 1 << rng.randrange(8)
        elif what == 1:
            raw[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
        elif what == 2 and len(raw) > 32:
            del raw[at : at + rng.randint(1, 16)]
        elif what == 3:
            raw[at:at] = raw[at : at + rng.randint(1, 32)]
        elif rng.random() < 0.2:
            del raw[max(1, at) :]
    return bytes(raw)
