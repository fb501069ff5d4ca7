"""Write files so that a final name only ever shows a complete file, by one run at a time."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from saefilter.errors import SaefilterError
from saefilter.storage import Location, RemotePath, read_each


def refuse_existing(paths: Sequence[Location], *, overwrite: bool) -> None:
    """Raises SaefilterError for the first path that is in the way."""
    there = read_each(paths, lambda path: path.exists())
    for path, exists in zip(paths, there, strict=True):
        if isinstance(path, Path) and path.is_dir():  # a store has no folders
            raise SaefilterError(f"{path} is a folder", remedy="Name a file with -o.")
        if exists and not overwrite:
            raise SaefilterError(
                f"{path} exists already", remedy="Use --overwrite, or another name with -o."
            )
        if isinstance(path, Path):
            refuse_unwritable(path.parent)


def refuse_unwritable(folder: Path) -> None:
    """Raises SaefilterError for a folder that is not there and cannot be made, before hours of work."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise SaefilterError(
            f"{there} is a file, and {folder} would have to be a folder",
            remedy="Choose another place with -o.",
        )
    if there != folder and not os.access(there, os.W_OK | os.X_OK):
        raise SaefilterError(f"cannot make the folder {folder}", remedy="Choose another folder.")


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """A folder that is there while the block runs; what had to be made of it goes again when the block fails
    and left nothing there. Raises SaefilterError when it cannot be made."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SaefilterError(
            f"cannot make the folder {folder} ({error.strerror or error})",
            remedy="Choose another place with -o.",
        ) from error
    try:
        yield
    except BaseException:
        for place in missing:
            with suppress(OSError):  # something else is there by now
                place.rmdir()
        raise


@contextmanager
def publishing(
    paths: Sequence[Location], manifest: Location | None = None, *, folders: bool = True
) -> Iterator[list[Path]]:
    """Temporary names beside `paths`; renamed to them when the block succeeds, removed when not.

    What goes to a store is made on this machine and handed over when the block succeeds, each file in
    one go; several of them count once the `manifest` names them, which a folder needs not. `folders`:
    missing ones are made; a work folder that somebody removed must not come back.
    Raises SaefilterError when the disk is full or not writable, or the store does not take them.
    """
    targets = [path for path in paths if isinstance(path, RemotePath)]
    if targets:
        assert len(targets) == len(paths)
        with _handed_over(targets, manifest) as staged:
            yield staged
        return
    here = [path for path in paths if isinstance(path, Path)]
    with ExitStack() as made:
        for folder in dict.fromkeys(path.parent for path in here) if folders else ():
            made.enter_context(made_folder(folder))
        with _renamed(here) as temporary:
            yield temporary


@contextmanager
def _handed_over(targets: list[RemotePath], manifest: Location | None) -> Iterator[list[Path]]:
    from saefilter.artifacts.lease import refuse_lost
    from saefilter.artifacts.manifest import hand_over

    try:
        with tempfile.TemporaryDirectory(prefix="saefilter-") as folder:
            staged = [Path(folder) / target.name for target in targets]
            yield staged
            for target in targets:
                refuse_lost(target)
            hand_over(staged, targets, manifest if isinstance(manifest, RemotePath) else None)
    except OSError as error:
        raise SaefilterError(
            f"cannot write {error.filename or targets[0]} ({error.strerror or error})",
            remedy="Files are made on this machine before they are handed over; make room, or name "
            "another folder by the variable TMPDIR.",
        ) from error


@contextmanager
def _renamed(paths: list[Path]) -> Iterator[list[Path]]:
    token = os.urandom(4).hex()  # two hosts that share the folder may have processes of one number
    temporary = [path.with_name(f".{path.name}.{os.getpid()}-{token}.tmp") for path in paths]
    try:
        yield temporary
        for source in temporary:
            _to_disk(source)  # or a power cut could leave an empty file under the final name
        for source, target in zip(temporary, paths, strict=True):
            os.replace(source, target)
    except OSError as error:
        raise SaefilterError(
            f"cannot write {error.filename or paths[0]} ({error.strerror or error})",
            remedy="Nothing was written under its final name; make room or choose another folder.",
        ) from error
    finally:
        for path in temporary:
            with suppress(OSError):
                path.unlink(missing_ok=True)


@contextmanager
def appearing_whole(target: Path) -> Iterator[Path]:
    """A temporary name that becomes `target` when all went well: for caches, where several processes
    may make the same file and the last one is as good as the first."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".")
    os.close(handle)
    try:
        yield Path(name)
        os.replace(name, target)
    finally:
        Path(name).unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def exclusive(output: Location, beside: Iterable[Location] = ()) -> Iterator[None]:
    """Hold the right to write `output`. Raises SaefilterError when another run has it.

    The operating system lets go of it when the process ends, however it ends; for a store see lease.py.
    What a killed run left half written of it, or of the files that are written with it, is removed.
    """
    if isinstance(output, RemotePath):
        from saefilter.artifacts.lease import leased

        with leased(output):
            yield
        return
    with made_folder(output.parent), _locked(output, beside):
        yield


@contextmanager
def _locked(output: Path, beside: Iterable[Location]) -> Iterator[None]:
    from filelock import FileLock, Timeout

    path = output.with_name(f".{output.name}.lock")
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
        while not path.exists():  # another run has just ended and removed the file we locked
            lock.release()
            lock.acquire()
    except Timeout:
        raise SaefilterError(
            f"another run is writing {output}",
            remedy="Wait for it to end, or choose another name with -o.",
        ) from None
    except OSError as error:
        raise SaefilterError(
            f"cannot write {path} ({error.strerror or error})", remedy="Choose another folder."
        ) from error
    for published in (output, *(path for path in beside if isinstance(path, Path))):
        for leftover in published.parent.glob(f".{glob.escape(published.name)}.[0-9]*.tmp"):
            leftover.unlink(missing_ok=True)  # of a run that was killed while it published
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()
