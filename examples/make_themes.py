"""Put the toxic features of the shipped sets into themes anew with `saefilter features themes`.

    python examples/make_themes.py DATA_FOLDER SMOLLM2_FOLDER -o saefilter/toxic/sets

`minilm` and `smollm2-135m` by our own pairs (saefilter/toxic/bundled). `minilm-hate` by HateCheck and XSTest,
with words and no examples: a set keeps no text of others, and our own pairs are of another kind.
DATA_FOLDER: as for
make_minilm_toxic_set.py; SMOLLM2_FOLDER: SmolLM2-135M-Instruct. Names that a person gave (`saefilter
features name`) stay.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from make_minilm_toxic_set import SETS, split

SMOLLM2_SAE = "shipped:smollm2_sae"


def themes(path: Path, *options: str) -> None:
    """Make a set's themes in its file."""
    command = [sys.executable, "-m", "saefilter", "features", "themes", str(path), *options]
    subprocess.run([*command, "-o", str(path), "--overwrite"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("smollm2", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    themes(args.output / "minilm.json", "--preset", "minilm")
    with tempfile.TemporaryDirectory() as scratch:
        sources = [
            option
            for name in SETS["minilm-hate"]
            for option in split(name, args.folder, Path(scratch))
        ]
        themes(args.output / "minilm-hate.json", *sources, "--no-examples", "--preset", "minilm")
    themes(
        args.output / "smollm2-135m.json", "--model", str(args.smollm2), "--sae", SMOLLM2_SAE
    )  # fmt: skip


if __name__ == "__main__":
    main()
