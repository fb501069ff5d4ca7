"""One question to an OpenAI-compatible endpoint, and what each way of failing means.

The `openai` package speaks the protocol. Its own retries are off: they would pass by the rate limit,
could not be interrupted, and would hide what the endpoint said. `ask.py` tries again.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

from saefilter.errors import SaefilterError
from saefilter.select.judge.settings import KEY_ENV, JudgeSettings
from saefilter.text import one_line

MESSAGE_CHARACTERS = 200
CONNECT_SECONDS = 10.0
LONGEST_WAIT = 600.0
"""Seconds; who says Retry-After more than this wants us to come back another day."""


class Transient(Exception):
    """It may work if tried again; `retry_after` in seconds, where the endpoint said when."""

    def __init__(self, why: str, retry_after: float | None = None):
        super().__init__(why)
        self.retry_after = retry_after


class Unreachable(Transient):
    """Nobody took the connection."""


class Refused(Exception):
    """The endpoint will not answer this question: too long, or its filter objects."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    text: str
    tokens_in: int
    """As the endpoint counts; 0 where it does not say."""
    tokens_out: int
    cut: bool
    """Whether it ended at the limit of tokens."""


class Endpoint:
    """A model at an endpoint. Its `ask` may be called by several threads."""

    def __init__(self, settings: JudgeSettings):
        """Sends nothing. The openai package, which takes half a second to import, is imported here."""
        import openai

        self._settings, self._key = settings, settings.key()
        self._headers = {} if self._key else {"Authorization": openai.Omit()}
        self._client = openai.OpenAI(
            base_url=settings.url,
            api_key=self._key or "none",
            timeout=openai.Timeout(
                settings.timeout, connect=min(CONNECT_SECONDS, settings.timeout)
            ),
            max_retries=0,
            # rows go to the address that was named, and to no other that it may point to
            http_client=openai.DefaultHttpxClient(follow_redirects=False),
        )
        self._errors = openai
        self._extras: dict[str, Any] = {
            "temperature": 0,
            "max_tokens": settings.max_tokens,
            "response_format": {"type": "json_object"},
        }
        self._adapting = threading.Lock()

    def ask(self, question: str) -> Answer:
        """Send one question, once; or again at once where a parameter is not known there.

        Raises Transient, Unreachable, Refused, and SaefilterError for what no trying again mends.
        """
        while True:
            sent = self._extras
            try:
                response = self._client.chat.completions.create(
                    model=self._settings.model,
                    messages=[{"role": "user", "content": question}],
                    extra_headers=self._headers,
                    **sent,
                )
            except self._errors.APIStatusError as error:
                if not self._adapted(error, sent):
                    raise self._meaning(error) from error
            except self._errors.APITimeoutError as error:
                if _never_connected(error):
                    raise Unreachable("no connection within the time limit") from error
                seconds = self._settings.timeout
                raise Transient(f"no answer within {seconds:g} s (--judge-timeout)") from error
            except self._errors.APIConnectionError as error:
                kind = Unreachable if _never_connected(error) else Transient
                raise kind(self._shown(error.__cause__ or error)) from error
            except (self._errors.OpenAIError, ValueError) as error:  # a body that is no JSON
                raise Transient(
                    f"the answer is not of the protocol ({self._shown(error)})"
                ) from error
            else:
                return _answer(response)

    def _adapted(self, error: Any, sent: dict[str, Any]) -> bool:
        """Whether a parameter was to blame that can be left out or called otherwise.

        Newer models of OpenAI want max_completion_tokens and their own temperature; some servers know
        no response_format. All later questions go without, too.
        """
        if error.status_code not in (400, 422):
            return False
        said = f"{error.param} {error.message}"
        for name in ("max_tokens", "response_format", "temperature"):
            if name not in sent or name not in said:
                continue
            with self._adapting:  # what another thread has found out in the meantime stays
                extras = {key: value for key, value in self._extras.items() if key != name}
                if name == "max_tokens":
                    extras["max_completion_tokens"] = self._settings.max_tokens
                self._extras = extras
            return True
        return False

    def _meaning(self, error: Any) -> Exception:
        """What a status other than 2xx says of the question, the moment or the endpoint."""
        status, said = error.status_code, self._shown(error)
        if status in (401, 403):
            variable = self._settings.key_env or KEY_ENV
            remedy = (
                f"Check the key in {variable}."
                if self._key
                else f"Put an API key into the environment variable {KEY_ENV}, or into one that "
                "--judge-key-env names."
            )
            return self._fatal(f"the endpoint refuses the key ({said})", remedy)
        if status == 402 or error.code == "insufficient_quota":
            return self._fatal(f"the account has no credit left ({said})", "Top it up.")
        if status == 404:
            return self._fatal(
                f"not found there ({said})",
                "Check --judge-url (it often ends in /v1) and the model.",
            )
        if 300 <= status < 400:
            to = error.response.headers.get("location", "another address")
            return self._fatal(f"the endpoint points to {to[:200]}", "Name the address itself.")
        if status in (408, 409, 425, 429) or status >= 500:
            wait = _retry_after(error.response.headers)
            if wait is not None and wait > LONGEST_WAIT:
                return self._fatal(
                    f"the endpoint asks to come back in {wait:,.0f} s ({said})", "Do so."
                )
            return Transient(said, wait)
        return Refused(said)

    def _fatal(self, problem: str, remedy: str) -> SaefilterError:
        where = f"{self._settings.model} at {self._settings.url}"
        return SaefilterError(problem, where=where, remedy=remedy)

    def _shown(self, error: BaseException) -> str:
        """An error's words on one line, without the key, which some endpoints repeat."""
        text = one_line(str(error)) or type(error).__name__
        if self._key:
            text = text.replace(self._key, "[key]")
        return text[:MESSAGE_CHARACTERS] + ("…" if len(text) > MESSAGE_CHARACTERS else "")


def _answer(response: Any) -> Answer:
    """The text of a completion; the openai package does not check what it is handed."""
    choices = getattr(response, "choices", None)
    first = choices[0] if isinstance(choices, list) and choices else None
    message = getattr(first, "message", None)
    if message is None:
        raise Transient("the answer is not of the protocol (it has no choices)")
    ended = getattr(first, "finish_reason", None)
    if ended == "content_filter":
        raise Refused("the endpoint's filter withheld the answer")
    text = getattr(message, "content", None)
    usage = getattr(response, "usage", None)
    return Answer(
        text if isinstance(text, str) else "",
        _count(getattr(usage, "prompt_tokens", 0)),
        _count(getattr(usage, "completion_tokens", 0)),
        ended == "length",
    )


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**40 else 0


def _never_connected(error: BaseException) -> bool:
    """Whether the connection itself failed; by name, as openai 3 has httpx under another one."""
    names = {type(cause).__name__ for cause in (error.__cause__, error.__context__)}
    return bool(names & {"ConnectError", "ConnectTimeout"})


def _retry_after(headers: Any) -> float | None:
    """Seconds that the endpoint asks to wait: Retry-After as a number or a date (RFC 9110, 10.2.3)."""
    value = headers.get("retry-after-ms")
    try:
        if value is not None:
            seconds = float(value) / 1000
        elif (value := headers.get("retry-after")) is None:
            return None
        elif value.strip().replace(".", "", 1).isdigit():
            seconds = float(value)
        else:
            seconds = parsedate_to_datetime(value).timestamp() - time()
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.0, seconds) if seconds == seconds else None
