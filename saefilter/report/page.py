"""A page that works offline, without scripts and without any request.

The content security policy allows nothing but the one inlined style sheet, so that even a mistake
in escaping could neither run nor load anything. It forbids style attributes too: whatever has a
size or a place is SVG with presentation attributes.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Sequence
from importlib import resources

from saefilter.report.fragments import bdi, esc


def page(title: str, *body: str) -> str:
    """A whole page; `title` is plain text, `body` markup."""
    style = style_sheet()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{esc(title)}</title>
<style>{style}</style>
</head>
<body>
<main>
{"".join(body)}</main>
</body>
</html>
"""


@functools.cache
def style_sheet() -> str:
    """The style sheet as it is inlined; its hash in the policy is of exactly this text."""
    sheet = resources.files("saefilter.report").joinpath("report.css")
    return sheet.read_text(encoding="utf-8").replace("\r\n", "\n")


def header(brand: str, title: str, lead: str) -> str:
    """The page's head; `title` is markup, the others plain text."""
    return (
        f'<header class="top">\n<p class="brand">{esc(brand)}</p>\n<h1>{title}</h1>\n'
        f'<p class="lead">{esc(lead)}</p>\n</header>\n'
    )


def notes(texts: Sequence[str]) -> str:
    """What a reader must know first."""
    if not texts:
        return ""
    items = "".join(f"<li>{bdi(text)}</li>\n" for text in texts)
    return (
        '<aside class="notes" aria-labelledby="notes-title">\n'
        f'<h2 id="notes-title">Before you rely on this</h2>\n<ul>\n{items}</ul>\n</aside>\n'
    )
