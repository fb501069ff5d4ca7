"""Which renderer goes with a preset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from saefilter.encode.presets import Preset
from saefilter.errors import SaefilterError
from saefilter.rows.chat import ChatRenderer
from saefilter.rows.render import PlainRenderer
from saefilter.rows.rendered import RenderOptions
from saefilter.rows.wordpiece import tokenizer_for_rendering


def build_renderer(
    tokenizer: Any,
    preset: Preset,
    *,
    context: int,
    prepend_bos: bool,
    options: RenderOptions | None = None,
    rendering: str = "auto",
) -> PlainRenderer:
    """The renderer asked for, else the preset's, else the chat template where there is one.

    Raises SaefilterError when there is none.
    """
    if rendering == "auto":
        rendering = preset.rendering
    if rendering == "auto":
        rendering = "chat" if tokenizer.chat_template else "plain"
    if rendering == "chat" and not tokenizer.chat_template:
        raise SaefilterError(
            f"the tokenizer of {preset.model} has no chat template",
            remedy="Use --rendering plain.",
        )
    kind = ChatRenderer if rendering == "chat" else PlainRenderer
    return kind(tokenizer, context=context, options=options, prepend_bos=prepend_bos)


@dataclass(frozen=True)
class RendererSpec:
    """What a renderer is made of, as small values that another process can be given."""

    preset: Preset
    context: int
    """Tokens read at once."""
    prepend_bos: bool
    options: RenderOptions
    rendering: str = "auto"

    def load(self) -> PlainRenderer:
        """The renderer, with a tokenizer of its own. Raises SaefilterError."""
        return self.build(tokenizer_for_rendering(self.preset.model_path(), self.preset.revision))

    def build(self, tokenizer: Any) -> PlainRenderer:
        """The renderer with that tokenizer. Raises SaefilterError when it has no template."""
        return build_renderer(
            tokenizer,
            self.preset,
            context=self.context,
            prepend_bos=self.prepend_bos,
            options=self.options,
            rendering=self.rendering,
        )
