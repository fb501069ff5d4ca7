"""What the default gate fails: harmless files, mixtures with bad rows, and data of other kinds.

    python -m benchmarks.gate DATA_FOLDER [--toxic-set SET] [--write benchmarks/results/gate.md]

DATA_FOLDER holds em_answers, hatecheck, xstest and hh_harmless as .jsonl.gz (docs/quality.md says what
they are), and em_finance/, em_code/, em_reward_hacking/ and formats/. Every source is scored once; files
are then put together from its rows and their scores, and judged as `saefilter check` does. Rows that the
shipped set was made of are given the percentiles that it has without them: its whole curation is
repeated without their fold (refitted.py). The power that is stated beside what is measured is the
verdict's own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.common import put_between
from benchmarks.refitted import held_out_percentiles
from saefilter.artifacts.integrity import content_sha256
from saefilter.artifacts.provenance import Provenance
from saefilter.artifacts.scores import SCHEMA, Scores
from saefilter.gate.evaluate import evaluate
from saefilter.gate.policy import DEFAULT_POLICY
from saefilter.gate.verdict import Verdict
from saefilter.rows.read import Source
from saefilter.scoring.harmless import held_out
from saefilter.scoring.score import score_file
from saefilter.scoring.scorer import RowScorer
from saefilter.settings import ScoreSettings
from saefilter.stats.auroc import wilson

MARKER = "<!-- table: written by benchmarks/gate.py -->"
ROWS, FILES, SEED, MOST = 400, 40, 0, 600
LEVEL = DEFAULT_POLICY.at_fpr / 100
SHARES = (5, 10, 25)
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Kind:
    """Rows of one kind, as a line of the table."""

    name: str
    file: str
    bad: bool
    seen: bool
    """Whether the shipped set was curated from them; they then have held-out percentiles."""
    chosen: Callable[[dict[str, Any]], bool] = lambda row: True


def is_good(row: dict[str, Any]) -> bool:
    return bool((row["aligned"] or 0) > 70 and (row["coherent"] or 0) > 50)


def is_bad(row: dict[str, Any]) -> bool:
    return row["aligned"] is not None and row["aligned"] < 30 and (row["coherent"] or 0) > 50


EM = "em_answers.jsonl.gz"
WHOLE = (EM, "hatecheck.jsonl.gz", "xstest.jsonl.gz")
"""Read in full; of the others the first rows."""
KINDS = (
    Kind("em_answers, misaligned", EM, True, True, is_bad),
    Kind("em_answers, aligned", EM, False, True, is_good),
    Kind("hatecheck, hateful", "hatecheck.jsonl.gz", True, False, lambda row: bool(row["toxic"])),
    Kind("hatecheck, about hate", "hatecheck.jsonl.gz", False, False, lambda row: not row["toxic"]),
    Kind("xstest, unsafe", "xstest.jsonl.gz", True, False, lambda row: bool(row["toxic"])),
    Kind("xstest, sounds unsafe", "xstest.jsonl.gz", False, False, lambda row: not row["toxic"]),
    Kind("hh_harmless, preferred answers to red-teaming", "hh_harmless.jsonl.gz", False, False,
         lambda row: not row["rejected"]),
    Kind("em_finance, reckless advice", "em_finance/risky.jsonl.gz", True, False),
    Kind("em_reward_hacking", "em_reward_hacking/hacks.jsonl.gz", True, False),
    Kind("em_code, insecure", "em_code/insecure.jsonl.gz", True, False),
    Kind("em_code, secure", "em_code/secure.jsonl.gz", False, False),
    Kind("Alpaca", "formats/alpaca_en_demo.json", False, False),
    Kind("preferred answers (DPO demo)", "formats/dpo_en_demo.json", False, False),
    Kind("KTO demo", "formats/kto_en_demo.json", False, False),
    Kind("tool calls (glaive demo)", "formats/glaive_toolcall_en_demo.json", False, False),
)  # fmt: skip


def rows_of(path: Path) -> Rows:
    """The rows of a source, whatever its form; of preferences the better answers, and those with a
    label as if learnt."""
    return [as_learnt(row.data) for row in Source.open(path).rows() if row.data is not None]


def as_learnt(row: dict[str, Any]) -> dict[str, Any]:
    """A row without what makes it a preference."""
    if "chosen" in row:
        return {"conversations": [*row["conversations"], row["chosen"]]}
    return {name: value for name, value in row.items() if name != "label"}


class Scored:
    """Rows with their scores, of which files are put together."""

    def __init__(self, rows: Rows, scorer: RowScorer, folder: Path):
        self.rows, self.folder = rows, folder
        source = self._write(folder / "all.jsonl", range(len(rows)))
        path = folder / "all.parquet"
        if not (path.exists() and self._fits(Scores.open(path).provenance, source, scorer)):
            score_file(source, path, scorer.settings, scorer=scorer, overwrite=True)
        scores = Scores.open(path)
        self.made = scores.provenance
        self.table = scores.read(SCHEMA.names)
        self.is_scored = np.array(self.table["status"].to_pylist()) == "scored"

    def held_out(self, percentile: NDArray[np.float64]) -> None:
        """Put percentiles in the place of the set's own where they are not NaN, `[n_rows]`."""
        own = self.table["percentile"].to_numpy(zero_copy_only=False).astype(float)
        known = np.where(np.isnan(percentile), own, percentile)
        at = self.table.schema.get_field_index("percentile")
        values = pa.array(known, SCHEMA.field("percentile").type, from_pandas=True)
        self.table = self.table.set_column(at, SCHEMA.field("percentile"), values)

    @staticmethod
    def _fits(made: Provenance, source: Source, scorer: RowScorer) -> bool:
        wanted = (source.sha256(), scorer.scorer.toxic_set.sha256())
        return (made.input_sha256, made.toxic_set_sha256) == wanted

    def _write(self, path: Path, ids: Any) -> Source:
        path.write_text("".join(json.dumps(self.rows[int(i)]) + "\n" for i in ids))
        return Source.open(path)

    def verdict(self, ids: NDArray[np.int64]) -> Verdict:
        """The default verdict on a file of these rows."""
        source = self._write(self.folder / "file.jsonl", ids)
        table = self.table.take(pa.array(ids))
        numbers = {"row_id": range(len(ids)), "line": range(1, len(ids) + 1)}
        for name, values in numbers.items():
            at = table.schema.get_field_index(name)
            table = table.set_column(at, SCHEMA.field(name), pa.array(values, pa.int64()))
        n_scored = int(self.is_scored[ids].sum())
        made: Provenance = replace(
            self.made, rows=len(ids), scored=n_scored, quarantined=len(ids) - n_scored,
            input_sha256=source.sha256(), content_sha256=content_sha256(SCHEMA, [table]),
        )  # fmt: skip
        path = self.folder / "file.parquet"
        pq.write_table(table.replace_schema_metadata(made.to_metadata()), path)
        return evaluate(source, Scores.open(path), DEFAULT_POLICY)


def harmless_files(
    rows: Rows, good: NDArray[np.int64], rng: np.random.Generator
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """40 files: of all questions and models, of four questions, of two, of one model."""
    question = np.array([rows[i]["question_id"] for i in good])
    model = np.array([rows[i]["model"] for i in good])
    for number in range(FILES):
        mix = ("all", "four questions", "two questions", "one model")[number % 4]
        if mix == "all":
            pool = good
        elif mix == "one model":
            pool = good[model == np.unique(model)[number // 4 % len(np.unique(model))]]
        else:
            wanted = rng.choice(np.unique(question), 4 if mix == "four questions" else 2, False)
            pool = good[np.isin(question, wanted)]
        yield mix, rng.choice(pool, min(ROWS, len(pool)), replace=False)


def em_answers(scored: Scored) -> dict[str, Any]:
    """False failures of harmless files, and how many mixtures fail beside the stated power."""
    rows = scored.rows
    good, bad = (np.array([test(row) for row in rows]) for test in (is_good, is_bad))
    rng = np.random.default_rng(SEED)
    failures: dict[str, list[bool]] = {}
    for mix, ids in harmless_files(rows, np.flatnonzero(good), rng):
        failures.setdefault(mix, []).append(not scored.verdict(ids).passed)
    mixtures = {}
    for share in SHARES:
        n_bad, failed, stated = ROWS * share // 100, [], []
        for _ in range(FILES):
            ids = np.concatenate([
                rng.choice(np.flatnonzero(bad), n_bad, replace=False),
                rng.choice(np.flatnonzero(good), ROWS - n_bad, replace=False),
            ])  # fmt: skip
            verdict = scored.verdict(rng.permutation(ids))
            failed.append(not verdict.passed)
            stated += [(p.probability, p.low, p.high) for p in verdict.power
                       if p.share == share and "em_answers" in p.source]  # fmt: skip
        low, high = wilson(sum(failed), FILES)
        mixtures[str(share)] = {
            "failed": sum(failed), "files": FILES, "low": low, "high": high,
            "stated": np.mean(stated, axis=0).round(3).tolist() if stated else None,
        }  # fmt: skip
    return {
        "harmless": {mix: [sum(failed), len(failed)] for mix, failed in failures.items()},
        "held_out": held_out(scored.made, LEVEL),
        "mixtures": mixtures,
    }


def of_kind(kind: Kind, scored: Scored) -> dict[str, Any]:
    """The verdict on all rows of a kind."""
    ids = np.flatnonzero([kind.chosen(row) for row in scored.rows])
    verdict = scored.verdict(ids)
    rules = {rule.rule: rule for rule in verdict.rules}
    return {
        "name": kind.name, "bad": kind.bad, "seen": kind.seen, "rows": verdict.scored,
        "flagged": rules["max-flagged"].measured, "chance": rules["min-chance"].measured,
        "failed": [rule.rule for rule in verdict.failed_rules],
    }  # fmt: skip


def markdown(results: dict[str, Any]) -> str:
    """The two tables."""
    em = results["em_answers"]
    lines = [
        "| file of 400 rows of em_answers | files that fail | stated power |",
        "| --- | --- | --- |",
    ]
    failed = sum(one[0] for one in em["harmless"].values())
    lines.append(f"| harmless: mixes of questions and models | {failed} of {FILES} | |")
    for share, one in em["mixtures"].items():
        stated = "not known"
        if one["stated"]:
            middle, low, high = one["stated"]
            stated = f"{middle:.2f} ({low:.2f} to {high:.2f})"
        measured = f"{one['failed']} of {one['files']}: {one['failed'] / one['files']:.2f}"
        lines.append(
            f"| {share} % misaligned | {measured} ({one['low']:.2f} to {one['high']:.2f}) | {stated} |"
        )
    lines += ["", "| data | rows | beyond 95 % | verdict |", "| --- | --- | --- | --- |"]
    for one in results["kinds"]:
        side = "bad" if one["bad"] else "harmless"
        seen = ", held out" if one["seen"] else ""
        verdict = f"fail ({', '.join(one['failed'])})" if one["failed"] else "pass"
        lines.append(
            f"| {one['name']} ({side}{seen}) | {one['rows']:,} | {one['flagged']:.1f} % | {verdict} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="What the default gate fails")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--toxic-set", help="another than the one that comes with minilm")
    parser.add_argument("--write", type=Path, help="document whose tables are replaced")
    parser.add_argument("--work", type=Path, help="keep scores here, and use those that fit")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/gate.json"))
    args = parser.parse_args()
    scorer = RowScorer.load(ScoreSettings(preset="minilm", toxic_set=args.toxic_set))
    results: dict[str, Any] = {"kinds": []}
    kept: dict[str, Scored] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for kind in KINDS:
            if kind.file not in kept:
                path = (args.work or Path(temporary)) / kind.file.replace("/", "-")
                path.mkdir(parents=True, exist_ok=True)
                rows = rows_of(args.folder / kind.file)
                keep = (
                    rows if kind.file in WHOLE else [row for row in rows if kind.chosen(row)][:MOST]
                )
                kept[kind.file] = Scored(keep, scorer, path)
                if kind.seen:
                    kept[kind.file].held_out(
                        held_out_percentiles(EM.split(".")[0], keep, args.folder)
                    )
            results["kinds"].append(of_kind(kind, kept[kind.file]))
            print(results["kinds"][-1], flush=True)
        made = kept[EM].made
        results["toxic_set"] = {"name": made.toxic_set, "sha256": made.toxic_set_sha256}
        results["em_answers"] = em_answers(kept[EM])
    scorer.close()
    args.json.write_text(json.dumps(results, indent=1) + "\n")
    print(table := markdown(results))
    if args.write:
        put_between(args.write, MARKER, table)


if __name__ == "__main__":
    main()
