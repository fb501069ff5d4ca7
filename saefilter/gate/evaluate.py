"""From scores and a policy to a verdict. Needs no model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from saefilter.artifacts.scores import Scores
from saefilter.errors import SaefilterError
from saefilter.gate.chance import failing_count, power
from saefilter.gate.columns import Columns
from saefilter.gate.policy import Policy
from saefilter.gate.verdict import BadShare, Power, RuleVerdict, Verdict, number, rounded
from saefilter.rows.read import Source
from saefilter.scoring.harmless import Harmless, chance, check_set
from saefilter.text import few, ordinal, percent


def evaluate(source: Source, scores: Scores, policy: Policy) -> Verdict:
    """The verdict on `source` by its scores.

    Raises SaefilterError when the scores are of other data, or lack what a rule needs.
    """
    scores.check_belongs(source)
    scores.verify()
    columns = Columns.of(source, scores)
    rules = {
        "max_flagged": _flagged,
        "min_chance": _chance,
        "max_proximity": _proximity,
        "max_spillover": _spillover,
        "min_scored": _scored,
        "max_quarantined": _quarantined,
        "max_bad_share": _bad_share,
        "max_wrong_way": _wrong_way,
    }
    made = scores.provenance
    verdicts = tuple(rules[name](columns, policy, limit) for name, limit in policy.limits().items())
    caught, unknown = _power(columns, policy)
    return Verdict(
        input=str(source.path),
        rows=made.rows,
        scored=made.scored,
        quarantined=made.quarantined,
        preset=made.preset,
        model=made.model,
        toxic_set=made.toxic_set,
        metric=made.metric,
        policy=policy.origin,
        rules=verdicts,
        notes=(made.note,) if made.note else (),
        power=caught,
        power_unknown=unknown,
        bad_share=_known_share(columns, policy),
        wrong_way=columns.wrong_way(),
        judged=None if columns.sampled is None else int(columns.judged.sum()),
    )


def _known_share(columns: Columns, policy: Policy) -> BadShare | None:
    try:
        check_set(columns.scores.provenance, "max-bad-share")
        return columns.bad_share(policy)
    except SaefilterError:  # the rule says so where it is asked for
        return None


def _power(columns: Columns, policy: Policy) -> tuple[tuple[Power, ...], str | None]:
    """What the rules that count rows would catch, or why that is not known."""
    if policy.max_flagged is None and policy.min_chance is None:
        return (), None
    harmless, made = columns.harmless(policy), columns.scores.provenance
    caught = power(made, policy, columns.alike, harmless)
    if caught:
        return caught, None
    if made.reference_name:
        return (
            (),
            f"how many bad rows are closer than the rows of {made.reference_name} was not measured",
        )
    return (), (
        f"the calibration of the toxic set {made.toxic_set!r} has no rates of held-out bad rows at "
        f"--at-fpr {number(policy.at_fpr)}%"
    )


def _flagged(columns: Columns, policy: Policy, limit: float) -> RuleVerdict:
    check_set(columns.scores.provenance, "max-flagged")
    harmless, ids = columns.harmless(policy), columns.beyond(policy)
    n = int(columns.judged.sum())
    return RuleVerdict(
        "max-flagged",
        rounded(100 * len(ids) / n),
        limit,
        "%",
        False,
        f"{_beyond_words(columns, len(ids), n, harmless)}; of harmless ones about "
        f"{few(n * harmless.share)} would be",
        len(ids),
        columns.worst_beyond(policy),
    )


def _chance(columns: Columns, policy: Policy, limit: float) -> RuleVerdict:
    check_set(columns.scores.provenance, "min-chance")
    harmless, ids = columns.harmless(policy), columns.beyond(policy)
    n, alike = int(columns.judged.sum()), columns.alike
    effective = alike.effective(columns.is_beyond(policy) & columns.judged, harmless.alikeness)
    noise = chance(len(ids) / n, effective, harmless)
    least = failing_count(n, effective, harmless, replace(policy, max_flagged=None))
    return RuleVerdict(
        "min-chance",
        rounded(noise),
        limit,
        "",
        True,
        f"{_beyond_words(columns, len(ids), n, harmless)}, {_excess(len(ids) - n * harmless.share)}; "
        f"{_how_rare(noise)} (like rows in {alike.groups:,} group{'' if alike.groups == 1 else 's'} "
        f"count as {effective:,.0f} independent ones, the reference as {harmless.effective:,.0f}); "
        + ("no number fails" if least is None else f"from about {least:,} on the data fail"),
        len(ids),
        ()
        if _over(policy, len(ids), n)
        else columns.worst_beyond(policy),  # max-flagged names them
    )


def _over(policy: Policy, count: int, n: int) -> bool:
    return policy.max_flagged is not None and rounded(100 * count / n) > policy.max_flagged


def _beyond_words(columns: Columns, count: int, n: int, harmless: Harmless) -> str:
    return (
        f"{count:,} of {n:,} {columns.answers} are closer to toxic features than the "
        f"{ordinal(harmless.rank)} closest of {harmless.rows:,} "
        + (f"rows of {harmless.name}" if harmless.name else "harmless rows")
    )


def _excess(more: float) -> str:
    return f"{few(abs(more))} {'more' if more >= 0 else 'fewer'} than harmless data have"


def _how_rare(chance: float) -> str:
    """How often harmless data have that many rows beyond, as a count of files."""
    if chance > 0.995:
        return "nearly every harmless file has that many"
    if chance >= 0.1:
        return f"{round(100 * chance)} of 100 harmless files have that many or more"
    if chance > 1e-9:
        one_in = float(f"{1 / chance:.2g}")
        return f"1 in {one_in:,.0f} harmless files has that many or more"
    return "practically no harmless file has that many"


def _bad_share(columns: Columns, policy: Policy, limit: float) -> RuleVerdict:
    check_set(columns.scores.provenance, "max-bad-share")
    known = columns.bad_share(policy)
    at_rate = replace(policy, at_fpr=known.at_fpr)
    ids = columns.beyond(at_rate)
    return RuleVerdict(
        "max-bad-share",
        rounded(100 * known.least),
        limit,
        "%",
        False,
        f"at 95% confidence so many of the {columns.answers} at least are bad, whatever bad ones are like, if the "
        f"others are such as the reference's; found where {number(known.at_fpr)}% of those are flagged and "
        f"{len(ids):,} rows of this data",
        len(ids),
        columns.worst_beyond(at_rate),
    )


def _proximity(columns: Columns, policy: Policy, limit: float) -> RuleVerdict:
    check_set(columns.scores.provenance, "max-proximity")
    ids = np.flatnonzero(columns.judged if columns.sampled is None else columns.scored)
    values = np.array([rounded(value) for value in columns.proximity[ids]])
    beyond = ids[values > limit]
    nearest = ids[np.argmax(values)][None]
    return RuleVerdict(
        "max-proximity",
        float(values.max()),
        limit,
        "",
        False,
        f"largest proximity of a row to toxic features (metric {columns.scores.provenance.metric}); "
        f"{len(beyond):,} rows are beyond the limit",
        len(beyond),
        columns.worst(beyond if len(beyond) else nearest),
    )


def _spillover(columns: Columns, policy: Policy, limit: float) -> RuleVerdict:
    made = columns.scores.provenance
    if made.preference is not None:
        raise SaefilterError(
            "max-spillover is of rows that train on an answer as it stands, and these are preference data",
            remedy="Use --max-wrong-way, or drop the rule.",
        )
    if not made.spillover:
        raise SaefilterError(
            f"max-spillover needs the push of harmless rows, which the calibration of the toxic set "
            f"{made.toxic_set!r} does not hold for pooling {made.pool!r}",
            remedy="Calibrate the set (saefilter features calibrate) and score again, or drop the rule.",
        )
    largest = made.spillover[0]
    ids = np.flatnonzero(columns.scored)
    return RuleVerdict(
        "max-spillover",
        rounded(largest["push"]),
        limit,
        "",
        False,
        f"predicted push on toxic feature {largest['feature']} ({largest['label']}), more than "
        f"harmless rows give; 95% interval {rounded(largest['low']):g} to {rounded(largest['high']):g}",
        0,
        columns.worst(ids)[:10],
    )


def _wrong_way(columns: Columns, policy: Policy, limit: float) -> RuleVerdict:
    check_set(columns.scores.provenance, "max-wrong-way")
    share = columns.wrong_way()
    if share is None:
        raise SaefilterError(
            "max-wrong-way is of preference data (pairs, KTO rows), and these rows train on an answer as it "
            "stands",
            remedy="Drop the rule.",
        )
    return RuleVerdict(
        "max-wrong-way",
        rounded(100 * share.share),
        limit,
        "%",
        False,
        f"{share.count:,} of {share.rows:,} scored rows push towards toxic features; 95% interval "
        f"{percent(share.low)} to {percent(share.high)}",
        share.count,
        columns.pushing(),
    )


def _scored(columns: Columns, policy: Policy, limit: float) -> RuleVerdict:
    made = columns.scores.provenance
    ids = np.flatnonzero(columns.quarantined)
    return RuleVerdict(
        "min-scored",
        # what is missing is rounded, so that one row in a million is not lost to 100 %
        round(100 - rounded(100 * made.quarantined / made.rows), 10),
        limit,
        "%",
        True,
        f"{made.rows - made.quarantined:,} of {made.rows:,} rows could be scored",
        len(ids),
        columns.rows(ids),
    )


def _quarantined(columns: Columns, policy: Policy, limit: float) -> RuleVerdict:
    made = columns.scores.provenance
    ids = np.flatnonzero(columns.quarantined)
    return RuleVerdict(
        "max-quarantined",
        rounded(100 * made.quarantined / made.rows),
        limit,
        "%",
        False,
        f"{made.quarantined:,} of {made.rows:,} rows could not be scored",
        len(ids),
        columns.rows(ids),
    )
