"""The decisions file: which rows a person keeps or drops, and why. `saefilter review` and the report's page
write it; `filter`, `features curate` and `compare` read it.

    {"kind": "saefilter decisions", "version": 1, "input": "data.jsonl", "input_sha256": "...",
     "scores_content_sha256": "...", "reviewer": "", "decisions": [
        {"row_hash": "0123456789abcdef", "line": 12, "file": null, "decision": "drop", "reason": "...",
         "at": "2026-11-29T09:00:00Z"}]}

A decision is of a row's content, so equal rows share theirs; of several on one row the last one counts.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saefilter.artifacts.publish import publishing
from saefilter.errors import SaefilterError
from saefilter.storage import Location, local_copy, located
from saefilter.text import json_safe, one_line

KIND = "saefilter decisions"
VERSION = 1
SUFFIX = ".decisions.json"
KEEP, DROP = "keep", "drop"
REASON_CHARACTERS = 1000
ENOUGH = 10
"""Of either side, to learn from; `curate` cannot split fewer."""
_HASH = re.compile(r"[0-9a-f]{16}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Decision:
    """What a person decided on one row. Its texts are untrusted."""

    row_hash: str
    """`Row.digest`, 16 hex digits."""
    line: int
    file: str | None
    decision: str
    """`keep` or `drop`."""
    reason: str = ""
    at: str = ""
    """ISO 8601, UTC."""

    @property
    def drops(self) -> bool:
        return self.decision == DROP


@dataclass(frozen=True)
class Decisions:
    """A decisions file, or one in the making."""

    input: str
    """File name of the data."""
    input_sha256: str
    scores_content_sha256: str | None = None
    """Of the scores by which rows were shown."""
    reviewer: str = ""
    decisions: tuple[Decision, ...] = ()
    """One for each row hash, in the order in which they were made."""
    path: Location | None = None
    """Where it was read from."""
    sha256: str = ""
    """Of the file that was read."""

    @classmethod
    def open(cls, path: str | Location) -> Decisions:
        """Raises SaefilterError when the file is missing, damaged or not of decisions."""
        path = located(path)
        if not path.exists():
            raise SaefilterError(
                f"there is no decisions file {path}",
                remedy="Make one: saefilter review SCORES, or export it from the report's page.",
            )
        try:
            content = local_copy(path).read_bytes()
            fields = json.loads(content.decode("utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            raise _damaged(path, f"not readable JSON ({one_line(str(error))[:100]})") from error
        if not isinstance(fields, dict) or fields.get("kind") != KIND:
            raise SaefilterError(
                "not a decisions file of saefilter",
                where=str(path),
                remedy="Make one: saefilter review SCORES, or export it from the report's page.",
            )
        if fields.get("version") != VERSION:
            raise SaefilterError(
                f"decisions of version {fields.get('version')!r}; this saefilter reads {VERSION}",
                where=str(path),
            )
        return cls._read(path, fields, hashlib.sha256(content).hexdigest())

    @classmethod
    def _read(cls, path: Location, fields: dict[str, Any], sha256: str) -> Decisions:
        data, listed = fields.get("input_sha256"), fields.get("decisions")
        if not isinstance(data, str) or not _DIGEST.fullmatch(data):
            raise _damaged(path, "it does not say of which data it is (input_sha256)")
        if not isinstance(listed, list):
            raise _damaged(path, "it has no list of decisions")
        made = [_decision(one, number, path) for number, one in enumerate(listed, start=1)]
        scores = fields.get("scores_content_sha256")
        return cls(
            _text(fields.get("input")), data, scores if isinstance(scores, str) else None,
            _text(fields.get("reviewer")), _last_of_each(made), path, sha256,
        )  # fmt: skip

    def with_decision(self, one: Decision) -> Decisions:
        """With one more, in the place of what was decided on the same row."""
        return replace(self, decisions=_last_of_each([*self.decisions, one]))

    def of(self, row_hash: str) -> Decision | None:
        """What was decided on a row."""
        return next((one for one in self.decisions if one.row_hash == row_hash), None)

    def count(self, decision: str) -> int:
        """How many say `keep`, or `drop`."""
        return sum(one.decision == decision for one in self.decisions)

    @property
    def enough_to_learn(self) -> bool:
        """Whether there are as many of either side as a toxic set is learnt from."""
        return min(self.count(KEEP), self.count(DROP)) >= ENOUGH

    def check_belongs(self, input_sha256: str, data: str) -> None:
        """Raises SaefilterError for decisions on other data, though the same rows may be among them:
        what was decided was decided on a row where it stood. `data` names the data."""
        if self.input_sha256 != input_sha256:
            raise SaefilterError(
                f"these decisions are on {self.input or 'other data'} (SHA-256 "
                f"{self.input_sha256[:12]}), and {data} is not the same (SHA-256 {input_sha256[:12]})",
                where=str(self.path) if self.path else None,
                remedy="Use the data that were reviewed, or review these anew: saefilter review SCORES "
                "-o NEW" + SUFFIX,
            )

    def on(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Which decision is on each row, `[n_rows]` of their hashes; -1 where there is none."""
        number = np.full(len(hashes), -1, dtype=np.int64)
        if not self.decisions:
            return number
        own = np.array([int(one.row_hash, 16) for one in self.decisions], dtype=np.uint64)
        order = np.argsort(own)
        at = np.minimum(np.searchsorted(own[order], hashes), len(own) - 1)
        here = own[order][at] == hashes
        number[here] = order[at[here]]
        return number

    def words(self, one: Decision) -> str:
        """Why a row was dropped: that somebody said so, and what else was said."""
        by = f"dropped in review by {self.reviewer}" if self.reviewer else "dropped in review"
        return f"{by}: {one.reason}" if one.reason else by

    def to_json(self) -> str:
        """The file's text."""
        head = {
            "kind": KIND, "version": VERSION, "input": self.input, "input_sha256": self.input_sha256,
            "scores_content_sha256": self.scores_content_sha256, "reviewer": self.reviewer,
            "decisions": [asdict(one) for one in self.decisions],
        }  # fmt: skip
        return json_safe(json.dumps(head, ensure_ascii=False, indent=1)) + "\n"

    def write(self, path: Location) -> None:
        """Put the file there, in the place of one of before; a link stays one. Raises SaefilterError when that
        fails. Who writes it more than once holds it meanwhile (`publish.exclusive`)."""
        if isinstance(path, Path):
            path = path.resolve()
        with publishing([path]) as (temporary,):
            temporary.write_text(self.to_json(), encoding="utf-8")


def now() -> str:
    """The moment, for `Decision.at`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _decision(fields: Any, number: int, path: Location) -> Decision:
    if not isinstance(fields, dict):
        raise _damaged(path, f"decision {number} is no object")
    row_hash, decision = fields.get("row_hash"), fields.get("decision")
    if not isinstance(row_hash, str) or not _HASH.fullmatch(row_hash):
        raise _damaged(path, f"decision {number} has no row_hash of 16 hex digits")
    if decision not in (KEEP, DROP):
        raise _damaged(path, f"decision {number} is {str(decision)[:40]!r}, not keep or drop")
    line, file = fields.get("line"), fields.get("file")
    return Decision(
        row_hash,
        line if isinstance(line, int) and not isinstance(line, bool) else 0,
        _text(file) if isinstance(file, str) else None,
        decision,
        _text(fields.get("reason")),
        _text(fields.get("at")),
    )


def _text(value: Any) -> str:
    return one_line(value)[:REASON_CHARACTERS] if isinstance(value, str) else ""


def _last_of_each(made: Iterable[Decision]) -> tuple[Decision, ...]:
    """The last decision on every row, in the order in which they were made."""
    by_row: dict[str, Decision] = {}
    for one in made:
        by_row.pop(one.row_hash, None)
        by_row[one.row_hash] = one
    return tuple(by_row.values())


def _damaged(path: Location, problem: str) -> SaefilterError:
    return SaefilterError(
        problem, where=str(path), remedy="Export the decisions again, or put that entry right."
    )
