"""The paper's experiment at the paper's scale: mix, score, filter, fine-tune, answer, grade, table.

    python examples/paper/run.py examples/paper/paper-gemma-2-2b.toml -o gemma

Every finished piece is a file, and is not made again: after a kill the same command goes on. Filtering
is done by saefilter's own commands. See README.md for what it needs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from data import LABEL, write_mix
from settings import Run, Settings, load, runs_of, without_endpoint

from saefilter.errors import SaefilterError
from saefilter.select.registry import is_seeded

STAGES = ("prepare", "score", "filter", "answer", "grade")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", type=Path, help="A TOML file, such as paper-gemma-2-2b.toml.")
    parser.add_argument("-o", "--output", type=Path, required=True, help="Folder for everything.")
    parser.add_argument("--until", choices=STAGES, default="grade", help="Stop after this stage.")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="Change a setting."
    )
    args = parser.parse_args()
    try:
        experiment = Experiment(load(args.settings, args.set), args.output)
        for stage in STAGES[: STAGES.index(args.until) + 1]:
            print(f"== {stage}", flush=True)
            getattr(experiment, stage)()
    except SaefilterError as error:
        sys.exit(f"run.py: {error}")


class Experiment:
    """The stages, in order; each skips what is there."""

    def __init__(self, settings: Settings, folder: Path):
        self.settings, self.folder = settings, folder
        self.runs = list(runs_of(settings))
        self.judgements = folder / "verdicts.sqlite"
        folder.mkdir(parents=True, exist_ok=True)
        self._bind()

    def prepare(self) -> None:
        """The mixes, and the toxic set."""
        for mix in self.settings.mix:
            if not (path := self.folder / mix.name / "mix.jsonl").exists():
                write_mix(mix, path)
                self._made(path)
        if self.settings.toxic_set is None and not self._toxic_set().exists():
            curate = ["features", "curate", *self.settings.reader(), "-o", str(self._toxic_set())]
            self._saefilter(*curate, *self.settings.curate)

    def score(self) -> None:
        """Distances of every row of the mixes. A run that was stopped goes on."""
        for mix in self.settings.mix:
            path = self.folder / mix.name / "mix.scores.parquet"
            if not path.exists():
                metric = ["--metric", self.settings.metric] if self.settings.metric else []
                self._saefilter(
                    "score", str(self.folder / mix.name / "mix.jsonl"), *self.settings.reader(),
                    "--toxic-set", str(self._toxic_set()), *metric, "-o", str(path), "--resume",
                    "--max-tokens", str(self.settings.train.max_tokens),
                    "--train-on", "last-turn",  # as finetune.py trains
                )  # fmt: skip

    def filter(self) -> None:
        """The kept rows of every arm, share and seed."""
        for run in self.runs:
            if run.arm in ("base", "none"):
                continue
            kept = self._of(run, "kept.jsonl")
            if kept.exists():
                continue
            kept.parent.mkdir(parents=True, exist_ok=True)
            mix = self.folder / str(run.mix)
            self._saefilter(
                "filter", str(mix / "mix.jsonl"), "--scores", str(mix / "mix.scores.parquet"),
                "--strategy", run.arm, "--drop-frac", str(run.drop_frac), "-o", str(kept),
                *(["--seed", str(run.seed)] if is_seeded(run.arm) else []),
                *(["--label", LABEL] if run.arm == "labels" else []),
                *(self._judge() if run.arm == "judge" else []),
            )  # fmt: skip

    def answer(self) -> None:
        """Fine-tuned models and their answers."""
        for number, run in enumerate(self.runs, start=1):
            path = self._of(run, "answers.jsonl")
            if not path.exists():
                from finetune import answer  # seconds of imports

                print(f"  {number} of {len(self.runs)}: {run.name}", flush=True)
                answer(self.settings, run, self._rows(run), path)
                self._made(path)

    def grade(self) -> None:
        """Grades of all answers, and the table."""
        from grade import grade
        from results import write_results

        missing = [
            self._of(run, "answers.jsonl")
            for run in self.runs
            if not self._of(run, "grades.jsonl").exists()
        ]
        if missing:
            grade(self.settings, missing, self.judgements)
        print(write_results(self.settings, self.runs, self.folder))
        self._made(self.folder / "results.json")

    def _rows(self, run: Run) -> Path | None:
        """What a run is trained on."""
        if run.mix is None:
            return None
        if run.arm == "none":
            return self.folder / run.mix / "mix.jsonl"
        return self._of(run, "kept.jsonl")

    def _judge(self) -> list[str]:
        """The options of the arm that reads every row."""
        judge = self.settings.filter_judge or self.settings.judge
        options = {
            "--judge-url": judge.url, "--judge-model": judge.model,
            "--judge-key-env": judge.key_env, "--judge-concurrency": judge.concurrency,
            "--judge-rpm": judge.rpm, "--judge-price-in": judge.price_in,
            "--judge-price-out": judge.price_out, "--judge-cache": self.judgements,
            "--judge-on-failure": judge.on_failure,
        }  # fmt: skip
        given = {name: value for name, value in options.items() if value is not None}
        return [word for name, value in given.items() for word in (name, str(value))]

    def _toxic_set(self) -> Path:
        return self.settings.toxic_set or self.folder / "toxic-set.json"

    def _of(self, run: Run, name: str) -> Path:
        return self.folder / run.name / name

    def _saefilter(self, *arguments: str) -> None:
        done = subprocess.run([sys.executable, "-m", "saefilter", *arguments], check=False)
        if done.returncode:
            raise SaefilterError(
                f"saefilter {arguments[0]} ended with code {done.returncode}",
                remedy="What is finished stays; the same command goes on.",
            )

    def _made(self, path: Path) -> None:
        print(f"  {path.relative_to(self.folder)}", flush=True)

    def _bind(self) -> None:
        """Keep a folder to one experiment. Raises SaefilterError when it holds another."""
        data = {
            str(file): hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None
            for mix in self.settings.mix
            for file in (mix.bad, mix.good)
        }
        for file, digest in data.items():
            if digest is None:
                raise SaefilterError(
                    f"there is no file {file}", remedy="README.md says what to get."
                )
        own = {"settings": asdict(without_endpoint(self.settings)), "data": list(data.values())}
        text = json.dumps(own, indent=1, default=str) + "\n"
        path = self.folder / "settings.json"
        if not path.exists():
            temporary = path.with_name(".settings.json.tmp")
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, path)
        elif path.read_text(encoding="utf-8") != text:
            raise SaefilterError(
                f"{self.folder} holds an experiment with other settings or data",
                remedy="Name another folder with -o, or compare its settings.json.",
            )


if __name__ == "__main__":
    main()
