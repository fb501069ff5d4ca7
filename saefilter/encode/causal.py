"""The whole causal model, with something added to its residual stream at the hook."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from saefilter.encode.batches import pad, plan_batches
from saefilter.encode.model import DTYPES, load_config, quiet_loading
from saefilter.errors import SaefilterError
from saefilter.rows.render import Window

CAUSAL = ("CausalLM", "LMHeadModel", "ForConditionalGeneration")


@dataclass(frozen=True)
class CausalModel:
    """A language model with its head, steered after its first `layers` layers."""

    model: Any
    layer: nn.Module
    """The layer whose output is the residual stream at the hook."""
    device: torch.device

    @contextmanager
    def steered(self, push: Tensor | None) -> Iterator[None]:
        """Within it, `push`, `[d_model]`, is added to the residual stream of every token."""
        if push is None:
            yield
            return

        def add(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            stream = output[0] if isinstance(output, tuple) else output
            moved = stream + push.to(stream)
            return (moved, *output[1:]) if isinstance(output, tuple) else moved

        handle = self.layer.register_forward_hook(add)
        try:
            yield
        finally:
            handle.remove()

    @torch.inference_mode()
    def log_likelihood(
        self, windows: Sequence[Window], batch_tokens: int, push: Tensor | None = None
    ) -> Tensor:
        """Mean log-probability of each window's scored tokens, nats per token, `[n_windows]`."""
        found = torch.zeros(len(windows))
        with self.steered(push):
            for positions in plan_batches([len(w.ids) for w in windows], batch_tokens):
                ids, attention, scored = pad([windows[p] for p in positions], 0)
                logits = self.model(
                    input_ids=ids.to(self.device),
                    attention_mask=attention.to(self.device),
                    use_cache=False,
                ).logits
                predicted = torch.log_softmax(logits[:, :-1].float(), dim=-1)
                target = ids[:, 1:].to(predicted.device)
                log_p = predicted.gather(-1, target[..., None])[..., 0]
                mask = scored[:, 1:].to(log_p.device)
                mean = (log_p * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
                found[positions] = mean.cpu()
        return found

    @torch.inference_mode()
    def residual_norm(self, windows: Sequence[Window], batch_tokens: int) -> float:
        """Mean length of the residual stream at the hook over scored tokens."""
        norms: list[Tensor] = []
        captured: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            captured.append(output[0] if isinstance(output, tuple) else output)

        handle = self.layer.register_forward_hook(keep)
        try:
            for positions in plan_batches([len(w.ids) for w in windows], batch_tokens):
                ids, attention, scored = pad([windows[p] for p in positions], 0)
                self.model(
                    input_ids=ids.to(self.device),
                    attention_mask=attention.to(self.device),
                    use_cache=False,
                )
                stream = captured.pop()
                norms.append(stream[scored.to(stream.device)].float().norm(dim=-1).cpu())
        finally:
            handle.remove()
        return float(torch.cat(norms).mean())

    @torch.inference_mode()
    def continuation(
        self, ids: Sequence[int], new_tokens: int, push: Tensor | None = None
    ) -> list[int]:
        """Greedy continuation of a prompt, as token ids."""
        prompt = torch.tensor([list(ids)], device=self.device)
        with self.steered(push):
            out = self.model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=new_tokens,
                do_sample=False,
                pad_token_id=0,
            )
        found: list[int] = out[0, len(ids) :].tolist()
        return found


def load_causal_model(
    model: str, layers: int, *, revision: str | None, dtype: str, device: torch.device,
    device_map: str | None = None,
) -> CausalModel:  # fmt: skip
    """Load a whole model, to be steered after its first `layers` layers.

    Raises SaefilterError when it does not continue texts, or its layers are not found.
    """
    from transformers import AutoModelForCausalLM

    config = load_config(model, revision)
    names = config.architectures or []
    if not any(ending in name for name in names for ending in CAUSAL):
        raise SaefilterError(
            f"{model} ({', '.join(names) or 'of no stated architecture'}) does not continue texts, "
            "so there is nothing to steer",
            remedy="Use the preset of a causal model.",
        )
    try:
        with quiet_loading():
            loaded = AutoModelForCausalLM.from_pretrained(
                model,
                revision=revision,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=DTYPES[dtype],
                device_map=device_map or ({"": device} if device.type != "cpu" else None),
            ).eval()
    except (OSError, ValueError) as error:
        raise SaefilterError(
            f"the model {model} cannot be loaded ({str(error).splitlines()[0]})"
        ) from error
    depth = config.get_text_config().num_hidden_layers
    stack = next(
        (
            module
            for module in loaded.modules()
            if isinstance(module, nn.ModuleList) and len(module) == depth
        ),
        None,
    )
    if stack is None:
        raise SaefilterError(f"the layers of {type(loaded).__name__} were not found")
    return CausalModel(loaded, stack[layers - 1], next(loaded.parameters()).device)
