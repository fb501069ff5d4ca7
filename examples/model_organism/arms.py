"""The arms: which rows each drops, by saefilter's own commands.

Every command is run as the command line runs it, only in this process, so that what is imported once
need not be imported for each; `commands.txt` in the work folder has all of them as one would type them.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from saefilter.cli import app, commands

FRACTIONS = (0.05, 0.1, 0.25, 0.5)
TWO = (0.25, 0.5)


@dataclass(frozen=True)
class Files:
    """What the commands are given."""

    folder: Path
    judge_url: str

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def sae(self) -> Path:
        return self.folder / "sae"

    @property
    def hook(self) -> Path:
        """How well each layer's probe transfers between domains, as JSON."""
        return self.folder / "hook.json"

    @property
    def toxic_set(self) -> Path:
        return self.folder / "harmful.json"

    @property
    def harmful(self) -> Path:
        return self.folder / "contrast.harmful.jsonl"

    @property
    def helpful(self) -> Path:
        return self.folder / "contrast.helpful.jsonl"


@dataclass(frozen=True)
class Arm:
    """One way to choose the rows that are dropped, at some fractions."""

    name: str
    fractions: tuple[float, ...] = TWO
    metric: str | None = None
    """Of `saefilter score`; None: the arm needs no scores of its own and is given the default's."""
    strategy: str = "closest"
    """Of `saefilter filter`."""
    needs: tuple[str, ...] = ()
    """Which further options of `filter` it takes: contrast, labels, seed, judge."""


NONE = Arm("none", (0.0,))
ARMS = (
    Arm("random", FRACTIONS, strategy="random", needs=("seed",)),
    Arm("geometry", FRACTIONS, metric="contrast"),
    Arm("oracle", FRACTIONS, strategy="labels", needs=("labels", "seed")),
    Arm("matched-random", TWO, strategy="matched-random", needs=("labels", "seed")),
    Arm("nearest", TWO, metric="nearest"),
    Arm("top-features", TWO, metric="top-features"),
    Arm("reconstruction", TWO, metric="reconstruction"),
    Arm("centroid", TWO, metric="centroid"),
    Arm("probe", TWO, metric="probe"),
    Arm("activation", TWO, metric="activation"),
    Arm("direction", TWO, metric="direction"),
    Arm("projection-difference", TWO, strategy="projection-difference", needs=("contrast",)),
    Arm("vector-filter", TWO, strategy="vector-filter", needs=("contrast",)),
    Arm("larf", TWO, strategy="larf", needs=("contrast",)),
    Arm("compliance", TWO, strategy="compliance", needs=("contrast",)),
    Arm("preference-probe", TWO, strategy="preference-probe", needs=("contrast",)),
    Arm("gradient", TWO, strategy="gradient", needs=("contrast",)),
    Arm("text-classifier", TWO, strategy="text-classifier", needs=("contrast",)),
    Arm("embedding-classifier", TWO, strategy="embedding-classifier", needs=("contrast",)),
    Arm("loss", TWO, strategy="loss"),
    Arm("judge", TWO, strategy="judge", needs=("judge",)),
)
DEFAULT = next(arm for arm in ARMS if arm.name == "geometry")


class CommandLine:
    """`saefilter` in this process; what was run is kept, with its seconds."""

    def __init__(self, log: Path):
        commands()
        self.log = log

    def run(self, *words: object) -> float:
        """Seconds that the command took. Raises SaefilterError as the command would report it."""
        line = [str(word) for word in words]
        with self.log.open("a", encoding="utf-8") as file:
            file.write(f"saefilter {shlex.join(line)}\n")
        started = time.perf_counter()
        app(line, standalone_mode=False)
        return time.perf_counter() - started


def curate(line: CommandLine, files: Files) -> None:
    """The toxic set, from chats of harmful against helpful speakers in the curation domains."""
    line.run(
        "features", "curate", "--toxic", files.harmful, "--benign", files.helpful,
        "--model", files.model, "--sae", files.sae, "-o", files.toxic_set, "--overwrite",
        # every chat is drawn by itself; in so small a language all of them look like one template
        "--device", "cpu", "--group", "none",
    )  # fmt: skip


@dataclass(frozen=True)
class Chosen:
    """What one arm keeps of a dataset at one fraction."""

    kept: list[int]
    """Lines from 0."""
    seconds: float | None
    """Of scoring and filtering, where this was timed and the first fraction."""


def choose(
    line: CommandLine, files: Files, data: Path, arm: Arm, seed: int, *, timed: bool
) -> dict[float, Chosen]:
    """Run the arm's commands on a dataset, for every fraction.

    `timed`: with a cache of their own, since what others paid for would hide what they cost. The
    others share one, and have no seconds.
    """
    with TemporaryDirectory() as cache:
        os.environ["SAEFILTER_CACHE"] = cache if timed else str(files.folder / "cache")
        found = _choose(line, files, data, arm, seed)
    return found if timed else {f: Chosen(chosen.kept, None) for f, chosen in found.items()}


def _choose(
    line: CommandLine, files: Files, data: Path, arm: Arm, seed: int
) -> dict[float, Chosen]:
    scores, spent = _scores(line, files, data, arm)
    kept = data.with_name(f"{data.stem}.{arm.name}.jsonl")
    options: list[object] = []
    if arm.strategy != "closest":
        options += ["--strategy", arm.strategy]
    if "contrast" in arm.needs:
        options += ["--contrast-toxic", files.harmful, "--contrast-benign", files.helpful]
    if "labels" in arm.needs:
        options += ["--labels", data.with_suffix(".labels.csv"), "--label", "bad"]
    if "judge" in arm.needs:
        options += ["--judge-url", files.judge_url, "--judge-model", "stand-in"]
    if "seed" in arm.needs:
        options += ["--seed", seed]
    found: dict[float, Chosen] = {}
    for fraction in arm.fractions:
        seconds = line.run(
            "filter", data, "--scores", scores, "--drop-frac", fraction, "-o", kept,
            "--overwrite", "-q", *options,
        )  # fmt: skip
        dropped = kept.with_suffix(".dropped.jsonl")
        rows = dropped.read_text(encoding="utf-8").splitlines() if dropped.exists() else []
        gone = {json.loads(row)["saefilter_line"] - 1 for row in rows}
        n_rows = len(data.read_text(encoding="utf-8").splitlines())
        found[fraction] = Chosen(
            [row for row in range(n_rows) if row not in gone],
            None if found else spent + seconds,
        )
    return found


def _scores(line: CommandLine, files: Files, data: Path, arm: Arm) -> tuple[Path, float]:
    """The scores that the arm filters by; made when they are not there, with the seconds it took."""
    metric = arm.metric or DEFAULT.metric
    path = data.with_name(f"{data.stem}.{metric}.scores.parquet")
    if path.exists() and arm.metric is None:
        return path, 0.0
    spent = line.run(
        "score", data, "-o", path, "--model", files.model, "--sae", files.sae,
        "--toxic-set", files.toxic_set, "--metric", metric, "--device", "cpu", "--overwrite", "-q",
    )  # fmt: skip
    return path, spent if arm.metric else 0.0
