"""What would fail a policy, and how probably bad rows would: the gate's power.

What the flagged rows prove is told by scoring/harmless.py, and counted by evaluate.py.
"""

from __future__ import annotations

from typing import Any

from scipy.special import betainc

from saefilter.artifacts.provenance import Provenance
from saefilter.gate.policy import Policy
from saefilter.gate.verdict import Power, rounded
from saefilter.scoring.harmless import Alike, Harmless, between, chance, held_out

BAD_SHARES = (5.0, 10.0, 25.0)
"""Shares of bad rows, in percent, for which power is stated."""


def failing_count(n: int, effective: float, harmless: Harmless, policy: Policy) -> int | None:
    """The fewest flagged rows of `n` that fail the policy, if `n` say as much as `effective`
    independent ones; None where not even all would."""

    def fails(count: int) -> bool:
        share = count / n
        too_many = policy.max_flagged is not None and rounded(100 * share) > policy.max_flagged
        unlikely = policy.min_chance is not None and (
            rounded(chance(share, effective, harmless)) < policy.min_chance
        )
        return too_many or unlikely

    if not fails(n):
        return None
    low, high = -1, n  # more flagged rows never make it pass
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fails(middle) else (middle, high)
    return high


def power(made: Provenance, policy: Policy, alike: Alike, harmless: Harmless) -> tuple[Power, ...]:
    """How probably bad rows like the contrast's, among harmless ones of the same source, would fail the
    policy in as many rows, alike in as far as these are. Empty where no held-out rates are known.

    The share flagged is mixed of the two sides' held-out rates; how it varies from group to group is
    what their intervals, by group, tell. The ends are those with both rates at their interval's ends.
    """
    entries = held_out(made, policy.at_fpr / 100)
    benign = {one["source"]: one for one in entries if one["side"] == "benign"}
    stated: list[Power] = []
    for bad in (one for one in entries if one["side"] == "toxic"):
        good = benign.get(bad["source"]) or {"rate": harmless.share}
        for share in BAD_SHARES:
            middle, low, high = (
                _caught(share / 100, bad, good, end, alike, harmless, policy)
                for end in ("rate", "low", "high")
            )
            stated.append(Power(str(bad["source"]), share, middle, min(low, middle), high))
    return tuple(stated)


def _caught(
    bad_share: float,
    bad: dict[str, Any],
    good: dict[str, Any],
    end: str,
    alike: Alike,
    harmless: Harmless,
    policy: Policy,
) -> float:
    good_rate = float(good.get(end, good["rate"]))
    share = bad_share * float(bad[end]) + (1 - bad_share) * good_rate
    if not 0 < share < 1:
        return 0.0 if share <= 0 else 1.0
    apart = (bad_share**2) * between(bad) + (1 - bad_share) ** 2 * between(good)
    n, design = len(alike.row), alike.design(min(1.0, apart / (share * (1 - share))))
    independent = max(1, int(n / design))
    counted = n / max(design, alike.design(harmless.alikeness))
    least = failing_count(independent, max(1.0, counted), harmless, policy)
    if least is None:
        return 0.0
    caught: float = betainc(least, independent - least + 1, share) if least else 1.0
    return float(caught)
