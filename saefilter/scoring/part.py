"""Parts of a job, for machines that share nothing but the data: each scores some shards by itself and
keeps them in one file; merged they are the scores file of one run.

    saefilter score DATA -o S --part 3/8       on eight machines
    saefilter scores merge PART... -o S        on any one, without model and data

Merging is in merge.py. No torch here.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from saefilter.artifacts.integrity import content_sha256
from saefilter.artifacts.provenance import METADATA_KEY, PART_KEY
from saefilter.artifacts.publish import publishing
from saefilter.artifacts.scores import PREFERENCE_SCHEMA, SCHEMA
from saefilter.errors import SaefilterError
from saefilter.rows.sides import ANSWERS
from saefilter.scoring.job import Receipt, Shard, fingerprint_digest, plan_shards
from saefilter.scoring.join import FinishedShards, RunIdentity
from saefilter.scoring.scorer import ScorerIdentity
from saefilter.scoring.workfolder import MANIFEST_VERSION
from saefilter.stats.tally import Tally
from saefilter.storage import Location, RemotePath, local_copy
from saefilter.toxic.toxicset import Likeness, PushReference

RECEIPT_KEY = b"saefilter-receipt-%06d"
"""Of each shard's receipt; together they could be longer than one value of the metadata may be."""


@dataclass(frozen=True)
class Part:
    """One of the parts that the shards of a job are divided into."""

    number: int
    """From 1."""
    of: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """`3/8`. Raises SaefilterError for what is none."""
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        part = cls(int(match[1]), int(match[2])) if match else cls(0, 0)
        if not 1 <= part.number <= part.of:
            raise SaefilterError(
                f"--part {text} is no part", remedy="The parts of eight are 1/8, 2/8, ... to 8/8."
            )
        return part

    def __str__(self) -> str:
        return f"part {self.number} of {self.of}"

    def among(self, shards: list[Shard]) -> list[Shard]:
        """Its own: neighbours, so that it reads the data in one piece. None, where there are more parts
        than shards."""
        n = len(shards)
        return shards[n * (self.number - 1) // self.of : n * self.number // self.of]

    @property
    def _ending(self) -> str:
        return f".part-{self.number}-of-{self.of}.parquet"

    def file(self, output: Location) -> Location:
        """Beside the scores file that the parts will be; a name that says the part already stays."""
        if output.name.endswith(self._ending):
            return output
        return output.with_name(output.name.removesuffix(".parquet") + self._ending)

    def how_to_merge(self, file: Location) -> str:
        """The command for when this file and all others are there."""
        stem = str(file).removesuffix(self._ending)
        ending = f".part-*-of-{self.of}.parquet"
        # no shell looks into a store, and some refuse a pattern that nothing fits
        own = isinstance(file, RemotePath)
        parts = shlex.quote(stem + ending) if own else shlex.quote(stem) + ending
        return f"saefilter scores merge {parts} -o {shlex.quote(stem + '.parquet')}"


@dataclass(frozen=True)
class PartFile:
    """The file of a part, opened: a row group for each shard, the receipts in the metadata."""

    path: Location
    copy: Path
    """The file, or what was copied of it from a store."""
    part: Part
    fingerprint: dict[str, Any]
    run: RunIdentity
    receipts: dict[int, Receipt]
    """Shard -> receipt; its hash is of the content of the shard's rows."""
    metadata: pq.FileMetaData

    @classmethod
    def open(cls, path: Location) -> PartFile:
        """Raises SaefilterError when it is missing, damaged or not a part."""
        again = f"Score that part again, with --overwrite; it was {path.name}."
        if not path.is_file():
            raise SaefilterError(
                f"there is no file {path}", remedy="Name the files that score --part wrote."
            )
        copy = local_copy(path)
        try:
            metadata = pq.read_metadata(copy)
        except (pa.ArrowException, OSError) as error:
            raise SaefilterError(
                f"not a readable Parquet file ({str(error).splitlines()[0]})",
                where=str(path), remedy=again,
            ) from error  # fmt: skip
        values: dict[bytes, bytes] = metadata.metadata or {}
        if PART_KEY not in values:
            what = "all of the scores, or rows" if METADATA_KEY in values else "no scores"
            raise SaefilterError(
                f"not a part of scores, but {what}", where=str(path),
                remedy="Name the files that score --part wrote.",
            )  # fmt: skip
        try:
            return cls._read(path, copy, values, metadata)
        except (
            LookupError,
            ArithmeticError,
            ValueError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:
            raise SaefilterError(
                f"its metadata are damaged ({str(error)[:100]})", where=str(path), remedy=again
            ) from error

    @classmethod
    def _read(
        cls, path: Location, copy: Path, values: dict[bytes, bytes], metadata: pq.FileMetaData
    ) -> PartFile:
        fields = json.loads(values[PART_KEY])
        if fields["version"] != MANIFEST_VERSION:
            raise SaefilterError(
                f"a part of version {fields['version']}; this saefilter reads {MANIFEST_VERSION}",
                where=str(path),
                remedy="Merge it with the version that made it, or score the parts again.",
            )
        part, fingerprint = Part(fields["part"], fields["of"]), fields["made of"]
        shards = part.among(plan_shards(fingerprint["rows"], fingerprint["rows per shard"]))
        if metadata.num_row_groups != len(shards):
            raise ValueError(f"{metadata.num_row_groups} row groups for {len(shards)} shards")
        run = _run_of(fields["run"])
        receipts = {}
        for shard in shards:
            receipt = Receipt.of_fields(json.loads(values[RECEIPT_KEY % shard.number]))
            if (receipt.shard, receipt.first_row, receipt.end_row) != (
                shard.number, shard.first_row, shard.end_row,
            ):  # fmt: skip
                raise ValueError(f"the receipt of shard {shard.number} is another one's")
            receipts[shard.number] = receipt
        return cls(path, copy, part, fingerprint, run, receipts, metadata)

    @property
    def digest(self) -> str:
        """Of the fingerprint."""
        return fingerprint_digest(self.fingerprint)

    @property
    def shards(self) -> list[Shard]:
        """In the rows' order."""
        return [Shard(one.shard, one.first_row, one.end_row) for one in self.receipts.values()]

    @property
    def rows(self) -> int:
        return sum(receipt.rows for receipt in self.receipts.values())

    @property
    def scored(self) -> int:
        return sum(receipt.scored for receipt in self.receipts.values())

    @property
    def tally(self) -> Tally:
        return sum((receipt.tally for receipt in self.receipts.values()), Tally())

    def read(self, shard: Shard, columns: list[str] | None = None) -> pa.Table:
        """The rows of a shard. Raises SaefilterError when they are not those that were written."""
        number = shard.number - next(iter(self.receipts))
        try:
            with pq.ParquetFile(self.copy, metadata=self.metadata) as file:
                table = file.read_row_group(number, columns)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(f"cannot be read ({str(error).splitlines()[0]})", shard) from error
        if columns is None:
            content = content_sha256(table.schema, [table])
            if content != self.receipts[shard.number].sha256:
                raise self._damaged("were changed after they were written", shard)
        return table

    def where(self, shard: Shard) -> str:
        """The file."""
        return str(self.path)

    def _damaged(self, problem: str, shard: Shard) -> SaefilterError:
        return SaefilterError(
            f"{row_ranges([shard])} {problem}",
            where=str(self.path),
            remedy=f"Score {self.part} again, with --overwrite.",
        )


def publish_part(
    finished: FinishedShards,
    receipts: dict[int, Receipt],
    output: Location,
    run: RunIdentity,
    part: Part,
) -> None:
    """Write the shards of a part to its file. Preferences are left as their shards have them: where
    labelled answers count from is not known before all parts are there."""
    fields = {
        "version": MANIFEST_VERSION,
        "part": part.number,
        "of": part.of,
        "made of": finished.fingerprint,
        "run": _fields_of(run),
    }
    schema = SCHEMA if run.kind == ANSWERS else PREFERENCE_SCHEMA
    with (
        publishing([output]) as (temporary,),
        pq.ParquetWriter(temporary, schema, compression="zstd", write_statistics=False) as writer,
    ):
        values = {PART_KEY: json.dumps(fields).encode()}
        for shard in finished.shards:
            table = finished.read(shard)
            writer.write_table(table, row_group_size=table.num_rows)
            receipt = replace(receipts[shard.number], sha256=content_sha256(schema, [table]))
            values[RECEIPT_KEY % shard.number] = json.dumps(asdict(receipt)).encode()
        writer.add_key_value_metadata(values)


def row_ranges(shards: list[Shard]) -> str:
    """The ids of the rows of some shards, as ranges."""
    ranges: list[list[int]] = []
    for shard in shards:
        if ranges and ranges[-1][1] == shard.first_row:
            ranges[-1][1] = shard.end_row
        else:
            ranges.append([shard.first_row, shard.end_row])
    return "rows " + ", ".join(f"{first:,} to {end - 1:,}" for first, end in ranges)


def _fields_of(run: RunIdentity) -> dict[str, Any]:
    """As JSON, without what only scoring needs."""
    like = run.scorer.likeness
    scorer = replace(
        run.scorer, likeness=like and replace(like, quantiles={}, frequency=()), reasons=()
    )
    return asdict(replace(run, scorer=scorer))


def _run_of(fields: dict[str, Any]) -> RunIdentity:
    scorer = fields["scorer"]
    push, like = scorer["push"], scorer["likeness"]
    read = {
        "push": push and PushReference(**push),
        "likeness": like and Likeness(**like),
        **{name: tuple(scorer[name]) for name in ("notes", "push_labels", "reasons")},
    }
    return RunIdentity(**{**fields, "scorer": ScorerIdentity(**{**scorer, **read})})
