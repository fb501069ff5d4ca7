"""From conversations to judgements: look up what is known, say what the rest will take (requests, tokens,
cost and time), ask, keep.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

from saefilter.errors import SaefilterError
from saefilter.rows.formats import Conversation
from saefilter.select.judge.ask import Asker, Failure, Question, Result, tokens_of
from saefilter.select.judge.cache import JudgementCache
from saefilter.select.judge.endpoint import Endpoint
from saefilter.select.judge.prompt import Judgement, Prompt, conversation_section
from saefilter.select.judge.settings import JudgeSettings
from saefilter.text import rows_of
from saefilter.watch import Interrupted, Watch

Conversations = Callable[[], Iterable[Conversation]]
"""Gives the conversations anew each time, always the same: they are read twice, and not kept."""
TOKENS_OUT = 50
"""Of one judgement: a score and a sentence."""
SECONDS = 2.0
"""Of one request; measured ones vary from a fifth of this to five times as much."""


@dataclass(frozen=True)
class Judged:
    """What came of asking."""

    judgements: list[Judgement | None]
    """One for each conversation, in order; None where there is none to be had."""
    failures: dict[int, str]
    """Position -> why there is none."""
    asked: int
    """Conversations that were sent; attempts that failed are not counted."""
    tokens_in: int
    """That these took, as the endpoint counts."""
    tokens_out: int

    def failure_words(self, name: Callable[[int], str]) -> str:
        """How many have no judgement, and why the first has none; `name` says which it is."""
        first = min(self.failures)
        return (
            f"{len(self.failures):,} of {rows_of(len(self.judgements))} have no judgement "
            f"(first {name(first)}: {self.failures[first]})"
        )


@dataclass(frozen=True)
class _Known:
    """What is known before anything is asked."""

    keys: list[str]
    """The hash of each conversation, in order."""
    judgements: dict[str, Judgement]
    estimate: Estimate


def estimate(conversations: Conversations, settings: JudgeSettings) -> Estimate:
    """What judging them would take. Sends nothing.

    Raises SaefilterError for settings, a prompt or a cache that cannot be used.
    """
    settings.check()
    prompt = Prompt.load(settings.prompt)
    with JudgementCache(settings.cache_file(), settings.model, prompt.sha256) as cache:
        return _look_up(conversations, settings, prompt, cache).estimate


def judge(
    conversations: Conversations, settings: JudgeSettings, watch: Watch | None = None
) -> Judged:
    """The judgements on conversations; equal ones are asked about once.

    Every judgement is on disk before the next is waited for, so whatever ends this loses no more
    than the questions that are under way.
    Raises SaefilterError for what cannot be used, and for an endpoint that cannot be reached, refuses
    the key or has stopped giving judgements; Interrupted on Ctrl-C.
    """
    settings.check()
    watch = watch or Watch()
    prompt = Prompt.load(settings.prompt)
    with JudgementCache(settings.cache_file(), settings.model, prompt.sha256) as cache:
        known = _look_up(conversations, settings, prompt, cache)
        watch.say(known.estimate.words(settings))
        if settings.key_is_exposed() and known.estimate.requests:
            watch.say(
                f"The API key goes to {settings.url} unencrypted (--judge-key-env '' sends none)"
            )
        watch.plan(len(known.keys), known.estimate.cached)
        judgements = dict(known.judgements)
        failures: dict[str, str] = {}
        asked = tokens_in = tokens_out = 0
        questions = _questions(conversations, prompt, known)
        try:
            with closing(_ask(questions, settings, known)) as results:  # or threads would ask on
                for question, outcome in results:
                    if isinstance(outcome, Failure):
                        failures[question.key] = outcome.why
                        watch.advance(1, 0)
                        continue
                    cache.keep(question.key, outcome)
                    judgements[question.key] = outcome
                    asked += 1
                    tokens_in += outcome.tokens_in
                    tokens_out += outcome.tokens_out
                    watch.advance(1, outcome.tokens_in + outcome.tokens_out)
        except KeyboardInterrupt as error:
            raise Interrupted(signal.SIGINT, _kept(len(judgements), cache)) from error
        except SaefilterError as error:
            remedy = f"{error.remedy} {_kept(len(judgements), cache)}" if error.remedy else None
            raise SaefilterError(
                error.problem, where=error.where, remedy=remedy or _kept(len(judgements), cache)
            ) from error
    return Judged(
        [judgements.get(key) for key in known.keys],
        {place: failures[key] for place, key in enumerate(known.keys) if key in failures},
        asked,
        tokens_in,
        tokens_out,
    )


def _look_up(
    conversations: Conversations, settings: JudgeSettings, prompt: Prompt, cache: JudgementCache
) -> _Known:
    keys: list[str] = []
    sizes: dict[str, int] = {}
    for conversation in conversations():
        section, key = conversation_section(conversation)
        keys.append(key)
        sizes[key] = len(section.encode("utf-8", "surrogatepass"))
    judgements = cache.find(sizes)
    unknown = sizes.keys() - judgements.keys()
    size = sum(sizes[key] for key in unknown)
    return _Known(keys, judgements, Estimate.of(settings, prompt, len(keys), len(unknown), size))


def _ask(
    questions: Iterator[Question], settings: JudgeSettings, known: _Known
) -> Generator[Result, None, None]:
    """The results; where all is known, the openai package is not even imported."""
    if known.estimate.requests:
        asker = Asker(settings, Endpoint(settings))
        yield from asker.ask_all(questions, any_judgement=bool(known.judgements))


def _questions(conversations: Conversations, prompt: Prompt, known: _Known) -> Iterator[Question]:
    seen = set(known.judgements)
    for place, conversation in enumerate(conversations()):
        if known.keys[place] in seen:
            continue
        section, key = conversation_section(conversation)
        seen.add(key)
        yield Question(key, place, prompt.about(section))


def _kept(n_judgements: int, cache: JudgementCache) -> str:
    return (
        f"{n_judgements:,} judgements are kept in {cache.path}; the same command asks for the others "
        "only"
    )


@dataclass(frozen=True)
class Estimate:
    """Rough, but for the number of requests. Attempts that fail come on top."""

    rows: int
    cached: int
    """Rows whose judgement is there already, or comes with that of an equal row."""
    requests: int
    tokens_in: int
    tokens_out: int
    cost: float | None
    """In the prices' currency; None without prices."""
    seconds: float

    @classmethod
    def of(
        cls,
        settings: JudgeSettings,
        prompt: Prompt,
        rows: int,
        requests: int,
        conversation_bytes: int,
    ) -> Estimate:
        """For so many `requests`, whose conversations have so many bytes together."""
        question = len(prompt.text.encode())
        tokens_in = tokens_of(requests * question + conversation_bytes)
        tokens_out = requests * TOKENS_OUT
        seconds = requests * SECONDS / min(settings.concurrency, max(requests, 1))
        if settings.rpm:
            seconds = max(seconds, requests * 60 / settings.rpm)
        if settings.tpm:
            seconds = max(seconds, (tokens_in + tokens_out) * 60 / settings.tpm)
        cost = cost_of(settings, tokens_in, tokens_out)
        return cls(rows, rows - requests, requests, tokens_in, tokens_out, cost, seconds)

    def words(self, settings: JudgeSettings) -> str:
        """For a person, on one line."""
        head = f"Judge {settings.model} at {settings.url}: {rows_of(self.rows)}, "
        if not self.requests:
            return f"{head}all with a judgement in {settings.cache_file()}; nothing to ask"
        known = f" ({self.cached:,} known already or repeats)" if self.cached else ""
        cost = "cost unknown (--judge-price-in, --judge-price-out)"
        if self.cost is not None:
            cost = f"about {money(self.cost)} at the given prices"
        return (
            f"{head}{self.requests:,} to ask{known}, about {self.tokens_in:,} tokens in and "
            f"{self.tokens_out:,} out, {cost}, about {duration(self.seconds)} at {SECONDS:g} s a "
            f"request and {settings.concurrency} at a time"
        )


def cost_of(settings: JudgeSettings, tokens_in: int, tokens_out: int) -> float | None:
    """At the prices that were given; None without any."""
    if settings.price_in is None and settings.price_out is None:
        return None
    return (tokens_in * (settings.price_in or 0) + tokens_out * (settings.price_out or 0)) / 1e6


def money(amount: float) -> str:
    """An amount in nobody's currency, with two digits that say something."""
    return f"{amount:,.2f}" if amount >= 0.1 or amount == 0 else f"{amount:.2g}"


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
