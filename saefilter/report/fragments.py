"""Pages that work offline, written by the templates in `templates/`.

Everything in a report's data is untrusted. Jinja2's autoescape makes markup of it that shows it, and what
could reorder or hide the text around it is taken out just before (`clean`), wherever a template names it:
no template and no caller can forget either. The content security policy allows nothing but the inlined
style sheet and, by their hashes, our own scripts, so that even a mistake in a template could neither run
nor load anything. It forbids style attributes too: whatever has a size or a place is SVG with presentation
attributes.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from saefilter.text import clean, decimal, few, percent, percentile_words, place, rows_of

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def render(
    template: str,
    title: str,
    *,
    scripts: Sequence[str] = (),
    data: Mapping[str, str] | None = None,
    **content: Any,
) -> str:
    """A whole page by a template of ours; `title` and `content` are plain text and values, untrusted. `scripts`
    are inlined at its end, each allowed by its hash; `data` is JSON for them to read, by the id of its
    element."""
    from markupsafe import Markup

    style = style_sheet()
    allowed = [f"style-src '{_digest(style)}'"]
    if scripts:
        allowed.append(f"script-src {' '.join(repr(_digest(script)) for script in scripts)}")
    policy = "; ".join(["default-src 'none'", *allowed, "base-uri 'none'", "form-action 'none'"])
    return fragment(
        template,
        title=title,
        policy=Markup(policy),
        style=Markup(style),
        scripts=[Markup(script) for script in scripts],
        data={name: Markup(in_script(text)) for name, text in (data or {}).items()},
        **content,
    )  # fmt: skip


def fragment(template: str, **content: Any) -> str:
    """What a template of ours makes of plain text and values, untrusted."""
    return _environment().get_template(template).render(**content)


def part(template: str, name: str) -> Callable[..., Markup]:
    """A macro of a template of ours, to be called with plain values."""
    macro: Callable[..., Markup] = getattr(_environment().get_template(template).module, name)
    return macro


@functools.cache
def _environment() -> Environment:
    """Undefined names are errors: a page without a figure would be worse than none."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("saefilter.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {
        "percent": percent, "decimal": decimal, "few": few, "rows_of": rows_of, "whole": _whole,
        "counted": _counted, "percentile": percentile_words, "begun": _begun,
    }  # fmt: skip
    made.globals |= {"place": place}
    return made


def _shown(value: Any) -> Any:
    """What a template shows, before it is escaped. Markup was cleaned when it was made."""
    return clean(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _whole(value: int) -> str:
    """An id or a line. Text in the place of a number is refused."""
    return f"{value:d}"


def _counted(value: int) -> str:
    return f"{value:,d}"


def _begun(words: str) -> str:
    """As a sentence or a heading begins."""
    return words[:1].upper() + words[1:]


def _digest(text: str) -> str:
    """A source of a content security policy that allows exactly this text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def in_script(text: str) -> str:
    """JSON text that no markup within it can end: `<`, `>` and `&`, which only stand in its strings, as escapes."""
    return text.translate({ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"})


@functools.cache
def style_sheet() -> str:
    """The style sheet as it is inlined; its hash in the policy is of exactly this text."""
    return "".join(own_text(name) for name in ("report.css", "explore.css"))


def own_text(name: str) -> str:
    """A file beside this one."""
    file = resources.files("saefilter.report").joinpath(name)
    return file.read_text(encoding="utf-8").replace("\r\n", "\n")
