"""Find a model's files, and of its weights only those that hold the layers up to the hook.

Hugging Face's loaders read (and download) every weight file of a checkpoint. They are given a folder
of links instead, with an index that names the wanted tensors alone: the loading code runs unchanged,
and files that hold nothing but later layers are neither read nor downloaded.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saefilter.errors import SaefilterError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
LAYER = re.compile(r"(?:^|\.)(?:layers|layer|h|blocks)\.(\d+)\.")
"""The number of the layer that a tensor belongs to, in every naming that transformers uses."""
LANGUAGE_MODEL = re.compile(r"(?:^|\.)language_model\.")
AFTER_THE_HOOK = re.compile(r"(?:^|\.)(?:lm_head|cls|embed_out|mtp)\.")


def wanted_tensors(names: list[str], layers: int, *, text_only: bool) -> list[str]:
    """Names of the tensors up to the hook.

    `text_only` leaves out the vision side of a multimodal checkpoint.
    """
    if text_only and any(LANGUAGE_MODEL.search(name) for name in names):
        names = [name for name in names if LANGUAGE_MODEL.search(name)]
    wanted = []
    for name in names:
        layer = LAYER.search(name)
        if not AFTER_THE_HOOK.search(name) and (layer is None or int(layer.group(1)) < layers):
            wanted.append(name)
    return wanted


@contextmanager
def truncated_checkpoint(
    model: str, revision: str | None, layers: int, *, text_only: bool
) -> Iterator[Path]:
    """A folder from which Hugging Face loads the weights up to the hook.

    It holds links, and is gone afterwards. Raises SaefilterError when a file is missing.
    """
    index_path = find_file(model, INDEX, revision)
    with tempfile.TemporaryDirectory(prefix="saefilter-") as scratch:
        folder = Path(scratch)
        if index_path is None:
            weights = find_file(model, SINGLE, revision)
            if weights is None:
                raise SaefilterError(
                    f"the model {model} has no weights in safetensors",
                    remedy="Checkpoints that are pickles are not loaded; convert it: "
                    "AutoModel.from_pretrained(...).save_pretrained(FOLDER).",
                )
            (folder / SINGLE).symlink_to(weights.resolve())
        else:
            index = _read_index(index_path)
            wanted = wanted_tensors(list(index["weight_map"]), layers, text_only=text_only)
            weight_map = {tensor: index["weight_map"][tensor] for tensor in wanted}
            for name in sorted(set(weight_map.values())):
                _refuse_odd_name(name, index_path)
                path = find_file(model, name, revision)
                if path is None:
                    raise SaefilterError(
                        f"the model {model} lacks the weight file {name}",
                        remedy="Download the model again.",
                    )
                (folder / name).symlink_to(path.resolve())
            index = {"metadata": index.get("metadata", {}), "weight_map": weight_map}
            (folder / INDEX).write_text(json.dumps(index))
        yield folder


@dataclass(frozen=True)
class WeightFiles:
    """Which weight files a truncated model needs."""

    needed: tuple[str, ...]
    total: int
    """Weight files of the whole model."""
    missing: tuple[str, ...]
    """Needed files that are not on this machine."""


def plan_weight_files(
    model: str, revision: str | None, layers: int, *, text_only: bool
) -> WeightFiles:
    """Find out without downloading weights. Raises SaefilterError when the model has none."""
    index_path = find_file(model, INDEX, revision)
    if index_path is None:
        names, total = {SINGLE}, 1
    else:
        weight_map = _read_index(index_path)["weight_map"]
        wanted = wanted_tensors(list(weight_map), layers, text_only=text_only)
        names = {weight_map[tensor] for tensor in wanted}
        total = len(set(weight_map.values()))
    missing = [name for name in sorted(names) if not on_this_machine(model, name, revision)]
    return WeightFiles(tuple(sorted(names)), total, tuple(missing))


def on_this_machine(model: str, name: str, revision: str | None = None) -> bool:
    """Whether a file of the model is in its folder or in the hub's cache."""
    folder = Path(model)
    if folder.is_dir():
        return (folder / name).exists()
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(model, name, revision=revision), str)


def commit_of(model: str, revision: str | None = None) -> str | None:
    """The commit of a hub model whose configuration is in the cache; None for a folder."""
    if Path(model).is_dir():
        return None
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(model, "config.json", revision=revision)
    return Path(path).parent.name if isinstance(path, str) else None


def _refuse_odd_name(name: Any, index_path: Path) -> None:
    """A checkpoint's index comes from whoever made the model: its names must stay in its folder,
    and must not be pickles."""
    plain = isinstance(name, str) and Path(name).name == name
    if not plain or not name.endswith(".safetensors"):
        raise SaefilterError(
            f"the index names {str(name)[:80]!r} where a .safetensors file beside it was expected",
            where=str(index_path),
            remedy="Do not use this checkpoint.",
        )


def _read_index(path: Path) -> dict[str, Any]:
    try:
        index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        index["weight_map"].items()
    except (ValueError, KeyError, AttributeError) as error:
        raise SaefilterError(
            f"not a checkpoint index ({error})", where=str(path), remedy="Download it again."
        ) from error
    return index


def find_file(model: str, name: str, revision: str | None = None) -> Path | None:
    """A file of a local folder or of a hub repository, downloaded if need be; None if it has none.

    Raises SaefilterError when the repository cannot be used, with what to do about it.
    """
    folder = Path(model)
    if folder.is_dir():
        path = folder / name
        return path if path.exists() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    with hub_errors(model):
        try:
            return Path(hf_hub_download(model, name, revision=revision))
        except LocalEntryNotFoundError:
            if not on_this_machine(model, "config.json", revision):
                raise
            return None  # offline, and the repository is in the cache without this file
        except EntryNotFoundError:
            return None


@contextmanager
def hub_errors(
    name: str, what: str = "model", repository: Callable[[], str] | None = None
) -> Iterator[None]:
    """Turn what can go wrong with a hub repository into one line that says what to do.

    `what` is called `name`; `repository` says where on the hub it is, if not there.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    def where() -> str:
        return repository() if repository else name

    try:
        yield
    except GatedRepoError as error:
        raise SaefilterError(
            f"the {what} {name} is gated and you have no access",
            remedy=f"Accept its terms at https://huggingface.co/{where()}, then run `hf auth login` "
            "or set HF_TOKEN.",
        ) from error
    except RepositoryNotFoundError as error:
        raise SaefilterError(
            f"there is no {what} {name} on the hub, or it is private",
            remedy="Check the name; for a private one run `hf auth login` or set HF_TOKEN.",
        ) from error
    except RevisionNotFoundError as error:
        raise SaefilterError(f"the {what} {name} has no such revision") from error
    except HFValidationError as error:
        raise SaefilterError(
            f"{name} is neither a folder nor the name of a {what} on the hub",
            remedy="Names look like org/name.",
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise SaefilterError(
            f"the {what} {name} is not on this machine and the hub cannot be reached",
            remedy=f"Download it where there is a network: hf download {where()}",
        ) from error
