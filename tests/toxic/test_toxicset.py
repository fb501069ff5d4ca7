from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saefilter.encode.presets import load_preset
from saefilter.encode.sae import load_sae
from saefilter.encode.sae_source import find_sae
from saefilter.errors import SaefilterError
from saefilter.toxic.toxicset import Calibration, ToxicFeature, ToxicSet, load_toxic_set


def small() -> ToxicSet:
    features = [
        ToxicFeature(2, "toxic", 0.5, "reckless", 0.4, 0.6, 0.01, "a", ("skip the doctor",)),
        ToxicFeature(5, "benign", 0.0, "careful", -0.4, 0.4, 0.01),
    ]
    calibration = Calibration(100, (0.0, 0.5, 1.0), {"contrast/mean": (0.1, 0.3, 0.9)})
    return ToxicSet(
        "small", "m", "s", "h", 2, 6, "f" * 64, "mean", {"name": "by hand"}, [], features, [1.0] * 6,
        0.1, [1.0, 0.0], [0.0, 0.0], calibration, {"3": "near"},
    )  # fmt: skip


def test_a_set_survives_the_file(tmp_path: Path) -> None:
    path = tmp_path / "set.json"
    path.write_text(small().to_json())
    assert load_toxic_set(str(path)) == small()
    assert small().labels() == {2: "reckless", 3: "near", 5: "careful"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 99}, "toxic set of schema 99"),
        ({"features": [{"index": 6}]}, "not a toxic set"),
        ({"features": []}, "no toxic feature"),
        ({"d_sae": 3}, "feature 5 is outside 0..2"),
        ({"scale": [1.0]}, "scale has 1 numbers; 6 are needed"),
        ({"direction": []}, "direction has 0 numbers"),
        ({"surprise": 1}, "not a toxic set"),
    ],
)
def test_nonsense_is_refused_with_the_reason(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "set.json"
    path.write_text(json.dumps(json.loads(small().to_json()) | change))
    with pytest.raises(SaefilterError, match=message):
        load_toxic_set(str(path))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', "\x00"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "set.json"
    path.write_text(text)
    with pytest.raises(SaefilterError, match="not a"):
        load_toxic_set(str(path))


def test_features_with_odd_sides_or_weights_are_refused(tmp_path: Path) -> None:
    for wrong, message in (({"side": "bad"}, "unknown side"), ({"weight": -1.0}, "0 or more")):
        features = [replace(small().features[0], **wrong)]  # type: ignore[arg-type]
        path = tmp_path / "set.json"
        path.write_text(replace(small(), features=features).to_json())
        with pytest.raises(SaefilterError, match=message):
            load_toxic_set(str(path))


def test_percentiles_follow_the_quantiles() -> None:
    calibration = small().calibration
    assert calibration is not None
    found = calibration.percentile(np.array([0.0, 0.2, 0.3, 2.0]), "contrast/mean")
    np.testing.assert_allclose(found, [0, 25, 50, 100])
    assert calibration.percentile(np.array([0.1]), "nearest/mean") is None


def test_the_shipped_set_belongs_to_the_shipped_sae_and_carries_no_foreign_text() -> None:
    preset = load_preset("minilm")
    sae = load_sae(find_sae(preset.sae))
    toxic_set = load_toxic_set("minilm")
    toxic_set.check_sae(sae.fingerprint, "minilm")
    assert (toxic_set.d_model, toxic_set.d_sae, toxic_set.hook) == (
        sae.d_model,
        sae.d_sae,
        preset.hook,
    )
    ours = ""
    for side in ("toxic", "benign"):
        path = Path(__file__).parents[2] / f"saefilter/toxic/bundled/{side}.jsonl"
        for line in path.read_text(encoding="utf-8").splitlines():
            turns = json.loads(line)["messages"]
            ours += " ".join("\n\n".join(turn["content"] for turn in turns).split()) + "\n"
    for feature in toxic_set.features:
        for snippet in feature.snippets:
            assert snippet.strip("…") in ours
