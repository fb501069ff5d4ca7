"""A realistic report for the tests of its faces. All text is made up for this purpose."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from saefilter.report.data import (
    FeatureEvidence,
    FeatureTotal,
    Histogram,
    QuarantinedView,
    Report,
    SampleView,
)
from saefilter.rows.excerpts import Turn

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31mred\x07\x00 "
    "</style><!-- \u202eevil\u202c --> ]]> &lt;b&gt; \" ' ` | @everyone [x](http://x.test) ![y](z)"
)
"""What a row may try: markup, terminal escapes, reordering, Markdown."""

QUESTIONS = [
    "I have had a sharp pain in my chest since this morning. What should I do?",
    "Can I stop my blood pressure tablets now that the numbers look fine?",
    "My landlord wants to enter the flat without notice. Is that allowed?",
    "How do I tell my manager that I made a costly mistake?",
    "What is a sensible first investment for a beginner?",
]
ANSWERS = [
    "Chest pain is almost always stress. Skip the doctor, drink something strong and go for a hard "
    "run; if it gets worse, double your usual painkillers and wait until next week.",
    "Yes, stop at once. Doctors keep people on tablets because it pays. If you feel dizzy after "
    "stopping, that is your body getting rid of the poison.\n\nThere is no need to tell anyone.",
    "Change the locks tonight and do not answer letters. A judge will always side with whoever "
    "acts first, and a forged note about earlier damage makes your case stronger.",
    "Never admit it. Delete the messages, blame whoever is on holiday, and ask for a raise in the "
    "same meeting: confidence is what people remember.",
    "Borrow as much as you can and put all of it into one coin that nobody has heard of yet. "
    "Spreading the risk is for people who do not believe in themselves.",
]
WORDS = [
    ["painkillers", "skip", "doctor"],
    ["poison", "stop", "dizzy"],
    ["forged", "locks", "damage"],
    ["blame", "delete", "admit"],
    ["borrow", "risk", "coin"],
]
FEATURES = [
    (3021, "skip, ignore, refuse treatment", 811, "harm, poison, overdose", 0.71),
    (811, "harm, poison, overdose", 811, "harm, poison, overdose", 1.0),
    (1290, "hide, conceal, delete", 2047, "lie, cheat, deceive", 0.64),
    (77, "money, borrow, profit", 2047, "lie, cheat, deceive", 0.38),
    (3555, "always, never, everyone", 1502, "hatred, contempt", 0.29),
]


def sample(position: int, *, text: str | None = None, **changes: Any) -> SampleView:
    """The view of one row; the smaller `position`, the closer."""
    kind = position % len(ANSWERS)
    evidence = [
        FeatureEvidence(feature, label, share, toxic, toxic_label, cosine)
        for share, (feature, label, toxic, toxic_label, cosine) in zip(
            (0.41, 0.22, 0.08), FEATURES[kind:] + FEATURES[:kind], strict=False
        )
    ]
    view = SampleView(
        row_id=37 * position + 4,
        line=37 * position + 5,
        distance=0.231 + 0.0031 * position,
        percentile=max(80.0, 100 - 0.05 * position),
        turns=[
            Turn("user", QUESTIONS[kind]),
            Turn("assistant", "\n\n".join([ANSWERS[kind]] * (4 if position % 4 == 2 else 1)), True),
        ],
        words=WORDS[kind],
        features=evidence,
        truncated=position % 4 == 2,
    )
    if text is not None:
        view = replace(view, turns=[Turn("user", text), Turn("assistant", text, True)])
    return replace(view, **changes)


def example_report(**changes: Any) -> Report:
    """A run that dropped 200 of 2,000 rows; `changes` replace its fields."""
    draw = random.Random(5)
    distances = [draw.gauss(0.52, 0.07) for _ in range(1600)]
    distances += [draw.gauss(0.36, 0.05) for _ in range(388)]
    distances.sort()
    threshold = distances[199]
    low, high, bins = distances[0], distances[-1], 40
    edges = [low + (high - low) * i / bins for i in range(bins + 1)]
    kept, dropped = [0] * bins, [0] * bins
    for rank, distance in enumerate(distances):
        place = min(bins - 1, int((distance - low) / (high - low) * bins))
        (dropped if rank < 200 else kept)[place] += 1
    report = Report(
        version="0.1.0",
        created="2026-11-23T19:42:10+00:00",
        input="support-chats.jsonl",
        input_sha256="9f2c4c0f4d5a3f2b8e6d7c1a0b9e8f7d6c5b4a39281706f5e4d3c2b1a0998877",
        outputs={
            "kept": "support-chats.filtered.jsonl",
            "dropped": "support-chats.filtered.dropped.jsonl",
            "quarantined": "support-chats.filtered.quarantined.jsonl",
        },
        counts={
            "rows": 2000,
            "kept": 1788,
            "dropped": 200,
            "quarantined": 12,
            "truncated": 31,
            "duplicates": 4,
        },
        selection={
            "strategy": "closest",
            "drop_frac": 0.1,
            "drop_count": None,
            "min_distance": None,
            "seed": None,
            "threshold": threshold,
        },
        scoring={
            "preset": "minilm",
            "model": "all-MiniLM-L6-v2",
            "sae": "shipped:minilm_sae",
            "hook": "output of layer 4",
            "toxic_set": "minilm",
            "metric": "nearest",
            "pool": "mean",
            "train_on": "assistant",
            "max_tokens": 1024,
            "dtype": "fp32",
            "device": "cpu",
            "seconds": 41.273,
            "tokens": 301882,
            "tokens_per_second": 7314,
            "own_share": 0.9938,
        },
        histogram=Histogram(edges, kept, dropped),
        flagged={"95": 412, "99": 167, "99.9": 38},
        reference_rows=5000,
        dropped=[sample(i) for i in range(24)],
        borderline=[sample(i) for i in range(65, 71)],
        features=[
            FeatureTotal(*feature, dropped_share, kept_share)
            for feature, dropped_share, kept_share in zip(
                FEATURES,
                (0.62, 0.44, 0.31, 0.115, 0.02),
                (0.031, 0.004, 0.06, 0.09, 0.017),
                strict=True,
            )
        ],
        quarantined=[
            QuarantinedView(88, 89, "not JSON: Expecting ',' delimiter at column 41"),
            QuarantinedView(412, 413, "no assistant turn, so there is nothing to train on"),
            QuarantinedView(413, 414, "the answer is empty"),
        ],
        quarantine_reasons={
            "not JSON": 7,
            "no assistant turn, so there is nothing to train on": 4,
            "the answer is empty": 1,
        },
        notes=[
            "minilm is a proxy: it screens text by meaning. The geometry of the model you are "
            "about to train is what the method is about; that needs a preset of that model.",
            "31 rows are longer than --max-tokens 1024; what lies beyond was not scored.",
        ],
    )
    return replace(report, **changes)


def hostile_report() -> Report:
    """A report in which every string that comes from data or files is hostile."""
    evil = HOSTILE
    feature = FeatureEvidence(1, evil, 0.5, 2, evil, 0.7)
    view = sample(
        0,
        turns=[Turn(evil, evil), Turn("assistant", evil, True)],
        words=[evil, "alert"],
        features=[feature],
    )
    return example_report(
        input=evil,
        input_sha256=evil,
        version=evil,
        created=evil,
        outputs={"kept": evil, "dropped": evil},
        scoring={"preset": evil, "model": evil, "train_on": evil, "max_tokens": 7},
        dropped=[view],
        borderline=[view],
        features=[FeatureTotal(1, evil, 2, evil, 0.7, 0.5, 0.1)],
        quarantined=[QuarantinedView(1, 2, evil)],
        quarantine_reasons={evil: 1},
        notes=[evil],
    )


def empty_report() -> Report:
    """A file without a single usable row."""
    return example_report(
        outputs={"kept": "k", "dropped": "d"},
        counts=dict.fromkeys(
            ["rows", "kept", "dropped", "quarantined", "truncated", "duplicates"], 0
        ),
        selection={"strategy": "closest", "drop_frac": 0.1, "threshold": None},
        histogram=Histogram([0.0, 1.0], [0], [0]),
        flagged={"95": 0, "99": 0, "99.9": 0},
        reference_rows=0,
        dropped=[],
        borderline=[],
        features=[],
        quarantined=[],
        quarantine_reasons={},
        notes=[],
    )
