"""How the rows of a decoder are scaled is a matter of writing: a row times c with its encoder over c is
the same SAE, and no score may depend on it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from test_sae import D_MODEL, D_SAE, write_sae

from saefilter.encode.pool import PoolOptions, pool_batch
from saefilter.encode.sae import Sae, load_sae
from saefilter.errors import SaefilterError
from saefilter.geometry.metrics import METRICS, Sample
from saefilter.geometry.scorer import Scorer
from saefilter.geometry.space import unit_rows
from saefilter.toxic.load import load_toxic_set
from saefilter.toxic.toxicset import ToxicFeature, ToxicSet

KINDS = {
    "standard": {},
    "jumprelu": {},
    "gated": {},
    "topk": {"k": 7, "rescale_acts_by_decoder_norm": True},
}
"""Of a TopK SAE that ignores the norms, another scale is another SAE: other features are the k largest."""
ENCODER = ("b_enc", "threshold", "b_gate", "b_mag")
COUNTS = np.array([9, 14, 3, 20, 6, 12])


def rescaled(folder: Path, factor: torch.Tensor) -> Path:
    """The same SAE with row i of its decoder times `factor[i]`."""
    weights = load_file(folder / "sae_weights.safetensors")
    weights["W_dec"] = weights["W_dec"] * factor[:, None]
    weights["W_enc"] = weights["W_enc"] / factor
    for name in ENCODER:
        if name in weights:
            weights[name] = weights[name] / factor
    other = folder.with_name(f"{folder.name}-rescaled")
    other.mkdir(exist_ok=True)
    (other / "cfg.json").write_text((folder / "cfg.json").read_text())
    save_file(weights, other / "sae_weights.safetensors")
    return other


def scores(sae: Sae, pool: str) -> dict[str, np.ndarray]:
    """Some rows' pooled features, token scores and proximity by every metric, with one set."""
    tokens = torch.randn(int(COUNTS.sum()), D_MODEL, generator=torch.Generator().manual_seed(4))
    weights = torch.linspace(-1, 1, D_SAE)
    with torch.inference_mode():
        pooled = pool_batch(sae, tokens, COUNTS, PoolOptions(pool, weights[:, None]))
    scorer = Scorer(a_set(), sae.directions(), metric="contrast")
    found = {
        name: METRICS[name].proximity(scorer.space, Sample(pooled.features, pooled.residual))
        for name in METRICS
    }
    assert pooled.token_scores is not None
    return {**found, "pooled": pooled.features.toarray(), "tokens": pooled.token_scores}


def a_set(**changes: object) -> ToxicSet:
    rng = np.random.default_rng(0)
    features = [
        ToxicFeature(int(i), "toxic" if n < 8 else "benign", 0.3 + n % 3, "f", 0.4, 0.6, 0.01)
        for n, i in enumerate(rng.permutation(D_SAE)[:14])
    ]
    made = ToxicSet(
        "t", "m", "s", "h", D_MODEL, D_SAE, "f" * 64, "mean", {}, [], features,
        (rng.random(D_SAE) + 20).tolist(), 0.1, unit_rows(rng.normal(size=(1, D_MODEL)))[0].tolist(),
        np.zeros(D_MODEL).tolist(), (rng.random(D_SAE) * 300).tolist(),
    )  # fmt: skip
    return replace(made, **changes)


@pytest.mark.parametrize("pool", ["mean", "max"])
@pytest.mark.parametrize("architecture", list(KINDS))
@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=5)
def test_no_score_depends_on_how_a_decoder_is_scaled(
    tmp_path_factory: pytest.TempPathFactory, architecture: str, pool: str, seed: int
) -> None:
    folder = write_sae(tmp_path_factory.mktemp("sae") / "a", architecture, **KINDS[architecture])
    generator = torch.Generator().manual_seed(seed)
    factor = torch.exp(torch.randn(D_SAE, generator=generator))
    factor[torch.rand(D_SAE, generator=generator) < 0.5] = 1
    before = load_sae(folder)
    after = load_sae(rescaled(folder, factor))
    assert before.fingerprint != after.fingerprint
    on_cpu = [one.to(torch.device("cpu")) for one in (before, after)]
    for one, other in ((before, after), on_cpu):
        expected, found = scores(one, pool), scores(other, pool)
        assert np.count_nonzero(expected["pooled"]) > 50
        for name, values in expected.items():
            size = np.abs(values).max()
            np.testing.assert_allclose(found[name] / size, values / size, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("how", ["encode", "dense"])
def test_a_topk_sae_that_ignores_the_norms_chooses_by_what_it_was_trained_with(
    tmp_path: Path, how: str
) -> None:
    """The k largest of the unscaled values, then each times the norm of its row."""
    from sae_lens import SAE

    folder = write_sae(tmp_path / "sae", "topk", k=7)
    residual = torch.randn(50, D_MODEL, generator=torch.Generator().manual_seed(1))
    theirs = SAE.load_from_disk(folder)
    with torch.no_grad():
        expected = theirs.encode(residual) * theirs.W_dec.norm(dim=-1)
    sae = load_sae(folder).to(torch.device("cpu"))
    found = sae.dense(residual)
    if how == "encode":
        active = sae.encode(residual)
        found = torch.zeros_like(found)
        found[active.token, active.feature] = active.value
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)


def test_the_shipped_sae_has_a_unit_decoder_and_keeps_its_fingerprint() -> None:
    from saefilter.encode.sae_source import find_sae

    sae = load_sae(find_sae("shipped:minilm_sae"))
    assert sae.has_unit_decoder
    assert sae.fingerprint == load_toxic_set("minilm").fingerprint


def test_a_set_in_raw_activations_is_refused_for_a_decoder_of_other_lengths(tmp_path: Path) -> None:
    """Its spreads and limits are in other units; a unit decoder has but one."""
    sae = load_sae(write_sae(tmp_path / "sae", "standard"))
    assert not sae.has_unit_decoder
    belongs = {
        "fingerprint": "f" * 64,
        "d_model": D_MODEL,
        "d_sae": D_SAE,
        "model": "m",
        "sae_name": "s",
    }
    a_set().check_belongs(**belongs, unit_decoder=False)
    raw = a_set(schema=2)
    raw.check_belongs(**belongs, unit_decoder=True)
    with pytest.raises(SaefilterError, match="before activations were multiplied"):
        raw.check_belongs(**belongs, unit_decoder=False)
    for version, loads in ((1, False), (2, True), (3, True), (4, False)):
        path = tmp_path / f"{version}.json"
        path.write_text(json.dumps({**json.loads(a_set().to_json()), "schema": version}))
        if loads:
            assert load_toxic_set(str(path)).schema == version
        else:
            with pytest.raises(SaefilterError, match=f"schema {version}"):
                load_toxic_set(str(path))
