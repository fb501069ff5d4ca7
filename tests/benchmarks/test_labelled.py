"""Public labelled sets are read as conversations, whatever their labels are called."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from conftest import chat

from benchmarks.labelled import load
from saefilter.encode.encoder import Encoder
from saefilter.encode.presets import load_preset


def test_a_label_that_is_called_rejected_makes_no_preference(tmp_path: Path) -> None:
    rows = [
        {**chat("Which mushroom?", f"The {color} one."), "pair": pair, "rejected": int(bad)}
        for pair, color, bad in [(0, "red", True), (0, "brown", False), (1, "white", True),
                                 (1, "green", False)]
    ]  # fmt: skip
    with gzip.open(tmp_path / "hh_harmless.jsonl.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, rows)))
    labelled = load("hh_harmless", tmp_path, Encoder(load_preset("minilm")))
    assert labelled.contrast.toxic.tolist() == [True, False, True, False]
    assert labelled.train.tolist() == [True, True, False, False]
    assert labelled.texts[0] == "The red one."
