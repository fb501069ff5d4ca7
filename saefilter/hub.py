"""Repositories of the Hugging Face hub: what is handed over there in one commit, what is fetched from there,
and the words for what the hub refuses.

Nothing that is pushed can be seen by others unless that is asked for, and no repository is written to that
saefilter did not make.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saefilter import __version__
from saefilter.errors import SaefilterError
from saefilter.text import one_line

if TYPE_CHECKING:
    from huggingface_hub import DatasetInfo, HfApi, ModelInfo

NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
README = "README.md"
MARK = "# made by saefilter"
"""How the line of a card begins that tells it from somebody's own README."""
CARD = re.compile(rf"---\n(?:(?!---$).*\n){{0,20}}?{MARK}", re.MULTILINE)
"""Such a line stands in the head of a card; a text that quotes it does not make the card saefilter's."""
OF_THE_HUB = (".gitattributes", ".gitignore")
"""Files that the hub itself puts into a new repository."""


@dataclass(frozen=True)
class Pushed:
    """A commit on the hub."""

    repo: str
    """`org/name`."""
    url: str
    commit: str
    """Its full hash."""
    private: bool

    def to_json(self) -> dict[str, Any]:
        return vars(self)


@dataclass(frozen=True)
class HubRepo:
    """Where something is to be pushed."""

    name: str
    """`org/name`."""
    kind: str
    """`dataset` or `model`."""
    public: bool = False
    """Whether all may see it; else it is made private."""

    def __post_init__(self) -> None:
        check_name(self.name)

    def check(self) -> None:
        """Raises SaefilterError when it cannot be pushed to: before hours of work, and without making
        anything there."""
        self._found(_api(), self._push_remedy)

    def push(self, files: Mapping[str, Path | bytes], message: str) -> Pushed:
        """Hand over files, by their names there, in one commit. Data that the card there names, and this push
        does not have, are removed from it: they may hold rows that are dropped now. What else is there stays.
        Raises SaefilterError, and then no file was changed there, unless it left one out that it was given."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        api = _api()
        found = self._found(api, self._push_remedy)
        with refusals(self.name, self._push_remedy):
            if found is None:
                api.create_repo(
                    self.name, repo_type=self.kind, private=not self.public, exist_ok=False
                )
            info = self._info(api)
            gone = sorted(self._named_by_card(api, info) - set(files))
            done = api.create_commit(
                self.name,
                [CommitOperationAdd(name, file) for name, file in files.items()]
                + [CommitOperationDelete(name) for name in gone],
                commit_message=message, repo_type=self.kind,
                parent_commit=info.sha,  # another push since then is an error, and not undone
            )  # fmt: skip
            info = self._info(api, done.oid)
        there = {file.rfilename for file in info.siblings or []}
        if missing := sorted(set(files) - there):
            raise SaefilterError(
                f"{self.name} on the hub did not take {missing[0]}",
                remedy="Is it named in the repository's .gitignore?",
            )
        prefix = "datasets/" if self.kind == "dataset" else ""
        return Pushed(
            self.name, f"{api.endpoint}/{prefix}{self.name}", done.oid, bool(info.private)
        )

    def _named_by_card(self, api: HfApi, info: DatasetInfo | ModelInfo) -> set[str]:
        """Files there that the card names as the data."""
        from huggingface_hub import metadata_load

        there = {file.rfilename for file in info.siblings or []}
        if README not in there:
            return set()
        card = api.hf_hub_download(self.name, README, repo_type=self.kind, revision=info.sha)
        head: Any = metadata_load(card) or {}
        named: list[str] = []
        for config in head.get("configs") or []:
            for split in config.get("data_files") or []:
                path = split.get("path")
                named += [path] if isinstance(path, str) else path or []
        return there & set(named)

    def _info(self, api: HfApi, revision: str | None = None) -> DatasetInfo | ModelInfo:
        ask = api.dataset_info if self.kind == "dataset" else api.model_info
        return ask(self.name, revision=revision)

    def _found(self, api: HfApi, remedy: str) -> DatasetInfo | ModelInfo | None:
        """What the hub says of the repository; None where it is yet to be made."""
        from huggingface_hub.errors import RepositoryNotFoundError

        with refusals(self.name, remedy):
            self._refuse_token(api.whoami(), remedy)
            try:
                info = self._info(api)
            except RepositoryNotFoundError:
                return None
            if not self.public and not info.private:
                raise SaefilterError(
                    f"the {self.kind} {self.name} on the hub is public",
                    remedy="Add --public if everyone may see what is pushed, or name another one.",
                )
            foreign = [
                file.rfilename for file in info.siblings or []
                if file.rfilename not in OF_THE_HUB
            ]  # fmt: skip
            if not foreign:
                return info
            if README in (file.rfilename for file in info.siblings or []):
                card = api.hf_hub_download(
                    self.name, README, repo_type=self.kind, revision=info.sha
                )
                if CARD.match(Path(card).read_text(encoding="utf-8", errors="replace")):
                    return info
        raise SaefilterError(
            f"the {self.kind} {self.name} on the hub holds {foreign[0]} and no card of saefilter",
            remedy="Name a new one: what saefilter did not make is never written to.",
        )

    def _refuse_token(self, who: dict[str, Any], remedy: str) -> None:
        """Raises SaefilterError for one that cannot write there, as far as the hub says so."""
        owner = self.name.partition("/")[0]
        role = ((who.get("auth") or {}).get("accessToken") or {}).get("role")
        if role == "read":
            raise SaefilterError("the token may only read from the hub", remedy=remedy)
        if owner not in (who.get("name"), *(one.get("name") for one in who.get("orgs") or [])):
            raise SaefilterError(
                f"the token is of {who.get('name')}, who may not write to {owner} on the hub",
                remedy=remedy,
            )

    @property
    def _push_remedy(self) -> str:
        return (
            "Log in with a token that may write there (hf auth login, or the variable HF_TOKEN), or "
            "name a place of your own: YOUR-NAME/NAME."
        )


def check_name(name: str) -> None:
    """Raises SaefilterError for what is no name of a repository."""
    if not NAME.fullmatch(name) or ".." in name or "--" in name:
        raise SaefilterError(
            f"{name!r} is no name of a repository on the hub", remedy="Names look like org/name."
        )


def fetched(name: str, file: str, revision: str | None, most: int) -> tuple[bytes, str]:
    """A file of a model repository, and the commit that it is of. Raises SaefilterError when it is not
    there, cannot be had, or has more than `most` bytes."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    check_name(name)
    api = _api(writes=False)
    remedy = "Check the name and the revision; for a private one log in first: hf auth login."
    with refusals(name, remedy):
        commit = str(api.model_info(name, revision=revision).sha)
        url = hf_hub_url(name, file, revision=commit, endpoint=api.endpoint)
        size = get_hf_file_metadata(url).size or 0
        if size > most:
            raise SaefilterError(
                f"{file} of {name} has {size:,} bytes, and at most {most:,} are read"
            )
        path = api.hf_hub_download(name, file, revision=commit)
    return Path(path).read_bytes(), commit


def _api(*, writes: bool = True) -> HfApi:
    """The hub. Raises SaefilterError where it cannot be asked."""
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        raise SaefilterError(
            "the hub is not to be asked: HF_HUB_OFFLINE is set", remedy="Unset it for this command."
        )
    if writes and not get_token():
        raise SaefilterError(
            "pushing to the hub needs a token that may write",
            remedy="Log in first: hf auth login. Or set the variable HF_TOKEN.",
        )
    return HfApi(library_name="saefilter", library_version=__version__)


@contextmanager
def refusals(name: str, remedy: str) -> Iterator[None]:
    """What the hub does not do becomes a SaefilterError."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
    )

    try:
        yield
    except LocalEntryNotFoundError as error:
        raise _unreached(error) from error
    except EntryNotFoundError as error:
        raise SaefilterError(f"{name} on the hub has no such file", remedy=remedy) from error
    except HfHubHTTPError as error:
        raise _refused(name, error, remedy) from error
    except (ValueError, LookupError) as error:
        # a proxy's page, or a login's, in place of its answer; no repr, which may hold the token
        said = one_line(f"{type(error).__name__}: {error}")[:200]
        raise SaefilterError(
            f"what was asked about {name} was not answered as a hub answers ({said})",
            remedy="Is there a proxy between, or is HF_ENDPOINT or HF_TOKEN not what it should be?",
        ) from error
    except Exception as error:
        # by name: huggingface_hub has had httpx under more than one
        if isinstance(error, OSError) or type(error).__module__.startswith("httpx"):
            raise _unreached(error) from error
        raise


def _unreached(error: Exception) -> SaefilterError:
    reason = (str(error).splitlines() or [""])[0] or type(error).__name__
    return SaefilterError(f"the hub cannot be reached ({reason})", remedy="Try again when it can.")


def _refused(name: str, error: Any, remedy: str) -> SaefilterError:
    """In a few words; the status where the hub gives none. The remedy is only what helps against that."""
    status = getattr(error.response, "status_code", None) or 0
    if status == TOO_MANY:
        return SaefilterError("the hub takes no more requests for now", remedy=LATER)
    if status >= OWN_TROUBLE:
        return SaefilterError(f"the hub has trouble of its own (status {status})", remedy=LATER)
    if status in CHANGED:
        return SaefilterError(
            f"the hub refuses {name} (it was changed in the meantime)", remedy="Push again."
        )
    known = {
        401: "it does not know the token, or there is no such repository",
        403: "the token may not do that",
        404: "there is no such repository or revision",
    }  # fmt: skip
    said = getattr(error, "server_message", None)
    words = known.get(status) or (str(said or error).splitlines() or [f"status {status}"])[0]
    return SaefilterError(f"the hub refuses {name} ({words})", remedy=remedy)


TOO_MANY, OWN_TROUBLE, CHANGED = 429, 500, (409, 412)
"""Statuses of HTTP."""
LATER = "Try again later."
