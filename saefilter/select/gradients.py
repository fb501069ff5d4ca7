"""Gradient similarity without a Hessian: how much more a row would move the model as toxic rows do than as benign
ones do, if it were trained on.

A row's gradient is that of the mean loss of its trained tokens, by the weights of the linear maps in the
upper half of the layers, as the model stands. Compared are cosines: mean with the toxic contrast rows'
gradients less mean with the benign ones' (anchored on both sides: He et al. 2024, arXiv 2404.01099). Each
number is divided by a fourth root of its mean square over contrast rows, so that the product of two
gradients is what a step of Adam along one does to the loss of the other.

LESS (Xia et al. 2024, arXiv 2402.04333) is alike in projecting gradients at random, in Adam's second
moment and in cosines. It differs in warming up a LoRA first, from which the moments come, in the first
moment, and in taking the moments before it projects.

Gradients are projected on both sides of each map, `P_out' G P_in` (Choe et al. 2024, arXiv 2405.13954),
and never formed: a linear map's gradient is a sum of outer products over tokens, so that one backward
pass gives those of every row of a batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from saefilter.encode.batches import pad, plan_batches
from saefilter.encode.causal import layer_stack
from saefilter.errors import SaefilterError
from saefilter.rows.formats import Conversation
from saefilter.rows.rendered import Window
from saefilter.select.causal_reader import CausalReader
from saefilter.select.classifiers import ContrastPair, read_contrast
from saefilter.select.larf import BACKWARD_SHARE, MIN_BACKWARD_TOKENS, unit
from saefilter.select.layered import Floats, anchors, digest_of, learnt_once, usable_sides
from saefilter.select.per_row import scored_once
from saefilter.select.ranking import Candidates, Ranking
from saefilter.select.strategies import Selection

SIDE = 16
"""Directions kept of either side of a linear map: `SIDE ** 2` numbers of its gradient."""
ROWS = 64
"""Whose gradients are in memory at once."""


def rank(candidates: Candidates, selection: Selection) -> Ranking:
    """Largest difference of mean cosines first, -2 to 2."""
    reader = CausalReader.load(candidates, selection, None)
    contrast = anchors(read_contrast(candidates, selection.options))
    gradients = RowGradients(reader, selection.seed)
    depends_on = {**reader.depends_on, **gradients.depends_on}
    learnt = Learnt.of(
        learnt_once(
            candidates,
            "gradient",
            {**depends_on, "contrast": contrast.about},
            lambda: learn(gradients, contrast).numbers(),
        )
    )
    score = scored_once(
        candidates,
        "gradient",
        digest_of(learnt.numbers(), **depends_on),
        lambda conversations: similarity(gradients, conversations, learnt),
    )
    return Ranking.by_score(
        score,
        "gradient's cosine to toxic rows less that to benign ones",
        "by how much more training on it moves the model as toxic rows do than as benign ones do",
        details={
            **reader.about,
            "layers": f"{gradients.first + 1} to {gradients.depth}",
            "dimensions": gradients.size,
            "contrast": contrast.about,
        },
    )


class Learnt(NamedTuple):
    """What contrast rows say of gradients."""

    scale: Floats
    """What each number of a gradient is divided by, `[size]`."""
    direction: Floats
    """Mean scaled unit gradient of toxic contrast rows less that of benign ones, `[size]`: a scaled unit
    gradient's product with it is the difference of its mean cosines."""

    def numbers(self) -> Floats:
        """All of it in one row, to be kept."""
        return np.concatenate([self.scale, self.direction])

    @classmethod
    def of(cls, numbers: Floats) -> Learnt:
        """What was kept."""
        return cls(numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :])


def learn(gradients: RowGradients, contrast: ContrastPair) -> Learnt:
    """From the gradients of all contrast rows, which are held. Raises SaefilterError when a side has none."""
    rows = np.full((len(contrast.toxic), gradients.size), np.nan, dtype=np.float32)
    for numbers, gradient in gradients.pieces(contrast.conversations):
        rows[numbers] = gradient
    usable = np.isfinite(rows[:, 0])
    usable_sides(contrast.toxic, usable)
    moment = np.square(unit(rows[usable])).mean(axis=0)
    scale: Floats = (np.where(moment > 0, moment, 1) ** 0.25).astype(np.float32)
    scaled = unit(rows[usable] / scale)
    toxic = contrast.toxic[usable]
    direction = scaled[toxic].mean(axis=0) - scaled[~toxic].mean(axis=0)
    return Learnt(scale, direction)


def similarity(
    gradients: RowGradients, conversations: Sequence[Conversation], learnt: Learnt
) -> NDArray[np.float64]:
    """Of each conversation's gradient, `[n]`; NaN for one without a token to predict."""
    value = np.full(len(conversations), np.nan)
    for rows, gradient in gradients.pieces(conversations):
        value[rows] = unit(gradient / learnt.scale) @ learnt.direction
    return value


class RowGradients:
    """Projected gradients of rows, some at a time."""

    def __init__(self, reader: CausalReader, seed: int, side: int = SIDE):
        self.reader = reader
        self.seed = seed
        self.side = side
        model = reader.model.model.requires_grad_(False)
        self.stack = layer_stack(model)
        self.depth = len(self.stack)
        self.first = self.depth // 2
        self.maps = [
            (f"{number}.{name}", module)
            for number in range(self.first, self.depth)
            for name, module in self.stack[number].named_modules()
            if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"  # GPT-2's
        ]
        if not self.maps:
            raise SaefilterError(f"{type(model).__name__} has no linear maps in its upper layers")
        self._projections: dict[tuple[str, int], Tensor] = {}

    @property
    def size(self) -> int:
        """Numbers of a row's gradient."""
        return len(self.maps) * self.side**2

    @property
    def depends_on(self) -> dict[str, Any]:
        """What the gradients depend on besides the model."""
        return {"seed": self.seed, "side": self.side, "first": self.first}

    def pieces(
        self, conversations: Sequence[Conversation]
    ) -> Iterator[tuple[NDArray[np.int64], Floats]]:
        """Gradients of all conversations: positions `[n]` and numbers `[n, size]`, rows of like length
        together; NaN for a row without a token to predict."""
        _, windows = self.reader.renderer.render(conversations)
        of_row: list[list[Window]] = [[] for _ in conversations]
        for window in windows:
            of_row[window.row].append(window)
        lengths = np.array([sum(len(one.ids) for one in row) for row in of_row])
        order = np.argsort(-lengths, kind="stable")
        for start in range(0, len(order), ROWS):
            rows = order[start : start + ROWS]
            yield rows, self._of_rows([of_row[row] for row in rows])

    def _of_rows(self, rows: Sequence[Sequence[Window]]) -> Floats:
        predicted = np.array([sum(int(one.scored[1:].sum()) for one in row) for row in rows])
        blocks = torch.zeros(len(rows), len(self.maps), self.side, self.side)
        pairs = [(number, one) for number, row in enumerate(rows) for one in row]
        pairs = [(number, one) for number, one in pairs if one.scored[1:].any()]
        budget = max(MIN_BACKWARD_TOKENS, self.reader.predicted_tokens // BACKWARD_SHARE)
        for positions in plan_batches([len(one.ids) for _, one in pairs], budget):
            numbers = [pairs[position][0] for position in positions]
            # a row longer than the context is in several windows, whose gradients add up
            blocks.index_add_(
                0,
                torch.tensor(numbers),
                self._of_batch([pairs[position][1] for position in positions], predicted[numbers]),
            )
        gradients: Floats = blocks.flatten(1).numpy()
        gradients[predicted == 0] = np.nan
        return gradients

    def _of_batch(self, windows: Sequence[Window], predicted: NDArray[np.int64]) -> Tensor:
        """Gradients of each window's summed loss over its row's predicted tokens, `[batch, maps, side,
        side]`."""
        batch = pad(windows, 0)
        blocks = torch.zeros(len(windows), len(self.maps), self.side, self.side)
        real = batch.attention.bool()
        with self._caught(blocks, real), torch.enable_grad():
            device = self.reader.model.device
            logits = self.reader.model.model(
                input_ids=batch.ids.to(device),
                attention_mask=batch.attention.to(device),
                use_cache=False,
            ).logits
            scored = batch.scored[:, 1:].to(logits.device)
            loss = nn.functional.cross_entropy(
                logits[:, :-1][scored].float(),
                batch.ids[:, 1:].to(logits.device)[scored],
                reduction="none",
            )
            share = torch.from_numpy(1.0 / predicted).float().to(logits.device)
            of_token = share[torch.nonzero(scored)[:, 0]]
            torch.autograd.backward((loss * of_token).sum())
        return blocks

    @contextmanager
    def _caught(self, blocks: Tensor, real: Tensor) -> Iterator[None]:
        """Within it, a backward pass fills `blocks`; it ends below the first layer that counts."""

        def begin(_module: nn.Module, args: Any, kwargs: Any) -> Any:
            if args:
                return (args[0].detach().requires_grad_(), *args[1:]), kwargs
            stream = kwargs["hidden_states"].detach().requires_grad_()
            return args, {**kwargs, "hidden_states": stream}

        with ExitStack() as hooks:
            handle = self.stack[self.first].register_forward_pre_hook(begin, with_kwargs=True)
            hooks.callback(handle.remove)
            for number, (name, module) in enumerate(self.maps):
                handle = module.register_forward_hook(
                    self._projected(name, blocks[:, number], real)
                )
                hooks.callback(handle.remove)
            yield

    def _projected(
        self, name: str, blocks: Tensor, real: Tensor
    ) -> Callable[[nn.Module, Any, Tensor], None]:
        """A hook that puts a map's projected gradients, row by row, into `blocks`, `[batch, side, side]`."""

        def hook(_module: nn.Module, inputs: Any, output: Tensor) -> None:
            if inputs[0].shape[:2] != real.shape:
                return  # an expert's, which sees some of the tokens
            seen = real.to(output.device)[..., None]
            # where, not times: padding may hold values that are not finite
            read = torch.where(seen, inputs[0].detach().float(), 0.0)
            read = read @ self._projection(name + " in", read)

            def back(gradient: Tensor) -> None:
                written = torch.where(seen, gradient.float(), 0.0)
                written = written @ self._projection(name + " out", written)
                blocks.copy_(torch.einsum("bto,bti->boi", written, read))

            output.register_hook(back)  # type: ignore[no-untyped-call]

        return hook

    def _projection(self, name: str, like: Tensor) -> Tensor:
        """Of one side of a map, `[width, side]`: normal numbers by the seed and the map's name, of variance
        `1 / side`, so that lengths are kept on average (Johnson and Lindenstrauss 1984)."""
        width = like.shape[-1]
        if (name, width) not in self._projections:
            digest = hashlib.blake2b(f"{self.seed} {name}".encode(), digest_size=7).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
            drawn = torch.randn(width, self.side, generator=generator) / self.side**0.5
            self._projections[name, width] = drawn.to(like.device)
        return self._projections[name, width]
