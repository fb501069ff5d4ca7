"""What the commands that take `--strategy` share: strategies' options and the judge's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saefilter.errors import SaefilterError
from saefilter.select.registry import BUILT_IN

if TYPE_CHECKING:
    from saefilter.cli.options import Given
    from saefilter.select.judge.settings import JudgeSettings
    from saefilter.select.registry import StrategyOptions

NAMES = ", ".join(BUILT_IN)
"""For the help."""


def strategy_options(telling: Given, judge: JudgeSettings | None) -> StrategyOptions:
    """What was given, as strategies take it. Raises SaefilterError for a value that is none."""
    from saefilter.select.registry import StrategyOptions

    return StrategyOptions(**telling, judge=judge)


def judge_settings(given: Given) -> JudgeSettings | None:
    """What was given of the --judge options; None where nothing was."""
    from saefilter.select.judge.settings import JudgeSettings

    if not given:
        return None
    for name in ("url", "model"):
        if name not in given:
            raise SaefilterError(
                f"a judge needs --judge-{name}",
                remedy="For example --judge-url http://127.0.0.1:8000/v1 --judge-model NAME.",
            )
    return JudgeSettings(**given)
