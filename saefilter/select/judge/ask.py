"""Many questions at once: threads that ask, keep the pace and try again.

Threads, not asyncio: the command line and notebooks (which have a loop of their own) call the same code.
They are daemons, so that nobody waits for a hanging endpoint after Ctrl-C.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from saefilter.errors import SaefilterError
from saefilter.select.judge.endpoint import Endpoint, Refused, Transient, Unreachable
from saefilter.select.judge.prompt import InvalidJudgement, Judgement, parse_judgement
from saefilter.select.judge.settings import JudgeSettings

LONGEST_BACKOFF = 60.0
INVALID_ATTEMPTS = 3
"""A model that gives no judgement when asked so often gives none."""
GIVE_UP_AFTER = 10
"""Questions in a row without a judgement, after which the endpoint is taken for broken."""
BYTES_PER_TOKEN = 4
"""Of UTF-8; about right for English, and nearer to right than characters for other scripts."""


class Pace:
    """Gives each request its moment, evenly spaced; shared by all threads.

    Even spacing, not a burst at the start of every minute: endpoints count in windows of their own.
    """

    def __init__(self, rpm: float | None = None, tpm: float | None = None):
        self._request_seconds = 60 / rpm if rpm else 0.0
        self._token_seconds = 60 / tpm if tpm else 0.0
        self._next_request = self._next_token = self._rested = 0.0
        self._lock = threading.Lock()

    def wait(self, tokens: float, stop: threading.Event) -> None:
        """Return when a request of about so many tokens may be sent, or when `stop` is set."""
        while True:
            with self._lock:
                rest = self._rested
                start = max(time.monotonic(), rest, self._next_request, self._next_token)
                self._next_request = start + self._request_seconds
                self._next_token = start + tokens * self._token_seconds
            while (left := start - time.monotonic()) > 0 and not stop.is_set():
                stop.wait(left)
            # a rest that was declared meanwhile: those who wait go on one by one, not all at its end
            if stop.is_set() or self._rested == rest or self._rested <= time.monotonic():
                return

    def correct(self, tokens: float) -> None:
        """A request took so many tokens more (or fewer, if negative) than was said."""
        with self._lock:
            self._next_token += tokens * self._token_seconds

    def rest(self, seconds: float) -> None:
        """Nothing is sent for so long: the endpoint said so to one, and means all."""
        with self._lock:
            self._rested = max(self._rested, time.monotonic() + seconds)


@dataclass(frozen=True)
class Question:
    """What is asked about one conversation."""

    key: str
    """SHA-256 of the conversation."""
    place: int
    """Of the first of the conversations that say this, among those given."""
    text: str

    def tokens(self) -> int:
        """About how many it has."""
        return tokens_of(len(self.text.encode("utf-8", "surrogatepass")))


@dataclass(frozen=True)
class Failure:
    """Why there is no judgement on a question."""

    why: str
    of_row: bool
    """Whether it lies with the question (the endpoint answered) and not with the endpoint."""


Result = tuple[Question, Judgement | Failure]


def tokens_of(n_bytes: int) -> int:
    """About how many tokens so many bytes of text are."""
    return -(-n_bytes // BYTES_PER_TOKEN)


def _judgements_in(done: queue.SimpleQueue[Result | BaseException]) -> Iterator[Result]:
    """What has come in and is a judgement."""
    while not done.empty():
        result = done.get()
        if not isinstance(result, BaseException) and isinstance(result[1], Judgement):
            yield result


class Asker:
    """Puts questions to an endpoint."""

    def __init__(self, settings: JudgeSettings, endpoint: Endpoint):
        self._settings, self._endpoint = settings, endpoint
        self._pace = Pace(settings.rpm, settings.tpm)
        self._stop = threading.Event()
        self._reached = threading.Event()

    def ask_all(
        self, questions: Iterable[Question], *, any_judgement: bool = False
    ) -> Iterator[Result]:
        """Results as they come, in any order. `any_judgement`: whether an earlier run had one, so
        that it is no broken endpoint that refuses row after row.

        Raises SaefilterError at once when nobody takes the connection, the key is refused and the
        like, and after GIVE_UP_AFTER failures on end that lie with the endpoint, or with which it
        began.
        """
        todo: queue.SimpleQueue[Question | None] = queue.SimpleQueue()
        done: queue.SimpleQueue[Result | BaseException] = queue.SimpleQueue()
        width = self._settings.concurrency
        for _ in range(width):
            threading.Thread(target=self._work, args=(todo, done), daemon=True).start()
        try:
            yield from self._collect(questions, todo, done, any_judgement)
        finally:
            self._stop.set()
            for _ in range(width):
                todo.put(None)

    def _collect(
        self,
        questions: Iterable[Question],
        todo: queue.SimpleQueue[Question | None],
        done: queue.SimpleQueue[Result | BaseException],
        any_judgement: bool,
    ) -> Iterator[Result]:
        waiting, failures = 0, 0
        source, exhausted = iter(questions), False
        while True:
            # a few more than are asked at once, so that no thread waits for its next question
            while not exhausted and waiting < 2 * self._settings.concurrency:
                question = next(source, None)
                if question is None:
                    exhausted = True
                else:
                    todo.put(question)
                    waiting += 1
            if not waiting:
                return
            result = done.get()
            waiting -= 1
            if isinstance(result, BaseException):
                yield from _judgements_in(done)  # they are paid for
                raise result
            outcome = result[1]
            if isinstance(outcome, Judgement):
                any_judgement, failures = True, 0
            elif not (outcome.of_row and any_judgement):
                failures += 1
            yield result
            if failures >= GIVE_UP_AFTER and isinstance(outcome, Failure):
                raise SaefilterError(
                    f"{failures} questions on end had no judgement, the last because: {outcome.why}",
                    where=f"{self._settings.model} at {self._settings.url}",
                )

    def _work(
        self,
        todo: queue.SimpleQueue[Question | None],
        done: queue.SimpleQueue[Result | BaseException],
    ) -> None:
        while (question := todo.get()) is not None and not self._stop.is_set():
            try:
                done.put((question, self._judgement(question)))
            except BaseException as error:  # for the main thread, which tells the user
                done.put(error)
                self._stop.set()  # before the main thread wakes, this one would ask another

    def _judgement(self, question: Question) -> Judgement | Failure:
        """Ask until there is a judgement, or the attempts are used up."""
        expected = question.tokens() + self._settings.max_tokens
        invalid = transient = 0
        while True:
            self._pace.wait(expected, self._stop)
            if self._stop.is_set():
                return Failure("stopped", of_row=False)
            try:
                answer = self._endpoint.ask(question.text)
                self._reached.set()
                self._pace.correct(answer.tokens_in + answer.tokens_out - expected)
                if answer.cut:
                    raise InvalidJudgement(
                        f"the answer was cut at {self._settings.max_tokens} tokens "
                        "(--judge-max-tokens)"
                    )
                return Judgement(*parse_judgement(answer.text), answer.tokens_in, answer.tokens_out)
            except InvalidJudgement as error:
                invalid += 1
                if invalid == INVALID_ATTEMPTS:
                    return Failure(str(error), of_row=True)
            except Refused as error:
                return Failure(str(error), of_row=True)
            except Transient as error:
                if isinstance(error, Unreachable) and not self._reached.is_set():
                    raise SaefilterError(
                        f"the endpoint cannot be reached ({error})",
                        where=self._settings.url,
                        remedy="Check --judge-url, and whether the server runs.",
                    ) from error
                if not isinstance(error, Unreachable):
                    self._reached.set()
                transient += 1
                if transient > self._settings.retries:
                    return Failure(str(error), of_row=False)
                self._wait(error, transient)

    def _wait(self, error: Transient, attempt: int) -> None:
        """Before a further attempt: as long as the endpoint says, or doubling, never all at once."""
        if error.retry_after is not None:
            self._pace.rest(error.retry_after)
            self._stop.wait(error.retry_after * random.uniform(1.0, 1.1))
            return
        longest = min(LONGEST_BACKOFF, self._settings.backoff * 2 ** (attempt - 1))
        self._stop.wait(longest * random.uniform(0.5, 1.0))
