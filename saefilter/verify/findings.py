"""What `verify` finds: checks, each with how it went and what they come to; and what an artifact was made
from (the data, the scores and the toxic set), looked for and compared.
"""

from __future__ import annotations

import glob
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saefilter.artifacts.manifest import stem_of
from saefilter.artifacts.scores import SUFFIX, Scores
from saefilter.config import cache_folder
from saefilter.errors import SaefilterError
from saefilter.rows.inputs import open_input
from saefilter.rows.read import Source
from saefilter.storage import Location
from saefilter.toxic.load import load_toxic_set
from saefilter.toxic.toxicset import ToxicSet

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

    artifact: Location
    kind: str = ""
    """`scores`, `kept`, `dropped`, `quarantined`, `report` or `toxic set`."""
    checks: list[Check] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 all belongs together, 1 something does not, 2 something could not be judged."""
        statuses = {check.status for check in self.checks}
        return 1 if MISMATCH in statuses else 2 if NOT_FOUND in statuses else 0

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


@dataclass(frozen=True)
class Given:
    """Neighbours that the user names; what is None is looked for."""

    input: str | None = None
    scores: Location | None = None
    toxic_set: str | None = None


def origin_of(made: dict[str, Any]) -> dict[str, Any]:
    """What scores were made from, by the names of their provenance."""
    names = ("input_sha256", "toxic_set", "toxic_set_sha256", "sae_fingerprint", "content_sha256")
    return {name: made.get(name) for name in names}


def origin_of_report(report: dict[str, Any]) -> dict[str, Any]:
    """The same of what a report says, by the same names."""
    origin, scoring = report.get("made_from") or {}, report.get("scoring") or {}
    return {
        "input_sha256": report.get("input_sha256"),
        "toxic_set": scoring.get("toxic_set"),
        "toxic_set_sha256": origin.get("toxic_set_sha256"),
        "sae_fingerprint": origin.get("sae_fingerprint"),
        "content_sha256": origin.get("scores_content_sha256"),
    }


def find_scores(
    findings: Findings, given: Given, named: Path | None, artifact: Path, recorded: dict[str, Any]
) -> Scores | None:
    """The scores that were filtered by, when they are the right ones."""
    stem = artifact.name.partition(".filtered.")[0]
    names = [named.name] if named else [stem + SUFFIX]
    wanted = [artifact.with_name(names[0]), *map(Path, names)]
    beside = next((path for path in wanted if path.is_file()), None)
    path: Location | None = given.scores or beside
    if path is None:
        findings.add("scores", NOT_FOUND, f"{wanted[0]} is not there; name it with --scores")
        return None
    try:
        scores = Scores.open(path)
        scores.verify()
    except SaefilterError as error:
        findings.add("scores", MISMATCH, str(error))
        return None
    content = scores.provenance.content_sha256
    same = findings.compare(
        "scores", content, recorded["content_sha256"], f"content of {path.name}"
    )
    return scores if same else None


def find_input(
    findings: Findings, given: Given, recorded: str | None, sha256: str | None, artifact: Path
) -> Source | None:
    """The data; only what lies on this machine is looked for, and that of the right hash first. What the run
    itself wrote may be called like the data, and is never taken for them."""
    if given.input:
        return open_input(given.input)
    own = (artifact.absolute().parent, stem_of(artifact.name))
    sources: list[Source] = []
    if recorded:
        for name in (recorded, artifact.parent / recorded, artifact.parent / Path(recorded).name):
            place = Path(name).absolute()
            if (place.parent, stem_of(place.name)) == own:
                continue
            if place.exists() or (glob.has_magic(str(name)) and glob.glob(str(name))):
                sources.append(open_input(name))
    if not sources:
        findings.add("input", NOT_FOUND, f"{recorded or 'the data'} is not there; name it: --input")
        return None
    return next((source for source in sources if source.sha256() == sha256), sources[0])


def check_origin(
    findings: Findings,
    source: Source | None,
    given: Given,
    recorded: dict[str, Any],
    artifact: Path,
) -> bool:
    """Input, toxic set and SAE; whether the input is there and the right one."""
    sound = source is not None and findings.compare(
        "input", source.sha256(), recorded["input_sha256"], f"bytes of {source.path}"
    )
    try:
        toxic_set = _toxic_set(given, recorded, artifact)
    except SaefilterError as error:
        findings.add("toxic set", NOT_FOUND, f"{error.problem}; name it: --toxic-set")
        return sound
    findings.compare("toxic set", toxic_set.sha256(), recorded["toxic_set_sha256"], toxic_set.name)
    compare_sae(findings, toxic_set, recorded)
    return sound


def _toxic_set(given: Given, recorded: dict[str, Any], artifact: Path) -> ToxicSet:
    """The named set, one beside the artifact, a shipped one, or one made on this machine."""
    if given.toxic_set:
        return load_toxic_set(given.toxic_set)
    name = Path(str(recorded["toxic_set"])).name
    made_here = (cache_folder() / "toxic-sets").glob(f"*-{str(recorded['sae_fingerprint'])[:12]}-*")
    for path in (artifact.with_name(f"{name}.json"), *sorted(made_here)):
        if path.is_file():
            toxic_set = load_toxic_set(str(path))
            if toxic_set.sha256() == recorded["toxic_set_sha256"]:
                return toxic_set
    return load_toxic_set(name)


def compare_sae(findings: Findings, toxic_set: ToxicSet, recorded: dict[str, Any]) -> None:
    what = f"SAE of the toxic set {toxic_set.name} and of the scores"
    findings.compare("SAE", toxic_set.fingerprint, recorded["sae_fingerprint"], what)
