"""What `verify` finds: checks, each with how it went, and what they come to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saefilter.errors import SaefilterError

OK, MISMATCH, NOT_FOUND = "ok", "mismatch", "not found"


@dataclass(frozen=True)
class Check:
    """One thing that was compared."""

    name: str
    status: str
    """`ok`, `mismatch` or `not found`."""
    says: str


@dataclass
class Findings:
    """What was found about an artifact."""

    artifact: Path
    kind: str = ""
    """`scores`, `kept`, `dropped`, `quarantined`, `report` or `toxic set`."""
    checks: list[Check] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 all belongs together, 1 something does not, 2 something could not be judged."""
        found = {check.status for check in self.checks}
        return 1 if MISMATCH in found else 2 if NOT_FOUND in found else 0

    def add(self, name: str, status: str, says: str) -> bool:
        """Note a check; whether it went well."""
        self.checks.append(Check(name, status, says))
        return status == OK

    def compare(self, name: str, found: Any, recorded: Any, what: str) -> bool:
        """Note whether two hashes or counts are the same; `what` names what they are of."""
        if recorded is None:
            return self.add(
                name, NOT_FOUND, f"{what}: no hash was recorded by the version that made it"
            )
        if found == recorded:
            return self.add(name, OK, f"{what} ({short(found)})")
        return self.add(
            name, MISMATCH, f"{what}: {short(found)} where {short(recorded)} was recorded"
        )

    def attempt(self, name: str, action: Callable[[], str]) -> bool:
        """Note that an action went well, with what it returns, or the SaefilterError it raised."""
        try:
            return self.add(name, OK, action())
        except SaefilterError as error:
            return self.add(name, MISMATCH, str(error))


def short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in sorted(value.items()))
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else str(value)
