"""Will it work? Everything that can be known in seconds, before any weight is loaded. What it takes is in
plan.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from saefilter.encode.checkpoint import plan_weight_files
from saefilter.encode.checks import check_d_model, hook_layers
from saefilter.encode.model import DTYPES, load_config, truncated_config
from saefilter.encode.placement import (
    DEFAULT_CONTEXT,
    GIB,
    HEADROOM,
    Placement,
    Size,
    free_memory,
    model_size,
    place,
    weight_bytes,
)
from saefilter.encode.plan import (
    CPU_EFFICIENCY,
    EFFICIENCY,
    START_SECONDS,
    Pace,
    Reader,
    Rows,
    table_reader,
)
from saefilter.encode.presets import Preset
from saefilter.encode.rendering import build_renderer
from saefilter.encode.sae_source import SaeFacts, peek_sae
from saefilter.errors import SaefilterError
from saefilter.rows.render import PlainRenderer, load_tokenizer
from saefilter.rows.rendered import RenderOptions

OK, WARN, FAIL = "ok", "warn", "fail"
MATRIX = 1024
"""Side of the matrices that measure the device's arithmetic."""
SECONDS_MEASURED = 0.3


@dataclass(frozen=True)
class Check:
    """One question and its answer."""

    name: str
    status: str
    """`ok`, `warn` or `fail`."""
    says: str
    remedy: str | None = None


@dataclass
class Preflight:
    """Answers so far, and what later questions need of earlier ones."""

    preset: Preset
    checks: list[Check] = field(default_factory=list)
    config: Any = None
    layers: int = 0
    text_only: bool = False
    sae: SaeFacts | None = None
    placement: Placement | None = None
    size: Size | None = None
    renderer: PlainRenderer | None = None
    elsewhere: bool = False
    """Whether the question is of other machines: what is not on this one is then no failure."""

    @property
    def failed(self) -> bool:
        """Whether it will not work."""
        return any(check.status == FAIL for check in self.checks)

    def ask(self, name: str, question: Callable[[], tuple[str, str, str | None]]) -> None:
        """Put a question; an error is the answer `fail`."""
        try:
            status, says, remedy = question()
        except SaefilterError as error:
            status = WARN if self.elsewhere else FAIL
            says, remedy = error.problem, error.remedy
        self.checks.append(Check(name, status, says, remedy))


def preflight(
    preset: Preset,
    *,
    device: str = "auto",
    dtype: str = "auto",
    options: RenderOptions | None = None,
    elsewhere: bool = False,
) -> Preflight:
    """All checks of a preset, or of a pair of model and SAE; `elsewhere`: but those of this machine."""
    known = Preflight(preset, elsewhere=elsewhere)
    known.ask("SAE", lambda: _sae(known))
    known.ask("model", lambda: _model(known))
    if known.config is not None and known.layers:
        known.ask("hook", lambda: _hook(known))
    if known.size is not None and not elsewhere:
        known.ask("weights", lambda: _weights(known))
        known.ask("memory", lambda: _memory(known, device, dtype))
    if known.config is not None:
        known.ask("tokenizer", lambda: _tokenizer(known, options))
    return known


def _sae(known: Preflight) -> tuple[str, str, str | None]:
    preset = known.preset
    facts = peek_sae(preset.sae)
    known.sae = facts
    known.layers = hook_layers(preset.hook or facts.hook)
    where = "on this machine" if facts.local else "to be downloaded and converted once"
    says = f"{facts.architecture}, {facts.d_sae:,} features, reads {facts.hook}; {where}"
    return OK, says, None


def _model(known: Preflight) -> tuple[str, str, str | None]:
    preset = known.preset
    config = load_config(preset.model_path(), preset.revision)
    text = config.get_text_config()
    known.config = config
    known.text_only = text is not config
    says = f"{type(text).__name__.removesuffix('Config')}, {text.num_hidden_layers} layers"
    if known.sae is not None:
        check_d_model(preset, known.sae.d_model, text.hidden_size)
        says += f", d_model {text.hidden_size} as the SAE expects"
    if preset.gated:
        from huggingface_hub import get_token

        says += "; gated, a token is present" if get_token() else "; gated"
    return OK, says, None


def _hook(known: Preflight) -> tuple[str, str, str | None]:
    truncated = truncated_config(known.config, known.layers, known.preset.model)
    known.size = model_size(truncated)
    total = known.config.get_text_config().num_hidden_layers
    return OK, f"after layer {known.layers} of {total}; the rest is not loaded", None


def _weights(known: Preflight) -> tuple[str, str, str | None]:
    preset = known.preset
    plan = plan_weight_files(
        preset.model_path(), preset.revision, known.layers, text_only=known.text_only
    )
    says = f"{len(plan.needed)} of {plan.total} files needed"
    if not plan.missing:
        return OK, f"{says}, all on this machine", None
    if Path(preset.model).is_dir():
        return FAIL, f"{says}, missing: {', '.join(plan.missing)}", "Download the model again."
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        return FAIL, f"{says}, {len(plan.missing)} not on this machine", "Unset HF_HUB_OFFLINE."
    return WARN, f"{says}, {len(plan.missing)} to be downloaded", None


def _memory(known: Preflight, device: str, dtype: str) -> tuple[str, str, str | None]:
    preset, sae = known.preset, known.sae
    assert known.size is not None
    sae_bytes = 0 if sae is None else 2 * 4 * sae.d_model * sae.d_sae
    placement = place(
        known.size.parameters,
        sae_bytes,
        device=device,
        dtype=preset.dtype if dtype == "auto" else dtype,
        ranks_in_bf16=preset.ranks_in_bf16,
    )
    known.placement = placement
    weights = weight_bytes(known.size.parameters, placement.dtype)
    need, free = weights * HEADROOM + sae_bytes, free_memory(placement.device)
    says = (
        f"{known.size.parameters / 1e6:,.0f} M parameters in {placement.dtype} and the SAE: "
        f"{need / GIB:.1f} GiB of {free / GIB:.1f} free on {placement.device}"
    )
    if need <= free or placement.device_map:
        return OK, says, None
    return FAIL, says, "Use --dtype bf16, --device-map auto, --quantize 8bit, or a smaller preset."


def _tokenizer(known: Preflight, options: RenderOptions | None) -> tuple[str, str, str | None]:
    preset, bos = known.preset, known.sae is None or known.sae.prepend_bos
    tokenizer = load_tokenizer(preset.model_path(), preset.revision)
    context = preset.context or DEFAULT_CONTEXT
    renderer = build_renderer(tokenizer, preset, context=context, prepend_bos=bos, options=options)
    known.renderer = renderer
    how = "by the chat template" if renderer.name == "chat" else "as plain text"
    return OK, f"fast; rows are rendered {how}", None


def reader_of(known: Preflight) -> Reader:
    """The model and its SAE in numbers: as their configurations say, else the table of presets. Raises
    SaefilterError where neither does."""
    if known.size is None or known.sae is None:
        return table_reader(known.preset, known.sae.d_sae if known.sae else None)
    size, sae = known.size, known.sae
    return Reader(
        size.parameters, size.per_token, sae.d_model, sae.d_sae, "from the model's configuration"
    )


def pace_by_arithmetic(known: Preflight, reader: Reader, rows: Rows) -> Pace:
    """How fast this machine is, by its matrix products alone."""
    assert known.placement is not None
    device, dtype = known.placement.device, known.placement.dtype
    efficiency = CPU_EFFICIENCY if device.type == "cpu" else EFFICIENCY
    row = reader.operations(rows) / (arithmetic_rate(device, dtype) * efficiency)
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    workers = 1 if known.placement.device_map else max(1, gpus)
    rests_on = (
        f"matrix products timed on this machine's {device} x efficiency {efficiency:g}, assumed"
    )
    return Pace(START_SECONDS if gpus else 5.0, row, workers, gpus, rests_on)


def arithmetic_rate(device: torch.device, dtype: str) -> float:
    """Measured floating-point operations per second of matrix products: by the fastest one, since other
    processes can only slow one down, and on a CPU with one core, as each lane has (encode/fast/lanes.py),
    times their number."""
    a = torch.randn(MATRIX, MATRIX, device=device).to(DTYPES[dtype])
    spent: list[float] = []
    threads = torch.get_num_threads()
    lanes = threads if device.type == "cpu" else 1
    try:
        torch.set_num_threads(1 if device.type == "cpu" else threads)
        while sum(spent) < SECONDS_MEASURED or len(spent) < 3:
            started = time.perf_counter()
            (a @ a).sum().item()  # waits for the device
            spent.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return lanes * 2 * MATRIX**3 / min(spent)
