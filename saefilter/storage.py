"""Where files are: folders of this machine, or stores that fsspec reaches (`s3://`, `gs://`, ...).

What lies here stays a `pathlib.Path`. What a URL names is a `RemotePath`, which knows the few words of
pathlib that are needed; a `Location` is either. A store has no rename, but an object appears there
whole or not at all: whoever writes one makes it here and hands it over in one go.
"""

from __future__ import annotations

import glob
import hashlib
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from saefilter.config import made_in_cache
from saefilter.errors import SaefilterError

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

WRITTEN = "written"
TRIES = 3
"""Of one request, after those that the store's own package has made (s3fs and botocore: five each)."""
AT_ONCE = 16
"""Objects read at a time."""
EXTRAS = {"s3": "'saefilter[s3]'", "s3a": "'saefilter[s3]'", "gs": "gcsfs", "gcs": "gcsfs",
          "abfs": "adlfs", "abfss": "adlfs", "az": "adlfs"}  # fmt: skip
"""What to install for a scheme."""


@dataclass(frozen=True, order=True)
class RemotePath:
    """What a URL names. Small and without a connection, so that it can go to other processes."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    @property
    def stem(self) -> str:
        return Path(self.name).stem

    @property
    def parent(self) -> RemotePath:
        return RemotePath(self.url.rpartition("/")[0])

    def with_name(self, name: str) -> RemotePath:
        return self.parent / name

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(f"{self.url}/{name}")

    def exists(self) -> bool:
        return bool(self._ask("looked for", lambda store, path: store.exists(path)))

    def is_file(self) -> bool:
        return bool(self._ask("looked for", lambda store, path: store.isfile(path)))

    def is_dir(self) -> bool:
        """Whether there is anything below it."""
        return bool(self._ask("looked for", lambda store, path: store.isdir(path)))

    def read_bytes(self) -> bytes:
        """Raises FileNotFoundError, and SaefilterError for whatever else goes wrong; so do the others."""
        content: bytes = self._ask("read", lambda store, path: store.cat_file(path))
        return content

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self.read_bytes().decode(encoding, errors)

    def write_bytes(self, content: bytes) -> None:
        self._ask(WRITTEN, lambda store, path: store.pipe_file(path, content))

    def create(self, content: bytes) -> bool:
        """Write it unless there is one already; whether it was written. In one step where the store can
        (S3's If-None-Match), else by a look before."""

        def made(store: Any, path: str) -> bool:
            try:
                store.pipe_file(path, content, mode="create")
            except FileExistsError:
                return False
            except (NotImplementedError, OSError) as error:
                # other filesystems than s3fs raise it; S3 servers without If-None-Match answer so
                if "NotImplemented" not in f"{type(error).__name__} {error}":
                    raise
                if store.exists(path):
                    return False
                store.pipe_file(path, content)
            return True

        return bool(self._ask(WRITTEN, made))

    def upload(self, file: Path) -> None:
        """Make this object of a file, in one go."""

        def put(store: Any, path: str) -> None:
            store.put_file(str(file), path)
            store.invalidate_cache()
            if (size := store.info(path)["size"]) != file.stat().st_size:
                raise OSError(f"{size:,} bytes arrived of {file.stat().st_size:,}")

        self._ask(WRITTEN, put)

    def download(self, file: Path) -> None:
        """Make a file of this object."""
        self._ask("read", lambda store, path: store.get_file(path, str(file)))

    def unlink(self, missing_ok: bool = False) -> None:
        def remove(store: Any, path: str) -> None:
            try:
                store.rm_file(path)
            except FileNotFoundError:
                if not missing_ok:
                    raise

        self._ask("removed", remove)

    def version(self) -> str:
        """Something that is another one when the content is."""
        return str(self._ask("looked for", lambda store, path: store.ukey(path)))

    def names(self) -> set[str]:
        """Of what lies directly below it."""

        def listed(store: Any, path: str) -> set[str]:
            try:
                return {entry.rstrip("/").rpartition("/")[2] for entry in store.ls(path, False)}
            except FileNotFoundError:
                return set()

        names: set[str] = self._ask("listed", listed)
        return names - {self.name, ""}

    def matching(self) -> list[RemotePath]:
        """What it fits, as a pattern."""

        def fitting(store: Any, path: str) -> list[RemotePath]:
            return [RemotePath(store.unstrip_protocol(name)) for name in sorted(store.glob(path))]

        return self._ask("looked for", fitting)

    def remove_all(self) -> None:
        """Remove it with all below it."""

        def remove(store: Any, path: str) -> None:
            below = store.find(path)
            if glob.has_magic(path):  # which several at once are taken for
                for one in below:
                    store.rm_file(one)
            elif below:
                store.rm(below)

        self._ask("removed", remove)

    def _ask(self, done: str, request: Callable[[Any, str], T]) -> T:
        """A request to the store, again after a while where it fails. That something is not there to be read is
        for the caller; all else is a SaefilterError that says what could not be `done`."""
        for attempt in range(1, TRIES + 1):
            try:
                store, path = self._store()
                store.invalidate_cache()  # other machines write there too
                return request(store, path)
            except SaefilterError:
                raise
            except Exception as error:  # every filesystem has exceptions of its own
                if isinstance(error, FileNotFoundError) and done != WRITTEN:
                    raise
                if isinstance(error, PermissionError) or attempt == TRIES:
                    reason = (str(error).splitlines() or [""])[0] or type(error).__name__
                    raise SaefilterError(
                        f"{self.url} cannot be {done} ({reason})",
                        remedy="Check the name, the credentials and the endpoint.",
                    ) from error
                time.sleep(random.uniform(0.5, 1.0) * 2**attempt / 4)
        raise AssertionError

    def _store(self) -> tuple[Any, str]:
        """The filesystem, one for all URLs of its kind in a process, and its name for this object."""
        import fsspec

        try:
            store, path = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise no_package(self.url, error) from error
        return store, path


Location: TypeAlias = Path | RemotePath


def no_package(url: str, error: Exception) -> SaefilterError:
    """What is missing to reach a URL, and how to get it."""
    scheme = url.partition("://")[0]
    if isinstance(error, ValueError):
        return SaefilterError(f"{url}: {scheme}:// is not known to fsspec ({error})")
    web = {"http": "'saefilter[hub]'", "https": "'saefilter[hub]'"}
    return SaefilterError(
        f"{scheme}:// needs another package ({error})",
        remedy=f"pip install {(EXTRAS | web).get(scheme, 'what fsspec needs for it')}",
    )


def located(name: str | os.PathLike[str] | RemotePath) -> Location:
    """A place as a user names it: a URL, or a path here (`file://` too). Raises SaefilterError for a bucket."""
    if isinstance(name, RemotePath):
        return name
    text = os.fspath(name)
    scheme, is_url, rest = text.partition("://")
    if text == "-":
        raise SaefilterError("- is no place to write to or read scores from", remedy="Name a file.")
    if not is_url:
        return Path(text)
    if scheme in ("file", "local"):
        return Path(rest)
    if scheme in EXTRAS and not all(rest.rstrip("/").partition("/")[::2]):
        raise SaefilterError(
            f"{text} names nothing in a bucket", remedy=f"Write {scheme}://BUCKET/NAME."
        )
    return RemotePath(text.rstrip("/"))


def matched(name: str) -> list[Location]:
    """The places that a user names: those that a URL with * or ? fits, which no shell has looked for. Itself,
    where there are none."""
    place = located(name)
    if isinstance(place, Path) or not glob.has_magic(place.url) or place.exists():
        return [place]
    return list(place.matching()) or [place]


def located_if(name: str | None) -> Location | None:
    """The same of an option that may be left out."""
    return None if name is None else located(name)


def same_file(one: Location, other: Location) -> bool:
    """Whether two names are of one file that is there."""
    if isinstance(one, RemotePath) or isinstance(other, RemotePath):
        return one == other
    return one.exists() and other.exists() and one.samefile(other)


def readable(place: Location) -> Path | pa.BufferReader:
    """What pyarrow can read: a path, or the content of a small object. Raises FileNotFoundError."""
    if isinstance(place, Path):
        return place
    import pyarrow as pa

    return pa.BufferReader(place.read_bytes())


def names_in(folder: Location) -> set[str]:
    """Of what lies in a folder; nothing where it is not there."""
    if isinstance(folder, RemotePath):
        return folder.names()
    return set(os.listdir(folder)) if folder.is_dir() else set()


def read_each(places: Iterable[Location], read: Callable[[Location], T]) -> list[T]:
    """`read` of each, several at a time where each is a request to a store."""
    listed = list(places)
    if not any(isinstance(place, RemotePath) for place in listed):
        return [read(place) for place in listed]
    with ThreadPoolExecutor(AT_ONCE, "saefilter-store") as pool:
        return list(pool.map(read, listed))


def local_copy(place: Location) -> Path:
    """The file itself, or a copy of the object in saefilter's cache, made anew when it has changed.

    Raises FileNotFoundError and SaefilterError.
    """
    if isinstance(place, Path):
        return place
    digest = hashlib.sha256(f"{place} {place.version()}".encode()).hexdigest()[:12]
    target = made_in_cache("stored", digest) / place.name
    if not target.exists():
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".")
        os.close(handle)
        try:
            place.download(Path(name))
            os.replace(name, target)
        finally:
            Path(name).unlink(missing_ok=True)
    return target
