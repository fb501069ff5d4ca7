"""The verdict as text for people, as Markdown for a job's summary, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from saefilter import __version__
from saefilter.gate.verdict import Outcome, RuleVerdict, Suggested, Verdict, WorstRow, number
from saefilter.report.markdown import code, prose
from saefilter.rows.sides import PAIRS
from saefilter.text import json_safe, one_line, percent, percentile_words, rows_of
from saefilter.toxic.toxicset import DOES_NOT_TELL, UNLIKE

if TYPE_CHECKING:
    from rich.console import Console

TEXT_ROWS = 10
LABEL_CHARACTERS = 60
CLOSEST_CHARACTERS = 100
SUMMARY_BYTES = 1_000_000
"""GitHub refuses a job summary of more than 1 MiB."""
CUT = "\n\nCut here: a summary cannot be longer. The text format has all of it.\n"


def to_text(outcome: Outcome) -> str:
    """For a terminal or a log."""
    lines: list[str] = []
    for verdict in outcome.verdicts:
        lines += _text(verdict)
    for unjudged in outcome.unjudged:
        lines += [f"NO VERDICT  {one_line(unjudged.input)}", f"  {one_line(unjudged.error)}", ""]
    return "\n".join([*lines, closing(outcome)]) + "\n"


def said_once(outcome: Outcome, reused: Collection[str]) -> Outcome:
    """Without notes that another dataset's verdict has, or that were said when scores were made that are
    `reused`, by their input; what voids the figures of the verdict is always said."""
    said: set[str] = set()
    verdicts = []
    for verdict in outcome.verdicts:
        before = set(verdict.notes) if verdict.input in reused else said
        notes = [note for note in verdict.notes if note not in before or voids(note)]
        said |= set(verdict.notes)
        verdicts.append(replace(verdict, notes=tuple(notes)))
    return replace(outcome, verdicts=verdicts)


def voids(note: str) -> bool:
    """Whether a note says that the verdict's figures do not hold."""
    return DOES_NOT_TELL in note or UNLIKE in note


def print_text(console: Console, text: str) -> None:
    """The text on a terminal: wrapped beneath where each line begins, and the verdicts in colour."""
    from rich.padding import Padding
    from rich.text import Text

    for line in text.splitlines():
        plain = line.lstrip(" ")
        shown = Text(plain)
        shown.highlight_regex(r"^(NO VERDICT|FAIL)\b", "bold white on red")
        shown.highlight_regex(r"^PASS\b", "bold black on green")
        shown.highlight_regex(r"^pass\b", "green")
        console.print(Padding(shown, (0, 0, 0, len(line) - len(plain))))


def _text(verdict: Verdict) -> list[str]:
    lines = [f"{in_a_word(verdict)}  {one_line(verdict.input)}", f"  {counts(verdict)}"]
    for rule in verdict.rules:
        word = "pass" if rule.passed else "FAIL"
        lines += [f"  {word}  {rule.rule:15}  {rule.comparison}", f"        {detail(rule)}"]
        if not rule.passed and rule.rows:
            lines += [f"        {heading(rule, TEXT_ROWS)}"]
            lines += [f"          {row_words(row)}" for row in rule.rows[:TEXT_ROWS]]
    lines += [f"  {one_line(words)}" for words in share_words(verdict) + power_words(verdict)]
    lines += [f"  Note: {one_line(note)}" for note in verdict.notes]
    return [*lines, f"  Limits: {one_line(verdict.policy)}", ""]


def closing(outcome: Outcome) -> str:
    """The last line: what it all came to."""
    n = len(outcome.verdicts) + len(outcome.unjudged)
    failed = sum(not verdict.passed for verdict in outcome.verdicts)
    if outcome.unjudged:
        of = f" on {len(outcome.unjudged)} of {n}, {failed} failed" if n > 1 else ""
        return f"NO VERDICT{of or ': the data could not be judged'}."
    if failed:
        return f"FAIL: {failed} of {n} failed." if n > 1 else "FAIL: the data fails the policy."
    return f"PASS: all {n} pass." if n > 1 else "PASS: the data passes the policy."


def in_a_word(verdict: Verdict) -> str:
    """The verdict in a word."""
    return "PASS" if verdict.passed else "FAIL"


def counts(verdict: Verdict) -> str:
    """What was looked at, and by which means."""
    return one_line(
        f"{rows_of(verdict.rows)}, {verdict.scored:,} scored, {verdict.quarantined:,} quarantined; "
        f"preset {verdict.preset or verdict.model}, toxic set {verdict.toxic_set}, metric "
        f"{verdict.metric}"
    )


def power_words(verdict: Verdict) -> list[str]:
    """What would be caught, a sentence for each kind of bad rows; or that it is not known."""
    if verdict.power_unknown:
        return [f"Power is not known: {verdict.power_unknown}."]
    by_source: dict[str, list[str]] = {}
    for one in verdict.power:
        by_source.setdefault(one.source, []).append(
            f"{number(one.share)}% with probability {one.probability:.2f} "
            f"({one.low:.2f} to {one.high:.2f})"
        )
    return [
        f"Power: of {rows_of(verdict.judged or verdict.scored)}, bad ones like those held out of {source} fail: "
        f"{', '.join(shares)}."
        for source, shares in by_source.items()
    ]


def push_words(verdict: Verdict) -> list[str]:
    """Of preference data, how many rows push the wrong way."""
    wrong = verdict.wrong_way
    if wrong is None:
        return []
    what = "pairs" if wrong.kind == PAIRS else "KTO rows"
    return [
        f"Preference data: {wrong.count:,} of {wrong.rows:,} {what} push towards toxic features, "
        f"{percent(wrong.share)} ({percent(wrong.low)} to {percent(wrong.high)}, 95%); half would where the "
        "scores know nothing of the preference. Flagged are the answers that are learnt."
    ]


def share_words(verdict: Verdict) -> list[str]:
    """How many rows are bad, as far as that is known; nothing where it is not."""
    known = verdict.bad_share
    if known is None:
        return push_words(verdict)
    proven = (
        f"at least {percent(known.least)} of the scored rows (95% confidence)"
        if known.least
        else "none for certain (95% confidence)"
    )
    unlike = " (the note doubts it)" if any(UNLIKE in note for note in verdict.notes) else ""
    # what says less than is proven is not repeated
    likely = "; ".join(words for one in known.suggested if (words := _suggested(one, known.least)))
    return [
        *push_words(verdict),
        f"Bad rows, if this data's harmless rows are like the reference{unlike}: {proven}"
        f"{f'; {likely}' if likely else ''}.",
    ]


def _suggested(one: Suggested, least: float) -> str:
    like = f"like those held out of {one.source}"
    if one.low >= 1:
        return f"more are flagged than if all rows were {like}"
    if one.share >= least:
        return (
            f"{percent(one.share)} ({percent(one.low)} to {percent(one.high)}) if they are {like}"
        )
    return f"up to {percent(one.high)} if they are {like}" if one.high >= least else ""


def detail(rule: RuleVerdict) -> str:
    """What was counted, as a sentence."""
    return one_line(f"{rule.detail[0].upper()}{rule.detail[1:]}.")


def heading(rule: RuleVerdict, shown: int) -> str:
    """Over a rule's worst rows."""
    total = max(rule.count, len(rule.rows))
    shown = min(shown, len(rule.rows))
    return "Worst rows:" if shown >= total else f"The worst {shown} of {rows_of(total)}:"


def row_words(row: WorstRow) -> str:
    """A row on one line."""
    return f"{one_line(row.place)}  {why(row)}"


def why(row: WorstRow) -> str:
    """What is the matter with a row, on one line."""
    if row.reason is not None:
        return one_line(row.reason)
    words = percentile_words(row.percentile, row.reference) or f"proximity {row.proximity:.4g}"
    if row.closest is not None:
        like = one_line(row.closest)
        like = like if len(like) <= CLOSEST_CHARACTERS else f"{like[: CLOSEST_CHARACTERS - 1]}…"
        themes = "; ".join(one_line(theme)[: 2 * LABEL_CHARACTERS] for theme in row.themes)
        return f"{words} ({themes or 'many weak signs'}), like “{like}”"
    labels = [one_line(label)[:LABEL_CHARACTERS] for label in row.features]
    return f"{words} ({'; '.join(labels)})" if labels else words


def to_markdown(outcome: Outcome) -> str:
    """For a job's summary or a comment; under 1 MiB."""
    paragraphs = [f"## saefilter check\n\n**{closing(outcome)}**\n"]
    for verdict in outcome.verdicts:
        paragraphs.append(f"### {in_a_word(verdict)}: {code(verdict.input)}\n")
        paragraphs.append(prose(counts(verdict)) + "\n")
        table = ["| rule | verdict | measured | |", "| --- | --- | --- | --- |"]
        for rule in verdict.rules:
            state = "pass" if rule.passed else "**FAIL**"
            comparison = code(rule.comparison)
            table.append(f"| {rule.rule} | {state} | {comparison} | {prose(detail(rule))} |")
        paragraphs.append("\n".join(table) + "\n")
        for rule in verdict.failed_rules:
            if rule.rows:
                lines = [f"{rule.rule}: {prose(heading(rule, len(rule.rows)))}", ""]
                lines += [f"- {code(row.place)}: {prose(why(row))}" for row in rule.rows]
                paragraphs.append("\n".join(lines) + "\n")
        said = share_words(verdict) + power_words(verdict)
        paragraphs += [f"{prose(one_line(words))}\n" for words in said]
        paragraphs += [f"Note: {prose(one_line(note))}\n" for note in verdict.notes]
        paragraphs.append(f"Limits: {prose(one_line(verdict.policy))}\n")
    for unjudged in outcome.unjudged:
        paragraphs.append(
            f"### NO VERDICT: {code(unjudged.input)}\n\n{prose(one_line(unjudged.error))}\n"
        )
    return cut_bytes("\n".join(paragraphs))


def cut_bytes(text: str, limit: int = SUMMARY_BYTES) -> str:
    """A text of at most `limit` bytes of UTF-8, cut at the end of a line."""
    raw = text.encode()
    if len(raw) <= limit:
        return text
    kept = raw[: limit - len(CUT.encode())].decode("utf-8", "ignore")
    return kept[: kept.rfind("\n") + 1].rstrip("\n") + CUT


def to_json(outcome: Outcome) -> str:
    """For machines."""
    fields: dict[str, Any] = {
        "version": __version__,
        "passed": outcome.exit_code == 0,
        "exit_code": outcome.exit_code,
        "verdicts": [
            {
                **asdict(verdict),
                "passed": verdict.passed,
                "rules": [{**asdict(rule), "passed": rule.passed} for rule in verdict.rules],
            }
            for verdict in outcome.verdicts
        ],
        "unjudged": [asdict(unjudged) for unjudged in outcome.unjudged],
    }
    return json_safe(json.dumps(fields, ensure_ascii=False, indent=2, allow_nan=False)) + "\n"
