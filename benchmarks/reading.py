"""What reading less costs and saves: repeated rows once, nearly identical ones once, samples of tokens.

    python -m benchmarks.reading --data FILE ... [--rows 1000] [--preset minilm] [--model FOLDER]

Rows are an even share of every file, in a random order. `--max-scored-tokens` is compared with reading all
of the same rows: Spearman's correlation of proximities and the share of the nearest tenth that is found,
with 95 % intervals (bootstrap over rows), processor seconds of encoding (medians of rounds in turn) and tokens. As a
control the first tokens instead of a sample, where a causal model reads no further. Of repeated and
nearly identical rows: how many tokens they are of each file as it is, within shards and in the whole file,
and how far the proximities of nearly identical ones lie apart. Since few files have such, what reading
them once does to a ranking is measured on copies of real rows with other numbers, punctuation, spaces and
case. Results go to `results/reading.json`.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saefilter.encode.sample import by_text, digest_of
from saefilter.rows.inputs import open_input
from saefilter.rows.rendered import Window
from saefilter.rows.row import Row
from saefilter.scoring.once import normal_form, read_once
from saefilter.scoring.prepare import Prepared
from saefilter.scoring.scorer import RowScorer
from saefilter.settings import ScoreSettings

RESULTS = Path(__file__).parent / "results" / "reading.json"
SHARDS = (256, 1024, 4096)
DRAWS = 1000
NEAREST = 0.1
Floats = NDArray[np.float64]


def rows_of(path: Path) -> list[Row]:
    """A file's rows, without the labels beside a conversation, which are no text to train on."""
    found = []
    for row in open_input(str(path)).rows():
        data = row.data or {}
        text = next((name for name in ("messages", "text") if name in data), None)
        found.append(row if text is None else replace(row, data={text: data[text]}))
    return found


def prepared_of(scorer: RowScorer, rows: Sequence[Row]) -> Prepared:
    return scorer.preparer.prepare([replace(row, index=n) for n, row in enumerate(rows)])


def repeated(scorer: RowScorer, path: Path, most: int) -> dict[str, Any]:
    """Share of a file's tokens that are of rows which repeat an earlier one, exactly or nearly."""
    rows = rows_of(path)[:most]
    prepared = prepared_of(scorer, rows)
    texts = by_text(prepared.windows, prepared.texts)[: len(rows)]
    sizes = np.array([sum(len(own.ids) for own in some) for some in texts])
    exact = [digest_of(some) if some else None for some in texts]
    near = [
        normal_form(text, some) if text is not None and some else None
        for text, some in zip(prepared.rendered, texts, strict=True)
    ]
    found: dict[str, Any] = {"file": path.name, "rows": len(rows), "tokens": int(sizes.sum())}
    for name, keys in (("exact", exact), ("near", near)):
        for shard in (*SHARDS, len(rows)):
            seen: set[Any] = set()
            again = 0
            for number, key in enumerate(keys):
                place = (number // shard, key)
                again += int(sizes[number]) if key is not None and place in seen else 0
                seen.add(place)
            label = "file" if shard == len(rows) else str(shard)
            found[f"{name} {label}"] = round(again / max(1, int(sizes.sum())), 4)
    return found | _apart(scorer, prepared, exact, near)


def _apart(
    scorer: RowScorer, prepared: Prepared, exact: Sequence[Any], near: Sequence[Any]
) -> dict[str, Any]:
    """How far nearly identical rows lie apart when each is read, beside two rows at random."""
    first: dict[Any, int] = {}
    pairs = [
        (first[key], row)
        for row, key in enumerate(near)
        if key is not None and first.setdefault(key, row) != row and exact[row] != exact[first[key]]
    ][:300]
    if not pairs:
        return {"near pairs": 0}
    rng = np.random.default_rng(0)
    usable = [row for row, key in enumerate(near) if key is not None]
    others = rng.choice(usable, (len(pairs), 2)).tolist()
    wanted = sorted({row for pair in (*pairs, *others) for row in pair})
    place = {row: number for number, row in enumerate(wanted)}
    windows = [w._replace(row=place[w.row]) for w in prepared.windows if w.row in place]
    value = proximities(scorer, scorer.encoder.encode(windows, len(wanted), **scorer.encoding))
    apart, at_random = (
        np.abs([value[place[a]] - value[place[b]] for a, b in some]) for some in (pairs, others)
    )
    return {
        "near pairs": len(pairs),
        "near apart": round(float(np.median(apart)), 5),
        "near apart 95%": round(float(np.quantile(apart, 0.95)), 5),
        "random apart": round(float(np.median(at_random)), 5),
    }


def proximities(scorer: RowScorer, encoded: Any) -> Floats:
    found: Floats = scorer.scorer.score(encoded.features, encoded.residual).proximity
    return found


def first_tokens(windows: Sequence[Window], size: int, *, cut: bool) -> list[Window]:
    """The control: the first scored tokens of a text."""
    found, left = [], size
    for window in windows:
        places = np.flatnonzero(window.scored)[:left]
        left -= len(places)
        if len(places):
            scored = np.zeros_like(window.scored)
            scored[places] = True
            end = int(places[-1]) + 1 if cut else len(scored)
            found.append(Window(window.row, window.ids[:end], scored[:end], window.spans[:end]))
    return found


def spearman(one: Floats, other: Floats) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(one, other).statistic)


def found_of_nearest(full: Floats, estimate: Floats) -> float:
    """Share of the nearest tenth that is among the nearest tenth by the estimate."""
    k = max(1, round(NEAREST * len(full)))
    ours, theirs = (set(np.argsort(-one, kind="stable")[:k].tolist()) for one in (estimate, full))
    return len(ours & theirs) / k


def with_interval(
    measure: Callable[[Floats, Floats], float], full: Floats, estimate: Floats
) -> list[float]:
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(DRAWS):
        rows = rng.integers(len(full), size=len(full))
        draws.append(measure(full[rows], estimate[rows]))
    low, high = np.quantile(draws, [0.025, 0.975])
    return [round(float(v), 4) for v in (measure(full, estimate), low, high)]


def samples(
    scorer: RowScorer, prepared: Prepared, sizes: Sequence[int], rounds: int
) -> list[dict[str, Any]]:
    """What each limit does to the ranking, and what it saves."""
    cut = scorer.encoder.cuts_ends()
    texts = by_text(prepared.windows, prepared.texts)
    counts = np.array([sum(int(own.scored.sum()) for own in some) for some in texts])

    def sampling(size: int) -> Callable[[], Any]:
        settings = replace(scorer.settings, max_scored_tokens=size)
        return lambda: read_once(scorer.encoder, prepared, settings, scorer.encoding)[0]

    def control(size: int) -> Callable[[], Any]:
        windows = [w for own in texts for w in first_tokens(own, size, cut=cut)]
        return lambda: scorer.encoder.encode(windows, prepared.texts, **scorer.encoding)

    ways: dict[str, Callable[[], Any]] = {"all": lambda: scorer.read(prepared)[0]}
    for size in sizes:
        ways[f"sample of {size}"] = sampling(size)
        ways[f"first {size}"] = control(size)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    encoded: dict[str, Any] = {}
    for number in range(rounds):
        for name, read in ways.items():
            if number and name.startswith("first"):  # its ranking is asked for, not its time
                continue
            started = time.process_time()
            encoded[name] = read()
            seconds[name].append(time.process_time() - started)
    scored = counts > 0
    full = proximities(scorer, encoded["all"])[scored]
    entries = []
    for name, one in encoded.items():
        size = int(name.split()[-1]) if name != "all" else None
        value = proximities(scorer, one)[scored]
        ratios = [a / b for a, b in zip(seconds["all"], seconds[name], strict=False)]
        longer = counts[scored] > (size or 0)
        entries.append({
            "read": name,
            "spearman": with_interval(spearman, full, value),
            "recall": with_interval(found_of_nearest, full, value),
            "longer": round(float(longer.mean()), 4),
            "spearman of longer": round(spearman(full[longer], value[longer]), 4),
            "bias": round(float((value - full).mean()), 6),
            "tokens": one.tally.tokens,
            "scored": one.tally.scored,
            "seconds": round(statistics.median(seconds[name]), 2),
            "times as fast": round(statistics.median(ratios), 3),
        })  # fmt: skip
    return entries


def altered(row: Row, rng: np.random.Generator) -> Row:
    """A copy whose messages have other numbers, half of the punctuation, more spaces and lower case."""

    def other(text: str) -> str:
        text = re.sub(r"\d+", lambda found: str(int(rng.integers(1, 1000))), text)
        text = re.sub(r"[.,;:!?-](?=\s|$)", lambda found: found[0] * int(rng.integers(2)), text)
        return text.lower().replace(" ", "  ", 3)

    data = row.data or {}
    messages = [one | {"content": other(one["content"])} for one in data["messages"]]
    return replace(row, data={"messages": messages})


def copies(scorer: RowScorer, rows: Sequence[Row]) -> dict[str, Any]:
    """What taking the originals' proximities for altered copies of rows does to the copies' ranking."""
    some = [row for row in rows if "messages" in (row.data or {})][:300]
    rng = np.random.default_rng(0)
    every = prepared_of(scorer, [*some, *(altered(row, rng) for row in some)])
    settings = replace(scorer.settings, near_duplicates=True)
    n = len(some)
    near, read_as = read_once(scorer.encoder, every, settings, scorer.encoding)
    taken = proximities(scorer, near)
    read = proximities(scorer, scorer.encoder.encode(every.windows, 2 * n, **scorer.encoding))
    of = [row for row in range(n, 2 * n) if read_as[row] is not None]
    return {
        "copies": n,
        "taken for their originals": len(of),
        "spearman": with_interval(spearman, read[of], taken[of]),
        "recall": with_interval(found_of_nearest, read[of], taken[of]),
        "apart": round(float(np.median(np.abs(read[of] - taken[of]))), 5),
        "random apart": round(float(np.median(np.abs(read[of] - rng.permutation(read[of])))), 5),
    }


def mixed(paths: Sequence[Path], count: int) -> list[Row]:
    """An even share of every file, in a random order that is always the same."""
    rng = np.random.default_rng(0)
    rows: list[Row] = []
    for path in paths:
        some = rows_of(path)
        kept = rng.permutation(len(some))[: -(-count // len(paths))]
        rows += [some[i] for i in kept.tolist()]
    return [rows[i] for i in rng.permutation(len(rows))[:count].tolist()]


def table(result: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "| read | Spearman | nearest tenth found | rows longer | SAE tokens | model tokens | "
        "times as fast |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in result["samples"]:
        s, r = one["spearman"], one["recall"]
        lines.append(
            f"| {one['read']} | {s[0]:.3f} ({s[1]:.3f} to {s[2]:.3f}) | {r[0]:.2f} ({r[1]:.2f} to "
            f"{r[2]:.2f}) | {one['longer']:.0%} | {one['scored']:,} | {one['tokens']:,} | "
            f"{one['times as fast']:.2f} |"
        )
    c = result["copies"]
    lines += ["", f"Copies: {c}"]
    names = ["exact 1024", "exact file", "near 1024", "near file"]
    if result["repeated"]:
        lines += ["", "| file | rows | " + " | ".join(names) + " | near pairs apart | at random |",
                  "| --- " * (4 + len(names)) + "|"]  # fmt: skip
    for one in result["repeated"]:
        shares = " | ".join(f"{one[name]:.1%}" for name in names)
        apart = [
            f"{one[name]:.4f}" if name in one else "-" for name in ("near apart", "random apart")
        ]
        lines.append(f"| {one['file']} | {one['rows']:,} | {shares} | {' | '.join(apart)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reading", description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--sizes", default="32,64,128,256")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--preset", default="minilm")
    parser.add_argument("--model", default=None, help="the folder of the preset's model")
    parser.add_argument(
        "--whole", type=int, default=4096, help="rows of a file looked at for repeats"
    )
    parser.add_argument(
        "--also",
        type=Path,
        nargs="*",
        default=[],
        metavar="FILE",
        help="looked at for repeats alone",
    )
    asked = parser.parse_args()
    looked_at = [*asked.data, *asked.also] if asked.whole else []
    scorer = RowScorer.load(ScoreSettings(asked.preset, model=asked.model, device="cpu"))
    rows = mixed(asked.data, asked.rows)
    prepared = prepared_of(scorer, rows)
    sizes = [int(size) for size in asked.sizes.split(",")]
    result = {
        "preset": asked.preset,
        "rows": len(prepared),
        "files": [path.name for path in asked.data],
        "samples": samples(scorer, prepared, sizes, asked.rounds),
        "copies": copies(scorer, rows),
        "repeated": [repeated(scorer, path, asked.whole) for path in looked_at],
    }
    scorer.close()
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps(kept | {asked.preset: result}, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
