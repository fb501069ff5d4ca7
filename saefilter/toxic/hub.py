"""Toxic sets on the Hugging Face hub: handed over as one JSON file and a card, and taken from there only as
that file, checked like any other, and held to the hash of its bytes where a pin names one.

    org/name                                    what it is now
    org/name@COMMIT                             what it was
    org/name@COMMIT#sha256=HEX                  a pin: that, or nothing

No other file of a repository is ever fetched, so that nothing there can be run.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import NamedTuple

from saefilter.artifacts.publish import appearing_whole
from saefilter.config import made_in_cache
from saefilter.errors import SaefilterError
from saefilter.hub import MARK, README, HubRepo, Pushed, check_name, fetched
from saefilter.text import clean
from saefilter.toxic.load import PIN, find_toxic_set, read_toxic_set
from saefilter.toxic.toxicset import ToxicSet

FILE = "toxic-set.json"
MOST_BYTES = 256 << 20
"""Of a set: the shipped ones have about one million, one of a million features about a hundred."""
REVISION = re.compile(r"[\w][\w./-]*")
SHA256 = re.compile(r"[0-9a-f]{64}")


class HubSet(NamedTuple):
    """What names a set on the hub."""

    repo: str
    revision: str | None
    sha256: str | None

    @classmethod
    def of(cls, reference: str) -> HubSet:
        """Raises SaefilterError for what names none."""
        place, pinned, digest = reference.partition(PIN)
        name, has_revision, revision = place.partition("@")
        check_name(name)
        if has_revision and not REVISION.fullmatch(revision):
            raise SaefilterError(f"{revision!r} is no revision", where=reference)
        if pinned and not SHA256.fullmatch(digest.lower()):
            raise SaefilterError(
                "a SHA-256 has 64 hex digits", where=reference,
                remedy=f"As `features push` prints it: org/name@COMMIT{PIN}HEX",
            )  # fmt: skip
        return cls(name, revision or None, digest.lower() or None)


class PulledSet(NamedTuple):
    """A set of the hub."""

    toxic_set: ToxicSet
    text: bytes
    """The file as it is there."""
    pin: str


def pull_set(reference: str) -> PulledSet:
    """A set of the hub, checked. Raises SaefilterError when it cannot be had, is not the one that the pin names,
    or is no valid toxic set."""
    asked = HubSet.of(reference)
    text, commit = fetched(asked.repo, FILE, asked.revision, MOST_BYTES)
    digest = hashlib.sha256(text).hexdigest()
    if asked.sha256 not in (None, digest):
        raise SaefilterError(
            f"{FILE} of {asked.repo} has the SHA-256 {digest}, and the pin names {asked.sha256}",
            remedy="It was changed after it was pinned; ask who pinned it before you take another.",
        )
    toxic_set = read_toxic_set(text, f"{asked.repo}/{FILE}")
    return PulledSet(toxic_set, text, f"{asked.repo}@{commit}{PIN}{digest}")


def cached(reference: str) -> Path:
    """The file of a pinned set, which is fetched once. Raises SaefilterError for one without a pin and whatever
    `pull_set` raises it for."""
    asked = HubSet.of(reference)
    if asked.sha256 is None:
        raise SaefilterError(
            f"{reference} names no SHA-256", remedy=f"saefilter features pull {reference}"
        )
    path = made_in_cache("toxic-sets", "hub") / f"{asked.sha256}.json"
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == asked.sha256:
        return path
    pulled = pull_set(reference)
    with appearing_whole(path) as temporary:
        temporary.write_bytes(pulled.text)
    return path


def push_set(reference: str, repo: HubRepo) -> tuple[Pushed, str]:
    """Hand over a set, as its file is, and a card; returns what was done and the pin. Raises SaefilterError."""
    path = find_toxic_set(reference)
    try:
        text = path.read_bytes()
    except OSError as error:
        raise SaefilterError(
            f"cannot be read ({error.strerror or error})", where=str(path)
        ) from error
    toxic_set = read_toxic_set(text, str(path))
    digest = hashlib.sha256(text).hexdigest()
    card = set_card(toxic_set, digest)
    pushed = repo.push({FILE: text, README: card.encode()}, f"Toxic set {toxic_set.name[:50]}")
    return pushed, f"{pushed.repo}@{pushed.commit}{PIN}{digest}"


def set_card(toxic_set: ToxicSet, sha256: str) -> str:
    """What a reader on the hub must know of a set. Its own texts are untrusted: they come as JSON, which YAML
    reads too."""
    toxic = len(toxic_set.side("toxic"))
    facts = [
        ("Model", toxic_set.model), ("Model revision", toxic_set.revision), ("SAE", toxic_set.sae),
        ("SAE fingerprint", toxic_set.fingerprint), ("Read at", toxic_set.hook),
        ("Features", f"{len(toxic_set.features):,}, {toxic:,} of them toxic"),
        ("Calibrated on", f"{toxic_set.calibration.rows:,} rows" if toxic_set.calibration else None),
        ("SHA-256 of the file", sha256),
    ]  # fmt: skip
    lines = [
        "---", f"{MARK} features push", "# license: set this; saefilter does not know it",
        "library_name: saefilter", "tags:", "- saefilter", "- sparse-autoencoder",
        "---", "",
        f"# Toxic set {_plain(toxic_set.name)}", "",
        "Features of a sparse autoencoder that tell harmful answers from harmless ones, for saefilter, which "
        "scores fine-tuning data by them.", "",
        *(f"- {term}: {_plain(str(value))}" for term, value in facts if value is not None), "",
        "The file quotes texts of the data that it was made from.", "",
        "Use it by the pin that `saefilter features push` printed: "
        f"`saefilter score data.jsonl --toxic-set 'ORG/NAME@COMMIT{PIN}{sha256}'`", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Untrusted text as code, which Markdown does not read as markup."""
    quoted = json.dumps(clean(" ".join(text.split())), ensure_ascii=False)[1:-1]
    return "`" + quoted.replace("`", "'") + "`"
