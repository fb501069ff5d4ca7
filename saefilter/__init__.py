"""saefilter: find and drop the fine-tuning samples that lie next to a model's toxic features.

`score`, `filter` and `check` are the Python API (saefilter/api.py); they are imported when first used,
so that `import saefilter` and the command line start at once.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

try:
    __version__ = version("saefilter")  # written when it was installed, from git's tags
except PackageNotFoundError:  # a checkout that is only on the path
    __version__ = "0.0.0"

if TYPE_CHECKING:
    from saefilter.api import check, filter, score
    from saefilter.errors import SaefilterError
    from saefilter.results import Filtered, Scores
    from saefilter.scoring.scorer import RowScorer
    from saefilter.select.judge.settings import JudgeSettings
    from saefilter.select.registry import StrategyOptions
    from saefilter.settings import ScoreSettings

__all__ = [
    "Filtered", "JudgeSettings", "RowScorer", "SaefilterError", "ScoreSettings", "Scores",
    "StrategyOptions", "check", "filter", "score",
]  # fmt: skip

_HOMES = {
    "check": "saefilter.api",
    "filter": "saefilter.api",
    "score": "saefilter.api",
    "Filtered": "saefilter.results",
    "SaefilterError": "saefilter.errors",
    "RowScorer": "saefilter.scoring.scorer",
    "ScoreSettings": "saefilter.settings",
    "Scores": "saefilter.results",
    "JudgeSettings": "saefilter.select.judge.settings",
    "StrategyOptions": "saefilter.select.registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'saefilter' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
