"""What the documents say of commands and options is what the code takes."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "benchmarks").glob("**/*.md")), *sorted((ROOT / "examples").glob("**/*.md")),
]  # fmt: skip
OTHERS = {
    "--weight-decay", "--extra-index-url", "--no-deps", "--write-out", "--ignore-glob", "--quick",
    "--out", "--help", "--strict", "--config", "--dry-run", "--all-files", "--min-letters",
    "--pip-args", "--torch-backend", "--rivals",
}  # fmt: skip
"""Options of other programs, of examples, and the one that CONTRIBUTING.md makes up."""


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_options_is_that_of_the_code(generate: ModuleType) -> None:
    assert generate.page() == generate.PAGE.read_text(encoding="utf-8"), (
        "run: python docs/generate.py"
    )


def test_every_option_that_the_documents_name_is_there(generate: ModuleType) -> None:
    known = set(re.findall(r"--[a-z][a-z-]+", generate.page())) | OTHERS
    for path in (page for page in PAGES if page.parent in (ROOT, ROOT / "docs")):
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", path.read_text(encoding="utf-8")))
        assert named <= known, (path.name, named - known)


def test_links_between_the_documents_lead_somewhere() -> None:
    for path in PAGES:
        for name, _, anchor in re.findall(r"\]\(([^)#\s]*)(#?)([^)]*)\)", path.read_text("utf-8")):
            if not name.startswith(("http:", "https:")):
                target = path.parent / name if name else path
                assert target.exists(), (path.name, name)
                if anchor and target.suffix == ".md":
                    assert anchor in anchors(target), (path.name, name, anchor)


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub and mkdocs.yml make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
