"""The folder of an unfinished scoring run: its manifest, its shards, what is done and what is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from saefilter.artifacts.integrity import file_sha256
from saefilter.artifacts.publish import publishing
from saefilter.errors import SaefilterError
from saefilter.scoring.job import Receipt, Shard, fingerprint_digest
from saefilter.stats.tally import Tally

MANIFEST = "manifest.json"
MANIFEST_VERSION = 4
"""4 keeps sums of likeness in each receipt; 3 has a column more in each shard; 2 keeps a tally in each receipt."""


def work_folder(output: Path) -> Path:
    """Where the shards of a scores file are until it is whole."""
    return output.with_name(output.name + ".shards")


@dataclass(frozen=True)
class WorkFolder:
    """The shards of one run."""

    path: Path
    fingerprint: dict[str, Any]
    shards: list[Shard]

    @classmethod
    def begin(
        cls, path: Path, fingerprint: dict[str, Any], shards: list[Shard], *, overwrite: bool = True
    ) -> WorkFolder:
        """An empty folder with its manifest; one of an earlier run is removed, whatever `overwrite` says:
        whoever begins has asked."""
        folder = cls(path, fingerprint, shards)
        folder.remove()
        try:
            path.mkdir()
        except OSError as error:
            raise SaefilterError(
                f"cannot make the folder {path} ({error.strerror or error})",
                remedy="Make room or choose another folder with -o.",
            ) from error
        manifest = {"version": MANIFEST_VERSION, "shards": len(shards), "made of": fingerprint}
        with publishing([path / MANIFEST]) as (temporary,):
            temporary.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        return folder

    @classmethod
    def resume(
        cls,
        path: Path,
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
        changes = list(_changes(before, fingerprint))
        if changes and overwrite:
            return cls.begin(path, fingerprint, shards)
        if changes:
            raise SaefilterError(
                f"the shards in {path} were made from something else: {'; '.join(changes)}",
                remedy=again,
            )
        for leftover in path.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        return cls(path, fingerprint, shards)

    @classmethod
    def at(cls, path: Path, shards: list[Shard]) -> WorkFolder:
        """A folder that a run works in, for a look at some of its shards."""
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        return cls(path, manifest["made of"], shards)

    def receipts(self, *, verify: bool = False) -> dict[int, Receipt]:
        """Of the finished shards, by number. `verify` reads the shards too.

        Raises SaefilterError when a shard is not what was written.
        """
        digest = fingerprint_digest(self.fingerprint)
        receipts = {}
        for shard in self.shards:
            try:
                text = (self.path / shard.receipt).read_text(encoding="utf-8")
            except FileNotFoundError:
                continue
            receipt = _receipt(text, self.path / shard.receipt)
            expected = (shard.number, shard.first_row, shard.end_row, digest)
            if (receipt.shard, receipt.first_row, receipt.end_row, receipt.fingerprint) != expected:
                raise self._foreign(shard.receipt, "it is the receipt of another shard or run")
            if verify:
                self._verify(shard, receipt)
            receipts[shard.number] = receipt
        return receipts

    def _verify(self, shard: Shard, receipt: Receipt) -> None:
        try:
            sha256 = file_sha256(self.path / shard.name)
        except FileNotFoundError:
            raise self._foreign(shard.name, "it is missing, though its receipt is there") from None
        if sha256 != receipt.sha256:
            raise self._foreign(shard.name, "it was changed after it was written")

    def _foreign(self, name: str, problem: str) -> SaefilterError:
        return SaefilterError(
            problem,
            where=str(self.path / name),
            remedy=f"Remove {Path(name).stem}.json there and go on; that shard is scored again.",
        )

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)


def _receipt(text: str, path: Path) -> Receipt:
    try:
        entry = json.loads(text)
        entry = {field.name: entry[field.name] for field in fields(Receipt)}
        return Receipt(**{**entry, "tally": Tally(**entry["tally"])})
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SaefilterError(
            f"not a receipt ({error})",
            where=str(path),
            remedy="Remove it and go on; that shard is scored again.",
        ) from error


def _changes(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    for name in {**before, **now}:
        if before.get(name) != now.get(name):
            yield f"{name} was {_short(before.get(name))}, now {_short(now.get(name))}"


def _short(value: Any) -> str:
    text = str(value)
    is_digest = len(text) == 64 and all(char in "0123456789abcdef" for char in text)
    return text[:12] if is_digest else text
