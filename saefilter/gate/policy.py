"""The policy: what a dataset may be like. From flags, a file, or the default."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from saefilter.config import read_setting
from saefilter.described import Described, described, option
from saefilter.errors import SaefilterError, did_you_mean


@dataclass(frozen=True)
class Policy:
    """Limits; None is no limit. Shares are in percent."""

    max_flagged: float | None = option(
        None, "Largest share of rows beyond the harmless ones.", share=True
    )
    """Of scored rows, those closer to toxic features than all but `at_fpr` of harmless rows."""
    at_fpr: float = option(5.0, "Share of harmless rows that count as beyond.", share=True)
    """False-positive rate: the share of harmless reference rows that would be flagged."""
    min_chance: float | None = option(
        None,
        "Smallest probability that noise alone puts as many rows of harmless data beyond.",
        least=0,
        most=1,
    )
    """Of a test against the reference, whose uncertainty counts too; below it the data are worse."""
    max_proximity: float | None = option(None, "Largest proximity of any row.")
    max_spillover: float | None = option(None, "Largest predicted push on a toxic feature.")
    """Beyond the reference's."""
    min_scored: float | None = option(
        None, "Smallest share of rows that can be scored.", share=True
    )
    """Of all rows."""
    max_quarantined: float | None = option(None, "Largest share that cannot.", share=True)
    """Of all rows."""
    max_bad_share: float | None = option(
        None, "Largest share of bad rows that is certain.", share=True
    )
    """Of scored rows: the lower end of a 95 % interval."""
    max_wrong_way: float | None = option(
        None, "Largest share of pairs or KTO rows that push towards toxic features.", share=True
    )
    """Of scored rows of preference data."""
    origin: str = "the default policy"
    """Where it is from."""

    def limits(self) -> dict[str, float]:
        """The rules that are asked for, by name."""
        limits = {name: getattr(self, name) for name in described(Policy) if name != "at_fpr"}
        return {name: limit for name, limit in limits.items() if limit is not None}


DEFAULT_POLICY = Policy(max_flagged=10.0, min_chance=0.005, max_quarantined=5.0)
"""Twice what harmless data have flagged; fewer where so many are more than noise brings, in all but one
of 200 harmless files (docs/check.md shows both on labelled data); and data of which one row in twenty
cannot be read are not what their owner thinks they are."""


def choose_policy(flags: Mapping[str, Any], folder: Path = Path()) -> Policy:
    """The policy of the command's flags, which win over the `[check]` table of the project's settings;
    the default policy where neither sets a limit. Flags that are None are not given.

    Raises SaefilterError for what is no limit, naming the file.
    """
    setting = read_setting("check", folder)
    rules = described(Policy)
    limits: dict[str, float] = {}
    if setting is not None:
        where = f"{setting.file} [check]"
        if not isinstance(setting.value, dict):
            raise SaefilterError("'check' must be a table", where=setting.file)
        for key, value in setting.value.items():
            name = str(key).replace("-", "_")
            if name in limits:
                raise SaefilterError(f"{key!r} is there twice", where=where, remedy="Remove one.")
            if name not in rules:
                raise SaefilterError(
                    f"{key!r} is no rule", where=where, remedy=did_you_mean(name, rules)
                )
            limits[name] = _limit(rules[name], value, where)
    given = {
        name: _limit(rules[name], value, rules[name].flag)
        for name, value in flags.items()
        if value is not None
    }
    origins = [setting.file] if limits and setting is not None else []
    if given:
        origins.append("the command's flags")
    policy = Policy(**{**limits, **given}, origin=" and ".join(origins))
    counted = (policy.max_flagged, policy.min_chance)
    if {"at_fpr"} & {*given, *limits} and policy.limits() and counted == (None, None):
        raise SaefilterError(
            "--at-fpr has no effect without --max-flagged or --min-chance",
            where=None if "at_fpr" in given or setting is None else setting.file,
            remedy="Give one of them, or leave the rate out.",
        )
    if not policy.limits():
        return replace(DEFAULT_POLICY, at_fpr=policy.at_fpr)  # a rate alone limits nothing
    return policy


def _limit(rule: Described, value: Any, where: str) -> float:
    """A number; a share in percent, given as "0.5%" or as a part of 1."""
    try:
        if isinstance(value, bool):
            raise ValueError
        in_percent = isinstance(value, str) and value.strip().endswith("%")
        number = float(value.strip().rstrip("% ") if isinstance(value, str) else value)
    except (TypeError, ValueError):
        raise SaefilterError(
            f"{value!r} is no {'share' if rule.option.share else 'number'}",
            where=where,
            remedy='Use "0.5%" or 0.005.' if rule.option.share else "Use a number such as 0.8.",
        ) from None
    if not rule.option.share:
        if not math.isfinite(number) or in_percent:
            raise SaefilterError(f"{value!r} is not a finite number", where=where)
        least, most = rule.option.least, rule.option.most
        if least is not None and most is not None and not least < number < most:
            raise SaefilterError(
                f"{value!r} is not between {least:g} and {most:g}", where=where,
                remedy="Use a number such as 0.005.",
            )  # fmt: skip
        return number
    share = number if in_percent else number * 100
    if not 0 <= share <= 100:
        raise SaefilterError(
            f"the share {value!r} is not between 0% and 100%",
            where=where,
            remedy='5 % is "5%" or 0.05.',
        )
    if rule.name == "at_fpr" and share in (0, 100):
        raise SaefilterError("a false-positive rate is between 0% and 100%", where=where)
    return round(share, 10)  # 0.07 is 7 %, not 7.000000000000001 %
