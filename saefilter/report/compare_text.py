"""A comparison on the console and as Markdown, and the sentences and cells that all its faces share.

Plain text; names are untrusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from saefilter.report.console import not_said, safe
from saefilter.report.markdown import code, prose, table
from saefilter.text import decimal, one_line, percent, place, rows_of

if TYPE_CHECKING:
    from rich.console import Console

    from saefilter.compare.data import Arm, AtFraction, Comparison, Excerpt, Overlap

N_SHOWN = 2
"""Rows of each strategy on the console."""
PREVIEW_CHARACTERS = 80


def headline(comparison: Comparison) -> str:
    """The first sentence, up to the name of the input file."""
    count = len(comparison.arms)
    return f"{count} {'strategy' if count == 1 else 'strategies'} side by side on"


def lead(comparison: Comparison) -> str:
    """What was compared."""
    words = (
        f"Each orders the {rows_of(comparison.scored)} that are scored, and drops the same number of "
        "them."
    )
    if comparison.base_rate is None:
        return f"{words} Nothing says which rows are bad, so only where they agree can be shown."
    return (
        f"{words} {comparison.bad:,} of the {comparison.labelled:,} labelled rows are bad "
        f"({percent(comparison.base_rate)}): the precision of dropping at random."
    )


def area(arm: Arm) -> str:
    """AUROC with its interval, or a dash."""
    if arm.auroc is None:
        return "–"
    return f"{decimal(arm.auroc, 3)} ({decimal(arm.auroc_low, 2)}–{decimal(arm.auroc_high, 2)})"


def precision(at: AtFraction) -> str:
    """In percent, or a dash."""
    return "–" if at.precision is None else percent(at.precision)


def recall(at: AtFraction) -> str:
    """In percent, or a dash."""
    return "–" if at.recall is None else percent(at.recall)


def counted(at: AtFraction) -> str:
    """The numbers behind a precision, and how sure it is."""
    if at.precision is None:
        return f"{at.dropped:,} dropped"
    return (
        f"{at.bad:,} bad of {at.labelled:,} dropped; precision {percent(at.precision_low or 0)} to "
        f"{percent(at.precision_high or 0)} (95%)"
    )


def chance(overlap: Overlap) -> str:
    """Over a table of overlaps: the share dropped, and what two unrelated choices would share."""
    share = overlap.drop_frac
    return (
        f"Dropping {percent(share)}: two unrelated choices would come to {share / (2 - share):.2f}"
    )


def cost_seconds(arm: Arm) -> str:
    """Seconds for 1,000 rows, or why they are not told."""
    cost = arm.cost
    if cost.seconds is None:
        return "kept from before" if cost.rows_kept else "not measured"
    if cost.seconds < 0.1:
        return "under 0.1 s"
    return f"{cost.seconds:,.1f} s" if cost.seconds < 100 else f"{cost.seconds:,.0f} s"


def cost_tokens(arm: Arm) -> str:
    """Tokens of models for 1,000 rows, or a dash."""
    if arm.cost.tokens is None:
        return "–"
    return f"{arm.cost.tokens:,.0f}"


def once(arm: Arm) -> str:
    """What was spent once, whatever the number of rows; and how many rows were kept from before."""
    cost, parts = arm.cost, []
    if cost.once_seconds is not None and cost.once_seconds >= 0.1:
        tokens = f" and {cost.once_tokens:,} tokens" if cost.once_tokens else ""
        kept = ", with something that was kept from before" if cost.once_kept else ""
        parts.append(f"once {cost.once_seconds:,.1f} s{tokens}{kept}")
    if cost.rows_kept and cost.rows_read:
        parts.append(f"measured on {cost.rows_read:,}, {cost.rows_kept:,} kept from before")
    return "; ".join(parts)


COSTS = ("1,000 rows take", "tokens for 1,000 rows")
COST_HINT = (
    "Per 1,000 rows: seconds on this machine and tokens that models read and write, without padding; of "
    "closest, by the run that made its scores. What is learnt once comes besides."
)


def costs_once(comparison: Comparison) -> list[tuple[str, str]]:
    """Of each arm that spent something once, or had something kept: its name and what."""
    return [(arm.name, told) for arm in comparison.arms if (told := once(arm))]


def label_word(excerpt: Excerpt) -> str:
    """`bad`, `good`, or nothing without a label."""
    return "" if excerpt.bad is None else "bad" if excerpt.bad else "good"


def alone(arm: Arm, comparison: Comparison) -> str:
    """How many rows a strategy drops that no other does."""
    return (
        f"{rows_of(arm.only_count)} of the {_dropped(arm, comparison):,} that it drops at "
        f"{percent(comparison.detail_frac)}"
    )


def _dropped(arm: Arm, comparison: Comparison) -> int:
    return next(at.dropped for at in arm.at if at.drop_frac == comparison.detail_frac)


def print_comparison(console: Console, comparison: Comparison, said: Sequence[str] = ()) -> None:
    """The table, the overlaps, and a few rows that only one strategy drops; not the notes that were `said`
    before."""
    console.print()
    console.print(Text(f"{headline(comparison)} {one_line(comparison.input)}", style="bold"))
    console.print(lead(comparison))
    for note in not_said(comparison.notes, said):
        console.print(Text(f"Note: {note}", style="yellow"))
    if comparison.base_rate is not None:
        console.print()
        console.print(_arms_grid(comparison))
        console.print(Text("Shares: precision / recall when so much is dropped", style="dim"))
    _print_costs(console, comparison)
    if len(comparison.arms) > 1:
        overlap = _detail(comparison)
        console.print(Text(f"\nOverlap (Jaccard). {chance(overlap)}", style="bold"))
        console.print(_overlap_grid(overlap, comparison))
    for arm in _own(comparison):
        if not arm.only:
            continue
        console.print(Text.assemble("\n", (arm.name, "bold"), f" alone: {alone(arm, comparison)}"))
        for excerpt in arm.only[:N_SHOWN]:
            word = label_word(excerpt)
            head = one_line(place(excerpt.line, excerpt.file)) + (f" ({word})" if word else "")
            console.print(Text.assemble(f"  {head}: ", safe(excerpt.answer, PREVIEW_CHARACTERS)))


def _arms_grid(comparison: Comparison) -> Table:
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column("strategy", overflow="fold")
    grid.add_column("AUROC", no_wrap=True)
    for share in comparison.fractions:
        grid.add_column(percent(share), justify="right", no_wrap=True)
    grid.add_column("1,000 rows", justify="right", no_wrap=True)
    grid.add_column("tokens", justify="right", no_wrap=True)
    for arm in comparison.arms:
        cells = [f"{precision(at)} / {recall(at)}" for at in arm.at]
        style = "dim" if arm.control else ""
        own = (cost_seconds(arm), cost_tokens(arm))
        grid.add_row(one_line(arm.name), area(arm), *cells, *own, style=style)
    return grid


def _print_costs(console: Console, comparison: Comparison) -> None:
    if comparison.base_rate is None:
        for arm in comparison.arms:
            console.print(
                Text(f"  {one_line(arm.name)}: {cost_seconds(arm)}, {cost_tokens(arm)} tokens")
            )
    console.print(Text(COST_HINT, style="dim"))
    for name, told in costs_once(comparison):
        console.print(Text(f"  {one_line(name)}: {told}", style="dim"))


def _overlap_grid(overlap: Overlap, comparison: Comparison) -> Table:
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column("")
    for number in range(1, len(comparison.arms) + 1):
        grid.add_column(str(number), justify="right")
    for number, arm in enumerate(comparison.arms):
        cells = [
            "·" if other == number else f"{value:.2f}"
            for other, value in enumerate(overlap.jaccard[number])
        ]
        grid.add_row(f"{number + 1} {one_line(arm.name)}", *cells)
    return grid


def compare_markdown(comparison: Comparison) -> str:
    """For a pull request or a log."""
    paragraphs = [f"## {headline(comparison)} {code(comparison.input)}", lead(comparison)]
    paragraphs += [f"> **Note:** {prose(note)}" for note in comparison.notes]
    if comparison.base_rate is not None:
        shares = [percent(share) for share in comparison.fractions]
        paragraphs.append(
            table(
                ["Strategy", "AUROC", *(f"precision / recall at {share}" for share in shares), *COSTS],
                [
                    [prose(arm.name), area(arm), *(f"{precision(at)} / {recall(at)}" for at in arm.at),
                     cost_seconds(arm), cost_tokens(arm)]
                    for arm in comparison.arms
                ],
            )
        )  # fmt: skip
    else:
        rows = [[prose(arm.name), cost_seconds(arm), cost_tokens(arm)] for arm in comparison.arms]
        paragraphs.append(table(["Strategy", *COSTS], rows))
    paragraphs.append(COST_HINT)
    paragraphs += [f"- {prose(name)}: {told}" for name, told in costs_once(comparison)]
    if len(comparison.arms) > 1:
        detail = _detail(comparison)
        paragraphs.append(f"### Overlap when dropping {percent(detail.drop_frac)}")
        paragraphs.append(
            table(
                ["Jaccard", *(prose(arm.name) for arm in comparison.arms)],
                [
                    [prose(arm.name), *(f"{value:.2f}" for value in values)]
                    for arm, values in zip(comparison.arms, detail.jaccard, strict=True)
                ],
            )
        )
    for arm in _own(comparison):
        if arm.only:
            paragraphs.append(f"### {prose(arm.name)} alone: {alone(arm, comparison)}")
            paragraphs.append(
                "\n".join(
                    f"- {prose(place(excerpt.line, excerpt.file))}"
                    + (f", {word}" if (word := label_word(excerpt)) else "")
                    + f": {code(excerpt.answer, 160)}"
                    for excerpt in arm.only
                )
            )
    return "\n\n".join(paragraphs) + "\n"


def _detail(comparison: Comparison) -> Overlap:
    return next(o for o in comparison.overlaps if o.drop_frac == comparison.detail_frac)


def _own(comparison: Comparison) -> list[Arm]:
    arms = [arm for arm in comparison.arms if not arm.control]
    return arms if len(arms) > 1 else []
