"""The folder of an unfinished scoring run: its manifest, its shards, what is done and what is not."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from saefilter.artifacts.integrity import file_sha256
from saefilter.artifacts.publish import publishing
from saefilter.errors import SaefilterError
from saefilter.scoring.job import Receipt, Shard, fingerprint_digest
from saefilter.storage import Location, RemotePath, names_in, read_each

MANIFEST = "manifest.json"
MANIFEST_VERSION = 4
"""4 keeps sums of likeness in each receipt; 3 has a column more in each shard; 2 keeps a tally in each receipt."""


def work_folder(output: Location) -> Location:
    """Where the shards of a scores file are until it is whole."""
    return output.with_name(output.name + ".shards")


@dataclass(frozen=True)
class WorkFolder:
    """The shards of one run."""

    path: Location
    fingerprint: dict[str, Any]
    shards: list[Shard]
    written: dict[int, str] = field(default_factory=dict)
    """Shard -> hash of its file, where those that are read must be the ones that were written: a worker that
    was given up, or a run that was taken over, may still write."""

    @classmethod
    def begin(
        cls,
        path: Location,
        fingerprint: dict[str, Any],
        shards: list[Shard],
        *,
        overwrite: bool = True,
    ) -> WorkFolder:
        """An empty folder with its manifest; one of an earlier run is removed, whatever `overwrite` says:
        whoever begins has asked."""
        folder = cls(path, fingerprint, shards)
        folder.remove()
        try:
            if isinstance(path, Path):
                path.mkdir()
        except OSError as error:
            raise SaefilterError(
                f"cannot make the folder {path} ({error.strerror or error})",
                remedy="Make room or choose another folder with -o.",
            ) from error
        manifest = {"version": MANIFEST_VERSION, "shards": len(shards), "made of": fingerprint}
        with publishing([path / MANIFEST], folders=False) as (temporary,):
            temporary.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        return folder

    @classmethod
    def resume(
        cls,
        path: Location,
        fingerprint: dict[str, Any],
        shards: list[Shard],
        *,
        overwrite: bool = False,
    ) -> WorkFolder:
        """The folder as an earlier run left it, without what was half written.

        Where that run scored something else, or in another way, an empty one if `overwrite`; else
        raises SaefilterError.
        """
        file = path / MANIFEST
        again = "Use the same data and settings as before, or add --overwrite to start anew."
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
            before = dict(manifest["made of"])
            version = manifest["version"]
        except FileNotFoundError:  # killed before the first shard
            return cls.begin(path, fingerprint, shards)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            if overwrite:
                return cls.begin(path, fingerprint, shards)
            raise SaefilterError(
                f"the manifest cannot be read ({error})", where=str(file), remedy=again
            ) from error
        if version != MANIFEST_VERSION and overwrite:
            return cls.begin(path, fingerprint, shards)
        if version != MANIFEST_VERSION:
            raise SaefilterError(
                f"begun by another version of saefilter (its manifest is of version {version}, "
                f"this one's of {MANIFEST_VERSION})",
                where=str(file),
                remedy="Finish it with that version, or add --overwrite to start anew.",
            )
        differing = list(changes(before, fingerprint))
        if differing and overwrite:
            return cls.begin(path, fingerprint, shards)
        if differing:
            raise SaefilterError(
                f"the shards in {path} were made from something else: {'; '.join(differing)}",
                remedy=again,
            )
        if isinstance(path, Path):
            for leftover in path.glob(".*.tmp"):
                leftover.unlink(missing_ok=True)
        return cls(path, fingerprint, shards)

    @classmethod
    def at(cls, path: Location, shards: list[Shard]) -> WorkFolder:
        """A folder that a run works in, for a look at some of its shards."""
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        return cls(path, manifest["made of"], shards)

    def receipts(self, *, verify: bool = False) -> dict[int, Receipt]:
        """Of the finished shards, by number. `verify` reads the shards too.

        Raises SaefilterError when a shard is not what was written.
        """
        there = names_in(self.path)
        done = [shard for shard in self.shards if shard.receipt in there]
        digest = fingerprint_digest(self.fingerprint)
        receipts = {}
        texts = read_each([self.path / shard.receipt for shard in done], _text)
        for shard, text in zip(done, texts, strict=True):
            receipt = _receipt(text, self.path / shard.receipt)
            expected = (shard.number, shard.first_row, shard.end_row, digest)
            if (receipt.shard, receipt.first_row, receipt.end_row, receipt.fingerprint) != expected:
                raise self._foreign(shard.receipt, "it is the receipt of another shard or run")
            receipts[shard.number] = receipt
        if verify:
            self._verify(done, receipts)
        return receipts

    def _verify(self, done: list[Shard], receipts: dict[int, Receipt]) -> None:
        hashes = read_each([self.path / shard.name for shard in done], _sha256)
        for shard, sha256 in zip(done, hashes, strict=True):
            if sha256 is None:
                raise self._foreign(shard.name, "it is missing, though its receipt is there")
            if sha256 != receipts[shard.number].sha256:
                raise self._foreign(shard.name, "it was changed after it was written")

    def where(self, shard: Shard) -> str:
        """The shard's file."""
        return str(self.path / shard.name)

    def read(self, shard: Shard, columns: list[str] | None = None) -> pa.Table:
        """The rows of a finished shard. Raises SaefilterError when it cannot be read."""
        try:
            content = (self.path / shard.name).read_bytes()
            wanted = self.written.get(shard.number)
            if wanted not in (None, hashlib.sha256(content).hexdigest()):
                raise self._foreign(shard.name, "it was changed after it was written")
            with pq.ParquetFile(pa.BufferReader(content)) as file:
                return file.read(columns)
        except (pa.ArrowException, OSError) as error:
            raise SaefilterError(
                f"the shard cannot be read ({str(error).splitlines()[0]})", where=self.where(shard)
            ) from error

    def _foreign(self, name: str, problem: str) -> SaefilterError:
        return SaefilterError(
            problem,
            where=str(self.path / name),
            remedy=f"Remove {Path(name).stem}.json there and go on; that shard is scored again.",
        )

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        if isinstance(self.path, RemotePath):
            # first of all: what is left then counts no more
            (self.path / MANIFEST).unlink(missing_ok=True)
            self.path.remove_all()
        else:
            shutil.rmtree(self.path, ignore_errors=True)


def _text(path: Location) -> str:
    return path.read_text(encoding="utf-8")


def _sha256(path: Location) -> str | None:
    """Of a shard's file; None where it is not there."""
    try:
        if isinstance(path, Path):
            return file_sha256(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def _receipt(text: str, path: Location) -> Receipt:
    try:
        return Receipt.of_fields(json.loads(text))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SaefilterError(
            f"not a receipt ({error})",
            where=str(path),
            remedy="Remove it and go on; that shard is scored again.",
        ) from error


def changes(
    before: dict[str, Any], now: dict[str, Any], words: str = "{name} was {before}, now {now}"
) -> Iterator[str]:
    """In what a fingerprint differs from another one, a clause each."""
    for name in {**before, **now}:
        if before.get(name) != now.get(name):
            yield words.format(
                name=name, before=_short(before.get(name)), now=_short(now.get(name))
            )


def _short(value: Any) -> str:
    text = str(value)
    is_digest = len(text) == 64 and all(char in "0123456789abcdef" for char in text)
    return text[:12] if is_digest else text
