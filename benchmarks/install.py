"""What a fresh environment holds after `pip install saefilter`: bytes, packages, seconds.

    python -m benchmarks.install [--uv UV] [--write benchmarks/results/install.md]

The wheel is built of this checkout, every environment is new, versions are those of constraints.txt, and
packages may come from pip's or uv's cache: seconds are of unpacking, mostly. The last rows are controls:
what saefilter cannot do without takes most of it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.common import put_between

MARKER = "<!-- installations: written by benchmarks/install.py -->"
ROOT = Path(__file__).parents[1]
LEAST = ["torch", "transformers", "faiss-cpu", "pyarrow", "typer", "rich"]
"""What reading a model, an index and Parquet on a command line takes, whoever writes the rest."""


class Size(NamedTuple):
    """Of one environment; pip itself counts where the environment has it."""

    packages: int
    bytes: int
    bytecode: int
    seconds: float


def build(folder: Path) -> str:
    """The wheel's path."""
    command = [sys.executable, "-m", "build", "--quiet", "--wheel", "--outdir", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)
    (wheel,) = folder.glob("*.whl")
    return str(wheel)


def installed(folder: Path, wanted: list[str], uv: str | None) -> Size:
    """A new environment with `wanted`, by pip or by that uv. Raises CalledProcessError."""
    python, constraints = folder / "bin/python", str(ROOT / "constraints.txt")
    if uv:
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
        install = [uv, "pip", "install", "--quiet", "--python", str(python)]
        # files of their own, as on a machine whose cache lies on another disk
        install += ["--link-mode", "copy"]
    else:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet"]
    started = time.perf_counter()
    subprocess.run([*install, "-c", constraints, *wanted], check=True)
    seconds = time.perf_counter() - started
    files = [Path(at) / name for at, _, names in os.walk(folder) for name in names]
    sizes = {file: file.lstat().st_size for file in files if not file.is_symlink()}
    return Size(
        packages=sum(1 for at in folder.glob("lib/python*/site-packages/*.dist-info")
                     if not at.name.startswith(("pip-", "setuptools-"))),
        bytes=sum(sizes.values()),
        bytecode=sum(size for file, size in sizes.items() if file.suffix == ".pyc"),
        seconds=seconds,
    )  # fmt: skip


def table(rows: dict[str, Size]) -> str:
    lines = [
        "| in a fresh environment | packages | on disk | of it bytecode | time |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {one.packages} | {one.bytes / 1e9:.2f} GB | {one.bytecode / 1e9:.2f} GB | "
        f"{one.seconds:.0f} s |"
        for name, one in rows.items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="What an installation takes")
    parser.add_argument("--uv", help="that program; without it, by pip alone")
    parser.add_argument("--write", type=Path, help="document whose table is replaced")
    args = parser.parse_args()
    rows: dict[str, Size] = {}
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(Path(folder) / "dist")
        for number, (name, wanted, uv) in enumerate([
            ("saefilter, by pip", [wheel], None),
            ("saefilter, by uv", [wheel], args.uv),
            ("`saefilter[hub]`, by uv", [f"{wheel}[hub]"], args.uv),
            ("`saefilter[sae]`, by uv", [f"{wheel}[sae]"], args.uv),
            (f"{', '.join(LEAST)} alone, by pip", LEAST, None),
            ("the same, by uv", LEAST, args.uv),
        ]):  # fmt: skip
            if uv or name.endswith("pip"):
                rows[name] = installed(Path(folder) / str(number), wanted, uv)
                print(f"{name}: {rows[name]}", flush=True)
    print(text := table(rows))
    if args.write:
        put_between(args.write, MARKER, text)


if __name__ == "__main__":
    main()
