"""Hooks of the site (mkdocs.yml): pages that lie outside docs/, and links that lead out of it.

The documents link to each other by their paths in the repository, so that they read on GitHub. Here
the README, the changelog and the pages beside code become pages of the site, pictures that they show
its files, and links to anything else lead to the repository. A link to nothing stops the build.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PICTURES = "examples/*/results/*.svg"
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)#\s]+)")


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that the navigation names and docs/ lacks, each at its own path, and pictures."""
    pages = [ROOT / uri for uri in _pages_of(config.nav) if uri not in files.src_uris]
    for path in [*pages, *sorted(ROOT.glob(PICTURES))]:
        if path.exists():  # what is nowhere is a warning of mkdocs's own
            uri = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def _pages_of(nav: Any) -> list[str]:
    """The paths of a navigation, or of a part of it."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [path for part in parts for path in _pages_of(part)]


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """The page, with each link rewritten to where its target is on the site or in the repository."""
    here = Path(page.file.abs_src_path).parent

    def lead(found: re.Match[str]) -> str:
        target = Path(os.path.normpath(here / found[1]))
        if not target.exists():
            raise PluginError(f"{page.file.src_uri}: a link to {found[1]}, which is not there")
        if target.is_relative_to(config.docs_dir):
            uri = target.relative_to(config.docs_dir).as_posix()
        else:
            uri = target.relative_to(ROOT).as_posix()
            if uri not in files.src_uris:
                return f"{config.repo_url}/blob/main/{uri}"
        return posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".")

    return LINK.sub(lead, markdown)
