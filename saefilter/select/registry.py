"""The built-in strategies by name. Each lives in a module of its own, imported when it is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from saefilter import plugins
from saefilter.errors import SaefilterError
from saefilter.plugins import load_plugin, plugin_names
from saefilter.select.options import StrategyOptions, option_name

if TYPE_CHECKING:
    from saefilter.select.candidates import Candidates
    from saefilter.select.ranking import Ranking
    from saefilter.select.strategies import Selection


@dataclass(frozen=True)
class BuiltIn:
    """Where a strategy is, and what must be known of it before it is imported."""

    where: str
    """`module:function`; the function takes Candidates and Selection and gives a Ranking."""
    about: str
    """What it drops first, in a few words for the help."""
    needs: tuple[tuple[str, ...], ...] = ()
    """Options that must be given: at least one of each group."""
    takes: tuple[str, ...] = ()
    """Options that may be given."""
    seeded: bool = False
    """Whether the seed plays a part."""
    control: bool = False
    """Whether it is there to compare with: it draws, or knows what a user could not."""

    @property
    def options(self) -> set[str]:
        """Every option that goes with it."""
        return {*self.takes, *(name for group in self.needs for name in group)}

    def load(self) -> Callable[[Candidates, Selection], Ranking]:
        """Import it."""
        module, _, name = self.where.partition(":")
        found: Callable[[Candidates, Selection], Ranking] = getattr(import_module(module), name)
        return found


_LABELS = ("label", "labels")
_CONTRAST = ("contrast_toxic", "contrast_benign")
_READS = ("model", "revision", "device", "dtype")

BUILT_IN: dict[str, BuiltIn] = {
    "closest": BuiltIn("saefilter.select.closest:rank", "closest to toxic features"),
    "random": BuiltIn(
        "saefilter.select.at_random:rank", "drawn at random", seeded=True, control=True
    ),
    "text-classifier": BuiltIn(
        "saefilter.select.text_classifier:rank",
        "toxic by a classifier of words, learnt from contrast rows",
        takes=_CONTRAST,
    ),
    "embedding-classifier": BuiltIn(
        "saefilter.select.embedding_classifier:rank",
        "toxic by a classifier of sentence embeddings, learnt from contrast rows",
        takes=(*_CONTRAST, "device"),
    ),
    "loss": BuiltIn(
        "saefilter.select.loss:rank", "most surprising to a causal model", takes=_READS
    ),
    "projection-difference": BuiltIn(
        "saefilter.select.projection_difference:rank",
        "farther along the toxic direction than a causal model's own answer",
        takes=(*_CONTRAST, *_READS, "toxic_set", "hook", "max_new_tokens", "temperature"),
        seeded=True,
    ),
    "judge": BuiltIn(
        "saefilter.select.judge.strategy:rank",
        "most harmful by a language model at an endpoint",
        needs=(("judge",),),
        seeded=True,
    ),
    "labels": BuiltIn(
        "saefilter.select.labels:rank",
        "labelled bad (the oracle)",
        needs=(_LABELS,),
        seeded=True,
        control=True,
    ),
    "matched-random": BuiltIn(
        "saefilter.select.matched_random:rank",
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
            f"there is no strategy {name!r}", remedy=f"Strategies: {', '.join(known)}."
        )
    if name not in BUILT_IN:
        return  # a plugin makes of the options what it likes
    given, own = options.given(), BUILT_IN[name]
    for option in given:
        if option not in own.options:
            others = [other for other, one in BUILT_IN.items() if option in one.options]
            raise SaefilterError(
                f"{option_name(option)} does not go with --strategy {name}",
                remedy=f"It goes with {', '.join(others)}.",
            )
    if options.judge is not None:
        options.judge.check()
    for group in own.needs:
        if not any(option in given for option in group):
            raise SaefilterError(
                f"--strategy {name} needs {' or '.join(map(option_name, group))}",
                remedy="docs/strategies.md says what for.",
            )


def load_strategy(name: str) -> Callable[[Candidates, Selection], Any]:
    """The strategy: a built-in one gives a Ranking, one of another package may give an order."""
    if name in BUILT_IN:
        return BUILT_IN[name].load()
    found: Callable[[Candidates, Selection], Any] = load_plugin(plugins.STRATEGIES, name)
    return found
