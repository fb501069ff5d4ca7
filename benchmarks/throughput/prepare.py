"""Make a shape ready: its checkpoint, its rows on disk, and the token ids that they are rendered to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.throughput import checkpoint, rows
from benchmarks.throughput.shapes import Shape
from saefilter.encode.model import load_config, truncated_config
from saefilter.encode.placement import model_size
from saefilter.encode.presets import resolve
from saefilter.encode.rendering import build_renderer
from saefilter.encode.sae import load_sae
from saefilter.encode.sae_source import find_sae
from saefilter.rows.render import load_tokenizer
from saefilter.rows.rendered import Window

SAMPLE_TOKENS = 8192
"""For setting SAE thresholds, choosing batch sizes and comparing contenders' results."""
READY = "ready"
"""A file that says that the folder's random model, SAE and toxic set are whole."""


@dataclass(frozen=True)
class Prepared:
    """A shape on disk and its rendered rows."""

    shape: Shape
    model: str
    """Folder of the Hugging Face checkpoint."""
    sae: str
    """Folder of the SAE in sae-lens's format."""
    data: Path
    """The rows, JSONL."""
    n_rows: int
    options: tuple[str, ...]
    """What `saefilter score` is told about model, SAE and toxic set."""
    windows: list[Window]
    """What the model reads, longest first."""
    device: torch.device
    d_model: int
    d_ff: int
    d_sae: int
    parameters: int
    """A token is multiplied with, up to the hook."""

    @property
    def tokens(self) -> int:
        """Tokens that the model reads."""
        return sum(len(window.ids) for window in self.windows)

    @property
    def scored(self) -> int:
        """Tokens whose features are pooled."""
        return sum(int(window.scored.sum()) for window in self.windows)

    def sample(self) -> list[Window]:
        """Some of the windows, evenly over their lengths."""
        return rows.every(self.windows, SAMPLE_TOKENS)


def prepare(
    shape: Shape, folder: Path, data: Sequence[Path], n_rows: int, device: torch.device
) -> Prepared:
    """Write everything a shape needs into `folder`; a checkpoint that is there already stays.

    Raises FileNotFoundError where a preset's model is not at hand.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # the example is for the preset; a GPU's rows have the lengths that the shape says
    chosen = rows.choose_rows(data, n_rows, shape.lengths, example=shape.whole_on_disk)
    conversations = rows.save(chosen, folder / "rows.jsonl")
    if shape.preset is not None:
        real = shape.real_model()
        preset = resolve(shape.preset, None if real is None else str(real), None)
        model, sae = preset.model_path(), str(find_sae(preset.sae))
        options: tuple[str, ...] = ("--preset", shape.preset)
        if real is not None:
            options += ("--model", str(real))
    else:
        assert shape.network is not None
        texts = ["\n\n".join(turn.content for turn in c) for c in conversations]
        tokenizer = checkpoint.tokenizer_of(texts, shape.network.vocabulary)
        model, sae = str(folder / "model"), str(folder / "sae")
        layers = shape.network.layers if shape.whole_on_disk else shape.layers
        if not (folder / READY).exists():
            checkpoint.write_model(shape.network, layers, tokenizer, Path(model), device)
        preset = resolve(None, model, sae)
        options = ("--model", model, "--sae", sae, "--toxic-set", str(folder / "toxic.json"))
    config = load_config(model)
    cut = truncated_config(config, shape.layers, model)
    renderer = build_renderer(
        load_tokenizer(model),
        preset,
        context=preset.context or config.max_position_embeddings,
        prepend_bos=shape.preset is None or bool(load_sae(sae).prepend_bos),
    )
    windows = rows.render(renderer, conversations)
    if shape.preset is None and not (folder / READY).exists():
        _calibrate(shape, model, windows, folder, device)
        (folder / READY).touch()
    sizes = load_sae(sae)
    return Prepared(
        shape, model, sae, folder / "rows.jsonl", len(conversations), options, windows, device,
        sizes.d_model, config.intermediate_size, sizes.d_sae, model_size(cut).per_token,
    )  # fmt: skip


def _calibrate(
    shape: Shape, model: str, windows: Sequence[Window], folder: Path, device: torch.device
) -> None:
    """Write the SAE and the toxic set by the model's own residuals."""
    import transformers as hf

    assert shape.sae is not None
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    whole = hf.AutoModel.from_pretrained(model, dtype=dtype).to(device).eval()
    sample = rows.every(windows, SAMPLE_TOKENS)
    batches = rows.budget_batches(sample, 2048, device)
    residuals = checkpoint.residuals_of(checkpoint.cut_model(whole, shape.layers), batches)
    checkpoint.write_sae(shape.sae, shape.hook, residuals, folder / "sae", model)
    checkpoint.write_toxic_set(folder / "sae", residuals, folder / "toxic.json", model)
