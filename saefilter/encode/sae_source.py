"""Find an SAE: a folder, one shipped with saefilter, or a release that sae-lens knows.

What sae-lens loads (any of its formats) is kept in a cache in its own disk format, as safetensors:
later runs neither import sae-lens nor read a pickle. So it is an extra: what was shipped, converted
or saved in its format is read without it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from saefilter.config import cache_folder, made_in_cache
from saefilter.encode.checkpoint import hub_errors
from saefilter.encode.checks import hook_layers, refuse_transcoder
from saefilter.errors import SaefilterError

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
SPARSIFY_WEIGHTS = "sae.safetensors"
AVERAGE_L0 = re.compile(r"average_l0_(\d+(?:\.\d+)?)")


def find_sae(reference: str) -> Path:
    """The folder of an SAE in sae-lens's disk format, converted first if need be.

    `reference` is `shipped:NAME`, a folder, or `RELEASE/SAE_ID` where RELEASE is a name of
    sae-lens's registry or a hub repository (`org/repo`). Raises SaefilterError when there is none.
    """
    if reference.startswith("shipped:"):
        return Path(str(files("saefilter.encode") / reference.removeprefix("shipped:")))
    folder = Path(reference)
    if folder.is_dir():
        if (folder / CONFIG).exists() and (folder / WEIGHTS).exists():
            return folder
        if (folder / CONFIG).exists() and (folder / SPARSIFY_WEIGHTS).exists():
            return _converted(f"sparsify:{folder.resolve()}", folder=folder)
        raise SaefilterError(
            "not an SAE that can be read",
            where=str(folder),
            remedy=f"The folder must hold {CONFIG} and {WEIGHTS} (sae-lens) or {SPARSIFY_WEIGHTS} "
            "(sparsify); other formats load by release and id.",
        )
    if reference.startswith((".", "/", "~", "\\")):  # no name of the hub begins so
        raise SaefilterError(
            "there is no folder of that name", where=reference,
            remedy="An SAE goes by its folder, or as RELEASE/SAE_ID.",
        )  # fmt: skip
    cached = _cache_entry(reference)
    return cached if _is_current(cached) else _converted(reference)


@dataclass(frozen=True)
class SaeFacts:
    """What an SAE's configuration says, read without its weights."""

    architecture: str
    d_model: int
    d_sae: int
    hook: str
    model_name: str
    prepend_bos: bool
    local: bool
    """Whether its weights are on this machine in a form that loads at once."""


def peek_sae(reference: str) -> SaeFacts:
    """An SAE's configuration; of a release that is not converted yet, only that is downloaded.

    Raises SaefilterError when there is no such SAE, or it cannot be used.
    """
    folder = Path(reference)
    local = (
        reference.startswith("shipped:") or folder.is_dir() or _is_current(_cache_entry(reference))
    )
    if local:
        path = find_sae(reference) / CONFIG
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    else:
        with _sae_lens_errors(reference), _shapes_from_cached_files():
            from sae_lens.loading.pretrained_sae_loaders import load_sae_config_from_huggingface
            from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

            release, sae_id = split_reference(reference, get_pretrained_saes_directory())
            config = load_sae_config_from_huggingface(release, sae_id)
    metadata = {**config, **(config.get("metadata") or {})}
    refuse_transcoder(config.get("architecture", "standard"), reference)
    return SaeFacts(
        architecture=config.get("architecture", "standard"),
        d_model=int(config["d_in"]),
        d_sae=int(config["d_sae"]),
        hook=str(metadata.get("hook_name") or ""),
        model_name=str(metadata.get("model_name") or ""),
        prepend_bos=bool(metadata.get("prepend_bos")),
        local=local,
    )


def split_reference(reference: str, releases: dict[str, Any]) -> tuple[str, str]:
    """Release and SAE id. Raises SaefilterError with what there is."""
    first, _, rest = reference.partition("/")
    if first in releases:
        ids = releases[first].saes_map
        if rest in ids:
            return first, rest
        shape = re.sub(r"\d+", "#", rest)
        alike = [name for name in ids if re.sub(r"\d+", "#", name) == shape]
        near = [name for name in ids if rest and rest in name] or alike or list(ids)
        raise SaefilterError(
            f"the release {first} has no SAE {rest!r}",
            remedy=f"It has {len(ids)}, for example {', '.join(near[:8])}.",
        )
    names = reference.split("/")
    if len(names) >= 3:
        return "/".join(names[:2]), "/".join(names[2:])
    raise SaefilterError(
        f"there is no SAE {reference!r}: neither a folder nor RELEASE/SAE_ID",
        remedy="For example gemma-scope-2b-pt-res-canonical/layer_12/width_16k/canonical.",
    )


def _cache_entry(reference: str) -> Path:
    plain = "".join(char if char.isalnum() or char in "-._" else "-" for char in reference)[-80:]
    digest = hashlib.sha256(reference.encode()).hexdigest()[:12]
    return cache_folder() / "saes" / f"{plain.strip('-.')}-{digest}"


def _is_current(entry: Path) -> bool:
    """Whether an SAE was converted, from the commit that the hub's cache now holds (if it does)."""
    try:
        made = json.loads((entry / CONFIG).read_text(encoding="utf-8"))["saefilter"]
    except (OSError, ValueError, KeyError):
        return False
    if made["expected_l0"] == 0:  # how it was once written that the registry states none
        return False
    now = _commit(made["repository"])
    return now is None or now == made["commit"]


def _commit(repository: str | None) -> str | None:
    """The commit of a repository's main branch in the hub's cache."""
    from huggingface_hub import constants

    if repository is None:
        return None
    folder = f"models--{repository.replace('/', '--')}"
    try:
        return (Path(constants.HF_HUB_CACHE) / folder / "refs" / "main").read_text().strip()
    except OSError:
        return None


def _converted(reference: str, folder: Path | None = None) -> Path:
    """Load through sae-lens, keep in the cache; another process may do the same at the same time."""
    target = _cache_entry(reference)
    with tempfile.TemporaryDirectory(dir=made_in_cache("saes"), prefix=".converting-") as name:
        scratch = Path(name) / "sae"
        made = _convert(reference, folder, scratch)
        config = json.loads((scratch / CONFIG).read_text(encoding="utf-8"))
        config["saefilter"] = {"reference": reference, **made}
        (scratch / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
        try:
            scratch.rename(target)
        except OSError:
            if not (target / CONFIG).exists():
                raise
    return target


def _convert(reference: str, folder: Path | None, target: Path) -> dict[str, Any]:
    """Save the SAE in sae-lens's disk format; returns where it is from and the L0 that the registry, its
    path or its configuration states."""
    with _sae_lens_errors(reference), _no_pickled_code(), _shapes_from_cached_files():
        from sae_lens import SAE
        from sae_lens.loading.pretrained_sae_loaders import sparsify_disk_loader
        from sae_lens.loading.pretrained_saes_directory import (
            get_pretrained_saes_directory,
            get_repo_id_and_folder_name,
        )

        if folder is not None:
            sae = SAE.load_from_disk(folder, dtype="float32", converter=sparsify_disk_loader)
            _save(sae, target)
            return {"repository": None, "commit": None, "expected_l0": None}
        releases = get_pretrained_saes_directory()
        release, sae_id = split_reference(reference, releases)
        hook_layers(peek_sae(reference).hook)  # refused before its weights are downloaded
        sae = SAE.from_pretrained(release, sae_id, device="cpu", dtype="float32")
        _save(sae, target)
        known = releases[release].expected_l0.get(sae_id) if release in releases else None
        repository, path = get_repo_id_and_folder_name(release, sae_id)
        return {
            "repository": repository,
            "commit": _commit(repository),
            "expected_l0": float(known or _l0_of(repository, path) or 0) or None,
        }


def _l0_of(repository: str, path: str) -> float | None:
    """Active features per token by an SAE's place in its repository (Gemma Scope: `average_l0_82`) or
    its own configuration there (dictionary_learning: `k`), where the registry states none."""
    from huggingface_hub import try_to_load_from_cache

    if stated := AVERAGE_L0.search(path):
        return float(stated.group(1))
    config = try_to_load_from_cache(repository, f"{path}/config.json")
    if not isinstance(config, str):
        return None
    try:
        trainer = json.loads(Path(config).read_text(encoding="utf-8"))["trainer"]
        return float(trainer["k"]) if "TopK" in trainer["dict_class"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _save(sae: Any, target: Path) -> None:
    for parameter in sae.parameters():
        parameter.data = parameter.data.contiguous()  # loaders transpose; safetensors wants rows
    sae.save_model(target)


@contextmanager
def _no_pickled_code() -> Iterator[None]:
    """Pickled checkpoints load as plain tensors only, whatever the environment says."""
    name = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    before = os.environ.pop(name, None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sae-lens's advice on how to load its model
            yield
    finally:
        if before is not None:
            os.environ[name] = before


@contextmanager
def _shapes_from_cached_files() -> Iterator[None]:
    """sae-lens asks the hub for the shapes in a safetensors file even when the file is on this
    machine; a cached one answers for itself, so that no network is needed."""
    from huggingface_hub import try_to_load_from_cache
    from sae_lens.loading import pretrained_sae_loaders as loaders
    from safetensors import safe_open

    ask_the_hub = loaders.get_safetensors_tensor_shapes

    def shapes(repo_id: str, filename: str) -> dict[str, list[int]]:
        path = try_to_load_from_cache(repo_id, filename)
        if not isinstance(path, str):
            asked: dict[str, list[int]] = ask_the_hub(repo_id, filename)
            return asked
        with safe_open(path, framework="pt") as file:
            return {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118

    loaders.get_safetensors_tensor_shapes = shapes
    try:
        yield
    finally:
        loaders.get_safetensors_tensor_shapes = ask_the_hub


def _no_sae_lens(reference: str, error: ImportError) -> SaefilterError:
    """What to type where sae-lens is not installed, or an installed one does not start."""
    missing = (error.name or "").partition(".")[0] == "sae_lens"
    return SaefilterError(
        f"the SAE {reference} is read by sae-lens, which is not installed"
        if missing and isinstance(error, ModuleNotFoundError)
        else f"sae-lens, which reads the SAE {reference}, cannot be imported ({error})",
        remedy="Run: pip install 'saefilter[sae]' (what it has read once is kept, and needs it no more)",
    )


@contextmanager
def _sae_lens_errors(reference: str) -> Iterator[None]:
    import pickle

    def repository() -> str:
        from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

        first, *others = reference.split("/")
        known = get_pretrained_saes_directory().get(first)
        return known.repo_id if known else "/".join([first, *others[:1]])

    with hub_errors(reference, "SAE", repository):
        try:
            yield
        except ImportError as error:
            raise _no_sae_lens(reference, error) from error
        except pickle.UnpicklingError as error:
            raise SaefilterError(
                f"the SAE {reference} is a pickle that holds more than tensors; it was not loaded",
                remedy="Loading it could run code. Use a safetensors version, or tell its owner.",
            ) from error
        except (ValueError, KeyError, RuntimeError) as error:
            raise SaefilterError(
                f"sae-lens cannot load the SAE {reference} ({str(error).splitlines()[0]})",
                remedy="Check release and id: https://decoderesearch.github.io/SAELens/latest/"
                "pretrained_saes/",
            ) from error
