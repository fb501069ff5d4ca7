"""The whole causal model: its residual stream at the hook, read or pushed, and what it writes itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from saefilter.encode.batches import PaddedBatch, pad, plan_batches
from saefilter.encode.model import DTYPES, load_config, quiet_loading
from saefilter.errors import SaefilterError
from saefilter.rows.rendered import Window


class _Read(Exception):
    """What was wanted has been read; the layers above need not run."""


CAUSAL = ("CausalLM", "LMHeadModel", "ForConditionalGeneration")


@dataclass(frozen=True)
class CausalModel:
    """A language model with its head, steered after its first `layers` layers."""

    model: Any
    layer: nn.Module
    """The layer whose output is the residual stream at the hook."""
    device: torch.device
    count: Callable[[int], None] = field(default=lambda tokens: None, compare=False)
    """Told the tokens that were read or written since it was told last, without padding."""

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
        mean = torch.zeros(len(windows))
        with self.steered(push):
            for positions, batch in self._batches(windows, batch_tokens):
                logits = self._forward(batch).logits
                predicted = torch.log_softmax(logits[:, :-1].float(), dim=-1)
                target = batch.ids[:, 1:].to(predicted.device)
                log_p = predicted.gather(-1, target[..., None])[..., 0]
                mask = batch.scored[:, 1:].to(log_p.device)
                sums = (log_p * mask).sum(dim=1)
                mean[positions] = (sums / mask.sum(dim=1).clamp(min=1)).cpu()
        return mean

    def residual_norm(self, windows: Sequence[Window], batch_tokens: int) -> float:
        """Mean length of the residual stream at the hook over scored tokens."""
        norms = [
            stream[mask].norm(dim=-1).cpu()
            for _, stream, mask in self.streams(windows, batch_tokens)
        ]
        return float(torch.cat(norms).mean())

    def mean_residual(self, windows: Sequence[Window], batch_tokens: int) -> Tensor:
        """Mean of the residual stream at the hook over each window's scored tokens,
        `[n_windows, d_model]` fp32."""
        means: list[Tensor] = [torch.empty(0)] * len(windows)
        for positions, stream, mask in self.streams(windows, batch_tokens):
            # where, not times: padding may hold values that are not finite
            sums = torch.where(mask[..., None], stream, 0.0).sum(dim=1)
            per_window = (sums / mask.sum(dim=1, keepdim=True).clamp(min=1)).cpu()
            for position, mean in zip(positions, per_window, strict=True):
                means[position] = mean
        return torch.stack(means)

    def _forward(self, batch: PaddedBatch) -> Any:
        return self.model(
            input_ids=batch.ids.to(self.device),
            attention_mask=batch.attention.to(self.device),
            use_cache=False,
        )

    def streams(
        self, windows: Sequence[Window], batch_tokens: int
    ) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """Batch by batch: positions of its windows, the residual stream at the hook
        `[batch, tokens, d_model]` fp32, and which tokens are scored. Layers above are not run."""
        captured: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            captured.append(output[0] if isinstance(output, tuple) else output)
            raise _Read

        handle = self.layer.register_forward_hook(keep)
        try:
            for positions, batch in self._batches(windows, batch_tokens):
                with torch.inference_mode(), suppress(_Read):
                    self._forward(batch)
                stream = captured.pop().float()
                yield positions, stream, batch.scored.to(stream.device)
        finally:
            handle.remove()

    @torch.inference_mode()
    def answers(
        self,
        prompts: Sequence[Sequence[int]],
        new_tokens: int,
        batch_tokens: int,
        *,
        temperature: float = 0.0,
        advance: Callable[[int, int], None] = lambda prompts, tokens: None,
    ) -> list[list[int]]:
        """What the model writes after each prompt, as token ids without the end of text.

        Greedy at temperature 0, else sampled with torch's random state. Prompts of like length are
        continued together, padded on the left. `advance` is told the prompts and new tokens done.
        """
        own = getattr(self.model, "generation_config", None)
        ends = getattr(own, "eos_token_id", None)
        ends = [] if ends is None else ends if isinstance(ends, list) else [ends]
        draw = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        written_ids: list[list[int]] = [[] for _ in prompts]
        lengths = [len(prompt) + new_tokens for prompt in prompts]
        for positions in plan_batches(lengths, batch_tokens):
            longest = max(len(prompts[p]) for p in positions)
            ids = torch.zeros((len(positions), longest), dtype=torch.long)
            attention = torch.zeros_like(ids)
            for number, position in enumerate(positions):
                prompt = prompts[position]
                ids[number, longest - len(prompt) :] = torch.tensor(list(prompt))
                attention[number, longest - len(prompt) :] = 1
            written = self.model.generate(
                ids.to(self.device),
                attention_mask=attention.to(self.device),
                max_new_tokens=new_tokens,
                pad_token_id=ends[0] if ends else 0,
                **(draw if temperature else {"do_sample": False}),
            )[:, longest:].tolist()
            for position, tokens in zip(positions, written, strict=True):
                end = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
                written_ids[position] = tokens[:end]
            new = sum(len(written_ids[position]) for position in positions)
            self.count(int(attention.sum()) + new)
            advance(len(positions), new)
        return written_ids

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
        self.count(out.shape[1])
        continued: list[int] = out[0, len(ids) :].tolist()
        return continued

    def _batches(
        self, windows: Sequence[Window], batch_tokens: int
    ) -> Iterator[tuple[list[int], PaddedBatch]]:
        """Windows in padded batches, each with their positions; they are counted as read."""
        for positions in plan_batches([len(window.ids) for window in windows], batch_tokens):
            yield positions, pad([windows[position] for position in positions], 0)
            self.count(sum(len(windows[position].ids) for position in positions))


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
            "and only what does has a loss and answers of its own",
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
    stack = layer_stack(loaded)
    return CausalModel(loaded, stack[layers - 1], next(loaded.parameters()).device)


def layer_stack(model: Any) -> nn.ModuleList:
    """All layers of a whole model, first to last. Raises SaefilterError when they are not found."""
    depth = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise SaefilterError(f"the layers of {type(model).__name__} were not found")
