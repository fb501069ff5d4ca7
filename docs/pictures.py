"""Remakes the pictures of the documents: real reports of examples/advice.jsonl, in a real Chromium.

    python docs/pictures.py            # needs playwright, and Chromium on the path or in CHROMIUM

To be run after a change of what reports look like; somebody then looks at the pictures.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HERE = ROOT / "docs/images"
COMMANDS = """
score examples/advice.jsonl
filter examples/advice.jsonl --drop-frac 0.1 -o advice.clean.jsonl
compare advice.scores.parquet --labels examples/advice.labels.csv --label is_bad \
--strategy closest random text-classifier labels -o compare.html
geometry examples/advice.jsonl -o geometry.html
"""
REPORT = "advice.clean.report.html"
PICTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "report.png": (REPORT, {"width": 1100, "height": 1500}),
    "report-dark.png": (REPORT, {"width": 1100, "height": 900, "color_scheme": "dark"}),
    "report-phone.png": (REPORT, {"width": 390, "height": 844}),
    "compare.png": ("compare.html", {"width": 1100, "height": 1000}),
    "geometry.png": ("geometry.html", {"width": 1100, "height": 1000}),
}
"""Picture -> page, and how it is looked at."""


def make_pages(folder: Path) -> None:
    """Runs the commands in the folder, beside a copy of the example."""
    shutil.copytree(
        ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("results")
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    for line in COMMANDS.strip().replace("\\\n", "").splitlines():
        command = [sys.executable, "-m", "saefilter", *line.split()]
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)


def take(folder: Path) -> None:
    """Opens each page in Chromium and writes its picture, and the report as it is printed."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chrome")
    if not chromium:
        raise SystemExit("Chromium is not here: install it, or set CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        for name, (page_name, asked) in PICTURES.items():
            size = {"width": asked["width"], "height": asked["height"]}
            context = {key: value for key, value in asked.items() if key not in size}
            page = browser.new_page(viewport=size, **context)
            page.goto((folder / page_name).as_uri(), wait_until="load")
            page.screenshot(path=str(HERE / name))
        page = browser.new_page(viewport={"width": 794, "height": 1123})  # A4 at 96 dpi
        page.goto((folder / REPORT).as_uri(), wait_until="load")
        page.emulate_media(media="print")
        page.screenshot(path=str(HERE / "report-print.png"))
        browser.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        make_pages(Path(name))
        take(Path(name))
    for name in (*PICTURES, "report-print.png"):
        print(f"{name}: {(HERE / name).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
