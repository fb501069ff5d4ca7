"""The alternatives, each as its documentation does it, on batches of the same token ids.

A contender turns one batch into one sparse row of pooled features per document. None is charged for
imports, loading, rendering or making the batches. Right padding needs no mask where attention is
causal, and none is passed where the recipe passes none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from scipy import sparse
from torch import Tensor

from benchmarks.throughput.checkpoint import config_of, cut_model
from benchmarks.throughput.prepare import Prepared
from benchmarks.throughput.rows import Batch


@dataclass(frozen=True)
class Contender:
    """One way to get documents' features."""

    key: str
    title: str
    run: Callable[[Batch], sparse.csr_matrix]
    """`[batch, d_sae]`."""
    pool: str
    """`mean` over the scored tokens, or `max` over all tokens of the document."""


def mean_pool(acts: Tensor, scored: Tensor) -> sparse.csr_matrix:
    """Mean of `[batch, tokens, d_sae]` over the scored tokens: one matrix product, then sparse."""
    weights = scored.to(acts.dtype) / scored.sum(dim=1, keepdim=True)
    pooled = torch.bmm(weights[:, None].to(acts.dtype), acts)[:, 0]
    return sparse.csr_matrix(pooled.float().cpu().numpy())


def max_pool(acts: Tensor, attention: Tensor) -> sparse.csr_matrix:
    """interp_embed's way: dense activations to the CPU, a sparse matrix per document, its maximum."""
    dense = acts.float().cpu().numpy()
    mask = attention.bool().cpu().numpy()
    documents = [sparse.csr_matrix(dense[i][mask[i]]) for i in range(len(dense))]
    return sparse.vstack([document.max(axis=0) for document in documents]).tocsr()


class Models:
    """What the contenders share: the whole model, the SAE as sae-lens loads it, TransformerLens's model."""

    def __init__(self, prepared: Prepared, dtype: torch.dtype, *, cut_only: bool = False):
        """`cut_only`: nobody will run the layers after the hook, so that none need be made up."""
        self.prepared, self.dtype, self.device = prepared, dtype, prepared.device
        self.cut_only = cut_only

    @property
    def layers(self) -> int:
        return self.prepared.shape.layers

    @cached_property
    def whole(self) -> Any:
        """The causal model with its head; of MiniLM, which has none, the model."""
        import transformers as hf

        shape = self.prepared.shape
        if not shape.causal:
            loaded = hf.AutoModel.from_pretrained(self.prepared.model, dtype=self.dtype)
            return loaded.to(self.device).eval()
        options: dict[str, Any] = {"dtype": self.dtype}
        if shape.preset is None and shape.network is not None:
            # layers that the checkpoint does not hold are made up here
            layers = self.layers if self.cut_only else shape.network.layers
            options["config"] = config_of(shape.network, layers)
        if self.device.type != "cpu":
            options["device_map"] = {"": self.device}
        return hf.AutoModelForCausalLM.from_pretrained(self.prepared.model, **options).eval()

    @property
    def base(self) -> Any:
        """The whole model without its head."""
        return self.whole.model if self.prepared.shape.causal else self.whole

    @cached_property
    def cut(self) -> Any:
        """The layers up to the hook and nothing else."""
        return cut_model(self.base, self.layers)

    @cached_property
    def sae(self) -> Any:
        from sae_lens import SAE

        sae = SAE.load_from_disk(self.prepared.sae, device=str(self.device)).to(self.dtype)
        sae.cfg.metadata.hook_name = self.prepared.shape.hook
        return sae.eval()

    @cached_property
    def lens(self) -> Any:
        from benchmarks.throughput.lens import bridge_of_bert, hooked_model

        shape = self.prepared.shape
        if not shape.causal:
            return bridge_of_bert(self.prepared.model, self.dtype, self.device)
        if shape.network is None:
            raise ValueError("its sizes are not written down for TransformerLens")
        return hooked_model(self.whole, shape.network, self.dtype, self.device)


def contenders(models: Models) -> list[Contender]:
    """All alternatives that run on this shape."""
    prepared = models.prepared
    hook, layers = prepared.shape.hook, models.layers
    causal = prepared.shape.causal
    lens_class = "HookedSAETransformer" if causal else "SAETransformerBridge"
    # TransformerBridge calls the residual stream by another name
    name = hook if causal else f"blocks.{layers - 1}.hook_out"

    def masked(batch: Batch) -> dict[str, Tensor]:
        """MiniLM's attention looks both ways and needs the mask."""
        return {} if causal else {"attention_mask": batch.attention}

    def tutorial(batch: Batch) -> sparse.csr_matrix:
        _, cache = models.lens.run_with_cache_with_saes(
            batch.ids, saes=[models.sae], **masked(batch)
        )
        return mean_pool(cache[f"{name}.hook_sae_acts_post"], batch.scored)

    def stop_at_layer(batch: Batch) -> sparse.csr_matrix:
        _, cache = models.lens.run_with_cache(
            batch.ids, names_filter=[name], stop_at_layer=layers, **masked(batch)
        )
        return mean_pool(models.sae.encode(cache[name]), batch.scored)

    def hidden_states(batch: Batch) -> sparse.csr_matrix:
        out = models.base(
            input_ids=batch.ids, attention_mask=batch.attention, output_hidden_states=True
        )
        return mean_pool(models.sae.encode(out.hidden_states[layers]), batch.scored)

    def interp_local(batch: Batch) -> sparse.csr_matrix:
        _, cache = models.lens.run_with_cache(batch.ids, **masked(batch))
        return max_pool(models.sae.encode(cache[name].to(models.device)), batch.attention)

    def interp_cut(batch: Batch) -> sparse.csr_matrix:
        model = models.cut
        with torch.no_grad():
            out = model(input_ids=batch.ids, attention_mask=batch.attention)
            if causal:
                models.whole.lm_head(out[0])  # that library keeps the head
        residual = out[0].detach().cpu().to(models.device)
        return max_pool(models.sae.encode(residual), batch.attention)

    return [
        Contender("tutorial", f"(b) sae-lens {lens_class}: `run_with_cache_with_saes`", tutorial,
                  "mean"),
        Contender("stop", "(b) TransformerLens `run_with_cache(stop_at_layer)`, `sae.encode`",
                  stop_at_layer, "mean"),
        Contender("hidden", "(c) Hugging Face `output_hidden_states`, `sae.encode`",
                  hidden_states, "mean"),
        Contender("interp", "(d) interp_embed's LocalSAE recipe", interp_local, "max"),
        Contender("interp-cut", "(d) interp_embed's GoodfireSAE recipe (layers cut)", interp_cut,
                  "max"),
    ]  # fmt: skip
