from __future__ import annotations

from saefilter.rows.row import N_REASONS, OTHER_REASONS, count_reasons


def test_made_up_reasons_do_not_flood_the_report() -> None:
    counts = count_reasons(f"reason {i // 2}" for i in range(500))
    assert len(counts) == N_REASONS + 1
    assert counts[OTHER_REASONS] == 500 - 2 * N_REASONS
    assert sum(counts.values()) == 500
