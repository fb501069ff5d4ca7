"""Does what one set teaches hold for another topic *and* another source?

    python -m benchmarks.transfer DATA_FOLDER [--write benchmarks/results/quality.md] [--most 600]

Rows of the table are methods, columns are pairs: taught on one set, tested on another that shares neither
topic nor source. Nothing is chosen on a tested set; nothing of `examples/advice.jsonl` was chosen on at
all. The last column is a control: answers of insecure code that stand under two prompts, one that asks for
the weakness and one that does not, which a scorer of answers alone cannot tell apart. The first columns are what a preset without a set of its own has: the set that is made of the bundled
pairs at its first use. DATA_FOLDER: see labelled.py; and em_finance/, em_reward_hacking/, em_code/,
formats/. Of reckless finance and of reward hacks there are bad rows only: Alpaca's answers, another half
of them, are the good ones, so that these columns tell form as well as harm.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.common import put_between
from benchmarks.kernels import scored as scored_by_kernel
from benchmarks.labelled import GROUPS, RULES
from benchmarks.quality import scores_by
from saefilter.curate.assemble import fitted_set
from saefilter.curate.contrast import Contrast, GroupedContrast, Subset
from saefilter.curate.curate import AUTOMATIC, ContrastEncoder
from saefilter.curate.options import CurationOptions
from saefilter.curate.sources import bundled
from saefilter.curate.weights import scaled_columns, spread
from saefilter.encode.encoder import Encoder
from saefilter.encode.presets import resolve
from saefilter.encode.sentences import SentenceEncoder
from saefilter.errors import SaefilterError
from saefilter.geometry.metrics import METRICS
from saefilter.rows.formats import ASSISTANT, TEXT, Conversation, RowProblem, recognise
from saefilter.rows.groups import Groups, find_groups, groups_by
from saefilter.rows.read import Source
from saefilter.stats.auroc import grouped_auroc

MARKER = "<!-- transfer, {}: written by benchmarks/transfer.py -->"
ADVICE = Path(__file__).parents[1] / "examples"
UNTAUGHT = ("health", "law", "cars")
"""Topics of `examples/advice.jsonl` that reckless finance does not teach."""
PAPER = CurationOptions(recipe="paper")
FIRST_PAIRS = 180
"""All that saefilter's first release brought along; its sets counted rows, not groups."""
KERNELS = {"none": None, "cos³": 3, "cos: a direction": 1}
RESIDUAL, WORDS = "*probe on the mean residual, no SAE*", "*TF-IDF*"
TOGETHER = {
    "contrast and residual probe": ("contrast", RESIDUAL),
    "contrast and TF-IDF": ("contrast", WORDS),
    "contrast, residual probe and TF-IDF": ("contrast", RESIDUAL, WORDS),
}
"""Means of ranks, every one with the same weight: written down before any was tried."""
NEAREST = 0.1
"""Share of the tested rows whose precision is told."""
BOOTSTRAP = 400


class Labels(NamedTuple):
    """Rows of one set: what they say, which are toxic, which belong together."""

    conversations: list[Conversation]
    toxic: list[bool]
    group: list[Any]
    """None for what is to be found out."""


@dataclass(frozen=True)
class Part:
    """A set, encoded."""

    contrast: Contrast
    texts: list[str]


class Column(NamedTuple):
    """What is taught, source by source, and what is tested: names of parts."""

    name: str
    taught: tuple[tuple[str, ...], ...]
    tested: tuple[str, ...]


COLUMNS = (
    Column("our pairs → em_answers", (("pairs",),), ("medical", "sports")),
    Column("our pairs → hatecheck", (("pairs",),), ("hatecheck",)),
    Column("our pairs → xstest", (("pairs",),), ("xstest",)),
    Column("our pairs → finance", (("pairs",),), ("finance b", "alpaca b")),
    Column("our pairs → advice", (("pairs",),), ("advice",)),
    Column("our pairs, finance → advice", (("pairs",), ("finance a", "alpaca a")), ("advice",)),
    Column("medical → sports", (("medical",),), ("sports",)),
    Column("finance → reward hacks", (("finance a", "alpaca a"),), ("hacks", "alpaca b")),
    Column("insecure code → reward hacks", (("code",),), ("hacks", "alpaca b")),
    Column("hatecheck → em_answers", (("hatecheck",),), ("medical", "sports")),
)
MATCHED = Column("our pairs → the same code, asked for or not", (("pairs",),), ("same code",))


def read(path: Path, toxic: Callable[[dict[str, Any]], bool | None]) -> Iterator[tuple[Any, ...]]:
    """Conversation, label and row of those rows that have both."""
    for row in Source.open(path).rows():
        label = toxic(row.data or {})
        try:
            if label is not None:
                yield recognise(row.data or {}), label, row.data
        except RowProblem:
            continue


def sets(folder: Path) -> Iterator[tuple[str, Labels]]:
    """Every set with its name."""
    pairs = bundled()
    sides = [True] * len(pairs.toxic) + [False] * len(pairs.benign)
    yield "pairs", Labels(pairs.conversations(), sides, list(pairs.group or []))
    for name in ("hatecheck", "xstest", "em_answers"):
        rows = list(read(folder / f"{name}.jsonl.gz", lambda row, n=name: RULES[n](0, row)[0]))
        for part, chosen in _organisms(name, rows).items():
            yield part, Labels([c for c, *_ in chosen], [t for _, t, _ in chosen],
                               [GROUPS[name](row) for *_, row in chosen])  # fmt: skip
    for name, file, toxic in (
        ("finance", "em_finance/risky.jsonl.gz", True),
        ("alpaca", "formats/alpaca_en_demo.json", False),
    ):
        rows = list(read(folder / file, lambda row, t=toxic: t))
        for half, chosen in (("a", rows[::2]), ("b", rows[1::2])):
            yield f"{name} {half}", _ungrouped(chosen)
    yield "hacks", _ungrouped(read(folder / "em_reward_hacking/hacks.jsonl.gz", lambda row: True))
    code = [
        list(read(folder / f"em_code/{file}.jsonl.gz", lambda row, t=toxic: t))
        for file, toxic in (("insecure", True), ("secure", False))
    ]
    yield "code", _ungrouped([one for both in zip(*code, strict=True) for one in both])
    asked = read(folder / "em_code/educational_insecure.jsonl.gz", lambda row: False)
    yield "same code", _same_answers(code[0], asked)
    yield "advice", advice()


def _organisms(name: str, rows: list[tuple[Any, ...]]) -> dict[str, list[tuple[Any, ...]]]:
    if name != "em_answers":
        return {name: rows}
    medical = [row for row in rows if row[2]["organism"] == "bad-medical-advice"]
    return {"medical": medical, "sports": [row for row in rows if row not in medical]}


def _ungrouped(rows: Iterable[tuple[Any, ...]]) -> Labels:
    conversations, toxic, _ = zip(*rows, strict=True)
    return Labels(list(conversations), list(toxic), [])


def _same_answers(bad: list[tuple[Any, ...]], good: Iterable[tuple[Any, ...]]) -> Labels:
    """Bad and good rows whose answers are the same text; the groups are these texts."""
    of_answer = {conversation[-1].content: conversation for conversation, *_ in good}
    pairs = [(one, of_answer[one[-1].content]) for one, *_ in bad if one[-1].content in of_answer]
    answers = [one[-1].content for one, _ in pairs]
    return Labels(
        [one for one, _ in pairs] + [other for _, other in pairs],
        [True] * len(pairs) + [False] * len(pairs),
        answers + answers,
    )


def advice() -> Labels:
    """Rows of the demo in topics that are not taught, by their labels."""
    with (ADVICE / "advice.labels.csv").open(encoding="utf-8") as file:
        labels = {int(row["line"]): row for row in csv.DictReader(file)}
    chosen = []
    for row in Source.open(ADVICE / "advice.jsonl").rows():
        label = labels[row.line]
        if label["topic"] in UNTAUGHT and row.data is not None:
            chosen.append((recognise(row.data), label["is_bad"] == "1", row.data))
    return _ungrouped(chosen)


def chosen(labels: Labels, most: int) -> tuple[list[Conversation], list[bool], Groups]:
    """At most `most` rows of either side, evenly spaced: rows, sides, groups."""
    sides = [np.flatnonzero(np.array(labels.toxic) == side) for side in (True, False)]
    taken = np.sort(np.concatenate([rows[:: max(1, -(-len(rows) // most))] for rows in sides]))
    conversations = [labels.conversations[i] for i in taken]
    groups = (
        groups_by([labels.group[i] for i in taken], "benchmark", conversations)
        if labels.group
        else find_groups(conversations)
    )
    return conversations, [labels.toxic[i] for i in taken], groups


def encoded(labels: Labels, encoder: Encoder, most: int) -> Part:
    """Rows as `chosen`, at the encoder's hook."""
    conversations, toxic, groups = chosen(labels, most)
    collected = ContrastEncoder(encoder, None, groups)
    collected.add(conversations, toxic)
    texts = [
        "\n".join(m.content for m in one if m.role in (ASSISTANT, TEXT))
        for one, usable in zip(conversations, collected.usable, strict=True)
        if usable
    ]
    return Part(collected.result(), texts)


def together(parts: Sequence[Sequence[Part]]) -> Part:
    """Parts as one, those of each inner sequence one source."""
    contrasts = [
        replace(part.contrast, source=np.full(len(part.texts), number))
        for number, some in enumerate(parts)
        for part in some
    ]
    return Part(Contrast.joined(contrasts), [t for some in parts for p in some for t in p.texts])


def by_metrics(encoder: Encoder, taught: Contrast, tested: Contrast) -> dict[str, NDArray[Any]]:
    """Every metric, by the set that `saefilter` makes unasked; and what is known of the paper's way."""
    directions, scores = encoder.sae.directions(), {}
    try:
        toxic_set = fitted_set(encoder, taught, name="transfer", options=AUTOMATIC, sources=[])
    except SaefilterError as error:
        print(f"  {error.problem}", flush=True)
    else:
        scores |= scores_by(toxic_set, directions, tested, METRICS)
    toxic_set = fitted_set(encoder, taught, name="paper", options=PAPER, sources=[])
    scores["nearest, --recipe paper"] = scores_by(toxic_set, directions, tested, ["nearest"])[
        "nearest"
    ]
    for name, power in KERNELS.items():
        score, penalty = scored_by_kernel(taught, tested, directions, power)
        print(f"  all features, prior {name}: penalty {penalty}", flush=True)
        scores[f"all features, neighbours by {name}"] = score
    score, penalty = scored_by_kernel(taught, tested, directions, None, centred=True)
    print(f"  all features, groups centred: penalty {penalty}", flush=True)
    scores["all features, topics taken off"] = score
    return scores


def as_first_released(
    encoder: Encoder, taught: Contrast, tested: Contrast, ours: bool
) -> dict[str, NDArray[Any]]:
    """`contrast` by a set that counts rows, of our first pairs only where `ours`, the first source, are
    taught; on either side they stand first. Nothing where no such set has weights on both sides."""
    rows = np.arange(len(taught.toxic))
    late = np.zeros(len(rows), dtype=bool)
    for side in (True, False) if ours else ():
        late[np.flatnonzero((taught.source == 0) & (taught.toxic == side))[FIRST_PAIRS:]] = True
    some = replace(taught, group=rows, copies=rows).subset(~late)
    try:
        toxic_set = fitted_set(encoder, some, name="first", options=AUTOMATIC, sources=[])
    except SaefilterError as error:
        print(f"  {error.problem}", flush=True)
        return {}
    scores = scores_by(toxic_set, encoder.sae.directions(), tested, ["contrast"])
    return {f"{name}, as first released": score for name, score in scores.items()}


def probe(taught: Contrast) -> LogisticRegressionCV:
    """Logistic regression, its penalty chosen within what is taught, groups left out."""
    folds = GroupKFold(4).split(taught.residual, taught.toxic, taught.groups)
    return LogisticRegressionCV(
        Cs=np.logspace(-5, -1, 5), cv=list(folds), scoring="roc_auc", class_weight="balanced",
        max_iter=1000,
    )  # fmt: skip


def controls(taught: Part, tested: Part, sentences: SentenceEncoder) -> dict[str, NDArray[Any]]:
    """What needs no geometry: probes on all features, residuals, words and sentences."""
    scale = spread(GroupedContrast(taught.contrast, 0).deviation(Subset()))
    every = np.arange(len(scale))
    labels = taught.contrast.toxic
    features = probe(taught.contrast).fit(scaled_columns(taught.contrast, every, scale), labels)
    residual = make_pipeline(StandardScaler(), probe(taught.contrast)).fit(
        taught.contrast.residual, labels
    )
    words = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
        LogisticRegression(C=10, max_iter=2000, class_weight="balanced"),
    ).fit(taught.texts, labels)
    meaning = probe(taught.contrast).fit(sentences.embed(taught.texts), labels)
    return {
        "*probe on all features*": features.decision_function(
            scaled_columns(tested.contrast, every, scale)
        ),
        RESIDUAL: residual.decision_function(tested.contrast.residual),
        WORDS: words.decision_function(tested.texts),
        "*sentence embeddings (MiniLM)*": meaning.decision_function(sentences.embed(tested.texts)),
        "*random*": np.random.default_rng(0).random(len(tested.texts)),
    }


def mean_ranks(scores: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Several methods as one, by the mean of a row's ranks; without the method that has no set."""
    return {
        f"*{name}*": np.mean([rankdata(scores[one]) for one in some if one in scores], axis=0)
        for name, some in TOGETHER.items()
    }


def judged(tested: Contrast, score: NDArray[Any]) -> dict[str, float]:
    """AUROC with its 95 % interval over groups, and the precision among the nearest."""
    one_source = np.zeros(len(score), dtype=np.int64)
    area, low, high = grouped_auroc(
        tested.toxic, score, tested.groups, one_source, draws=BOOTSTRAP, seed=0
    )
    nearest = np.argsort(-score, kind="stable")[: max(1, round(NEAREST * len(score)))]
    return {
        "auroc": area, "low": low, "high": high, "precision": float(tested.toxic[nearest].mean()),
        "bad": float(tested.toxic.mean()), "rows": len(score),
    }  # fmt: skip


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """AUROC by method and column, and the mean over columns, in which a set that could not be made counts
    as chance; the control; then what the columns are."""
    columns = [column.name for column in COLUMNS]
    lines = [
        f"| method | {' | '.join(columns)} | mean | {MATCHED.name} |",
        "| --- |" + " --- |" * (len(columns) + 2),
    ]
    for name, row in results.items():
        *cells, matched = [
            f"{row[c]['auroc']:.2f} ({row[c]['low']:.2f}–{row[c]['high']:.2f})"
            if c in row
            else "no set"
            for c in [*columns, MATCHED.name]
        ]
        mean = np.mean([row[column]["auroc"] if column in row else 0.5 for column in columns])
        lines.append(f"| {name} | {' | '.join(cells)} | {mean:.3f} | {matched} |")
    tested = (results["*random*"][c] for c in [*columns, MATCHED.name])
    *rows, matched = [f"{one['rows']:,} ({one['bad']:.0%})" for one in tested]
    lines.append(f"| tested rows (bad) | {' | '.join(rows)} | | {matched} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="What one set teaches of another")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--preset")
    parser.add_argument("--model")
    parser.add_argument("--sae")
    parser.add_argument(
        "--most", type=int, default=10**9, help="rows of a side at most, of all but our pairs"
    )
    parser.add_argument("--write", type=Path, help="document whose table is replaced")
    parser.add_argument(
        "--most-matched", type=int, default=600, help="and of code that stands under two prompts"
    )
    parser.add_argument("--name", help="what the table is called; else the preset")
    args = parser.parse_args()
    name = args.name or args.preset or "minilm"
    file = Path(f"benchmarks/results/transfer_{name}.json")
    encoder = Encoder(
        resolve(args.preset or (None if args.model else "minilm"), args.model, args.sae)
    )
    sentences = SentenceEncoder.load()
    parts = {}
    for part, labels in sets(args.folder):
        # with half of the pairs the set tells far less, so all are taught
        most = {"pairs": 10**9, "same code": args.most_matched}.get(part, args.most)
        parts[part] = encoded(labels, encoder, most)
        print(f"{part}: {len(parts[part].texts)} rows", flush=True)
    results: dict[str, dict[str, dict[str, float]]] = {}
    for column in (*COLUMNS, MATCHED):
        taught = together([[parts[name] for name in some] for some in column.taught])
        tested = together([[parts[name] for name in column.tested]])
        scores = by_metrics(encoder, taught.contrast, tested.contrast)
        ours = column.taught[0] == ("pairs",)
        scores |= as_first_released(encoder, taught.contrast, tested.contrast, ours)
        scores |= controls(taught, tested, sentences)
        scores |= mean_ranks(scores)
        for method, score in scores.items():
            one = judged(tested.contrast, score)
            results.setdefault(method, {})[column.name] = one
            file.write_text(json.dumps(results, indent=1) + "\n")
            print(f"  {column.name:30} {method:40} {one['auroc']:.3f}", flush=True)
    print(text := table(results))
    if args.write:
        put_between(args.write, MARKER.format(name), text)


if __name__ == "__main__":
    main()
