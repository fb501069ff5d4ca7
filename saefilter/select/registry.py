"""The built-in strategies by name, and what a user can tell them: each takes a few options, and the others
must be left out. A strategy is imported when it is used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saefilter import plugins
from saefilter.described import Checked, option
from saefilter.errors import SaefilterError, did_you_mean
from saefilter.plugins import load_plugin, plugin_errors, plugin_names
from saefilter.select.judge.settings import JudgeSettings

if TYPE_CHECKING:
    from saefilter.select.ranking import Candidates, Ranking
    from saefilter.select.strategies import Selection


@dataclass(frozen=True)
class StrategyOptions(Checked):
    """One field for each option on the command line; None where it was not given."""

    contrast_toxic: tuple[str, ...] | None = option(
        None,
        "Toxic rows for a strategy to learn from; repeatable.",
        metavar="DATA",
    )
    contrast_benign: tuple[str, ...] | None = option(
        None,
        "Benign rows for a strategy to learn from; repeatable.",
        metavar="DATA",
    )
    label: str | None = option(
        None, "Column of the data that says which rows are bad.", metavar="COLUMN"
    )
    labels: str | None = option(
        None,
        "File that says which rows are bad: row_id or line, and a label.",
        metavar="FILE",
    )
    decisions: str | None = option(
        None,
        "Decisions of a review, as labels: what it drops is bad, what it keeps is not.",
        metavar="FILE",
    )
    model: str | None = option(
        None, "Causal model of strategies that read with one.", metavar="ID|FOLDER"
    )
    """Hub id or folder."""
    revision: str | None = option(
        None, "The model's commit, tag or branch on the hub.", metavar="COMMIT"
    )
    toxic_set: str | None = option(
        None, "Whose direction projection-difference projects on.", metavar="FILE|NAME"
    )
    """File or name."""
    trait: tuple[str, ...] | None = option(
        None, "What answers shall not do, as a sentence without its subject ('gives reckless advice'), for "
        "strategies by persona vectors; repeatable.", metavar="SENTENCE",
    )  # fmt: skip
    space: str | None = option(
        None, "Where persona vectors lie: residual, or sae (the features of the scores' SAE).",
        choices=("residual", "sae"), unless_said="residual",
    )  # fmt: skip
    hook: str | None = option(
        None,
        "Where a strategy reads the model.",
        unless_said="as the scores, or its middle; larf and compliance find a layer",
        metavar="HOOK",
    )
    """In TransformerLens's words."""
    max_new_tokens: int | None = option(
        None, "Length of the model's own answers.", least=1, unless_said="64"
    )
    temperature: float | None = option(
        None, "Of the model's own answers.", least=0, unless_said="0: greedy"
    )
    device: str | None = option(
        None, "For what reads with a model: auto, cpu, cuda, ...", metavar="DEVICE"
    )
    dtype: str | None = option(
        None, "For what reads with a model: auto, fp32, bf16, fp16.",
        choices=("auto", "fp32", "bf16", "fp16"),
    )  # fmt: skip
    judge: JudgeSettings | None = None
    """Every --judge option."""

    def given(self) -> dict[str, Any]:
        """Those that were given."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def described(self) -> dict[str, Any]:
        """Those that were given, files by their names alone: what artifacts may say of them."""
        return {name: _described(name, value) for name, value in self.given().items()}


FILES = ("contrast_toxic", "contrast_benign", "labels", "decisions", "model", "toxic_set")


def option_name(field: str) -> str:
    """`contrast_toxic` -> `--contrast-toxic`; of a judge, the option that none does without."""
    if field == "judge":
        return "--judge-url"
    return "--" + field.replace("_", "-")


def _described(name: str, value: Any) -> Any:
    if isinstance(value, JudgeSettings):
        return value.described()
    if isinstance(value, tuple):
        return [_described(name, item) for item in value]
    is_local = name in FILES and Path(str(value)).exists()
    return Path(str(value)).name if is_local else value


@dataclass(frozen=True)
class BuiltIn:
    """Where a strategy is, and what must be known of it before it is imported."""

    where: str
    """`module:function`; the function takes Candidates and Selection and gives a Ranking."""
    about: str
    """What it drops first, in a few words for the help."""
    needs: tuple[tuple[str, ...], ...] = ()
    """Options that must be given: at least one of each entry's alternatives."""
    takes: tuple[str, ...] = ()
    """Options that may be given."""
    seeded: bool = False
    """Whether the seed plays a part."""
    control: bool = False
    """Whether it is there to compare with: it draws, or knows what a user could not."""

    @property
    def options(self) -> set[str]:
        """Every option that goes with it."""
        return {*self.takes, *(name for alternatives in self.needs for name in alternatives)}

    def load(self) -> Callable[[Candidates, Selection], Ranking]:
        """Import it."""
        module, _, name = self.where.partition(":")
        strategy: Callable[[Candidates, Selection], Ranking] = getattr(import_module(module), name)
        return strategy


_LABELS = ("label", "labels", "decisions")
_CONTRAST = ("contrast_toxic", "contrast_benign")
_READS = ("model", "revision", "device", "dtype")
_PERSONA = (*_CONTRAST, *_READS, "toxic_set", "hook", "trait", "space")
BUILT_IN: dict[str, BuiltIn] = {
    "closest": BuiltIn("saefilter.select.strategies:rank_closest", "closest to toxic features"),
    "chosen-side": BuiltIn(
        "saefilter.select.strategies:rank_chosen_side",
        "of preference data: the learnt answers closest to toxic features",
    ),
    "random": BuiltIn(
        "saefilter.select.strategies:rank_at_random", "drawn at random", seeded=True, control=True
    ),
    "text-classifier": BuiltIn(
        "saefilter.select.classifiers:rank_by_words",
        "toxic by a classifier of words, learnt from contrast rows",
        takes=_CONTRAST,
    ),
    "embedding-classifier": BuiltIn(
        "saefilter.select.classifiers:rank_by_embedding",
        "toxic by a classifier of sentence embeddings, learnt from contrast rows",
        takes=(*_CONTRAST, "device"),
    ),
    "loss": BuiltIn(
        "saefilter.select.causal_reader:rank_by_loss",
        "most surprising to a causal model",
        takes=_READS,
    ),
    "projection-difference": BuiltIn(
        "saefilter.select.projection_difference:rank",
        "farther along the toxic direction than a causal model's own answer",
        takes=(*_PERSONA, "max_new_tokens", "temperature"),
        seeded=True,
    ),
    "larf": BuiltIn(
        "saefilter.select.larf:rank",
        "more like unsafe than safe examples at a model's most safety-sensitive layer",
        takes=(*_CONTRAST, *_READS, "hook"),
    ),
    "compliance": BuiltIn(
        "saefilter.select.compliance:rank",
        "farther along a model's compliance direction than the prompt",
        takes=(*_CONTRAST, *_READS, "hook"),
    ),
    "gradient": BuiltIn(
        "saefilter.select.gradients:rank",
        "with a gradient more like that of toxic than of benign rows",
        takes=(*_CONTRAST, *_READS),
        seeded=True,
    ),
    "vector-filter": BuiltIn(
        "saefilter.select.persona:rank_vector_filter",
        "farthest along the toxic direction, or that of a trait",
        takes=(*_PERSONA, "max_new_tokens", "temperature"),
        seeded=True,
    ),
    "preference-probe": BuiltIn(
        "saefilter.select.preference_probe:rank",
        "toxic, or of pairs preferred to be, by a probe of a causal model",
        takes=(*_CONTRAST, *_READS, "hook"),
    ),
    "judge": BuiltIn(
        "saefilter.select.judge.strategy:rank",
        "most harmful by a language model at an endpoint",
        needs=(("judge",),),
        seeded=True,
    ),
    "labels": BuiltIn(
        "saefilter.select.strategies:rank_by_label",
        "labelled bad (the oracle)",
        needs=(_LABELS,),
        seeded=True,
        control=True,
    ),
    "matched-random": BuiltIn(
        "saefilter.select.strategies:rank_matched_random",
        "drawn at random, with the labels of the closest",
        needs=(_LABELS,),
        seeded=True,
        control=True,
    ),
}


def strategy_names() -> list[str]:
    """Every strategy there is: the built-in ones, then those of other packages."""
    return [*BUILT_IN, *plugin_names(plugins.STRATEGIES)]


def is_seeded(name: str) -> bool:
    """Whether the seed plays a part; of another package's strategy it is not known, so it may."""
    return name not in BUILT_IN or BUILT_IN[name].seeded


def is_control(name: str) -> bool:
    """Whether a strategy is there to compare with."""
    return name in BUILT_IN and BUILT_IN[name].control


def knows_labels(name: str) -> bool:
    """Whether a strategy is of labels, and nothing without them."""
    return name in BUILT_IN and _LABELS in BUILT_IN[name].needs


def options_of(name: str, options: StrategyOptions) -> StrategyOptions:
    """Those of the options that a strategy takes."""
    return StrategyOptions(
        **{option: value for option, value in options.given().items() if takes(name, option)}
    )


def takes(name: str, option: str) -> bool:
    """Whether an option is for this strategy; whatever another package's does with it, it may."""
    return name not in BUILT_IN or option in BUILT_IN[name].options


def check_strategy(name: str, options: StrategyOptions) -> None:
    """Raises SaefilterError for a strategy that is not there, or options that do not go with it."""
    known = strategy_names()
    if name not in known:
        raise SaefilterError(
            f"there is no strategy {name!r}", remedy=did_you_mean(name, known, "Strategies")
        )
    if name not in BUILT_IN:
        return  # a plugin makes of the options what it likes
    given, own = options.given(), BUILT_IN[name]
    for asked in given:
        if asked not in own.options:
            others = [other for other, strategy in BUILT_IN.items() if asked in strategy.options]
            raise SaefilterError(
                f"{option_name(asked)} does not go with --strategy {name}",
                remedy=f"It goes with {', '.join(others)}.",
            )
    if options.judge is not None:
        options.judge.check()
    for alternatives in own.needs:
        if not any(option in given for option in alternatives):
            raise SaefilterError(
                f"--strategy {name} needs {' or '.join(map(option_name, alternatives))}",
                remedy="docs/strategies.md says what for.",
            )


def load_strategy(name: str) -> Callable[[Candidates, Selection], Any]:
    """The strategy: a built-in one gives a Ranking, one of another package may give an order."""
    if name in BUILT_IN:
        return BUILT_IN[name].load()
    strategy = load_plugin(plugins.STRATEGIES, name)

    def told(candidates: Candidates, selection: Selection) -> Any:
        # what it prints is no part of what a command gives to a program
        with plugin_errors(plugins.STRATEGIES, name), redirect_stdout(sys.stderr):
            return strategy(candidates, selection)

    return told
