from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toxic_sets import small

from saefilter.encode.presets import load_preset
from saefilter.encode.sae import load_sae
from saefilter.encode.sae_source import find_sae
from saefilter.errors import SaefilterError
from saefilter.toxic.load import load_toxic_set


def test_a_set_survives_the_file(tmp_path: Path) -> None:
    path = tmp_path / "set.json"
    path.write_text(small().to_json())
    assert load_toxic_set(str(path)) == small()
    assert small().labels() == {2: "reckless", 3: "near", 5: "careful"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 1}, "toxic set of schema 1; this saefilter reads 2 and 3"),
        ({"schema": None}, "toxic set of schema None"),
        ({"features": [{"index": 6}]}, "feature 6 lacks 'side'"),
        ({"features": []}, "no toxic feature"),
        ({"features": 3}, "no list of features"),
        ({"d_sae": 3}, "scale has 6 numbers; d_sae is 3"),
        ({"d_sae": 3, "scale": [1.0] * 3}, "largest has 6 numbers; d_sae is 3"),
        ({"d_sae": 3, "scale": [1.0] * 3, "largest": [1.0] * 3}, "feature 5 is outside 0..2"),
        ({"d_sae": "6"}, "d_sae is not a whole number"),
        ({"scale": [1.0]}, "scale has 1 numbers; d_sae is 6"),
        ({"scale": [float("nan")] * 6}, "scale is not a list of numbers"),
        ({"direction": []}, "direction has 0 numbers"),
        ({"surprise": 1}, "the set has the unknown entry 'surprise'"),
        ({"model": None}, "model is not a text"),
        ({"neighbour_labels": {"99": "far"}}, "feature '99', which the SAE does not have"),
        ({"calibration": {"rows": 1}}, "the calibration cannot be read"),
        ({"calibration": {"rows": 1, "levels": [0, 1], "quantiles": {"a/b": [1]}}}, "not one"),
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
    for wrong, message in (
        ({"side": "bad"}, "unknown side"),
        ({"weight": -1.0}, "0 or more"),
        ({"weight": float("inf")}, "a number is needed"),
        ({"index": 2.0}, "a whole number is needed"),
        ({"index": -1}, "feature -1 is outside 0..5"),
        ({"label": 3}, "label that is not a text"),
    ):
        features = [replace(small().features[0], **wrong)]  # type: ignore[arg-type]
        path = tmp_path / "set.json"
        path.write_text(replace(small(), features=features).to_json())
        with pytest.raises(SaefilterError, match=message):
            load_toxic_set(str(path))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"fingerprint": "e" * 64}, "belongs to the SAE s"),
        ({"d_sae": 8}, "says d_sae 6, the SAE has 8"),
        ({"d_model": 8}, "says d_model 2, the SAE has 8"),
        ({"model": "n"}, "was made with the model m, not n"),
    ],
)
def test_sets_of_another_sae_or_model_are_refused(other: dict[str, Any], message: str) -> None:
    own = {"fingerprint": "f" * 64, "d_model": 2, "d_sae": 6, "model": "m"}
    own |= {"sae_name": "t", "unit_decoder": True}
    small().check_belongs(**own)  # type: ignore[arg-type]
    small().check_belongs(**own | {"model": "/models/a copy of m"})  # type: ignore[arg-type]
    with pytest.raises(SaefilterError, match=message):
        small().check_belongs(**own | other)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_any_edit_is_a_set_or_one_clear_error(data: st.DataObject) -> None:
    """Whatever stands where in the file: it loads, or is refused; nothing else is raised."""
    content = json.loads(small().to_json())
    place: Any = content
    key = data.draw(st.sampled_from(sorted(content)))
    while isinstance(place[key], (dict, list)) and place[key] and data.draw(st.booleans()):
        place = place[key]
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(keys))
    place[key] = data.draw(JSON_VALUES)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "set.json"
        path.write_text(json.dumps(content))
        try:
            found = load_toxic_set(str(path))
        except SaefilterError:
            return
        assert found.side("toxic")
        assert found.to_json()


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
    toxic_set.check_belongs(
        fingerprint=sae.fingerprint, d_model=sae.d_model, d_sae=sae.d_sae, model=preset.model,
        sae_name="minilm", unit_decoder=sae.has_unit_decoder,
    )  # fmt: skip
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
