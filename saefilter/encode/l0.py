"""Is the number of features that fire the one to expect? Knows nothing of tensors."""

from __future__ import annotations

L0_TOLERANCE = 3.0
"""Measured over expected L0 beyond this, either way, means a wrong activation function or hook."""


def l0_warning(measured: float, expected: float | None) -> str | None:
    """What is suspicious about the measured features per token; None when nothing is, or when the
    SAE's configuration does not say what to expect."""
    if not expected or 1 / L0_TOLERANCE <= measured / expected <= L0_TOLERANCE:
        return None
    return (
        f"{measured:,.0f} features fire per token and the SAE's configuration says "
        f"{expected:,.0f}: a wrong activation function, hook or model"
    )


def sentence(warning: str) -> str:
    """A warning as a sentence of its own."""
    return f"{warning[0].upper()}{warning[1:]}."
