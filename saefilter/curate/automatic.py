"""A toxic set for any SAE without any data of the user's: curated once from the bundled contrast."""

from __future__ import annotations

import re
from pathlib import Path

from saefilter import __version__
from saefilter.artifacts.publish import appearing_whole
from saefilter.config import cache_folder
from saefilter.curate.curate import Advance, curate
from saefilter.curate.sources import bundled, digest_of
from saefilter.encode.encoder import Encoder
from saefilter.settings import CurationOptions
from saefilter.toxic.load import load_toxic_set
from saefilter.toxic.toxicset import TOXIC_SET_VERSION, ToxicSet

OPTIONS = CurationOptions(screen_p=0.1, fdr=0.5)
"""Lenient: 180 pairs confirm few features at 5 %, and the penalty weighs what is left by
cross-validation."""


def automatic_path(encoder: Encoder) -> Path:
    """Where the set of this model and SAE is kept; another one for other data or another version."""
    made_of = digest_of([bundled()])[:8]
    name = re.sub(r"[^\w.-]+", "-", encoder.preset.name or encoder.preset.model).strip("-.")
    file = f"{name}-{encoder.sae.fingerprint[:12]}-{made_of}-{TOXIC_SET_VERSION}-{__version__}.json"
    return cache_folder() / "toxic-sets" / file


def automatic_set(encoder: Encoder, advance: Advance | None = None) -> ToxicSet:
    """The set from the cache, or made and kept there. Raises SaefilterError when the contrast
    confirms no feature of this SAE."""
    path = automatic_path(encoder)
    if path.exists():
        return load_toxic_set(str(path))
    toxic_set = curate(
        encoder, [bundled()], name=f"bundled-{encoder.preset.name}", options=OPTIONS,
        advance=advance,
    )  # fmt: skip
    with appearing_whole(path) as temporary:
        temporary.write_text(toxic_set.to_json(), encoding="utf-8")
    return toxic_set
