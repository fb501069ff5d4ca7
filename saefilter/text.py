"""Words and numbers as a person reads them, and untrusted text made safe to show.

Plain text only: nothing here knows of HTML or Markdown, nor of what the words are about.
"""

from __future__ import annotations

import math
import re
import shlex

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
# Embeddings, overrides and isolates reorder what a reader sees, so they are shown, not obeyed.
# Line separators are line ends to some readers of JSON Lines, and marks turn words around.
_STEERING = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_REORDERING = re.compile("[\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """Untrusted text without control characters; tabs and line ends stay, bidi controls show."""
    text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _REORDERING.sub(lambda match: f"[U+{ord(match[0]):04X}]", text)


def one_line(text: str) -> str:
    """Untrusted text that a terminal can show: on one line, without control characters."""
    return " ".join(clean(text).split())


def json_safe(text: str) -> str:
    """JSON text with what could steer a terminal as escapes; they only stand within strings."""
    return _STEERING.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def command_line(*words: str) -> str:
    """Words as a shell takes them: quoted where they must be, control characters by their codes."""
    return " ".join(map(_shell_word, words))


def _shell_word(word: str) -> str:
    if word == clean(word) and "\n" not in word and "\t" not in word:
        return shlex.quote(word)
    coded = "".join(
        f"\\x{byte:02x}" if byte < 0x20 or byte >= 0x7F or byte in b"'\\" else chr(byte)
        for byte in word.encode("utf-8", "surrogateescape")
    )
    return f"$'{coded}'"


def rows_of(count: int) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{count:,} row" if count == 1 else f"{count:,} rows"


def decimal(value: float | None, digits: int) -> str:
    """A number with fixed digits, or a dash: JSON has null for what is not finite."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def percent(share: float) -> str:
    """A share of 1 in percent. Only everything is 100%, and only nothing is 0%."""
    value = share * 100
    if not math.isfinite(value):
        return "–"
    if 0 < value < 0.01:
        return "under 0.01%"
    if value < 10:
        return f"{value:.2g}%" if value > 0 else "0%"
    if value < 90:
        return f"{value:.0f}%"
    return f"{math.floor(value * 10 + 1e-6) / 10:g}%"


def few(count: float) -> str:
    """An expected count, which need not be whole."""
    return f"{count:,.0f}" if count >= 10 else f"{count:.2g}"


def ordinal(number: int) -> str:
    """`1st`, `22nd`, `1,011th`"""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{'th' if number % 100 in (11, 12, 13) else ending}"


def percentile_words(percentile: float | None, reference: str | None = None) -> str:
    """What a percentile says, or nothing when there is none. `reference`: name of the user's own
    reference rows, untrusted."""
    if percentile is None or not math.isfinite(percentile):
        return ""
    one = f"row of {one_line(reference)}" if reference else "harmless reference sample"
    if percentile >= 100:
        return f"closer than every {one}"
    if percentile <= 0:
        return f"not closer than any {one}"
    several = f"the rows of {one_line(reference)}" if reference else "harmless reference samples"
    return f"closer than {percent(percentile / 100)} of {several}"


def reference_words(rows: int, reference: str | None = None) -> str:
    """The reference rows in a sentence."""
    if reference:
        return f"{rows:,} rows of {one_line(reference)}"
    return f"{rows:,} harmless reference samples"


def place(line: int, file: str | None) -> str:
    """Where a row stands; a file's name is untrusted."""
    return f"line {line}" if file is None else f"line {line} of {clean(file)}"


_WORD = re.compile(r"[^\W_]+")
# pieces of contracted words, which a tokenizer splits off, are among them: ain, don, ll, ve
_FUNCTION_WORD_LIST = """
    about above across after afterwards again against ain all almost along already also
    although always am among an and another any anybody anyhow anyone anything anyway
    anywhere are aren around as at away back be became because become becomes been before
    behind being below beneath beside besides between beyond both but by can cannot could
    couldn did didn do does doesn doing don done down during each either else elsewhere
    enough etc even ever every everybody everyone everything everywhere except few first for
    former from further get gets getting give given go goes got had hadn has hasn have haven
    having he hence her here hers herself him himself his how however if in indeed instead
    into is isn it its itself just keep keeps last later latter least less let lets like ll
    made make makes many may maybe me meanwhile might mine more moreover most mostly much
    must mustn my myself needn neither never nevertheless next no nobody none nor not
    nothing now nowhere of off often on once one ones only onto or other others otherwise
    ought our ours ourselves out over own per perhaps please put quite rather re really same
    say says see seem seemed seems several shall she should shouldn since so some somebody
    somehow someone something sometimes somewhere still such take takes than that the their
    theirs them themselves then there therefore these they thing things this those though
    through throughout thus till to together too toward towards two under unless until up
    upon us ve very via want wants was wasn we well were weren what whatever when whenever
    where wherever whether which while who whoever whole whom whose why will with within
    without won would wouldn yes yet you your yours yourself yourselves
    """
_FUNCTION_WORDS = frozenset(_FUNCTION_WORD_LIST.split())


def is_function_word(word: str) -> bool:
    """Whether an English word, or what a tokenizer left of one, carries grammar or next to no meaning:
    articles, pronouns, auxiliaries, the commonest verbs. Single letters do too."""
    pieces = _WORD.findall(word.lower())
    return all(len(piece) == 1 or piece in _FUNCTION_WORDS for piece in pieces)
