"""JSON values as rows: what is valid JSON for every reader, and nothing else.

Python's json lets NaN pass, keeps the last of two equal keys and makes infinity of 1e999. Each would
let the file that was scored differ from the one that is trained on, so such rows are quarantined.
"""

from __future__ import annotations

import codecs
import json
import math
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from saefilter.errors import SaefilterError
from saefilter.rows import limits

BLANK = re.compile(r"[ \t\r\n]*")
READ_BYTES = 1 << 20
DEEP = "nested too deeply"
HALF = "a text holds half of a surrogate pair, which is not valid Unicode"


class _Decoder(threading.local):
    """json's decoder, which also notes what json lets pass; one per thread, as it keeps the note."""

    def __init__(self) -> None:
        self.flaw: str | None = None
        self.scan = json.JSONDecoder(
            parse_float=self._float, parse_constant=self._constant, object_pairs_hook=self._object
        )

    def _float(self, text: str) -> float:
        value = float(text)
        if math.isinf(value):
            self.flaw = f"the number {text[:20]} is too large"
        return value

    def _constant(self, name: str) -> None:
        self.flaw = f"not readable JSON: {name} is no JSON value; write null"

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            self.flaw = f"the key {twice[:40]!r} occurs twice in one object"
        return values

    def decode(self, text: str) -> tuple[Any, str | None]:
        """A value and what is wrong with it. Raises ValueError and RecursionError, as json does."""
        self.flaw = None
        return self.scan.decode(text), self.flaw

    def decode_at(self, text: str, start: int) -> tuple[Any, int, str | None]:
        """The value that begins at `start`, where it ends, and what is wrong with it."""
        self.flaw = None
        value, end = self.scan.raw_decode(text, start)
        return value, end, self.flaw


_decoder = _Decoder()


def parse_line(raw: bytes) -> tuple[dict[str, Any] | None, str | None]:
    """One JSONL line as (row, None), or (None, why it is not a row)."""
    if len(raw) > limits.ROW_BYTES:
        return None, limits.too_long("the line")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return None, f"not UTF-8 (byte {error.start + 1} of the line is 0x{raw[error.start]:02x})"
    value, problem = parse_text(text)
    return (None, problem) if problem else check_row(value)


def parse_text(text: str) -> tuple[Any, str | None]:
    """A JSON text as (value, None), or (None, why it is none)."""
    try:
        value, flaw = _decoder.decode(text)
    except RecursionError:
        return None, f"not readable JSON: {DEEP}"
    except ValueError as error:
        return None, f"not readable JSON: {_reason(error)}"
    if flaw is None and is_deep(value, text):
        flaw = f"not readable JSON: {DEEP}"
    if flaw is None and _has_half_pairs(value, text):
        flaw = HALF
    return (None, flaw) if flaw else (value, None)


def check_row(value: Any) -> tuple[dict[str, Any] | None, str | None]:
    """A value that JSON allows as a row, or why it is none."""
    if not isinstance(value, dict):
        return None, f"a JSON object was expected, this is {json_type(value)}"
    if not value:
        return None, "the row is empty"
    return value, None


def _reason(error: ValueError) -> str:
    """json's own words; but those of a number's limit name a function of Python."""
    if isinstance(error, json.JSONDecodeError):
        return str(error)
    return "a number has more digits than can be read"


def is_deep(value: Any, text: str | None = None) -> bool:
    """Whether lists and objects lie more than NESTING deep; `text` is the value's JSON, if any."""
    if text is not None and text.count("[") + text.count("{") <= limits.NESTING:
        return False
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > limits.NESTING + 1:
            return True
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += item.values()
            elif isinstance(item, (list, tuple)):
                below += item
        level = below
    return False


def _has_half_pairs(value: Any, text: str) -> bool:
    """Whether a string or a key is not Unicode; only an escape can make it so."""
    if "\\u" not in text:
        return False
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def json_type(value: Any) -> str:
    """What a value is, in the words of JSON, with its article."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, (list, tuple)):
        return "a list"
    return f"a {type(value).__name__}"


def array_items(file: IO[bytes], path: Path) -> Iterator[tuple[dict[str, Any] | None, str, str]]:
    """The items of one JSON array, as (row or None, why it is none, its JSON).

    They are read a buffer at a time. Raises SaefilterError where the array itself cannot be read on.
    """
    reader = _Buffer(file)
    if reader.next_character() != "[":
        raise _unreadable("no JSON array", path)
    reader.position += 1
    number = 0
    while reader.next_character() != "]":
        if number:
            if reader.next_character() != ",":
                raise _unreadable("',' or ']' was expected", path, number)
            reader.position += 1
            reader.next_character()
        number += 1
        value, problem, text = _item(reader, path, number)
        row, wrong = (None, problem) if problem else check_row(value)
        yield row, wrong or "", text
    reader.position += 1
    if reader.next_character():
        raise _unreadable("something follows the array", path, number)


def _item(reader: _Buffer, path: Path, number: int) -> tuple[Any, str | None, str]:
    while True:
        try:
            value, end, flaw = _decoder.decode_at(reader.text, reader.position)
        except RecursionError:
            raise _unreadable(DEEP, path, number) from None
        except json.JSONDecodeError as error:
            if reader.pending > limits.ROW_BYTES:
                raise _unreadable(limits.too_long("it"), path, number) from None
            if reader.more():
                continue
            raise _unreadable(error.msg, path, number) from None
        except ValueError as error:
            raise _unreadable(_reason(error), path, number) from None
        if end == len(reader.text) and reader.more():  # a number may go on
            continue
        text = reader.text[reader.position : end]
        reader.position = end
        if len(text) > limits.ROW_BYTES:
            return None, limits.too_long("it"), text[: limits.KEPT_BYTES]
        if flaw is None and is_deep(value, text):
            flaw = f"not readable JSON: {DEEP}"
        if flaw is None and not is_unicode(text):
            flaw = "not UTF-8"
        if flaw is None and _has_half_pairs(value, text):
            flaw = HALF
        return value, flaw, text


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _unreadable(problem: str, path: Path, number: int | None = None) -> SaefilterError:
    at = f" (item {number})" if number else ""
    return SaefilterError(
        f"not readable JSON: {problem}{at}",
        where=str(path),
        remedy="One JSON array is expected; JSON Lines lets a damaged row be set aside.",
    )


class _Buffer:
    """A growing and shrinking stretch of a text file. Bytes that are not UTF-8 stay visible as half
    surrogates, so that only their item is set aside."""

    def __init__(self, file: IO[bytes]):
        self.file = file
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
        first = file.read(READ_BYTES).removeprefix(codecs.BOM_UTF8)
        self.text = self.decoder.decode(first)
        self.position = 0
        self.ended = not first

    @property
    def pending(self) -> int:
        return len(self.text) - self.position

    def more(self) -> bool:
        """Read on, as much again as is there; False at the end of the file."""
        if self.ended:
            return False
        # doubled, so that an item of n characters is not tried more than log n times
        raw = self.file.read(max(READ_BYTES, self.pending))
        self.ended = not raw
        self.text = self.text[self.position :] + self.decoder.decode(raw, final=self.ended)
        self.position = 0
        return not self.ended

    def next_character(self) -> str:
        """The next one that is not blank, where the position is then; "" at the end."""
        while True:
            blank = BLANK.match(self.text, self.position)
            self.position = blank.end() if blank else self.position
            if self.position < len(self.text):
                return self.text[self.position]
            if not self.more():
                return ""
