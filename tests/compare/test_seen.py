"""Labels of rows that a toxic set has learnt from are no test of it, wherever the set is by now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from conftest import chat
from decided import decisions_on
from scored import write_scores

from saefilter.compare.compare import compare
from saefilter.rows.read import Source
from saefilter.select.registry import StrategyOptions


def test_scores_say_themselves_what_their_set_has_learnt_from(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    """The set was moved, edited or is in another folder: its rows would count as a test of it all the same."""
    source = Source.open(jsonl([chat(f"q {i}", f"a {i}") for i in range(12)]))
    old = write_scores(source, tmp_path / "old.parquet")
    hashes = old.read(["row_hash"])["row_hash"].to_pylist()
    new = write_scores(
        source, tmp_path / "new.parquet", learnt_from=hashes[:6],
        settings={"toxic_set": "gone.json"}, toxic_set="gone",
    )  # fmt: skip
    decisions_on(old, tmp_path / "d.json", keep=(0, 1, 2, 8, 9), drop=(3, 4, 5, 10))
    options = StrategyOptions(decisions=str(tmp_path / "d.json"))
    found = compare(source, [old, new], ["closest"], options)
    assert (found.labelled, found.bad) == (3, 1)
    assert any(
        "Labels of 6 rows are left out: gone has learnt from them" in one for one in found.notes
    )


def test_a_row_that_says_the_same_under_another_id_is_no_test_either(
    jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    words = [
        "take more of it",
        "ask a doctor",
        "never mind the label",
        "rest and drink",
        "drive home",
        "wait",
    ]
    rows = [{**chat(f"q {i}", words[i % 6]), "id": i} for i in range(12)]
    source = Source.open(jsonl(rows))
    old = write_scores(source, tmp_path / "old.parquet")
    hashes = old.read(["row_hash"])["row_hash"].to_pylist()
    new = write_scores(source, tmp_path / "new.parquet", learnt_from=hashes[:4], toxic_set="own")
    decisions_on(old, tmp_path / "d.json", keep=(6, 7, 10), drop=(8, 9, 11))
    found = compare(
        source, [old, new], ["closest"], StrategyOptions(decisions=str(tmp_path / "d.json"))
    )
    assert (found.labelled, found.bad) == (2, 1)
    assert any(
        "Labels of 4 rows are left out: own has learnt from them" in one for one in found.notes
    )
