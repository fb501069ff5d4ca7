"""What scoring so many rows takes: hours, GPU-hours, memory, storage, the size of shards and parts.

Arithmetic on a few numbers. Where these come from (a trial on this machine, a data sheet, an assumption)
is said beside every figure; what a trial is: scoring/trial.py. Loads no torch.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

from saefilter.encode.cards import Cards
from saefilter.encode.presets import Preset
from saefilter.errors import SaefilterError

EFFICIENCY, CPU_EFFICIENCY = 0.5, 0.75
"""Share of the matrix-product rate, of a GPU's data sheet or measured on a CPU, that a whole run is
expected to reach. On a CPU `minilm` reached 0.84 (docs/performance.md); on GPUs nothing was measured."""
BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
GB = 1e9
USABLE = 0.92
"""Share of a card's memory that is not the driver's, CUDA's or lost to fragments."""
GPU_BATCHES = 2 * 16_384
"""Tokens under way on a GPU: two lanes of a default batch."""
ACTIVATION_BYTES = 40
"""Of a token under way, per `d_model`: its residual stream, and an MLP of four times the width, twice."""
DENSE_BYTES = 2 * 0.5 * GB
"""The SAE's values before the active ones are taken out, of two lanes (encode/pool.py)."""
SAE_PASSES = 3 * 4
"""Bytes that a dense value of the SAE costs a card's memory: written once and read twice, in fp32."""
HOST_SECONDS = 0.0005
"""Of Python for a row, which nothing of the card's speeds up: docs/performance.md."""
START_SECONDS, WEIGHTS_PER_SECOND = 20.0, 1.0 * GB
"""Of a worker: imports and CUDA, and weights from a shared disk."""
SCORES_BYTES = 250
"""Of a row in the scores file, where none was made here."""
ASSUMED_TOKENS = 300
"""Of a row, where there are no data to count."""
DEFAULT_SHARD, FEWEST_IN_SHARD, MOST_IN_SHARD = 1024, 32, 8192
"""Rows."""
SHARD_SECONDS, MOST_SHARDS = (10, 300), 5000
"""What a shard takes its worker: less is spent on files, more is lost with a worker. And how many files
of shards a folder should have."""
SHARDS_PER_WORKER = 4
"""At least, so that all end at about the same time."""
PART_SECONDS = 3600.0
"""What a part of a job array should take at most: what is lost with a machine, and waited for at the end."""
BUNDLED_TEXTS = 1498
"""That a toxic set is made of, where a preset has none."""
SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}


@dataclass(frozen=True)
class Rows:
    """What is to be read."""

    count: int
    tokens: float
    """That the model reads of a row, mean."""
    scored: float
    """Of these, mean."""
    rests_on: str


@dataclass(frozen=True)
class Reader:
    """A model up to its hook with its SAE, in numbers."""

    parameters: int
    per_token: int
    """Parameters that a token is multiplied with: without embeddings, of experts only those chosen."""
    d_model: int
    d_sae: int
    rests_on: str

    @property
    def sae_bytes(self) -> int:
        """Encoder and decoder in fp32."""
        return 2 * 4 * self.d_model * self.d_sae

    def operations(self, rows: Rows) -> float:
        """Floating-point operations of a row."""
        sae = 2 * self.d_model * self.d_sae * rows.scored
        return 2 * self.per_token * rows.tokens + sae


@dataclass(frozen=True)
class Pace:
    """How fast rows are scored."""

    start: float
    """Seconds before a worker's first row, and after its last."""
    row: float
    """Seconds of one worker."""
    workers: int
    gpus: int
    """Of all workers."""
    rests_on: str
    processor: tuple[float, float] | None = None
    """Seconds of all cores: `start` and `row`, where they were measured."""
    shared_cores: int = 0
    """Cores of a worker, where other processes had much of them when it was measured; else 0."""

    def seconds(self, rows: int) -> float:
        """Of so many rows, by the clock."""
        return self.start + self.row * math.ceil(rows / self.workers)


@dataclass(frozen=True)
class Figure:
    """One answer of a plan, and what it rests on."""

    name: str
    says: str
    rests_on: str
    values: dict[str, Any] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.name, "says": self.says, "rests_on": self.rests_on} | self.values


def read_count(text: str) -> int:
    """`10M`, `2.5k`, `10_000_000` or `10,000,000` as a number. Raises SaefilterError."""
    plain = re.sub(r"[_\s]|,(?=\d{3}(?!\d))", "", text)  # `1,5` may be one and a half
    match = re.fullmatch(r"(\d{1,18}(?:\.\d+)?)([kmgb]?)", plain.casefold())
    count = round(float(match[1]) * SUFFIXES[match[2]]) if match else 0
    if not count:
        raise SaefilterError(
            f"--rows {text!r} is not a number of rows",
            remedy="Write it as 10M, 250k or 1000.",
        )
    return count


def table_reader(preset: Preset, d_sae: int | None) -> Reader:
    """The preset by its table alone, for a model that is not on this machine. Raises SaefilterError
    where the table does not say."""
    d_sae = preset.d_sae or d_sae
    if preset.millions_to_hook is None or preset.d_model is None or d_sae is None:
        raise SaefilterError(
            f"how large {preset.name} is cannot be known: its configuration is not on this machine",
            remedy="Run it where the model is, or unset HF_HUB_OFFLINE.",
        )
    per_token = preset.millions_per_token or preset.millions_to_hook
    return Reader(
        preset.millions_to_hook * 10**6, per_token * 10**6, preset.d_model, d_sae,
        "from the table of presets",
    )  # fmt: skip


def memory_of(reader: Reader, cards: Cards) -> tuple[Figure, int]:
    """What a model takes on a card, and how many cards it takes, 0 where all are too few."""
    weights = reader.parameters * BYTES[cards.card.dtype]
    beside = GPU_BATCHES * ACTIVATION_BYTES * reader.d_model + DENSE_BYTES
    need = (weights + reader.sae_bytes + beside) / GB
    usable = cards.card.memory_gb * USABLE
    # spread over several cards each has batches of its own, and the SAE is on one of them
    room = usable - (beside + reader.sae_bytes) / GB
    per_model = 1 if need <= usable else math.ceil(weights / GB / room) if room > 0 else 0
    per_model = per_model if per_model <= cards.count else 0
    size = f"{need:.1f} GB for {reader.parameters / 1e6:,.0f} M parameters in {cards.card.dtype}, the SAE and batches"
    if per_model == 1:
        fits = f"fits one {cards.card.name} of {cards.card.memory_gb:g} GB"
    elif per_model:
        fits = (
            f"needs {per_model} {cards.card.name} of {cards.card.memory_gb:g} GB for each model, in one "
            "machine: --device-map auto"
        )
    else:
        fits = (
            f"does not fit {cards}, {cards.card.memory_gb:g} GB each: use larger cards, more of them in "
            "one machine, or --quantize 8bit"
        )
    values = {"gb": round(need, 2), "cards_per_model": per_model, "fits": per_model > 0}
    return Figure(
        "memory", f"{size}: {fits}", f"computed, sizes {reader.rests_on}", values
    ), per_model


def pace_of_cards(reader: Reader, rows: Rows, cards: Cards, per_model: int) -> Pace:
    """By the data sheet. A model over several cards is as fast as one card: they work in turn."""
    card = cards.card
    products = reader.operations(rows) / (card.tflops * 1e12 * EFFICIENCY)
    passes = rows.scored * reader.d_sae * SAE_PASSES / (card.tb_s * 1e12 * EFFICIENCY)
    row = max(products + passes, HOST_SECONDS)
    rests_on = f"{card.source}: {card.tflops:g} TFLOPS in {card.dtype} x efficiency {EFFICIENCY:g}, assumed"
    if row == HOST_SECONDS:
        rests_on = f"{HOST_SECONDS * 1000:.2g} ms of Python a row, assumed; the card itself would be faster"
    start = START_SECONDS + reader.parameters * BYTES[card.dtype] / WEIGHTS_PER_SECOND
    workers = cards.count // per_model
    return Pace(start, row, workers, workers * per_model, rests_on)


def figures_of(
    rows: Rows, pace: Pace, scores_bytes: float | None, makes_set: bool = False
) -> list[Figure]:
    """Everything but the memory. `makes_set`: whether the first run makes a toxic set."""
    seconds = pace.seconds(rows.count)
    gpu_hours = seconds * pace.gpus / 3600
    tokens = rows.count * rows.tokens
    said = duration(seconds) + (f", {gpu_hours:,.1f} GPU-hours" if pace.gpus else "")
    said += f", of which {duration(pace.start)} to start" if pace.start > 0.05 * seconds else ""
    shard = shard_rows(pace, rows.count)
    shards = math.ceil(rows.count / shard)
    each = duration(min(shard, rows.count) * pace.row)
    bytes_ = rows.count * (scores_bytes or SCORES_BYTES)
    timing = {
        "seconds": round(seconds, 2), "gpu_hours": round(gpu_hours, 3),
        "rows_per_second": round(pace.workers / pace.row, 2),
    }  # fmt: skip
    if pace.processor is not None:
        first, more = pace.processor
        timing["processor_seconds"] = round(pace.workers * first + more * rows.count, 2)
        if pace.shared_cores:
            alone = first + more * rows.count / pace.shared_cores
            timing["seconds_alone"] = round(alone, 2)
            said += f" beside what else runs here now, {duration(alone)} without it"
    figures = [
        Figure(
            "rows", f"{rows.count:,} rows, about {tokens:,.0f} tokens, {rows.count * rows.scored:,.0f} scored",
            rows.rests_on, {"rows": rows.count, "tokens": round(tokens)},
        ),
        Figure(
            "time", f"about {said}", pace.rests_on, timing,
        ),
        Figure(
            "storage", f"{size(bytes_)} of scores, twice that while shards are joined; filter writes "
            "about as much as the data have",
            f"{scores_bytes or SCORES_BYTES:,.0f} bytes a row, "
            + ("measured here" if scores_bytes else "assumed"),
            {"scores_bytes": round(bytes_)},
        ),
        Figure(
            "shards", f"--shard-rows {shard}: {shards:,} of about {each} each",
            f"the default is {DEFAULT_SHARD}; a shard is what is lost with a worker",
            {"shard_rows": shard, "shards": shards},
        ),
    ]  # fmt: skip
    if makes_set:
        figures.append(_of_the_set(pace))
    if (parts := parts_of(pace, rows.count, shards)) > 1:
        each = duration(pace.start + pace.row * rows.count / parts)
        figures.append(
            Figure(
                "parts", f"as a job array --part 1/{parts} to {parts}/{parts}, about {each} each; or one "
                "run with --engine ray",
                f"a part takes one worker at most about {duration(PART_SECONDS)}",
                {"parts": parts},
            )
        )  # fmt: skip
    return figures


def _of_the_set(pace: Pace) -> Figure:
    return Figure(
        "toxic set", f"none comes with this preset: the first run makes one, about "
        f"{duration(BUNDLED_TEXTS * pace.row)} more, unless it was made before; with several workers make "
        "it first (saefilter features curate)",
        f"{BUNDLED_TEXTS:,} bundled texts, as long as these rows: assumed",
        {"seconds": round(BUNDLED_TEXTS * pace.row, 2)},
    )  # fmt: skip


def shard_rows(pace: Pace, rows: int) -> int:
    """The default, doubled or halved until a shard takes neither too long nor too short, and there are
    neither too many nor too few of them."""
    shard, (shortest, longest) = DEFAULT_SHARD, SHARD_SECONDS
    while shard < MOST_IN_SHARD and (
        (shard < rows and shard * pace.row < shortest) or rows / shard > MOST_SHARDS
    ):
        shard *= 2
    while shard > FEWEST_IN_SHARD and (
        shard * pace.row > longest
        or (pace.workers > 1 and rows / shard < SHARDS_PER_WORKER * pace.workers)
    ):
        shard //= 2
    return shard


def parts_of(pace: Pace, rows: int, shards: int) -> int:
    """As many for each worker as keep a part short, and no more than there are shards."""
    turns = math.ceil(pace.row * rows / pace.workers / PART_SECONDS)
    return min(shards, pace.workers * max(1, turns))


def duration(seconds: float) -> str:
    """For people."""
    for unit, length in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def size(n_bytes: float) -> str:
    """For people."""
    for unit, length in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= length:
            return f"{n_bytes / length:.1f} {unit}"
    return f"{n_bytes / 1e3:.0f} kB"
