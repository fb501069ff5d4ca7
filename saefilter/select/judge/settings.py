"""What is asked of a judge, and of which: one dataclass behind every --judge option."""

from __future__ import annotations

import ipaddress
import math
import os
from dataclasses import MISSING, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from saefilter.config import cache_folder
from saefilter.described import described, option
from saefilter.errors import SaefilterError
from saefilter.select.judge.prompt import Prompt

KEY_ENV = "OPENAI_API_KEY"
ON_FAILURE = ("error", "keep")


@dataclass(frozen=True)
class JudgeSettings:
    """An endpoint, how to ask it, and what may be spent."""

    url: str = option(
        MISSING,
        "OpenAI-compatible endpoint of a judge: http://.../v1.",
        flag="--judge-url",
        metavar="URL",
    )
    """Base URL of the API, such as https://api.openai.com/v1; requests go to /chat/completions."""
    model: str = option(
        MISSING, "The judge's name at that endpoint.", flag="--judge-model", metavar="NAME"
    )
    """The model's name there."""
    prompt: Path | None = option(
        None,
        "File with the question; docs/judge.md.",
        flag="--judge-prompt",
        unless_said="our own",
        metavar="FILE",
    )
    """File with the question; None for the one that comes with saefilter."""
    key_env: str | None = option(
        None, "Variable with the API key.", flag="--judge-key-env",
        unless_said="OPENAI_API_KEY, if set", metavar="VARIABLE",
    )  # fmt: skip
    """Environment variable with the API key. None: OPENAI_API_KEY if it is set; "": send no key."""
    concurrency: int = option(8, "Requests at the same time.", flag="--judge-concurrency")
    """Requests at the same time."""
    rpm: float | None = option(None, "Requests per minute at most.", flag="--judge-rpm")
    """Requests per minute at most."""
    tpm: float | None = option(None, "Tokens per minute at most.", flag="--judge-tpm")
    """Tokens per minute at most, sent and received, by an estimate that usage corrects."""
    timeout: float = option(60.0, "Seconds to wait for an answer.", flag="--judge-timeout")
    """Seconds to wait for an answer."""
    retries: int = option(6, "Further attempts after limits and errors.", flag="--judge-retries")
    """Further attempts for a row after a limit, a server's error, a timeout or a lost connection."""
    max_tokens: int = option(300, "Tokens of one judgement.", flag="--judge-max-tokens")
    """Tokens of one judgement."""
    cache: Path | None = option(
        None,
        "File that keeps judgements.",
        flag="--judge-cache",
        unless_said="in saefilter's cache",
        metavar="FILE",
    )
    """File of judgements; None for the one in saefilter's cache folder."""
    price_in: float | None = option(
        None, "Price of a million tokens sent.", flag="--judge-price-in"
    )
    """Per million tokens sent, in any currency."""
    price_out: float | None = option(
        None, "Price of a million tokens received.", flag="--judge-price-out"
    )
    """Per million tokens received."""
    on_failure: str = option(
        "error", "Rows without a judgement: error or keep.", choices=ON_FAILURE,
        flag="--judge-on-failure",
    )  # fmt: skip
    """What becomes of rows without a judgement: `error`, or `keep`."""
    backoff: float = 1.0
    """Seconds before the first further attempt; doubled for each one after it, up to a minute."""

    def check(self) -> None:
        """Raises SaefilterError when the request makes no sense, or the extra is not installed. Imports and
        sends nothing."""
        check_url(self.url)
        if not self.model.strip():
            raise SaefilterError("the judge has no model", remedy="Name it with --judge-model.")
        described(JudgeSettings)["on_failure"].check(self.on_failure)
        positive = {
            "--judge-concurrency": self.concurrency, "--judge-rpm": self.rpm,
            "--judge-tpm": self.tpm, "--judge-timeout": self.timeout,
            "--judge-max-tokens": self.max_tokens,
        }  # fmt: skip
        for flag, value in positive.items():
            if value is not None and not (math.isfinite(value) and value > 0):
                raise SaefilterError(f"{flag} {value} is not a positive number")
        not_negative = {
            "--judge-retries": self.retries, "--judge-price-in": self.price_in,
            "--judge-price-out": self.price_out,
        }  # fmt: skip
        for flag, value in not_negative.items():
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise SaefilterError(f"{flag} {value} is negative or no number")
        self.key()
        Prompt.load(self.prompt)
        if find_spec("openai") is None:
            raise SaefilterError(
                "a judge needs the openai package", remedy="Run: pip install 'saefilter[judge]'"
            )

    def described(self) -> dict[str, Any]:
        """What artifacts may say of it: neither the address, which can be an internal one, nor folders."""
        return {
            "model": self.model,
            "prompt": self.prompt.name if self.prompt else "default",
            "on_failure": self.on_failure,
        }

    def key(self) -> str | None:
        """The API key; None to send none. Raises SaefilterError when a named variable is not set."""
        if self.key_env == "":
            return None
        key = os.environ.get(self.key_env or KEY_ENV)
        if not key and self.key_env is not None:
            raise SaefilterError(
                f"the environment variable {self.key_env} is not set",
                remedy="Set it to the API key, or leave --judge-key-env out.",
            )
        return key or None

    def key_is_exposed(self) -> bool:
        """Whether the key would travel unencrypted to another machine."""
        parts = urlsplit(self.url)
        return self.key() is not None and parts.scheme == "http" and not _is_own(parts.hostname)

    def cache_file(self) -> Path:
        """Where judgements are kept."""
        return self.cache or cache_folder() / "judge.sqlite"


def check_url(url: str) -> None:
    """Raises SaefilterError for what is no base URL, or holds what must not be printed."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port  # raises for a port that is none
    except ValueError:
        known = False
    if not known:
        raise SaefilterError(
            "--judge-url is not an http or https address",
            remedy="For example https://api.openai.com/v1 or http://127.0.0.1:8000/v1.",
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise SaefilterError(
            "--judge-url may hold no user, password, query or fragment, as it is printed and kept in "
            "the report",
            remedy="Give the key by an environment variable (--judge-key-env).",
        )


def _is_own(host: str | None) -> bool:
    """Whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False
