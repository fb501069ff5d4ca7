"""What the report says of a cut that was found (`--drop auto`) and of what a cut does to the values of a
column: sentences and lines for its faces, plain text. Names of values and of the reference are untrusted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from saefilter.select.balance import FILE
from saefilter.text import percent, rows_of

if TYPE_CHECKING:
    from saefilter.report.data import Report

Curve = list[tuple[float, float]]
HARMLESS, STAY = "harmless among the dropped", "bad rows that stay"
"""What the curve shows."""


def cut_words(cut: dict[str, Any]) -> list[str]:
    """How the cut came about, what it would cost if wrong, and what it rests on."""
    said = [
        f"{percent(cut['bad'])} of the scored rows are estimated to be bad (95% interval "
        f"{percent(cut['low'])} to {percent(cut['high'])}), judging by how few lie in the calmer half of the "
        "harmless reference rows.",
        _decision(cut),
    ]
    if cut["rows"]:
        middle, low, high = cut["costs"]
        said.append(
            f"If wrong: with {percent(middle['bad'])} bad, about {middle['harmless']:,.0f} of the dropped "
            f"rows are harmless and {middle['missed']:,.0f} bad ones stay; with {percent(low['bad'])}, "
            f"{low['harmless']:,.0f} and {low['missed']:,.0f}; with {percent(high['bad'])}, "
            f"{high['harmless']:,.0f} and {high['missed']:,.0f}; with none, all {cut['rows']:,} are "
            "harmless."
        )
    said.append(
        f"Measured on {rows_of(cut['of'])}, which say as much as {cut['effective_rows']:,.0f} independent "
        f"ones, against {cut['reference_rows']:,} reference rows (as much as "
        f"{cut['effective_reference']:,.0f}). It holds as far as the harmless rows of the data are like "
        "the reference; if they lie closer, it drops too much, if farther, too little."
    )
    if cut["unlike"]:
        said.append(
            "But the data are told to be unlike the reference (see the note), so the cut is not founded: "
            "name good rows like them by --reference."
        )
    return said


def _decision(cut: dict[str, Any]) -> str:
    certain = percent(cut["certainty"])
    if cut["rule"] == "fdr":
        return (
            f"The rule was the most rows of which {percent(cut['fdr'])} are expected to be harmless at "
            f"most: {cut['rows']:,} of {cut['of']:,} are dropped."
        )
    if not cut["proven"]:
        return (
            f"That any are bad is not certain ({certain}), so nothing is dropped. In so many rows, fewer "
            f"than {percent(cut['provable'])} bad ones could not be proven, however close they lie."
        )
    which = (
        "so as many as are estimated are dropped"
        if cut["low"]
        else "but the interval reaches down to none, so no more than these are dropped"
    )
    return (
        f"At least {percent(cut['proven'])} are bad, with {certain} confidence, {which}: "
        f"{cut['rows']:,} of {cut['of']:,}."
    )


def curves(cut: dict[str, Any]) -> dict[str, Curve]:
    """Over the dropped share: the part of the dropped that is harmless, and of the bad rows that stay, by
    the estimate. Nothing without bad rows."""
    if not cut["curve"] or not cut["bad"]:
        return {}
    return {
        HARMLESS: [(share, harmless) for share, harmless, _ in cut["curve"] if share],
        STAY: [(share, stay) for share, _, stay in cut["curve"]],
    }


def curve_rows(cut: dict[str, Any], wanted: int = 8) -> list[tuple[float, float, float, bool]]:
    """A few points of the curve, up to twice the cut or the estimate, and the cut itself: dropped share,
    harmless part, part that stays, and whether it is the cut."""
    if not curves(cut):
        return []
    chosen = cut["rows"] / max(1, cut["of"])
    end = min(1.0, 2 * max(chosen, cut["bad"]))
    points = [point for point in cut["curve"] if 0 < point[0] <= end] or cut["curve"][1:2]
    step = max(1, len(points) // wanted)
    shown = [(x, harmless, stay, False) for x, harmless, stay in points[step - 1 :: step]]
    if not cut["rows"]:
        return shown
    middle = cut["costs"][0]
    own = (
        chosen,
        middle["harmless"] / cut["rows"],
        middle["missed"] / (cut["bad"] * cut["of"]),
        True,
    )
    near = shown[0][0] / 4  # a line that says nearly the same is not shown beside it
    return sorted([own, *(one for one in shown if abs(one[0] - chosen) > near)])


SHOWN_VALUES = 30
"""Of one column, the worst; the JSON report has all."""
LOSS_HEAD = ["Rows", "Dropped", "Of its rows", "Times its share"]
MARK = " !"
"""Behind what is warned of."""


def loss_title(entry: dict[str, Any], quoted: Callable[[str], str] = str) -> str:
    """Over the table of one column, whose name is untrusted."""
    if entry["column"] == FILE:
        return "What each file loses"
    return f"What each value of {quoted(entry['column'])} loses"


def loss_head(entry: dict[str, Any]) -> list[str]:
    """Of the columns of that table; what it has beyond the usual is of cuts that are even, and of files."""
    head = ["File" if entry["column"] == FILE else "Value", *LOSS_HEAD]
    head += ["By one cut"] if _is_even(entry) else []
    return head + (["Quarantined"] if _tells_quarantined(entry) else [])


def loss_rows(entry: dict[str, Any]) -> list[list[str]]:
    """Of one column's values, the worst first, below its head. The first cells are untrusted."""
    is_even, quarantined = _is_even(entry), _tells_quarantined(entry)
    return [
        [
            loss["value"],
            f"{loss['rows']:,}",
            f"{loss['dropped']:,}",
            percent(loss["dropped"] / loss["rows"]) if loss["rows"] else "",
            f"{loss['times']:.2g}" + MARK * loss["warned"],
            *([f"{loss['first']:,}"] if is_even else []),
            *([f"{loss['quarantined']:,}"] if quarantined else []),
        ]
        for loss in entry["values"][:SHOWN_VALUES]
    ]


def more_values(entry: dict[str, Any]) -> str:
    """Below a table that does not show all; else nothing."""
    more = len(entry["values"]) - SHOWN_VALUES
    what = "files" if entry["column"] == FILE else "values"
    return f"{more:,} more {what} are in the JSON report." if more > 0 else ""


def _is_even(entry: dict[str, Any]) -> bool:
    return any(loss.get("first", loss["dropped"]) != loss["dropped"] for loss in entry["values"])


def _tells_quarantined(entry: dict[str, Any]) -> bool:
    return any(loss.get("quarantined") is not None for loss in entry["values"])


def request_words(report: Report) -> str:
    """What `--drop auto` came to, in the place of what was asked for."""
    share = percent(report.cut["rows"] / max(1, report.cut["of"])) if report.cut else ""
    return f"the {share} of scored rows closest to toxic features, as --drop auto found"
