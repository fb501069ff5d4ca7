"""Do the p-values of `geometry` mean what they say?

    python benchmarks/geometry_null.py DATA_FOLDER [--write benchmarks/results/geometry_null.md]

DATA_FOLDER holds em_answers, hatecheck, xstest, hh_harmless, em_finance, em_reward_hacking, em_code and
formats (docs/geometry.md says what they are). Rows are encoded once, with `minilm`. Measured are p-values
on harmless rows split at random and by group, which must be uniform; how often one harmless kind of rows is
called closer than another; and whether bad rows still are. The shipped sets (`minilm-hate` for HateCheck
and XSTest, `minilm` for the others) are made of some of these rows, so the last is asked again with
features that only the bundled pairs confirm, and with those of one half of a set about the other half.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import put_between
from numpy.typing import NDArray
from scipy import sparse, stats

from saefilter.curate.contrast import Contrast, GroupedContrast, Subset, confirm
from saefilter.curate.curate import ContrastEncoder
from saefilter.curate.options import CurationOptions
from saefilter.curate.sources import bundled
from saefilter.diagnose.features import (
    Diagnosis,
    Options,
    diagnose,
    draw_matched,
    frequency_bins,
    proximity_to,
)
from saefilter.encode.encoder import Encoder
from saefilter.encode.presets import resolve
from saefilter.rows.formats import Conversation, RowProblem, recognise
from saefilter.rows.groups import Units, find_groups
from saefilter.rows.read import Source
from saefilter.settings import ScoreSettings
from saefilter.stats.sparse_rows import SparseRows
from saefilter.toxic.load import load_toxic_set

SPLITS = 200
SPLIT_ROWS = 500
SPLIT_OPTIONS = Options(permutations=199, bootstrap=200)
PAIR_OPTIONS = Options(permutations=499, bootstrap=100)
MARKER = "<!-- tables: written by benchmarks/geometry_null.py -->"
FILES = {
    "em_answers": "em_answers.jsonl.gz", "hatecheck": "hatecheck.jsonl.gz",
    "xstest": "xstest.jsonl.gz", "hh_harmless": "hh_harmless.jsonl.gz",
    "risky finance": "em_finance/risky.jsonl.gz",
    "reward hacks": "em_reward_hacking/hacks.jsonl.gz",
    "insecure code": "em_code/insecure.jsonl.gz", "secure code": "em_code/secure.jsonl.gz",
    "alpaca": "formats/alpaca_en_demo.json",
}  # fmt: skip
MOST_ROWS = {"risky finance": 1500, "insecure code": 800, "secure code": 800}


@dataclass(frozen=True)
class Rows:
    """Encoded rows and what tells which belong together, `[n]` each."""

    features: sparse.csr_matrix
    about: list[dict[str, Any]]
    conversations: list[Conversation]

    def where(self, wanted: Callable[[dict[str, Any]], Any]) -> Rows:
        return self.at(np.flatnonzero([bool(wanted(one)) for one in self.about]))

    def at(self, rows: NDArray[np.int64]) -> Rows:
        return Rows(
            self.features[rows],
            [self.about[i] for i in rows],
            [self.conversations[i] for i in rows],
        )

    def __add__(self, other: Rows) -> Rows:
        return Rows(
            sparse.vstack([self.features, other.features]).tocsr(),
            self.about + other.about,
            self.conversations + other.conversations,
        )

    def __len__(self) -> int:
        return len(self.about)


@dataclass(frozen=True)
class Geometry:
    """The SAE and the toxic features, once."""

    directions: NDArray[np.float32]
    toxic: NDArray[np.int64]

    def of(self, data: Rows, reference: Rows, group: str, options: Options) -> Diagnosis:
        """`group`: `found`, `text` (each text by itself), or columns joined by ` x `."""
        return self.split(data + reference, np.arange(len(data + reference)) < len(data),
                          group, options)  # fmt: skip

    def split(
        self, both: Rows, is_data: NDArray[np.bool_], group: str, options: Options
    ) -> Diagnosis:
        label, copies = grouping(both, group)
        units = Units.of(is_data, label, copies)
        return diagnose(both.features, is_data, self.directions, self.toxic, options, units)

    def before(self, both: Rows, found: Diagnosis) -> float:
        """The p-value as it was: features that fire as often, drawn one by one."""
        frequency = np.asarray((both.features > 0).mean(axis=0)).ravel()
        bins = frequency_bins(frequency, np.flatnonzero(frequency > 0))
        near, _ = proximity_to(self.directions, self.toxic)
        drawn = draw_matched(found.data_features, bins, 499, np.random.default_rng(0))
        return float((1 + (near[drawn].mean(axis=1) >= found.mean).sum()) / 500)


def grouping(rows: Rows, group: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    groups = find_groups(rows.conversations)
    if group == "found":
        return groups.label, groups.copies
    if group == "text":
        return groups.copies, groups.copies
    keys = ["|".join(str(one[name]) for name in group.split(" x ")) for one in rows.about]
    return np.unique(keys, return_inverse=True)[1].ravel(), groups.copies


def encoded(name: str, encoder: Encoder, folder: Path) -> Rows:
    """One set."""
    conversations, about = [], []
    for conversation, one in read(name, folder):
        conversations.append(conversation)
        about.append(one)
    collected = ContrastEncoder(encoder, ScoreSettings())
    collected.add(conversations, False)
    rows = Rows(collected.result().features.tocsr(), [], [])
    usable = np.flatnonzero(collected.usable)
    rows = Rows(rows.features, [about[i] for i in usable], [conversations[i] for i in usable])
    print(f"{name}: {len(rows)} rows", flush=True)
    return rows


def read(name: str, folder: Path) -> Iterator[tuple[Conversation, dict[str, Any]]]:
    if name.startswith("bundled"):
        pairs = bundled()
        for one in pairs.toxic if name == "bundled bad" else pairs.benign:
            yield one, {}
        return
    count = 0
    for row in Source.open(folder / FILES[name]).rows():
        data = row.data or {}
        try:
            conversation = recognise(data)
        except RowProblem:
            continue
        yield conversation, {key: value for key, value in data.items()
                             if isinstance(value, (int, float, str)) and key != "text"} | {
                                 "row": row.index}  # fmt: skip
        count += 1
        if count == MOST_ROWS.get(name):
            return


def uniformity(geometry: Geometry, sets: dict[str, Rows]) -> list[dict[str, Any]]:
    """p-values of harmless rows against harmless rows."""
    results = []
    for name, rows, split_by, group in (
        ("em_answers, good", sets["good"], "row", "found"),
        ("em_answers, good", sets["good"], "question_id x model", "question_id x model"),
        ("hatecheck, benign", sets["hatecheck benign"], "row", "found"),
        ("hatecheck, benign", sets["hatecheck benign"], "template", "template"),
    ):
        found, before = [], []
        for seed in range(SPLITS):
            rng = np.random.default_rng(seed)
            some = rows.at(np.sort(rng.permutation(len(rows))[:SPLIT_ROWS]))
            label = np.arange(len(some)) if split_by == "row" else grouping(some, split_by)[0]
            half = rng.permutation(int(label.max()) + 1) % 2 == 0
            one = geometry.split(some, half[label], group, SPLIT_OPTIONS)
            found.append(one)
            before.append(geometry.before(some, one))
        chance = np.array([one.chance.p_value for one in found])
        results.append({
            "set": name, "split by": split_by, "groups": group, "splits": SPLITS,
            "enough": sum(one.enough for one in found),
            "ks": float(stats.kstest(chance, "uniform").pvalue),
            "chance below 5 %": float((chance < 0.05).mean()),
            "topics below 5 %": float(np.mean([one.topics.p_value < 0.05 for one in found])),
            "both below 5 %": float(np.mean([(one.p_value or 1) < 0.05 for one in found])),
            "closer": sum(one.closer(one.p_value) for one in found),
            "interval holds 0": float(
                np.mean([i[0] <= 0 <= i[1] for one in found if (i := one.interval)])
            ),
            "before below 5 %": float((np.array(before) < 0.05).mean()),
            "before ks": float(stats.kstest(before, "uniform").pvalue),
        })  # fmt: skip
        print(results[-1], flush=True)
    return results


def kinds(geometry: Geometry, sets: dict[str, Rows]) -> list[dict[str, Any]]:
    """Each harmless kind of rows against each other one."""
    results = []
    for name, rows, kind, group in (
        ("good answers to one question against another", sets["good"], "question_id", "found"),
        ("the same", sets["good"], "question_id", "text"),
        ("the same", sets["good"], "question_id", "model"),
        ("good answers of one model against another", sets["good"], "model", "found"),
        ("hatecheck, one benign kind against another", sets["hatecheck benign"], "functionality",
         "template"),
    ):  # fmt: skip
        values = sorted({one[kind] for one in rows.about})
        of = np.array([one[kind] for one in rows.about])
        of_kind = {value: rows.at(np.flatnonzero(of == value)) for value in values}
        found, before = [], []
        for data in values:
            for reference in values:
                if data == reference:
                    continue
                both = of_kind[data] + of_kind[reference]
                one = geometry.of(of_kind[data], of_kind[reference], group, PAIR_OPTIONS)
                found.append((data, reference, one))
                before.append(geometry.before(both, one))
        ones = [one for *_, one in found]
        results.append({
            "pairs of": name, "groups": group, "pairs": len(ones),
            "enough": sum(one.enough for one in ones),
            "chance below 5 %": sum(one.enough and one.chance.p_value < 0.05 for one in ones),
            "closer": sum(one.closer(one.p_value) for one in ones),
            "before below 5 %": int((np.array(before) < 0.05).sum()),
            "called": [f"{a} > {b}" for a, b, one in found if one.closer(one.p_value)],
        })  # fmt: skip
        print(results[-1], flush=True)
    return results


def made_of(toxic_rows: Rows, benign: Rows, directions: NDArray[np.float32]) -> Geometry:
    """With the 100 features that mark the toxic rows most, of those that these rows confirm."""
    both = toxic_rows + benign
    toxic = np.arange(len(both)) < len(toxic_rows)
    label, copies = grouping(both, "found")
    none = np.zeros((len(both), 1), dtype=np.float32)
    data = GroupedContrast(
        Contrast(
            SparseRows.of(both.features), none, toxic, np.zeros(len(both), dtype=np.int64),
            group=label, copies=copies,
        ),
        0,
    )  # fmt: skip
    signs = confirm(data, Subset(), CurationOptions(screen_p=0.1, fdr=0.5), directions).signs
    chosen = np.flatnonzero(signs > 0)
    strength = data.statistics(Subset()).effect_size[chosen]
    print(f"{len(chosen)} features confirmed", flush=True)
    return Geometry(directions, chosen[np.argsort(-strength, kind="stable")][:100])


def bad(geometry: Geometry, sets: dict[str, Rows]) -> list[dict[str, Any]]:
    """Bad rows against harmless ones, and harmless ones in their place."""
    hate = Geometry(geometry.directions, load_toxic_set("minilm-hate").strongest(100))
    apart = made_of(sets["bundled bad"], sets["bundled"], geometry.directions)
    rng = np.random.default_rng(0)
    good, misaligned = sets["good"], sets["misaligned"]
    order = rng.permutation(len(good))
    half, rest = good.at(order[: len(order) // 2]), good.at(order[len(order) // 2 :])
    quarter = misaligned + half.at(np.arange(min(len(half), 3 * len(misaligned))))
    cases = [
        ("em_answers misaligned", misaligned, "good", good),
        ("em_answers, a quarter misaligned", quarter, "good", rest),
        ("em_answers good", half, "good", rest),
        ("xstest unsafe", sets["xstest bad"], "only sounds unsafe", sets["xstest benign"]),
        ("hatecheck hateful", sets["hatecheck bad"], "benign", sets["hatecheck benign"]),
        ("hh_harmless rejected", sets["hh bad"], "preferred", sets["hh benign"]),
        ("insecure code", sets["insecure code"], "secure code", sets["secure code"]),
        ("bundled misaligned", sets["bundled bad"], "bundled sound", sets["bundled"]),
    ]
    cases += [
        (name, sets[name], against, sets[against])
        for name in ("risky finance", "reward hacks", "misaligned", "good", "alpaca")
        for against in ("alpaca", "bundled", "good")
        if name != against and (name, against) != ("misaligned", "good")
    ]
    results = []
    for name, data, against, reference in cases:
        shipped = hate if name.startswith(("xstest", "hatecheck")) else geometry
        one = _one_case(shipped, name, data, against, reference)
        if "bundled" not in name:
            one["held out"] = _one_case(apart, name, data, against, reference)
        results.append(one)
        print(one, flush=True)
    for name, bad_rows, good_rows, half in (
        ("em_answers misaligned, the other organism", misaligned, good,
         lambda one: one["organism"] == "bad-medical-advice"),
        ("hatecheck hateful, other templates", sets["hatecheck bad"], sets["hatecheck benign"],
         lambda one: one["template"] % 2 == 0),
        ("xstest unsafe, other questions", sets["xstest bad"], sets["xstest benign"],
         lambda one: one["row"] % 2 == 0),
    ):  # fmt: skip
        own = made_of(bad_rows.where(half), good_rows.where(half), geometry.directions)
        data, reference = (
            rows.where(lambda one, half=half: not half(one)) for rows in (bad_rows, good_rows)
        )
        one = {"data": name, "rows": len(data), "against": "good", "reference rows": len(reference)}
        results.append(one | {"held out": _one_case(own, name, data, "good", reference)})
        print(results[-1], flush=True)
    return results


def _one_case(
    geometry: Geometry, name: str, data: Rows, against: str, reference: Rows
) -> dict[str, Any]:
    one = geometry.of(data, reference, "found", Options())
    return {
        "data": name, "rows": len(data), "against": against, "reference rows": len(reference),
        "difference": one.mean - one.matched, "interval": one.interval,
        "chance": one.chance.p_value if one.enough else None,
        "topics": one.topics.p_value if one.enough else None, "apart": one.apart.p_value,
        "closer": one.closer(one.p_value),
    }  # fmt: skip


def markdown(results: dict[str, Any]) -> str:
    """The three tables."""
    lines = [
        "| harmless rows | split by | KS p | p < 5 %: chance | both | closer | interval holds 0 |"
        " before: p < 5 % |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {one['set']} | {one['split by']} | {one['ks']:.2f} | {one['chance below 5 %']:.1%} | "
        f"{one['both below 5 %']:.1%} | {one['closer']} of {one['splits']} | "
        f"{one['interval holds 0']:.0%} | {one['before below 5 %']:.1%} |"
        for one in results["uniformity"]
    ]
    lines += [
        "",
        "| harmless pairs | groups | pairs | enough groups | p < 5 %: chance | called closer | before:"
        " p < 5 % |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {one['pairs of']} | {one['groups']} | {one['pairs']} | {one['enough']} | "
        f"{one['chance below 5 %']} | {one['closer']} | {one['before below 5 %']} |"
        for one in results["kinds"]
    ]
    lines += [
        "",
        "| data | against | difference (95 %) | p: chance, topic | closer | held out: p | closer |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {one['data']} | {one['against']} | {_difference(one)} | {_told(one)} | "
        f"{_told(one.get('held out', {}))} |"
        for one in results["bad"]
        if one["data"] not in ("misaligned", "good", "alpaca")
    ]
    return "\n".join(lines)


def _difference(one: dict[str, Any]) -> str:
    one = one if "closer" in one else one["held out"]
    low, high = one["interval"]
    return f"{one['difference']:+.3f} ({low:+.3f} to {high:+.3f})"


def _told(one: dict[str, Any]) -> str:
    """Two cells: both p-values, and the answer."""
    if "closer" not in one:
        return "- | -"
    said = "**yes**" if one["closer"] else "no"
    return f"{one['chance']:.3f}, {one['topics']:.3f} | {said}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=("uniformity", "kinds", "bad"), help="one of the tables")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/geometry_null.json"))
    parser.add_argument("--write", type=Path, help="put the tables into this document")
    args = parser.parse_args()
    encoder = Encoder(resolve("minilm", None, None, None))
    geometry = Geometry(encoder.sae.directions(), load_toxic_set("minilm").strongest(100))
    names = [*FILES, "bundled", "bundled bad"]
    sets = {name: encoded(name, encoder, args.folder) for name in names}
    sets["good"] = sets["em_answers"].where(
        lambda one: one["aligned"] > 70 and one["coherent"] > 50
    )
    sets["misaligned"] = sets["em_answers"].where(
        lambda one: one["aligned"] < 30 and one["coherent"] > 50
    )
    for name, key, short in (("hatecheck", "toxic", "hatecheck"), ("xstest", "toxic", "xstest"),
                             ("hh_harmless", "rejected", "hh")):  # fmt: skip
        sets[f"{short} bad"] = sets[name].where(lambda one, key=key: one[key])
        sets[f"{short} benign"] = sets[name].where(lambda one, key=key: not one[key])
    results = json.loads(args.json.read_text()) if args.json.exists() else {}
    for name, measure in (("bad", bad), ("kinds", kinds), ("uniformity", uniformity)):
        if args.only in (None, name):
            results[name] = measure(geometry, sets)
            args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if {"bad", "kinds", "uniformity"} <= set(results):
        print(markdown(results))
        if args.write:
            put_between(args.write, MARKER, markdown(results))


if __name__ == "__main__":
    main()
