"""Toxic sets on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from saefilter.report.console import safe
from saefilter.report.wording import parts_words

if TYPE_CHECKING:
    from saefilter.toxic.edit import Difference
    from saefilter.toxic.toxicset import Calibration, ToxicFeature, ToxicSet

SHOWN = 40
HISTORY_LINES = 10
THEME_EXAMPLES = 2


def print_toxic_set(console: Console, toxic_set: ToxicSet, limit: int) -> None:
    """The strongest features of each side, with how sure they are."""
    weighted = sum(feature.weight > 0 for feature in toxic_set.features)
    weighted_words = (
        f"the metrics contrast and probe count {weighted:,} of them, which have a weight"
        if weighted
        else "none has a weight"
    )
    console.print(
        Text.assemble(
            ("Toxic set ", "bold"), (toxic_set.name, "bold"),
            f" for {toxic_set.model} at {toxic_set.hook}: {len(toxic_set.side('toxic'))} toxic and "
            f"{len(toxic_set.side('benign'))} benign features; {weighted_words}",
        )
    )  # fmt: skip
    print_themes(console, toxic_set)
    for side in ("toxic", "benign"):
        features = toxic_set.side(side)
        if features:
            console.print(_table(f"{side} side", features[:limit]))
        if len(features) > limit:
            console.print(f"  and {len(features) - limit:,} more", style="dim")
    calibration = toxic_set.calibration
    if calibration is not None and (words := parts_words(calibration.own_share)):
        console.print(
            Text(f"  On {calibration.rows:,} harmless reference rows: {words}", style="dim")
        )
    if calibration is not None:
        _print_held_out(console, calibration)
    tracking = sum(bool(feature.keyword) for feature in toxic_set.features)
    if tracking:
        console.print(f"  {tracking} features marked * track a single word", style="dim")
    for source in toxic_set.sources:
        console.print(f"  {source['side']:6} {source['rows']:>6,} rows  {source['name']}")
    for line in toxic_set.history[-HISTORY_LINES:]:
        console.print(Text.assemble(("  history  ", "dim"), safe(line)))


def print_themes(console: Console, toxic_set: ToxicSet) -> None:
    """The themes with their numbers, words and first examples; nothing for a set without."""
    themes = toxic_set.themes
    if themes is None:
        return
    console.print("themes of the toxic side")
    for number, theme in enumerate(themes.themes, 1):
        console.print(
            Text.assemble(
                f"{number:>3}  ", (safe(theme.name, 60).plain, "bold"),
                f"  {len(theme.features)} features, {theme.share:.0%} of the toxic weight, "
                f"{theme.usual:.0%} of the evidence in harmless rows",
                ("" if theme.by_hand else "  named by its words", "dim"),
            )
        )  # fmt: skip
        if theme.words:
            console.print(Text.assemble("     words: ", safe(", ".join(theme.words)), style="dim"))
        for example in theme.examples[:THEME_EXAMPLES]:
            console.print(Text.assemble("     ", safe(example.text, 160)), style="dim")
    console.print(
        Text(f"     on {themes.measured_on}; words and examples of {themes.examples_of}", "dim")
    )


def _print_held_out(console: Console, calibration: Calibration) -> None:
    """How the set does on rows of its sources that it has not seen."""
    if calibration.auroc is not None:
        area, low, high = calibration.auroc
        console.print(
            f"  AUROC on rows not seen {area:.2f} ({low:.2f} to {high:.2f}, 95 % by group)"
        )
    for one in calibration.held_out:
        unlike = "" if one.side == "toxic" or one.low <= one.level <= one.high else "  NOT as said"
        line = Text(
            f"  {one.side:6} rows not seen, beyond the {100 * (1 - one.level):g} % quantile: "
            f"{100 * one.rate:.1f} % ({100 * one.low:.1f} to {100 * one.high:.1f}) of {one.rows:,} in "
            f"{one.groups:.0f} groups{unlike}  "
        )
        console.print(line.append_text(safe(one.source)))


def _table(title: str, features: Sequence[ToxicFeature]) -> Table:
    steered = any(feature.steering is not None for feature in features)
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("feature", "weight", "effect", "AUROC", "p", *(["steers"] if steered else [])):
        table.add_column(column, justify="right")
    table.add_column("fires on")
    for feature in features:
        name = safe(feature.label, 60)
        if feature.keyword:
            name.append(" *")
        steering = []
        if steered:
            told = "" if feature.steering is None else f"{feature.steering:+.3f}"
            silent = feature.steering_p is not None and feature.steering_p > STEERS_BELOW
            steering = [told + (" none" if silent else "")]
        table.add_row(
            str(feature.index), f"{feature.weight:.3f}", f"{feature.effect_size:+.2f}",
            f"{feature.auroc:.2f}", f"{feature.p_value:.0e}", *steering, name,
        )  # fmt: skip
    return table


STEERS_BELOW = 0.05
"""A feature whose effect random directions reach more often than that is said to do nothing."""


def print_toxic_sets(console: Console, sets: Mapping[str, ToxicSet]) -> None:
    """One line for each set."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("set", "model", "SAE", "toxic", "benign"):
        table.add_column(column, overflow="fold")
    for name, toxic_set in sets.items():
        table.add_row(
            name, safe(toxic_set.model), safe(toxic_set.sae), str(len(toxic_set.side("toxic"))),
            str(len(toxic_set.side("benign"))),
        )  # fmt: skip
    console.print(table)


def print_features(
    console: Console, features: Sequence[ToxicFeature], neighbours: Mapping[int, str]
) -> None:
    """Features of a set with where they fire, and labels of those next to it."""
    if not features and not neighbours:
        console.print("Nothing found.")
    for feature in features[:SHOWN]:
        console.print(
            Text.assemble(
                (f"{feature.index}", "bold"), f"  {feature.side}, weight {feature.weight:.3f}  ",
                safe(feature.label),
            )
        )  # fmt: skip
        for snippet in feature.snippets[:2]:
            console.print(Text.assemble("    ", safe(snippet)), style="dim")
    if len(features) > SHOWN:
        console.print(f"and {len(features) - SHOWN:,} more", style="dim")
    for index, label in list(neighbours.items())[:SHOWN]:
        console.print(
            Text.assemble((f"{index}", "bold"), "  not in the set, near it  ", safe(label))
        )


def print_difference(console: Console, difference: Difference, first: str, second: str) -> None:
    """What two sets do not share."""
    for title, features in (
        (f"only in {first}", difference.only_first),
        (f"only in {second}", difference.only_second),
        ("on the other side", [b for _, b in difference.other_side]),
    ):
        if features:
            console.print(_table(f"{title}: {len(features):,}", features[:SHOWN]))
    if difference.reweighted:
        console.print(f"other weight: {len(difference.reweighted):,}", style="bold")
    largest = sorted(difference.reweighted, key=lambda pair: -abs(pair[0].weight - pair[1].weight))
    for before, after in largest[:SHOWN]:
        console.print(
            Text.assemble(
                f"  {before.index:>6}  {before.weight:.3f} -> {after.weight:.3f}  ",
                safe(before.label, 60),
            )
        )
    console.print(f"the same: {difference.same:,}")


def print_neighbours(
    console: Console,
    index: int,
    nearest: Sequence[tuple[int, float]],
    toxic_set: ToxicSet | None,
) -> None:
    """The nearest directions with what a set knows of them."""
    labels = toxic_set.labels() if toxic_set else {}
    sides = {feature.index: feature.side for feature in toxic_set.features} if toxic_set else {}
    own = f", {sides[index]}" if index in sides else ""
    console.print(
        Text.assemble(
            "Nearest to ",
            (f"feature {index}", "bold"),
            f" ({labels.get(index, 'unlabelled')}{own})",
        )
    )
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("feature", "cosine", "in the set", "fires on"):
        table.add_column(column, justify="left" if column == "fires on" else "right")
    for feature, cosine in nearest:
        table.add_row(
            str(feature),
            f"{cosine:+.3f}",
            sides.get(feature, ""),
            safe(labels.get(feature, ""), 60),
        )
    console.print(table)


def print_steering(
    console: Console, features: Sequence[ToxicFeature], samples: Sequence[tuple[str, str]]
) -> None:
    """What pushing along each feature did, and what the model then says."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("feature", "effect", "p"):
        table.add_column(column, justify="right")
    table.add_column("fires on")
    for feature in features:
        silent = feature.steering_p is not None and feature.steering_p > STEERS_BELOW
        table.add_row(
            str(feature.index), f"{feature.steering:+.4f}", f"{feature.steering_p:.3f}",
            safe(feature.label, 60), style="dim" if silent else None,
        )  # fmt: skip
    console.print(table)
    silent_ones = sum(
        feature.steering_p is not None and feature.steering_p > STEERS_BELOW for feature in features
    )
    console.print(
        "Effect: nats per token by which toxic continuations gain on benign ones; p: random "
        f"directions that do as much. {silent_ones} of {len(features)} do no more than random ones."
    )
    for title, text in samples:
        console.print(Text.assemble((f"{title}: ", "bold"), safe(text)))
