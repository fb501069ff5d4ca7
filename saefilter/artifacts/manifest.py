"""Several files in a store as one: a manifest beside them, written last, says which belong together.

It is written first too, as not complete, so that whoever comes upon files of a run that was killed
between them knows it. On this machine renames do all that, and there is no manifest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from saefilter import __version__
from saefilter.artifacts.integrity import file_sha256
from saefilter.errors import SaefilterError
from saefilter.storage import RemotePath, names_in

ENDING = ".manifest.json"
VERSION = 1
OF_FORMATS = (".parquet", ".jsonl", ".csv", ".html", ".md", ".json")
OF_OUTPUTS = (".dropped", ".quarantined", ".report")
"""What stands between the stem of the kept rows and the suffix."""


def manifest_of(path: RemotePath) -> RemotePath:
    """Where the manifest is that would name a file."""
    return path.with_name(stem_of(path.name) + ENDING)


def stem_of(name: str) -> str:
    """What the files that one run of filter writes have in common, by the name of one of them."""
    for endings in ((".gz", ".zst"), OF_FORMATS, OF_OUTPUTS):
        lower = name.lower()  # `A.JSONL` is JSON lines too
        name = next((name[: -len(end)] for end in endings if lower.endswith(end)), name)
    return name


def hand_over(
    files: Sequence[Path], targets: Sequence[RemotePath], manifest: RemotePath | None
) -> None:
    """Make `targets` of files, the first one last; where there is a `manifest`, they count only once it
    names them, and what it named before no longer does."""
    records = {
        target.name: {"bytes": file.stat().st_size, "sha256": file_sha256(file)}
        for file, target in zip(files, targets, strict=True)
        if manifest is not None
    }
    if manifest is not None:
        manifest.write_bytes(_written(records, complete=False))
    for file, target in reversed(list(zip(files, targets, strict=True))):
        target.upload(file)
    if manifest is not None:
        manifest.write_bytes(_written(records, complete=True))


def _written(files: dict[str, dict[str, Any]], *, complete: bool) -> bytes:
    said = {
        "manifest_version": VERSION, "saefilter": __version__, "complete": complete, "files": files,
    }  # fmt: skip
    return (json.dumps(said, indent=1) + "\n").encode()


def read_manifest(manifest: RemotePath) -> dict[str, Any] | None:
    """What a manifest says; None where there is none of ours. Raises SaefilterError for a damaged one."""
    try:
        said = json.loads(manifest.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise SaefilterError(f"not readable JSON ({error})", where=str(manifest)) from error
    if not isinstance(said, dict) or "manifest_version" not in said:
        return None
    if said["manifest_version"] != VERSION or not isinstance(said.get("files"), dict):
        raise SaefilterError(
            f"a manifest of version {said['manifest_version']}; this saefilter reads {VERSION}",
            where=str(manifest),
        )
    return said


def is_unfinished(manifest: RemotePath) -> bool:
    """Whether a run was killed while it handed over what the manifest names, or is at it."""
    said = read_manifest(manifest)
    return said is not None and not said.get("complete")


def files_with(path: RemotePath) -> dict[str, dict[str, Any]]:
    """The files that belong together with this one, by name, with `bytes` and `sha256`; none where no
    manifest is beside it. Raises SaefilterError when they are not all there, or this is not one of them.
    """
    manifest = manifest_of(path)
    said = read_manifest(manifest)
    if said is None:
        return {}
    if not said.get("complete"):
        raise SaefilterError(
            f"{path} is of a run of filter that has not ended: {manifest.name} does not say that its "
            "files are complete",
            remedy="Wait for it to end; if it was killed, run it again.",
        )
    if path.name not in said["files"]:
        raise SaefilterError(
            f"{manifest} does not name {path.name}: it is of an earlier run",
            remedy=f"Name one of {', '.join(sorted(said['files']))}, or remove the manifest if it is "
            "not what made this file.",
        )
    files: dict[str, dict[str, Any]] = said["files"]
    return files


def refuse_unfinished(paths: Sequence[RemotePath]) -> None:
    """Raises SaefilterError for the first file that is of a run of filter which has not ended."""
    if len(paths) == 1:  # its folder may hold many others
        files_with(paths[0])
        return
    beside = {folder: names_in(folder) for folder in {path.parent for path in paths}}
    for path in paths:
        if manifest_of(path).name in beside[path.parent]:
            files_with(path)


def copy_with_neighbours(path: RemotePath, folder: Path) -> Path:
    """A file and what belongs to it, in a folder of this machine; each as its manifest says it is.

    Raises FileNotFoundError and SaefilterError.
    """
    files = files_with(path)
    for name in {path.name, *files}:
        if "/" in name or name in ("..", "."):
            raise SaefilterError(f"{manifest_of(path)} names {name!r}, which is not beside it")
        path.with_name(name).download(folder / name)
        wanted = files.get(name, {}).get("sha256")
        if wanted is not None and file_sha256(folder / name) != wanted:
            raise SaefilterError(
                f"{path.with_name(name)} is not what its manifest says (another SHA-256)",
                remedy="It was changed after it was written; filter again.",
            )
    return folder / path.name
