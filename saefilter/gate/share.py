"""How many rows of a file are bad: what its flagged shares prove, and what they suggest.

Proven is the least share without which so many rows would not be beyond the reference's, whatever bad rows
are like; suggested is the share that explains the flagged ones if bad rows are like those held out of the
contrast data. Both take the file's harmless rows for such as the reference's are. Where they lie farther
(a calm topic), both are too small; where they lie closer, too large.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saefilter.artifacts.provenance import Provenance
from saefilter.gate.verdict import BadShare, Suggested
from saefilter.scoring.harmless import Alike, Harmless, held_out, held_out_error, proven_share
from saefilter.stats.auroc import Z95

CONFIDENCE = 0.95


def bad_share(
    made: Provenance,
    alike: Alike,
    beyond: Callable[[float], NDArray[np.bool_]],
    at_fpr: float,
    complete: bool,
) -> BadShare:
    """What is known of the share of bad rows. `beyond`: for a false-positive rate in percent, which rows
    of the file are flagged; `complete`: whether all scored rows have a percentile. Raises SaefilterError
    where the scores have no percentiles."""
    least, found_at = proven_share(made, alike, beyond, complete, CONFIDENCE)
    flagged = beyond(at_fpr)
    harmless = Harmless.of(made, at_fpr, complete=complete)
    return BadShare(
        least,
        at_fpr if math.isnan(found_at) else found_at,
        suggested(
            held_out(made, at_fpr / 100),
            float(flagged[alike.row].mean()),
            alike.effective(flagged, harmless.alikeness),
            harmless,
        ),
    )


def suggested(
    entries: Sequence[dict[str, Any]], share: float, n: float, harmless: Harmless
) -> tuple[Suggested, ...]:
    """For each source of bad rows, the share of such rows that a flagged share of `share` in `n` independent
    rows comes from: `(share - good) / (bad - good)`, of the held-out rates (Rogan and Gladen, American
    Journal of Epidemiology 107, 1978). The interval, 95 %, counts the errors of all three."""
    benign = {one["source"]: one for one in entries if one["side"] == "benign"}
    result = []
    for bad in (one for one in entries if one["side"] == "toxic"):
        good = benign.get(bad["source"])
        good_rate, good_error = harmless.share, harmless.error
        if good:
            good_rate, good_error = float(good["rate"]), held_out_error(good)
        gain = float(bad["rate"]) - good_rate
        if gain <= 0:
            continue
        estimate = (share - good_rate) / gain
        variance = (
            share * (1 - share) / n
            + ((1 - estimate) * good_error) ** 2
            + (estimate * held_out_error(bad)) ** 2
        )
        reach = Z95 * math.sqrt(variance) / gain
        ends = (min(1.0, max(0.0, end)) for end in (estimate, estimate - reach, estimate + reach))
        result.append(Suggested(str(bad["source"]), *ends))
    return tuple(result)
