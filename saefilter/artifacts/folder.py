"""Write a folder of files so that its name only ever shows all of them."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from saefilter.errors import SaefilterError

NEW, OLD = "new", "old"
EXCHANGE = 2
"""Of Linux's renameat2: two names change places at one moment."""
HERE = -100
"""Its folder that relative names start from: the current one."""


@contextmanager
def publishing_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` that takes its name when the block succeeds, and is removed when not.

    What has the name already is replaced, by one exchange of names where the system can do that (Linux);
    elsewhere there is a moment between two renames. Raises SaefilterError when the disk is full or not
    writable.
    """
    token = os.urandom(4).hex()  # two hosts that share the folder may have processes of one number
    staged, former = _beside(folder, token, NEW), _beside(folder, token, OLD)
    try:
        staged.mkdir()
        yield staged
        _to_disk(staged)
        _put_in_place(staged, folder, former)
    except OSError as error:
        raise SaefilterError(
            f"cannot write {error.filename or folder} ({error.strerror or error})",
            remedy="Nothing was written under its final name; make room or choose another folder.",
        ) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def tidy_up(folder: Path) -> None:
    """Remove what a killed run left beside `folder`, and put a folder back that it had moved away and not
    yet replaced. Only for who holds the right to write `folder`."""
    for former in _left_beside(folder, OLD):
        if not folder.exists():
            former.rename(folder)
    for ending in (NEW, OLD):
        for leftover in _left_beside(folder, ending):
            shutil.rmtree(leftover, ignore_errors=True)


def _left_beside(folder: Path, ending: str) -> list[Path]:
    """What has a process's number (and token) alone in its name: `.out.v2.7.new` is of `out.v2`, not of `out`."""
    name = re.compile(rf"\.{re.escape(folder.name)}\.\d+(-[0-9a-f]+)?\.{ending}")
    return sorted(path for path in folder.parent.iterdir() if name.fullmatch(path.name))


def refuse_foreign(folder: Path, own: Iterable[str]) -> None:
    """Raises SaefilterError for a folder that holds anything but the files named `own`, relative to it:
    replacing it would remove them."""
    known = set(own)
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in [*files, *links]:
            relative = os.path.relpath(os.path.join(place, name), folder).replace(os.sep, "/")
            if relative not in known:
                raise SaefilterError(
                    f"{folder} holds {relative}, which filter did not write, so it is never replaced",
                    remedy="Choose another folder with -o, or move that file away.",
                )


def _beside(folder: Path, token: str, ending: str) -> Path:
    return folder.with_name(f".{folder.name}.{os.getpid()}-{token}.{ending}")


def _to_disk(folder: Path) -> None:
    """Everything in it, or a power cut could leave empty files under the final name."""
    if hasattr(os, "sync"):  # one call for ten thousand files
        os.sync()
        return
    for place, _, files in os.walk(folder):
        for name in files:
            with open(os.path.join(place, name), "rb+") as file:
                os.fsync(file.fileno())


def _put_in_place(staged: Path, folder: Path, former: Path) -> None:
    """What was there has the name of `staged` afterwards."""
    if folder.is_dir() and any(folder.iterdir()):
        if _exchange(staged, folder):
            return
        folder.rename(former)
        try:
            staged.rename(folder)
        except OSError:
            with suppress(OSError):
                former.rename(folder)
            raise
        former.rename(staged)
        return
    if folder.is_dir():
        folder.rmdir()
    staged.rename(folder)


def _exchange(one: Path, other: Path) -> bool:
    """Whether two names changed places at one moment, which not every system and file system can do."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):  # an old C library
        return False
    return bool(rename(HERE, os.fsencode(one), HERE, os.fsencode(other), EXCHANGE) == 0)
