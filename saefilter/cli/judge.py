"""The --judge options, for the commands that take `--strategy`: declared once, taken as one value."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saefilter.errors import SaefilterError

if TYPE_CHECKING:
    from saefilter.select.judge.settings import JudgeSettings


def with_judge_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the --judge options; its parameter `judge` gets them as JudgeSettings, or None."""
    unimported = {"JudgeSettings": object}  # only type checkers need to know what it is
    own = inspect.signature(command, eval_str=True, locals=unimported)
    judges = inspect.signature(_settings, eval_str=True, locals=unimported).parameters

    @functools.wraps(command)
    def run(**given: Any) -> None:
        settings = _settings(**{name: given.pop(name) for name in judges})
        command(judge=settings, **given)

    others = [parameter for name, parameter in own.parameters.items() if name != "judge"]
    at = [parameter.name for parameter in others].index("overwrite")
    together = [*others[:at], *judges.values(), *others[at:]]
    del run.__wrapped__  # or its signature would be taken
    run.__signature__ = own.replace(parameters=together)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in together}
    return run


def _settings(
    judge_url: Annotated[
        str | None,
        typer.Option("--judge-url", help="OpenAI-compatible endpoint of a judge: http://.../v1."),
    ] = None,
    judge_model: Annotated[
        str | None, typer.Option("--judge-model", help="The judge's name at that endpoint.")
    ] = None,
    judge_prompt: Annotated[
        Path | None,
        typer.Option("--judge-prompt", help="File with the question; docs/judge.md [our own]."),
    ] = None,
    judge_key_env: Annotated[
        str | None,
        typer.Option("--judge-key-env", help="Variable with the API key [OPENAI_API_KEY, if set]."),
    ] = None,
    judge_concurrency: Annotated[
        int | None, typer.Option("--judge-concurrency", help="Requests at the same time [8].")
    ] = None,
    judge_rpm: Annotated[
        float | None, typer.Option("--judge-rpm", help="Requests per minute at most.")
    ] = None,
    judge_tpm: Annotated[
        float | None, typer.Option("--judge-tpm", help="Tokens per minute at most.")
    ] = None,
    judge_timeout: Annotated[
        float | None, typer.Option("--judge-timeout", help="Seconds to wait for an answer [60].")
    ] = None,
    judge_retries: Annotated[
        int | None,
        typer.Option("--judge-retries", help="Further attempts after limits and errors [6]."),
    ] = None,
    judge_max_tokens: Annotated[
        int | None, typer.Option("--judge-max-tokens", help="Tokens of one verdict [300].")
    ] = None,
    judge_price_in: Annotated[
        float | None, typer.Option("--judge-price-in", help="Price of a million tokens sent.")
    ] = None,
    judge_price_out: Annotated[
        float | None, typer.Option("--judge-price-out", help="Price of a million tokens received.")
    ] = None,
    judge_cache: Annotated[
        Path | None,
        typer.Option("--judge-cache", help="File that keeps verdicts [in saefilter's cache]."),
    ] = None,
    judge_on_failure: Annotated[
        str | None,
        typer.Option("--judge-on-failure", help="Rows without a verdict: error or keep [error]."),
    ] = None,
) -> JudgeSettings | None:
    """What was given; None where nothing was. The defaults are those of JudgeSettings."""
    values = {
        "url": judge_url, "model": judge_model, "prompt": judge_prompt, "key_env": judge_key_env,
        "concurrency": judge_concurrency, "rpm": judge_rpm, "tpm": judge_tpm,
        "timeout": judge_timeout, "retries": judge_retries, "max_tokens": judge_max_tokens,
        "price_in": judge_price_in, "price_out": judge_price_out, "cache": judge_cache,
        "on_failure": judge_on_failure,
    }  # fmt: skip
    given: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    if not given:
        return None
    for name in ("url", "model"):
        if name not in given:
            raise SaefilterError(
                f"a judge needs --judge-{name}",
                remedy="For example --judge-url http://127.0.0.1:8000/v1 --judge-model NAME.",
            )
    from saefilter.select.judge.settings import JudgeSettings

    return JudgeSettings(**given)
