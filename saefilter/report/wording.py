"""The sentences about a report that its faces share, so that all of them say the same.

Nothing here knows of HTML or Markdown: what is returned is plain text, and what came from the data
is untrusted until a face has escaped it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from saefilter.report.done import gone_words
from saefilter.rows.trained import what_is_scored
from saefilter.text import decimal, percent
from saefilter.toxic.toxicset import rank_at

if TYPE_CHECKING:
    from saefilter.report.data import Closest, Report, SampleView, ThemeEvidence

ROUGH_BELOW = 10
"""Reference samples; a share that rests on fewer is named as rough."""

_SCORING_TERMS = {
    "preset": "Preset",
    "model": "Model",
    "sae": "SAE",
    "hook": "Read at",
    "toxic_set": "Toxic set",
    "metric": "Metric",
    "pool": "Pooling over tokens",
    "train_on": "Tokens scored",
    "max_tokens": "Token limit per row",
    "dtype": "Number type",
    "device": "Device",
    "tokens": "Tokens read",
    "seconds": "Seconds",
    "tokens_per_second": "Tokens per second",
}

_ORIGIN_TERMS = {
    "revision": "Model revision",
    "sae_fingerprint": "SAE fingerprint",
    "toxic_set_sha256": "Toxic set SHA-256",
    "scores": "Scores",
    "scores_content_sha256": "Content hash of the scores",
    "scored_at": "Scored at",
}


@dataclass(frozen=True)
class Tile:
    """One count with what it means."""

    key: str
    name: str
    count: int
    meaning: str


@dataclass(frozen=True)
class Flagged:
    """How many scored rows are closer than `level` % of the harmless reference samples: than the
    `rank`-th closest of them."""

    level: float
    rank: int
    count: int
    share: float
    expected_share: float
    """Of rows like the reference, `rank` of one more than there are reference samples."""
    expected_count: float


def score_words(view: SampleView, report: Report) -> str:
    """The strategy's score of a row, or nothing."""
    if view.score is None:
        return ""
    return f"{report.selection.get('score_name')} {decimal(view.score, 3)}"


def tiles(report: Report) -> list[Tile]:
    """The counts worth showing, in the order of a reader's questions."""
    counts, total = report.counts, max(1, report.counts["rows"])
    unread = counts.get("estimated", 0)

    def share(key: str) -> str:
        return f"{percent(counts[key] / total)} of all rows"

    all_tiles = [
        Tile(
            "rows",
            "Rows" if unread else "Rows read",
            counts["rows"],
            "kept + dropped + quarantined",
        ),
        Tile("dropped", "Dropped", counts["dropped"], share("dropped")),
        Tile("marked", gone_words(report), counts["marked"], share("marked"))
        if report.written is not None
        else None,
        Tile("kept", "Written" if report.written else "Kept", counts["kept"], share("kept")),
        Tile("estimated", "Only estimated", unread, "not read by the model"),
        Tile("quarantined", "Quarantined", counts["quarantined"], "could not be scored"),
        Tile("truncated", "Cut", counts["truncated"], "longer than the token limit"),
        Tile("duplicates", "Duplicates", counts["duplicates"], "copies of an earlier row"),
    ]
    always = ("rows", "marked" if report.written else "dropped", "kept", "quarantined")
    return [tile for tile in all_tiles if tile and (tile.count or tile.key in always)]


def _no_reference(report: Report) -> str:
    return "not used: rows were left unread" if report.counts.get("estimated") else "none"


def flagged(report: Report) -> list[Flagged]:
    """Rows beyond each level that the reference can tell; nothing without a reference."""
    scored = report.counts["kept"] + report.counts["dropped"]
    if not report.reference_rows or not scored:
        return []
    result = []
    for level, count in sorted(report.flagged.items(), key=lambda item: float(item[0])):
        rank = rank_at((100 - float(level)) / 100, report.reference_rows)
        if rank:
            chance = rank / (report.reference_rows + 1)
            result.append(
                Flagged(float(level), rank, count, count / scored, chance, chance * scored)
            )
    return result


def rough_levels(report: Report) -> str:
    """Which levels rest on so few reference samples that chance moves them, if any do."""
    rough = [
        f"closer than {at.level:g}% rests on {at.rank} reference sample{'s'[: at.rank > 1]}"
        for at in flagged(report)
        if at.rank < ROUGH_BELOW
    ]
    return f"Rough, for want of reference samples: {', '.join(rough)}." if rough else ""


def parts_words(own_share: float | None) -> str:
    """What the scores are made of, or nothing where it was not kept."""
    if own_share is None:
        return ""
    return (
        f"{percent(own_share)} of what adds to the scores is of the toxic set's own features, "
        f"{percent(1 - own_share)} of features that lie next to them (mean over rows)."
    )


def _scoring(report: Report, key: str) -> Any:
    value = report.scoring.get(key)
    if key != "train_on" or value is None:
        return value
    by = report.scoring.get("trainer") or value
    return what_is_scored(str(by), str(report.scoring.get("read")))


def made(report: Report) -> list[tuple[str, str]]:
    """How the result came about, as terms and untrusted values; what is not known is left out."""
    asked = report.selection
    terms: list[tuple[str, Any]] = [("Input", report.input), ("Input SHA-256", report.input_sha256)]
    terms += [(f"{key.capitalize()} rows", name) for key, name in report.outputs.items()]
    terms += [(term, _scoring(report, key)) for key, term in _SCORING_TERMS.items()]
    terms += [(term, report.made_from.get(key)) for key, term in _ORIGIN_TERMS.items()]
    if versions := report.made_from.get("versions"):
        terms += [("Scored with", ", ".join(f"{name} {n}" for name, n in versions.items()))]
    terms += [
        (f"{key.capitalize()} rows, SHA-256", report.files[key]["sha256"])
        for key in report.outputs
        if key in report.files
    ]
    if (told := report.decisions) is not None:
        by = f" by {told['reviewer']}" if told["reviewer"] else ""
        terms += [("Decisions", f"{told['file']}{by}, SHA-256 {told['sha256']}")]
    terms += [
        ("Harmless reference samples", report.reference_rows or _no_reference(report)),
        ("Rows of", report.reference_name),
        ("Strategy", asked.get("strategy")),
        ("Share to drop", None if (frac := asked.get("drop_frac")) is None else percent(frac)),
        ("Rows to drop", asked.get("drop_count")),
        ("Smallest distance to keep", asked.get("min_distance")),
        ("Share to drop", asked.get("drop")),
        ("False-discovery rate", None if (fdr := asked.get("drop_fdr")) is None else percent(fdr)),
        ("Same share of each", asked.get("keep_balance")),
        ("Seed", None if (seed := asked.get("seed")) is None else str(seed)),
        *(
            (f"Strategy: {name.replace('_', ' ')}", _listed(value))
            for name, value in {**asked.get("options", {}), **asked.get("details", {})}.items()
        ),
        ("Score", asked.get("score_name")),
        ("Smallest score dropped", asked.get("score_threshold")),
        ("Largest distance dropped", asked.get("threshold")),
        ("Made by", f"saefilter {report.version}"),
        ("Made at", report.created),
    ]
    return [(term, _value(value)) for term, value in terms if value is not None]


def _listed(value: Any) -> Any:
    """Lists and objects of details as words."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_listed(item)}" for key, item in value.items())
    return ", ".join(str(_listed(item)) for item in value) if isinstance(value, list) else value


def _value(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


WEAK_SHARE = 0.1
"""Of what brings a row close; features that each have less are no reason by themselves."""


def many_weak_signs(shares: Sequence[float]) -> str:
    """What is said of a row where none of its features matters alone; empty where one does."""
    if not shares or max(shares) >= WEAK_SHARE:
        return ""
    return (
        f"Many weak signs: no feature has more than {percent(max(shares))} of what brings it close."
    )


def no_theme_words(shares: Sequence[float]) -> str:
    """What is said of a row in which no theme stands out, by the shares of its features."""
    return many_weak_signs(shares) or "No theme stands out."


def theme_words(theme: ThemeEvidence) -> str:
    """What is said behind a theme's name: how much of the row's toxic evidence it has, and the words that
    carry it. Untrusted."""
    share = f"{percent(theme.share)} of its toxic signs ({percent(theme.usual)} in harmless rows)"
    return f"{share}: {', '.join(theme.words)}" if theme.words else share


def closest_words(closest: Closest) -> str:
    """The example that a row is most like, on one line. Untrusted."""
    asked = f"{closest.prompt} → " if closest.prompt else ""
    return f"{asked}{closest.text}"


def reason_words(view: SampleView) -> str:
    """Why a row is close, in one line: its themes, or that none stands out; nothing where the toxic set has
    none. Untrusted."""
    if view.themes:
        return "; ".join(f"{theme.theme}, {theme_words(theme)}" for theme in view.themes)
    if view.closest is None:
        return ""
    return no_theme_words([evidence.share for evidence in view.features])
