"""Put the parts of a job together: the scores file of one run, or what is wrong with them. No model, no
data and no torch here; a shard at a time is in memory, besides receipts and footers, and eight bytes a row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from saefilter.artifacts.publish import exclusive, refuse_existing
from saefilter.artifacts.scores import Scores
from saefilter.errors import SaefilterError
from saefilter.scoring.job import Shard, plan_shards
from saefilter.scoring.join import join_shards
from saefilter.scoring.part import Part, PartFile, row_ranges
from saefilter.scoring.workfolder import changes
from saefilter.storage import Location, same_file


def merge_parts(
    paths: Sequence[Location],
    output: Location,
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Scores:
    """Publish the scores file that the parts are of.

    `say` is told what may make them differ by rounding. Raises SaefilterError when they are not of one
    job, or not each of its rows is in exactly one of them; then `output` is as it was.
    """
    refuse_existing([output], overwrite=overwrite)
    for path in paths:
        if same_file(output, path):
            raise SaefilterError(
                f"{path} is one of the parts and would be overwritten",
                remedy="Choose another name with -o.",
            )
    with exclusive(output):
        refuse_existing([output], overwrite=overwrite)
        files = sorted(map(PartFile.open, paths), key=lambda one: (one.part.number, one.part.of))
        _refuse_foreign(files)
        merged = _Merged.of(files)
        for line in _unlike(files):
            say(line)
        receipts = {number: one for file in files for number, one in file.receipts.items()}
        join_shards(merged, receipts, output, files[0].run)
    return Scores.open(output)


@dataclass(frozen=True)
class _Merged:
    """The shards of all parts."""

    fingerprint: dict[str, Any]
    shards: list[Shard]
    files: dict[int, PartFile]
    """Shard -> where it lies."""

    @classmethod
    def of(cls, parts: list[PartFile]) -> _Merged:
        """Raises SaefilterError where a shard is there twice or not at all."""
        fingerprint = parts[0].fingerprint
        shards = plan_shards(fingerprint["rows"], fingerprint["rows per shard"])
        files: dict[int, PartFile] = {}
        seen: dict[Part, PartFile] = {}
        for file in parts:
            if (twin := seen.setdefault(file.part, file)) is not file:
                raise _doubled(str(file.part), twin, file)
            both = [shard for shard in file.shards if shard.number in files]
            if both:
                raise _doubled(row_ranges(both), files[both[0].number], file)
            files |= dict.fromkeys(file.receipts, file)
        if missing := [shard for shard in shards if shard.number not in files]:
            raise _missing(missing, shards, parts)
        return cls(fingerprint, shards, files)

    def read(self, shard: Shard, columns: list[str] | None = None) -> pa.Table:
        return self.files[shard.number].read(shard, columns)

    def where(self, shard: Shard) -> str:
        return self.files[shard.number].where(shard)


def _refuse_foreign(files: list[PartFile]) -> None:
    """Raises SaefilterError for a part of another job than most are of."""
    digest, _ = Counter(file.digest for file in files).most_common(1)[0]
    usual = next(file for file in files if file.digest == digest)
    for file in files:
        if file.digest != digest:
            differing = changes(
                usual.fingerprint, file.fingerprint, "{name} is {now}, not {before}"
            )
            raise SaefilterError(
                f"not of the same job as {usual.path.name}: {'; '.join(differing)}",
                where=str(file.path),
                remedy="Merge parts of the same data and settings; score this one again with theirs.",
            )


def _doubled(what: str, one: PartFile, other: PartFile) -> SaefilterError:
    are = "is" if what.startswith("part") else "are"
    return SaefilterError(
        f"{what} {are} there twice: {one.path} and {other.path}", remedy="Leave one of them out."
    )


def _missing(missing: list[Shard], shards: list[Shard], files: list[PartFile]) -> SaefilterError:
    """By number, where all are parts of as many."""
    remedy = "Score what is missing (saefilter score DATA --part K/N), then merge all."
    of = {file.part.of for file in files}
    if len(of) > 1:
        return SaefilterError(f"{row_ranges(missing)} are in none of the parts", remedy=remedy)
    numbers = {shard.number for shard in missing}
    parts = (Part(number, *of) for number in range(1, max(of) + 1))
    absent = {
        part: own for part in parts if (own := part.among(shards)) and own[0].number in numbers
    }
    names = [f"{part} ({row_ranges(own)})" for part, own in absent.items()]
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return SaefilterError(f"{shown} {'is' if len(names) == 1 else 'are'} missing", remedy=remedy)


def _unlike(files: list[PartFile]) -> Iterator[str]:
    """What the parts were computed with or on that differs."""
    for name in dict.fromkeys(name for file in files for name in file.run.versions):
        if len(versions := {file.run.versions.get(name) for file in files}) > 1:
            listed = ", ".join(sorted(map(str, versions)))
            yield f"The parts were computed with different versions of {name}: {listed}"
    if len(devices := {file.run.scorer.device.partition(":")[0] for file in files}) > 1:
        yield f"The parts were computed on different devices: {', '.join(sorted(devices))}"
