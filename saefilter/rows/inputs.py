"""From what a user names to rows: a file, a folder, a pattern, standard input, a URL, a hub dataset.

What is not on this machine is brought into saefilter's cache first, so that `filter` can read again
what `score` has read. Data that a Python program holds: held.py.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from saefilter.artifacts.publish import appearing_whole
from saefilter.config import made_in_cache
from saefilter.errors import SaefilterError
from saefilter.rows.read import Source, Sources, is_readable_name
from saefilter.storage import RemotePath, no_package

HUB_DATASET = re.compile(
    r"(?P<name>[\w.-]+/[\w.-]+)(?:/(?P<config>[\w.-]+))?(?:@(?P<revision>[\w./-]+))?"
    r"(?::(?P<split>[\w+%:\[\]-]+))?"
)
"""`org/name`, `org/name/config`, `@revision`, `:split` or a slice such as `:train[:1000]`."""


def open_input(name: str | Path) -> Source:
    """The rows that `name` stands for. Raises SaefilterError when there are none."""
    spec = str(name)
    if spec == "-":
        return Source.open(_from_stdin(sys.stdin.buffer))
    if "://" in spec:
        return _fetched(spec)
    path = Path(spec)
    if path.is_dir():
        return _several(path, path, list(path.rglob("*")))
    if path.exists():
        return Source.open(path)
    if glob.has_magic(spec) and not HUB_DATASET.fullmatch(spec):
        folder = Path(*itertools.takewhile(lambda name: not glob.has_magic(name), path.parts))
        return _several(path, folder, [Path(p) for p in glob.glob(spec, recursive=True)])
    hub = HUB_DATASET.fullmatch(spec)
    if hub and not is_readable_name(path) and not path.parent.is_dir():
        return Source.open(_from_hub(**hub.groupdict()))
    return Source.open(path)  # says that it is not there


def hub_name(name: str | None) -> str | None:
    """`org/name` where `name` stands for a dataset of the hub, as `open_input` sees it."""
    match = HUB_DATASET.fullmatch(name or "")
    path = Path(name or "")
    is_local = path.exists() or is_readable_name(path) or path.parent.is_dir()
    return match["name"] if match and not is_local else None


def _several(path: Path, folder: Path, paths: list[Path]) -> Source:
    readable = [
        p
        for p in sorted(paths)
        if is_readable_name(p) and p.is_file() and not _hidden(p.relative_to(folder))
    ]
    readable = _data_among(readable, path)
    _refuse_links_out(readable, folder)
    files = [Source.open(p) for p in readable]
    if not files:
        raise SaefilterError(
            f"{path} holds no file that can be read",
            remedy="Use .jsonl, .json, .csv, .parquet or .arrow files.",
        )
    return files[0] if len(files) == 1 else Sources.of(path, folder, files)


METADATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
"""What `datasets` and LLaMA-Factory write beside data."""
ARTIFACTS = (
    ".scores.parquet", ".report.json", ".geometry.json", ".compare.json", ".manifest.json",
)  # fmt: skip
"""What saefilter writes beside data, but for what it filters."""
PART = re.compile(r"\.scores\.part-\d+-of-\d+\.parquet$")
"""Of scores."""
FOLDER_REPORT = "saefilter.report.json"
"""In a folder of files that was filtered, of all of them."""


ASIDE = ("dropped", "quarantined")
"""Rows of a filtered dataset that are no data, in the names of their files."""


def _data_among(paths: list[Path], asked: Path) -> list[Path]:
    """Without metadata, and without what saefilter made of the other files: scores, reports, and the
    rows it dropped or set aside; those it kept, where what they are of lies there too. Raises
    SaefilterError when the rest is nothing, unless `asked` is a pattern for what was set aside."""
    data = [path for path in paths if path.name not in METADATA]
    data = [
        path for path in data if not path.name.endswith(ARTIFACTS) and not PART.search(path.name)
    ]
    names = {path.name for path in data}
    made: set[Path] = set()
    above = {folder / FOLDER_REPORT for path in paths for folder in path.parents}
    reports = [path for path in paths if path.name.endswith(".report.json")]
    for path in {*reports, *filter(Path.is_file, above)}:  # a pattern may leave it out
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
            outputs = {Path(str(name)).name for name in report["outputs"].values()}
            data_name = Path(str(report["input"])).name
            whole = data_name in names or path.parent.absolute().name == data_name
            made |= _set_aside(report, path.parent)
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            continue  # somebody else's
        kept = path.name.removesuffix(".report.json")
        for name in outputs & names:
            if whole or not name.startswith(f"{kept}.") or ".dropped" in name or ".quarant" in name:
                made.add(path.with_name(name))
    if rest := [path for path in data if path not in made]:
        return rest
    if made and not any(role in asked.name for role in ASIDE):
        raise SaefilterError(
            f"{asked} holds only what filter dropped or set aside",
            remedy="Name such a file itself, or a pattern with its role: '*.dropped.jsonl'.",
        )
    return paths


def _set_aside(report: dict[str, Any], folder: Path) -> set[Path]:
    """The dropped and quarantined rows of a folder of files that was filtered."""
    layout = report.get("layout") or ()
    return {folder / str(one[role]["name"]) for one in layout for role in ASIDE if role in one}


def _refuse_links_out(paths: Iterable[Path], folder: Path) -> None:
    """Raises SaefilterError for a link to a file elsewhere, or to one that is there already: who
    made a folder has no say in what else of this machine is read, nor how often."""
    home = folder.resolve()
    allowed = [home]
    if "snapshots" in home.parts:  # of the hub's cache, whose files are links to its blobs
        repository = Path(*home.parts[: home.parts.index("snapshots")])
        allowed.append(repository / "blobs")
    seen: dict[Path, Path] = {}
    for path in paths:
        real = path.resolve()
        if not any(real.is_relative_to(place) for place in allowed):
            raise SaefilterError(
                f"{path} is a link to a file outside {folder}",
                remedy="Name that file itself, or copy it there.",
            )
        if (first := seen.setdefault(real, path)) != path and allowed == [home]:
            raise SaefilterError(
                f"{first} and {path} are the same file", remedy="Remove one of them, it is a link."
            )


def _hidden(path: Path) -> bool:
    return any(name.startswith(".") for name in path.parts)


def inputs_folder() -> Path:
    """Where inputs that are not files are kept."""
    return made_in_cache("inputs")


def _from_stdin(stream: IO[bytes]) -> Path:
    """Standard input is JSONL or a JSON array; it is kept, since filtering reads it again."""
    digest = hashlib.sha256()
    with tempfile.NamedTemporaryFile(dir=inputs_folder(), delete=False) as file:
        while raw := stream.read(1 << 20):
            digest.update(raw)
            file.write(raw)
    if not os.path.getsize(file.name):
        os.unlink(file.name)
        raise SaefilterError("nothing came on standard input")
    target = inputs_folder() / digest.hexdigest()[:12] / "stdin.json"
    target.parent.mkdir(exist_ok=True)
    os.replace(file.name, target)
    return target


def _fetched(url: str) -> Source:
    """A copy of what a URL names, by fsspec: a file, a folder or a pattern. Fetched anew when it has
    changed."""
    import fsspec

    scheme = url.partition("://")[0]
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        # a web server has no folders, and ? in an address is no pattern
        is_web = scheme in ("http", "https")
        if not is_web and glob.has_magic(path):
            names = filesystem.glob(path)
        elif not is_web and filesystem.isdir(path):
            names = filesystem.find(path)
        else:
            names = [path]
        if not is_web:
            from saefilter.artifacts.manifest import refuse_unfinished

            refuse_unfinished([RemotePath(filesystem.unstrip_protocol(name)) for name in names])
        versions = [f"{name} {filesystem.ukey(name)}" for name in names]
        folder = (
            inputs_folder() / hashlib.sha256("\n".join([url, *versions]).encode()).hexdigest()[:12]
        )
        start = os.path.commonpath([os.path.dirname(name) for name in names]) if names else ""
        paths = [folder / _plain_name(os.path.relpath(name, start)) for name in names]
        for name, target in zip(names, paths, strict=True):
            # a store may name an object `a/../../b`
            if ".." in target.relative_to(folder).parts or ".." in name.split("/"):
                raise ValueError(f"{name!r} would not stay in its folder")
        for name, target in zip(names, paths, strict=True):
            if is_readable_name(target) and not target.exists():
                with appearing_whole(target) as temporary:
                    filesystem.get_file(name, str(temporary))
    except ImportError as error:
        raise no_package(url, error) from error
    except SaefilterError:
        raise
    except Exception as error:  # every filesystem has exceptions of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SaefilterError(f"{url} cannot be fetched ({reason})") from error
    source = Source.open(paths[0]) if names == [path] else _several(folder, folder, paths)
    return replace(source, origin=url)


def _plain_name(name: str) -> str:
    """A file name without the query of a web address."""
    return name.partition("?")[0]


def _from_hub(name: str, config: str | None, revision: str | None, split: str | None) -> Path:
    """A dataset of the hub, or a slice of it, as Parquet."""
    try:
        from datasets import Dataset, load_dataset
    except ImportError as error:
        raise SaefilterError(
            f"there is no file {name}, and a dataset of the hub needs the package datasets",
            remedy="Check the name, or run: pip install 'saefilter[hub]'",
        ) from error
    try:
        # False is the default since datasets 3; an environment variable could change it there
        data = load_dataset(
            name, config, revision=revision, split=split or "train", trust_remote_code=False
        )
    except Exception as error:  # datasets raises what its many readers raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SaefilterError(
            f"{name} is neither a file here nor a dataset that can be loaded from the hub ({reason})",
            remedy="Names look like org/name, org/name:train or org/name:train[:1000].",
        ) from error
    assert isinstance(data, Dataset)
    label = "-".join(filter(None, [name.replace("/", "--"), config, revision, split or "train"]))
    plain = re.sub(r"[^\w.-]+", "_", label).strip("_")
    digest = hashlib.sha256(f"{label} {data._fingerprint}".encode()).hexdigest()[:12]
    target = inputs_folder() / digest / f"{plain}.parquet"
    if not target.exists():
        with appearing_whole(target) as temporary:
            data.to_parquet(str(temporary))
    return target
