"""The settings of scoring. Which of them hold for a run is in asked.py.

Each is said once, here; described.py has what is read off a field.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saefilter.columns import Columns, columns_of_axolotl, columns_of_dataset_info
from saefilter.described import Checked, described, option
from saefilter.errors import SaefilterError


@dataclass(frozen=True)
class ScoreSettings(Checked):
    """What a user chooses for a scoring run."""

    preset: str | None = option(
        None, "Model and SAE to read with; see `saefilter presets`.",
        scores_depend=True, fingerprint={"model": "model"}, unless_said="minilm", metavar="NAME",
    )  # fmt: skip
    model: str | None = option(
        None, "Any Hugging Face model (id or folder), with --sae; or the folder of the --preset's.",
        scores_depend=True, fingerprint={"model": "model"}, metavar="ID|FOLDER",
    )  # fmt: skip
    sae: str | None = option(
        None, "Its SAE: RELEASE/SAE_ID as sae-lens names it, or a folder.",
        scores_depend=True, fingerprint={"SAE": "sae_fingerprint", "hook": "hook"}, metavar="RELEASE/ID|FOLDER",
    )  # fmt: skip
    revision: str | None = option(
        None, "The model's commit, tag or branch on the hub.",
        scores_depend=True, fingerprint={"model revision": "revision"}, unless_said="newest", metavar="COMMIT",
    )  # fmt: skip
    layer: int | None = option(
        None, "Read the preset's model after another layer that its SAEs were trained for.", least=0,
        scores_depend=True, fingerprint={"SAE": "sae_fingerprint", "hook": "hook"},
        unless_said="the preset's", metavar="LAYER",
    )  # fmt: skip
    toxic_set: str | None = option(
        None, "Toxic set: a JSON file, a shipped name, or a pin of the hub: org/name@COMMIT#sha256=HEX.",
        scores_depend=True, fingerprint={"toxic set": "toxic_set_sha256"},
        unless_said="preset's own", metavar="FILE|NAME",
    )  # fmt: skip
    reference: str | None = option(
        None, "Good rows of the same kind as the data (file, folder or pattern) to measure against.",
        scores_depend=True, fingerprint={"reference": "reference_sha256"},
        unless_said="the toxic set's", metavar="DATA",
    )  # fmt: skip
    """Percentiles and flagged shares are then against these rows instead of the set's calibration."""
    metric: str | None = option(
        None, "How closeness is measured; docs/metrics.md.",
        scores_depend=True, fingerprint={"metric": "metric"}, unless_said="contrast", metavar="NAME",
    )  # fmt: skip
    pool: str = option(
        "mean", "Pool activations over trained tokens: mean or max.", choices=("mean", "max"),
        scores_depend=True, fingerprint={"pooling": "pool"},
    )  # fmt: skip
    neighbours: int | None = option(
        None, "Average this many nearest toxic features.", least=1,
        scores_depend=True, fingerprint={"neighbours": "neighbours"}, unless_said="1",
    )  # fmt: skip
    train_on: str = option(
        "assistant", "Turns that are trained on: assistant, all, last-turn, completion.",
        choices=("assistant", "all", "last-turn", "completion"),
        scores_depend=True, fingerprint={"scored tokens": "train_on"}, metavar="TURNS",
    )  # fmt: skip
    trainer: str | None = option(
        None, "Instead of --train-on: the tokens that trl, trl-assistant, axolotl, llama-factory or "
        "openai learns from.",
        choices=("trl", "trl-assistant", "axolotl", "llama-factory", "openai"),
        scores_depend=True, fingerprint={"trainer": "trainer"}, unless_said="as --train-on says", metavar="TRAINER",
    )  # fmt: skip
    read: str = option(
        "at", "Read the model at each trained token, or before it, where it is predicted.",
        choices=("at", "before"),
        scores_depend=True, fingerprint={"read": "read"},
    )  # fmt: skip
    columns: str | None = option(
        None, "Which of your columns hold what: prompt=question,completion=answer (docs/input.md).",
        scores_depend=True, fingerprint={"columns": "columns"}, unless_said="as they are named", metavar="OURS=YOURS,...",
    )  # fmt: skip
    dataset_info: str | None = option(
        None, "LLaMA-Factory's dataset_info.json (or FILE:NAME) says which columns hold what.",
        scores_depend=True, fingerprint={"columns": "columns"}, metavar="FILE[:NAME]",
    )  # fmt: skip
    axolotl_config: str | None = option(
        None, "An axolotl YAML (or FILE:PATH) says which columns hold what.",
        scores_depend=True, fingerprint={"columns": "columns"}, metavar="FILE[:PATH]",
    )  # fmt: skip
    max_tokens: int = option(
        1024, "Cut rows here, as your trainer does.", least=1,
        scores_depend=True, fingerprint={"token limit": "max_tokens"},
    )  # fmt: skip
    truncation_side: str = option(
        "right", "What a cut takes away: right (the end) or left.", choices=("right", "left"),
        scores_depend=True, fingerprint={"truncation side": "truncation_side"},
    )  # fmt: skip
    max_scored_tokens: int | None = option(
        None, "Of longer texts the SAE reads an even sample of so many trained tokens.", least=1,
        scores_depend=True, fingerprint={"scored tokens a text": "max_scored_tokens"},
        unless_said="all",
    )  # fmt: skip
    """Proximity is then an estimate; see encode/sample.py."""
    near_duplicates: bool = option(
        False, "Read rows that differ in case, punctuation, spaces or numbers alone once; marked.",
        scores_depend=True, fingerprint={"near duplicates": "near_duplicates"},
    )  # fmt: skip
    """Exact ones are always read once: that changes nothing."""
    rendering: str = option(
        "auto", "chat (the model's template), plain, or auto (the preset's).",
        choices=("auto", "chat", "plain"),
        scores_depend=True, fingerprint={"rendering": "rendering"},
    )  # fmt: skip
    dtype: str = option(
        "auto", "auto, fp32, bf16 or fp16.", choices=("auto", "fp32", "bf16", "fp16"),
        scores_depend=True, fingerprint={"precision": "dtype"},
    )  # fmt: skip
    quantize: str = option(
        "none", "none, 8bit or 4bit (needs bitsandbytes and a GPU).",
        choices=("none", "8bit", "4bit"),
        scores_depend=True, fingerprint={"quantisation": "quantize"},
    )  # fmt: skip
    cascade: str | None = option(
        None, "Let a cheap reader rank all rows, and the model read only those that decide which are "
        "nearest: a preset (minilm), layer:N or tokens:N.",
        scores_depend=True, unless_said="the model reads every row", metavar="READER",
    )  # fmt: skip
    """docs/cascade.md; `layer:5` is the model itself read after layer 5, `tokens:64` at a row's first 64 scored
    tokens."""
    recall: float | None = option(
        None, "With --cascade: share of the nearest rows that the model must read, at 95 % confidence.",
        least=0, most=1, fraction=True, scores_depend=True, unless_said="0.95",
    )  # fmt: skip
    nearest: float | None = option(
        None, "With --cascade: share of the rows that are the nearest ones.",
        least=0, most=1, fraction=True, scores_depend=True, unless_said="0.1",
    )  # fmt: skip
    budget: float | None = option(
        None, "Read at most this share of the rows; the recall reached is told. Alone, with --cascade minilm.",
        least=0, most=1, fraction=True, scores_depend=True, unless_said="as many as the recall needs",
    )  # fmt: skip
    cascade_seed: int | None = option(
        None, "Of the rows that a cascade draws.", least=0, scores_depend=True, unless_said="0",
    )  # fmt: skip
    device: str = option("auto", "auto, cpu, cuda, cuda:1, ...", metavar="DEVICE")
    device_map: str | None = option(
        None, "Spread a model over several cards: auto, balanced, ...", metavar="MAP"
    )
    batch_tokens: int | None = option(
        None, "Padded tokens per batch.", least=1, unless_said="by device"
    )
    on_bad_row: str = option(
        "quarantine", "quarantine (set aside and go on) or error.", choices=("quarantine", "error")
    )
    workers: int | None = option(
        None, "Processes, each with its own model.", least=1, unless_said="one per GPU"
    )
    engine: str = option(
        "local", "Where rows are scored: local (this machine) or ray (a cluster).",
        choices=("local", "ray"),
    )  # fmt: skip
    address: str | None = option(
        None, "Of the Ray cluster: HOST:PORT or auto.",
        unless_said="RAY_ADDRESS, or one started here", metavar="HOST:PORT",
    )  # fmt: skip
    cpus_per_worker: int | None = option(
        None, "CPUs of a Ray worker.", least=1, unless_said="by its nodes"
    )
    shard_rows: int = option(
        1024, "Rows scored together and saved at once.", least=1,
        # scores differ by rounding alone, but the shards of a stopped run are of this many rows
        fingerprint={"rows per shard": "shard_rows"},
    )  # fmt: skip
    prepare_processes: int | None = option(
        0, "Processes that turn text into tokens; 0 for a thread.", least=0,
        flag="--prepare-workers", unless_said="by device",
    )  # fmt: skip
    """Processes import the program's main module anew, so a script that has some needs
    `if __name__ == "__main__"`; the command line leaves the choice to the device."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.preset is not None and self.sae:
            raise SaefilterError(
                "--preset and --sae exclude each other",
                remedy="Give a preset, or a model with its SAE.",
            )
        if self.trainer is not None and self.train_on != "assistant":
            raise either_or()
        if self.max_scored_tokens is not None and self.pool == "max":
            raise SaefilterError(
                "--max-scored-tokens and --pool max exclude each other",
                remedy="A sample says nothing sure of the largest value: use --pool mean.",
            )
        Columns.parse(self.columns)
        given = [name for name in COLUMN_SETTINGS if getattr(self, name) is not None]
        if len(given) > 1:
            flags = [described(type(self))[name].flag for name in given]
            raise SaefilterError(f"{flags[0]} and {flags[1]} exclude each other")
        if self.device_map is not None and (self.workers or 1) > 1:
            raise SaefilterError("--workers and --device-map exclude each other")
        self._check_engine()
        self._check_cascade()
        if self.reference == "-":  # workers and comparisons with earlier scores open it too
            raise SaefilterError(
                "--reference is read more than once, standard input only once",
                remedy="Save the rows to a file, and name that.",
            )

    def _check_engine(self) -> None:
        if self.engine == "ray":
            if self.device_map is not None:
                raise SaefilterError("--engine ray and --device-map exclude each other")
            if self.device not in ("auto", "cpu", "cuda"):
                raise SaefilterError(
                    f"--engine ray gives each worker a GPU of its own, not {self.device}",
                    remedy="Use --device auto, cuda or cpu.",
                )
            return
        for name in OF_RAY:
            if getattr(self, name) is not None:
                raise SaefilterError(
                    f"{described(type(self))[name].flag} has no effect without --engine ray"
                )

    def _check_cascade(self) -> None:
        for name in OF_CASCADES:
            one = described(type(self))[name]
            value = getattr(self, name)
            if value is not None and self.cheap_reader is None:
                raise SaefilterError(f"{one.flag} has no effect without --cascade")
            if isinstance(value, float) and (value == 0 or (value == 1 and name != "budget")):
                raise SaefilterError(f"{one.flag} {value:g} is not between 0 and 1")

    @property
    def cheap_reader(self) -> str | None:
        """What ranks the rows of a cascade; None where the model reads all of them."""
        return self.cascade or (None if self.budget is None else DEFAULT_CHEAP_READER)

    def of_data(self, data: Path) -> ScoreSettings:
        """With what --dataset-info or --axolotl-config says of that data as `columns`, which is what
        scores keep. Raises SaefilterError where it says nothing that can be followed."""
        if self.dataset_info is not None:
            columns = columns_of_dataset_info(self.dataset_info, data)
            return dataclasses.replace(self, dataset_info=None, columns=str(columns))
        if self.axolotl_config is not None:
            columns = columns_of_axolotl(self.axolotl_config, data)
            return dataclasses.replace(self, axolotl_config=None, columns=str(columns))
        return self

    def shaping(self) -> dict[str, Any]:
        """What scores depend on, as it was asked for; kept in their provenance."""
        known = described(type(self))
        return {
            name: getattr(self, name) for name, one in known.items() if one.option.scores_depend
        }

    def conditions(self, rendering: str) -> dict[str, Any]:
        """What percentiles hold for, besides model, metric and pooling: setting -> what it came to.

        `rendering`: what `auto` came to. Precision is not among them: bf16 ranks as fp32 does
        (docs/performance.md); `quantize` is.
        """
        apart = (*WHICH_MODEL, "toxic_set", "reference", "metric", "pool", "dtype",
                 "near_duplicates", *COLUMN_SETTINGS, "cascade", *OF_CASCADES)  # fmt: skip
        values = {name: value for name, value in self.shaping().items() if name not in apart}
        return values | {"neighbours": self.neighbours or 1, "rendering": rendering}

    def fingerprint(self, identity: Any) -> dict[str, Any]:
        """What the scores depend on, as far as settings decide it; values that loading decided are
        those of `identity`."""
        return {
            entry: getattr(identity, attribute, getattr(self, attribute, None))
            for one in described(type(self)).values()
            for entry, attribute in one.fingerprint.items()
        }


def either_or(where: str | None = None) -> SaefilterError:
    return SaefilterError(
        "--trainer and --train-on exclude each other", where=where,
        remedy="--trainer says which turns are trained on, too: leave --train-on out.",
    )  # fmt: skip


WHICH_MODEL = ("preset", "model", "sae", "revision", "layer")
"""Settings that only make sense together: who names a model anew has nothing of what the project's
file says of another one."""
DEFAULT_CHEAP_READER = "minilm"
OF_CASCADES = ("recall", "nearest", "budget", "cascade_seed")
"""Settings that only a cascade has."""
OF_RAY = ("address", "cpus_per_worker")
"""Settings that only --engine ray has."""
COLUMN_SETTINGS = ("columns", "dataset_info", "axolotl_config")
"""Three ways to say the same."""
