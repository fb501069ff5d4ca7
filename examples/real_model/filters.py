"""The arms: which rows of a mix each trains on. All but the controls are saefilter's own commands."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from saefilter.cli import app, commands

MAX_TOKENS = 128
"""Where rows are cut, in scoring as in training."""


@dataclass(frozen=True)
class Arm:
    """One way to choose the rows that are trained on."""

    name: str
    drop_frac: float = 0.0
    seeds: int = 2
    """On how many mixes."""
    strategy: str = "closest"
    """Of `saefilter filter`."""
    metric: str = "contrast"
    """Of the scores that it filters."""
    trait: str | None = None
    """A sentence that its vector is made from."""

    def title(self) -> str:
        return f"{self.name} {self.drop_frac:.0%}" if self.drop_frac else self.name


BASE, GOOD, MIX = Arm("base"), Arm("good rows only", seeds=3), Arm("whole mix", seeds=3)
RANDOM, GEOMETRY = (Arm("random", 0.5, 3, "random"), Arm("geometry", 0.5, 3))
ARMS = (
    GOOD, MIX, GEOMETRY, RANDOM,
    Arm("oracle", 0.5, 2, "labels"),
    Arm("geometry", 0.25), Arm("geometry", 0.1),
    Arm("direction", 0.5, metric="direction"),
    Arm("text-classifier", 0.5, strategy="text-classifier"),
    Arm("random", 0.25, 1, "random"), Arm("random", 0.1, 1, "random"),
    # rivals that read the same model; the bundled pairs teach them, or a sentence does
    Arm("vector-filter", 0.5, 1, "vector-filter"),
    Arm("trait", 0.5, 1, "vector-filter", trait="gives reckless advice"),
    Arm("larf", 0.5, 1, "larf"),
    Arm("compliance", 0.5, 1, "compliance"),
    Arm("preference-probe", 0.5, 1, "preference-probe"),
    Arm("gradient", 0.5, 1, "gradient"),
    Arm("projection-difference", 0.5, 1, "projection-difference"),
)  # fmt: skip
"""In the order in which they are run: every seed of the first four comes before the others."""


class Filters:
    """`saefilter` in this process, on mixes in a folder; what was run is kept as one would type it."""

    def __init__(self, folder: Path, model: Path):
        commands()
        self.folder, self.model = folder, model

    def run(self, *words: object) -> None:
        """Raises SaefilterError as the command would report it."""
        line = [str(word) for word in words]
        with (self.folder / "commands.txt").open("a", encoding="utf-8") as file:
            file.write(f"saefilter {shlex.join(line)}\n")
        app(line, standalone_mode=False)

    def scores(self, data: Path, metric: str) -> Path:
        """The mix's scores by a metric, made when they are not there."""
        path = data.with_name(f"{data.stem}.{metric}.scores.parquet")
        if not path.exists():
            self.run(
                "score", data, "-o", path, "--preset", "smollm2-135m", "--model", self.model,
                "--metric", metric, "--max-tokens", MAX_TOKENS, "-q",
            )  # fmt: skip
        return path

    def dropped(self, data: Path, arm: Arm, seed: int) -> set[int]:
        """Rows of the mix, from 0, that an arm drops."""
        options: list[object] = []
        if arm.strategy != "closest":
            options += ["--strategy", arm.strategy]
        if arm.strategy == "labels":
            options += ["--labels", data.with_suffix(".labels.csv"), "--label", "bad"]
        if arm.trait is not None:
            options += ["--trait", arm.trait]
        if arm.strategy in ("labels", "random"):
            options += ["--seed", seed]
        kept = data.with_name(f"{data.stem}.{arm.title().replace(' ', '-')}.jsonl")
        self.run(
            "filter", data, "--scores", self.scores(data, arm.metric), "--drop-frac", arm.drop_frac,
            "-o", kept, "--overwrite", "-q", *options,
        )  # fmt: skip
        lines = kept.with_suffix(".dropped.jsonl").read_text(encoding="utf-8").strip().split("\n")
        return {json.loads(line)["saefilter_line"] - 1 for line in lines}
