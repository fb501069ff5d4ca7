"""Toxic sets of a few features, for tests."""

from __future__ import annotations

from dataclasses import replace

from saefilter.toxic.toxicset import Calibration, ToxicFeature, ToxicSet


def small() -> ToxicSet:
    features = [
        ToxicFeature(2, "toxic", 0.5, "reckless", 0.4, 0.6, 0.01, "a", ("skip the doctor",)),
        ToxicFeature(5, "benign", 0.0, "careful", -0.4, 0.4, 0.01),
    ]
    calibration = Calibration(100, (0.0, 0.5, 1.0), {"contrast/mean": (0.1, 0.3, 0.9)})
    return ToxicSet(
        "small", "m", "s", "h", 2, 6, "f" * 64, "mean", {"name": "by hand"}, [], features, [1.0] * 6,
        0.1, [1.0, 0.0], [0.0, 0.0], [2.0] * 6, calibration, {"3": "near"},
    )  # fmt: skip


def made(*features: tuple[int, str, float], scale: float = 1.0) -> ToxicSet:
    return replace(
        small(),
        scale=[scale] * 6,
        neighbour_labels={},
        features=[ToxicFeature(i, side, w, f"f{i}", w, 0.6, 0.01) for i, side, w in features],
    )
