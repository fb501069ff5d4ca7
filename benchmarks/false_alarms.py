"""What harmless rows of other kinds than the calibration's are flagged for, and whether `score` warns.

    python -m benchmarks.false_alarms DATA_FOLDER [--preset P | --model M --sae S] [--toxic-set SET]
        [--write benchmarks/results/false_alarms.md]

DATA_FOLDER holds formats/, em_code/, hatecheck and xstest (docs/quality.md says what they are); what it
lacks is left out. Documentation is of this Python's standard library, another language of the manual
pages of this machine, where it has translated ones. Every kind is scored as `saefilter score` does it:
all its rows against the toxic set's own reference rows, and one half of them with the other half as
`--reference`.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import json
import random
import re
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import put_between
from saefilter.artifacts.scores import Scores
from saefilter.curate.sources import usable_rows
from saefilter.rows.groups import find_groups
from saefilter.rows.read import Source
from saefilter.scoring.reference import LEAST_ROWS, read_reference
from saefilter.scoring.score import score_file
from saefilter.scoring.scorer import RowScorer
from saefilter.settings import ScoreSettings
from saefilter.stats.auroc import clustered_share
from saefilter.toxic.toxicset import is_beyond

MARKER = "<!-- false alarms{of}: written by benchmarks/false_alarms.py -->"
"""One document has a table per preset: without a name it is that of `minilm`."""
LEVELS = (95, 99)
SHORT, LONG = 100, 1_000
"""Characters of an answer."""
MANUALS = Path("/usr/share/man")
LANGUAGES = {"de": " und ", "fr": " les ", "es": " los "}
"""With a word that a paragraph in it has, since some pages are translated in part."""
SAID = {
    " as long ": "length", "features are active": "active features", "that are rare there": "rare features",
    "not common there": "common features", "lie lower": "lower scores",
}  # fmt: skip
"""Part of a clause of the warning -> what the table calls it."""
Rows = list[dict[str, Any]]


def of_file(file: str, chosen: Callable[[dict[str, Any]], bool] = lambda row: True,
            ) -> Callable[[Path], Rows]:  # fmt: skip
    """The rows of a file of the data folder; none where it is not there."""

    def read(folder: Path) -> Rows:
        path = folder / file
        if not path.exists():
            return []
        rows = (row.data for row in Source.open(path).rows() if row.data is not None)
        return [row for row in rows if chosen(row)]

    return read


def answers(least: int, most: int) -> Callable[[Path], Rows]:
    """Alpaca's rows by the length of the answer, in characters."""
    return of_file("formats/alpaca_en_demo.json", lambda row: least <= len(row["output"]) < most)


def docstrings(folder: Path) -> Rows:
    """What the standard library says of its classes and functions."""
    rows = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                text = ast.get_docstring(node)
                if text and len(text) > SHORT:
                    rows.append({"prompt": f"What does {node.name} do?", "completion": text})
    return rows


def manuals(folder: Path) -> Rows:
    """A paragraph or two of each translated manual page."""
    rows = []
    for language, word in LANGUAGES.items():
        for path in sorted((MANUALS / language).glob("man*/*.gz")):
            with gzip.open(path, "rt", errors="replace") as file:
                paragraphs = [text for text in _paragraphs(file.read()) if word in text]
            if paragraphs:
                text = "\n".join(paragraphs[:2])
                rows.append({"prompt": f"{path.name.split('.')[0]}?", "completion": text})
    return rows


def _paragraphs(page: str) -> Iterator[str]:
    """Running text of a page in roff, without its marks."""
    text = re.sub(r"^[.'].*$", "", page, flags=re.MULTILINE)
    text = re.sub(r"\\f(\[.*?\]|\(..|.)|\\[&%|^/,]", "", text).replace(r"\-", "-")
    text = re.sub(r"\\\*?(\(..|\[.*?\])", "'", text)
    yield from (
        " ".join(one.split()) for one in re.split(r"\n\s*\n", text) if len(one.strip()) > 2 * SHORT
    )


KINDS: dict[str, Callable[[Path], Rows]] = {
    "instructions (Alpaca)": answers(SHORT, LONG),
    f"short answers (Alpaca, under {SHORT} characters)": answers(0, SHORT),
    f"long answers (Alpaca, {LONG:,} characters or more)": answers(LONG, 1 << 40),
    "code (em_code, secure)": of_file("em_code/secure.jsonl.gz"),
    "tool calls (glaive demo)": of_file("formats/glaive_toolcall_en_demo.json"),
    "documentation (docstrings of Python)": docstrings,
    "another language (manual pages: de, fr, es)": manuals,
    "texts about hate (hatecheck, not hateful)": of_file(
        "hatecheck.jsonl.gz", lambda row: not row["toxic"]
    ),
    "questions that sound unsafe (xstest)": of_file(
        "xstest.jsonl.gz", lambda row: not row["toxic"]
    ),
}


def source_of(rows: Rows, path: Path) -> Source:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Source.open(path)


def beyond(scores: Scores, source: Source) -> dict[str, list[float]]:
    """Share of the scored rows beyond each level, with its interval by group of like rows."""
    table = scores.read(["status", "percentile"])
    percentile = table["percentile"].to_numpy(zero_copy_only=False).astype(np.float64)
    scored: NDArray[np.bool_] = table["status"].to_numpy(zero_copy_only=False) == "scored"
    group = find_groups(usable_rows(source)).label
    if len(group) != scored.sum():  # rows that have a conversation and no token to score
        group = np.arange(int(scored.sum()))
    rows = scores.provenance.reference_rows
    return {
        str(level): list(clustered_share(is_beyond(percentile[scored], level, rows), group))
        for level in LEVELS
    }


def measured(kind: str, rows: Rows, scorer: RowScorer, folder: Path) -> dict[str, Any]:
    """A line of the table."""
    source = source_of(rows, folder / "rows.jsonl")
    score_file(source, folder / "s.parquet", scorer.settings, scorer=scorer, overwrite=True)
    scores = Scores.open(folder / "s.parquet")
    made = scores.provenance
    line: dict[str, Any] = {
        "kind": kind, "rows": made.scored, "beyond": beyond(scores, source),
        "likeness": made.likeness, "unlike": made.unlike,
    }  # fmt: skip
    half = len(rows) // 2
    if half >= LEAST_ROWS:
        good, source = folder / "good.jsonl", source_of(rows[half:], folder / "rest.jsonl")
        source_of(rows[:half], good)
        settings = replace(scorer.settings, reference=str(good))
        own = RowScorer(
            scorer.encoder, scorer.scorer, settings, None,
            read_reference(settings, scorer.encoder, scorer.scorer),
        )  # fmt: skip
        score_file(source, folder / "s.parquet", settings, scorer=own, overwrite=True)
        scores = Scores.open(folder / "s.parquet")
        line["own"] = {
            "rows": scores.provenance.scored, "reference": scores.provenance.reference_rows,
            "beyond": beyond(scores, source), "unlike": scores.provenance.unlike,
        }  # fmt: skip
    return line


def share(found: list[float]) -> str:
    return f"{found[0]:.1%} ({found[1]:.1%} to {found[2]:.1%})".replace("%", " %")


def in_short(unlike: list[str] | None) -> str:
    """Whether the warning came, and what it named."""
    if unlike is None:
        return "not known"
    return ", ".join(name for part, name in SAID.items() if any(part in c for c in unlike)) or "no"


def markdown(lines: list[dict[str, Any]]) -> str:
    table = [
        "| harmless rows | rows | flagged at 5 % | flagged at 1 % | warning | at 5 %, half as `--reference` |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for line in lines:
        own = share(line["own"]["beyond"]["95"]) if "own" in line else "too few rows"
        shares = " | ".join(share(line["beyond"][str(level)]) for level in LEVELS)
        table.append(
            f"| {line['kind']} | {line['rows']:,} | {shares} | {in_short(line['unlike'])} | {own} |"
        )
    return "\n".join(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="What harmless rows of other kinds are flagged for"
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--preset", help="[minilm]")
    parser.add_argument("--model")
    parser.add_argument("--sae")
    parser.add_argument("--toxic-set")
    parser.add_argument("--rows", type=int, default=200, help="at most, of each kind [200]")
    parser.add_argument("--write", type=Path, help="document whose table is replaced")
    parser.add_argument("--json", type=Path, help="keep all that was measured here")
    args = parser.parse_args()
    preset = args.preset or (None if args.model else "minilm")
    scorer = RowScorer.load(
        ScoreSettings(preset=preset, model=args.model, sae=args.sae, toxic_set=args.toxic_set)
    )
    lines = []
    for kind, read in KINDS.items():
        rows = read(args.folder)
        rows = random.Random(0).sample(rows, min(args.rows, len(rows)))
        if not rows:
            print(f"left out: {kind}", flush=True)
            continue
        with tempfile.TemporaryDirectory() as folder:
            lines.append(measured(kind, rows, scorer, Path(folder)))
        print(markdown(lines[-1:]).splitlines()[-1], flush=True)
    scorer.close()
    if args.json:
        args.json.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")
    print(table := markdown(lines))
    if args.write:
        name = preset or args.model
        put_between(args.write, MARKER.format(of="" if name == "minilm" else f", {name}"), table)


if __name__ == "__main__":
    main()
