"""Plans: what figures follow from others, and what is refused. What a trial measures: test_trial.py."""

from __future__ import annotations

import pytest

from saefilter.encode.cards import known_cards, read_cards
from saefilter.encode.plan import (
    Pace,
    Reader,
    Rows,
    figures_of,
    memory_of,
    pace_of_cards,
    parts_of,
    read_count,
    shard_rows,
    table_reader,
)
from saefilter.encode.presets import load_preset, preset_names
from saefilter.errors import SaefilterError

LLAMA = table_reader(load_preset("llama-3.1-8b"), None)
TEN_MILLION = Rows(10_000_000, 300, 200, "assumed")


def test_counts_and_cards_as_people_write_them() -> None:
    assert [read_count(text) for text in ("10M", "2.5k", "1_000", "1,000", "0.1G")] == [
        10_000_000, 2500, 1000, 1000, 100_000_000,
    ]  # fmt: skip
    for text, count, name in (
        ("8xH100", 8, "H100"), ("L4", 1, "L4"), ("2 x rtx 4090", 2, "RTX-4090"), ("4xa100-40gb", 4, "A100-40GB"),
    ):  # fmt: skip
        cards = read_cards(text)
        assert (cards.count, cards.card.name) == (count, name)


@pytest.mark.parametrize("text", ["", "many", "0", "10X", "-3", "1,5M", "9" * 400])
def test_what_is_no_number_of_rows_is_refused(text: str) -> None:
    with pytest.raises(SaefilterError, match="Write it as 10M"):
        read_count(text)


def test_what_is_no_card_is_refused_with_the_nearest() -> None:
    with pytest.raises(SaefilterError, match="Did you mean 'H100'"):
        read_cards("8xH1000")
    for text in ("0xH100", "8x", "8xx", "9" * 5000 + "xH100"):
        with pytest.raises(SaefilterError):
            read_cards(text)


def test_every_card_says_where_its_figures_are_from() -> None:
    for card in known_cards().values():
        assert card.source
        assert 8 < card.memory_gb < 300
        assert 0.2 < card.tb_s < 10
        assert card.dtype in ("bf16", "fp32")


def test_time_is_that_of_the_operations_and_shared_by_the_cards() -> None:
    one, eight = read_cards("H100"), read_cards("8xH100")
    pace = pace_of_cards(LLAMA, TEN_MILLION, one, 1)
    operations = 2 * 3490e6 * 300 + 2 * 4096 * 32768 * 200
    assert pace.row == pytest.approx(operations / (989e12 * 0.5), rel=0.1)
    by_name = {one.name: one for one in figures_of(TEN_MILLION, pace, None)}
    spread = {
        one.name: one
        for one in figures_of(TEN_MILLION, pace_of_cards(LLAMA, TEN_MILLION, eight, 1), None)
    }
    alone, together = by_name["time"].values, spread["time"].values
    assert together["seconds"] == pytest.approx(alone["seconds"] / 8, rel=0.01)
    assert together["gpu_hours"] == pytest.approx(alone["gpu_hours"], rel=0.01)
    assert "data sheet" in spread["time"].rests_on
    assert spread["parts"].values["parts"] % 8 == 0


def test_a_small_model_is_as_fast_as_python_and_no_faster() -> None:
    small = Reader(20_000_000, 7_000_000, 384, 4096, "")
    pace = pace_of_cards(small, TEN_MILLION, read_cards("H100"), 1)
    assert pace.row == 0.0005
    assert "of Python a row" in pace.rests_on


def test_a_model_that_one_card_does_not_hold_takes_several_or_is_refused() -> None:
    large = table_reader(load_preset("llama-3.3-70b-instruct"), None)
    memory, cards = memory_of(large, read_cards("8xH100"))
    assert (cards, memory.values["fits"]) == (2, True)
    assert "--device-map" in memory.says
    assert pace_of_cards(large, TEN_MILLION, read_cards("8xH100"), cards).workers == 4
    memory, cards = memory_of(large, read_cards("H100"))
    assert (cards, memory.values["fits"]) == (0, False)
    assert "does not fit" in memory.says


def test_shards_are_neither_too_long_nor_too_many_and_leave_no_worker_idle() -> None:
    assert shard_rows(Pace(0, 0.02, 1, 0, ""), 5000) == 1024
    assert shard_rows(Pace(0, 0.0005, 1, 1, ""), 10_000_000) == 8192
    assert shard_rows(Pace(0, 3.0, 1, 0, ""), 5000) == 64
    assert shard_rows(Pace(0, 0.02, 8, 8, ""), 4096) == 128
    assert shard_rows(Pace(0, 0.02, 1, 0, ""), 10_000_000) == 2048
    assert parts_of(Pace(20, 0.01, 8, 8, ""), 10_000_000, 9766) == 32
    assert parts_of(Pace(20, 0.01, 8, 8, ""), 3000, 3) == 3


def test_presets_know_what_a_token_is_multiplied_with() -> None:
    for name in preset_names():
        preset = load_preset(name)
        if preset.millions_to_hook is None:
            continue
        assert preset.millions_per_token is not None, name
        assert 0 < preset.millions_per_token < preset.millions_to_hook, name
    with pytest.raises(
        SaefilterError, match=r"cannot be known.*configuration is not on this machine"
    ):
        table_reader(load_preset("qwen3.5-9b"), None)
