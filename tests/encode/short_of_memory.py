"""Encode rows while little memory is left, in a process of its own. Run by test_memory.py.

    python short_of_memory.py MEBIBYTES [MODEL SAE]

With a model and its SAE, one text of 200,000 tokens is encoded, a piece that cannot be halved; else
many short ones with the preset `minilm`. The limit is the operating system's, on top of what is in use
once the model is loaded. Prints as JSON the budget that was found to suffice and the sums of the pooled
activations, or the error.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import torch

torch.set_num_threads(1)

from saefilter.encode.encoder import Encoder  # noqa: E402
from saefilter.encode.presets import load_preset, resolve  # noqa: E402
from saefilter.errors import SaefilterError  # noqa: E402
from saefilter.rows.formats import recognise  # noqa: E402
from saefilter.rows.rendered import RenderOptions  # noqa: E402

if len(sys.argv) > 2:
    preset, texts = resolve(None, *sys.argv[2:]), ["weather " * 25_000]
else:
    preset = load_preset("minilm")
    texts = [f"Number {i} says something about the weather. " * 40 for i in range(24)]
encoder = Encoder(preset, device="cpu", dtype="fp32")
_, windows = encoder.renderer(RenderOptions(max_tokens=1 << 20)).render(
    [recognise({"text": text}) for text in texts]
)
room = int(sys.argv[1]) << 20
if room:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + room,) * 2)
try:
    encoded = encoder.encode(windows, len(texts), batch_tokens=1 << 20)
except SaefilterError as error:
    print(json.dumps({"error": str(error)}))
else:
    sums = encoded.features.sum(axis=1).ravel().tolist()
    print(json.dumps({"limit": encoder.memory_limit, "sums": sums}))
