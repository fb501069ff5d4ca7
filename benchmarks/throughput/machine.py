"""The machine and the versions, in words for a table."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch

FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
LIBRARIES = ("torch", "transformers", "sae-lens", "transformer-lens")


def describe(device: torch.device) -> dict[str, Any]:
    """What the figures depend on."""
    cpu = _cpu()
    found: dict[str, Any] = {
        "cpu": cpu.get("model name", platform.processor() or platform.machine()),
        "flags": [flag for flag in FLAGS if flag in cpu.get("flags", "").split()],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in LIBRARIES},
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
        found["gpu_memory_gib"] = round(torch.cuda.mem_get_info(device)[1] / 2**30)
    return found


def in_words(machine: dict[str, Any]) -> str:
    """One line of it."""
    gpu = ""
    if "gpu" in machine:
        gpu = f"{machine['gpu']}, {machine['gpu_memory_gib']} GiB; "
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return (
        f"{gpu}{machine['cores']} cores of {machine['cpu']} ({', '.join(machine['flags'])}), "
        f"{machine['threads']} threads, {machine['memory_gib']} GiB; Python {machine['python']}, "
        f"{versions}."
    )


def _cpu() -> dict[str, str]:
    """The first processor's fields, where Linux lists them."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text().split("\n\n")[0]
    fields = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in fields}
