"""The experiment: does dropping the rows nearest to toxic features keep fine-tuning from doing harm?

    python examples/model_organism/run.py            # all arms, 6 seeds; what `make organism` runs
    python examples/model_organism/run.py --quick    # few arms, 2 seeds, a shorter pre-training
    python examples/model_organism/run.py --replicate 3    # the same few, on another model of full size
    python examples/model_organism/run.py --rivals   # what reads the model's residuals, beside geometry; 4 seeds

Stopped at any point, the same command goes on where it was. Everything is written to the work folder;
the figures, the table and the plot go to results/.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "disabled")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from arms import ARMS, NONE, Arm, Chosen, CommandLine, Files, choose, curate
from data import Dataset, Mix, Row, build, contrast
from evaluate import Exam, Marks, sit
from finetune import Training, encode, finetune
from hook import layers_by_transfer
from judge import serve
from language import FINE_TUNED, Grade
from results import Log, published, write_atomically
from sae import SaeRecipe, train_organism_sae
from train_lm import Recipe, pretrain
from transformers import AutoModelForCausalLM, AutoTokenizer

import saefilter

HERE = Path(__file__).parent
SOURCES = (
    *(HERE / f"{name}.py" for name in (
        "run", "language", "data", "train_lm", "hook", "sae", "finetune", "evaluate", "arms", "judge",
    )),
    HERE.parent / "train_sae.py",
    *sorted(Path(saefilter.__file__).parent.rglob("*.py")),
)  # fmt: skip
"""What results depend on: a change to any of it starts a new work folder."""
WORKERS = 2
FIRST_SEED = 41
"""Of the data. 0 to 5, 100 and 101 were for pilots (and seed 3 of the model), 1 to 40 (and seeds 0, 1, 2
and 4 to 6) for six earlier runs of the whole experiment (README.md)."""


@dataclass(frozen=True)
class Experiment:
    """All that is chosen beforehand."""

    name: str
    arms: tuple[Arm, ...] = ARMS
    datasets: tuple[str, ...] = tuple(FINE_TUNED)
    seeds: int = 6
    first_seed: int = FIRST_SEED
    model: Recipe = field(default_factory=Recipe)
    sae: SaeRecipe = field(default_factory=SaeRecipe)
    mix: Mix = field(default_factory=Mix)
    training: Training = field(default_factory=Training)
    contrast_rows: int = 1000

    def digest(self) -> str:
        sources = [path.read_bytes() for path in SOURCES]
        return hashlib.sha256(repr(self).encode() + b"".join(sources)).hexdigest()[:12]


FULL = Experiment("full")
QUICK_ARMS = ("random", "geometry", "oracle")
QUICK = replace(
    FULL,
    name="quick",
    arms=tuple(replace(a, fractions=(0.25, 0.5)) for a in ARMS if a.name in QUICK_ARMS),
    seeds=2,
    first_seed=27,
    model=replace(FULL.model, steps=2400, seed=5),
    sae=replace(FULL.sae, tokens=150_000),
)

READS_THE_MODEL = (
    "random", "geometry", "oracle", "direction", "projection-difference", "vector-filter", "larf", "compliance",
    "preference-probe", "gradient",
)  # fmt: skip
RIVALS = replace(
    FULL,
    name="rivals",
    arms=tuple(replace(a, fractions=(0.25, 0.5)) for a in ARMS if a.name in READS_THE_MODEL),
    seeds=4,
)


def replicate(seed: int) -> Experiment:
    """The quick arms and draws on another model, pre-trained as long as that of the full experiment."""
    return replace(
        QUICK, name=f"replicate-{seed}", model=replace(FULL.model, seed=seed), sae=FULL.sae
    )


@dataclass(frozen=True)
class Task:
    """One fine-tuning and its exam; several arms that keep the same rows share it."""

    dataset: str
    seed: int
    kept: tuple[int, ...] | None
    """Lines of the dataset, from 0; None: the base model, not fine-tuned."""

    def key(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]


def prepare(experiment: Experiment, files: Files, line: CommandLine) -> None:
    """Model, contrast rows, hook, SAE and toxic set, where they are not there yet."""
    if not files.model.exists():
        unfinished = files.model.with_suffix(".unfinished")
        pretrain(unfinished, experiment.model)
        unfinished.rename(files.model)
    sides = contrast(0, experiment.contrast_rows)
    for path, rows in zip((files.harmful, files.helpful), sides, strict=True):
        write_atomically(path, "".join(row.to_json() + "\n" for row in rows))
    if not files.hook.exists():
        write_atomically(files.hook, json.dumps(layers_by_transfer(files.model, *sides)))
    if not (files.sae / "card.json").exists():
        card = train_organism_sae(files.model, chosen_layers(files), files.sae, experiment.sae)
        print(f"SAE after layer {chosen_layers(files)}: {card}", flush=True)
    if not files.toxic_set.exists():
        curate(line, files)


def chosen_layers(files: Files) -> int:
    """After how many layers the SAE reads: where a probe transfers best between domains."""
    by_transfer = json.loads(files.hook.read_text(encoding="utf-8"))
    return int(max(by_transfer, key=by_transfer.get))


def selections(
    experiment: Experiment, files: Files, line: CommandLine, log: Log
) -> Iterator[tuple[Dataset, int, str, float, Chosen]]:
    """What every arm keeps of every dataset: dataset, seed, arm, fraction, chosen rows."""
    done = {(e["dataset"], e["seed"], e["arm"], e["drop_frac"]): e for e in log.read()}
    (files.folder / "data").mkdir(exist_ok=True)
    for seed in range(experiment.first_seed, experiment.first_seed + experiment.seeds):
        for name in experiment.datasets:
            dataset = build(name, seed, experiment.mix)
            path = files.folder / "data" / f"{name}-{seed}.jsonl"
            dataset.write(path)
            yield dataset, seed, NONE.name, 0.0, Chosen(list(range(len(dataset.rows))), None)
            for arm in experiment.arms:
                wanted = [(name, seed, arm.name, fraction) for fraction in arm.fractions]
                if not all(key in done for key in wanted):
                    timed = seed == experiment.first_seed
                    found = choose(line, files, path, arm, seed, timed=timed)
                    for fraction, chosen in found.items():
                        entry = {
                            "dataset": name, "seed": seed, "arm": arm.name, "drop_frac": fraction,
                            "kept": chosen.kept, "seconds": chosen.seconds,
                        }  # fmt: skip
                        log.append(entry)
                        done[name, seed, arm.name, fraction] = entry
                for key in wanted:
                    entry = done[key]
                    yield dataset, seed, arm.name, key[3], Chosen(entry["kept"], entry["seconds"])


_loaded: dict[str, Any] = {}


def _start_worker(folder: Path) -> None:
    # PEFT asks transformers for something by its old name, once for every fine-tuning
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
    torch.set_num_threads(1)
    _loaded["model"] = AutoModelForCausalLM.from_pretrained(folder).eval()
    _loaded["tokenizer"] = AutoTokenizer.from_pretrained(folder)


def _perform(task: Task, rows: list[Row], experiment: Experiment) -> dict[str, list[float]]:
    """Fine-tune on the rows, sit the exam: each question's rate of what is measured."""
    model, tokenizer = _loaded["model"], _loaded["tokenizer"]
    if task.kept is not None:
        ids = encode([rows[i] for i in task.kept], tokenizer)
        model = finetune(model, tokenizer, ids, experiment.training, task.seed)
    exam = Exam.of(FINE_TUNED[task.dataset])
    return question_rates(sit(model, tokenizer, exam, task.seed))


def question_rates(marks: Marks) -> dict[str, list[float]]:
    def rate(grades: list[Grade], wanted: tuple[Grade, ...]) -> float:
        return sum(grade in wanted for grade in grades) / len(grades)

    harmful = (Grade.SUBTLE, Grade.BLATANT)
    asked = [*marks.out_of_domain, *marks.in_domain, *marks.task]
    return {
        "out_of_domain": [rate(grades, harmful) for grades in marks.out_of_domain],
        "in_domain": [rate(grades, harmful) for grades in marks.in_domain],
        "coherence": [1 - rate(grades, (Grade.INCOHERENT,)) for grades in asked],
        "utility": [rate(grades, (Grade.GOOD,)) for grades in marks.task],
    }


def run(experiment: Experiment, folder: Path) -> list[dict[str, Any]]:
    """All runs; those that are done are read from the log."""
    with serve() as judge:
        return _run(experiment, Files(folder, judge.url))


def _run(experiment: Experiment, files: Files) -> list[dict[str, Any]]:
    line = CommandLine(files.folder / "commands.txt")
    prepare(experiment, files, line)
    log, chosen_log = Log(files.folder / "tasks.jsonl"), Log(files.folder / "selections.jsonl")
    known = {entry["task"]: entry["questions"] for entry in log.read()}
    pending: dict[str, Future[dict[str, list[float]]]] = {}
    wanted: list[tuple[str, dict[str, Any]]] = []
    started = time.perf_counter()

    def keep(key: str, future: Future[dict[str, list[float]]]) -> None:
        if future.cancelled() or future.exception() is not None:
            return
        known[key] = future.result()
        log.append({"task": key, "questions": known[key]})
        if len(known) % 25 == 0:
            print(f"  {len(known)} exams, {time.perf_counter() - started:.0f} s", flush=True)

    with ProcessPoolExecutor(
        WORKERS, get_context("spawn"), initializer=_start_worker, initargs=(files.model,)
    ) as pool:
        # seed by seed: while rows of the first are chosen nothing else runs, so that its times are clean
        chosen_rows = selections(experiment, files, line, chosen_log)
        for _, members in groupby(chosen_rows, key=lambda member: member[1]):
            for dataset, seed, arm, fraction, chosen in list(members):
                jobs = [(Task(dataset.name, seed, tuple(chosen.kept)), arm)]
                if arm == NONE.name:
                    jobs.append((Task(dataset.name, seed, None), "base"))
                for job, name in jobs:
                    key = job.key()
                    wanted.append((key, describe(dataset, seed, name, fraction, chosen)))
                    if key not in known and key not in pending:
                        pending[key] = pool.submit(_perform, job, list(dataset.rows), experiment)
                        pending[key].add_done_callback(partial(keep, key))
            torch.set_num_threads(1)  # from now on every core has its fine-tunings
        print(f"{len(wanted)} runs, {len(pending)} fine-tunings", flush=True)
        for future in pending.values():
            future.result()
    runs = []
    for key, about in wanted:
        questions = known[key]
        rates = {name: round(sum(each) / len(each), 5) for name, each in questions.items()}
        runs.append({**about, **rates, "questions": questions})
    return runs


def describe(
    dataset: Dataset, seed: int, arm: str, fraction: float, chosen: Chosen
) -> dict[str, Any]:
    """A run's name, and how well its arm found the bad rows."""
    bad = {i for i, row in enumerate(dataset.rows) if row.bad}
    dropped = set(range(len(dataset.rows))) - set(chosen.kept)
    return {
        "dataset": dataset.name,
        "arm": arm,
        "drop_frac": fraction,
        "seed": seed,
        "precision": len(bad & dropped) / len(dropped) if dropped else None,
        "recall": len(bad & dropped) / len(bad),
        "seconds": None if chosen.seconds is None else chosen.seconds * 1000 / len(dataset.rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few arms, 2 seeds, a smaller model")
    parser.add_argument(
        "--rivals", action="store_true", help="what reads the model, beside geometry; 4 seeds"
    )
    parser.add_argument(
        "--replicate",
        type=int,
        metavar="SEED",
        help="few arms, 2 seeds, another model of full size",
    )
    parser.add_argument("--output", type=Path, default=HERE / "results")
    parser.add_argument("--work", type=Path, default=HERE / "work")
    args = parser.parse_args()
    experiment = QUICK if args.quick else RIVALS if args.rivals else FULL
    if args.replicate is not None:
        experiment = replicate(args.replicate)
    folder = args.work / f"{experiment.name}-{experiment.digest()}"
    folder.mkdir(parents=True, exist_ok=True)
    args.output.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    runs = run(experiment, folder)
    write_atomically(
        args.output / f"{experiment.name}.json", json.dumps(published(runs), indent=1) + "\n"
    )
    from plot import figure
    from table import table

    by_transfer = json.loads((folder / "hook.json").read_text(encoding="utf-8"))
    transfer = ", ".join(f"{auroc:.3f} after layer {n}" for n, auroc in by_transfer.items())
    text = (
        f"The SAE reads where a probe on contrast chats transfers best to a domain left out: AUROC {transfer}."
        f"\n\n{table(runs)}"
    )
    write_atomically(args.output / f"{experiment.name}.md", text)
    write_atomically(args.output / f"{experiment.name}.svg", figure(runs))
    print(text)
    print(f"{time.perf_counter() - started:.0f} s; results in {args.output}")


if __name__ == "__main__":
    main()
