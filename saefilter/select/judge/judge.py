"""From conversations to verdicts: look up what is known, say what the rest will take, ask, keep."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

from saefilter.errors import SaefilterError
from saefilter.rows.formats import Conversation
from saefilter.select.judge.ask import Asker, Failure, Question, Result
from saefilter.select.judge.cache import VerdictCache
from saefilter.select.judge.endpoint import Endpoint
from saefilter.select.judge.estimate import Estimate
from saefilter.select.judge.prompt import Prompt, conversation_block
from saefilter.select.judge.settings import JudgeSettings
from saefilter.select.judge.verdict import Verdict
from saefilter.text import rows_of
from saefilter.watch import Interrupted, Watch

Conversations = Callable[[], Iterable[Conversation]]
"""Gives the conversations anew each time, always the same: they are read twice, and not kept."""


@dataclass(frozen=True)
class Judged:
    """What came of asking."""

    verdicts: list[Verdict | None]
    """One for each conversation, in order; None where there is none to be had."""
    failures: dict[int, str]
    """Position -> why there is none."""
    asked: int
    """Conversations that were sent; attempts that failed are not counted."""
    tokens_in: int
    """That these took, as the endpoint counts."""
    tokens_out: int

    def failure_words(self, name: Callable[[int], str]) -> str:
        """How many have no verdict, and why the first has none; `name` says which it is."""
        first = min(self.failures)
        return (
            f"{len(self.failures):,} of {rows_of(len(self.verdicts))} have no verdict "
            f"(first {name(first)}: {self.failures[first]})"
        )


@dataclass(frozen=True)
class _Known:
    """What is known before anything is asked."""

    keys: list[str]
    """The hash of each conversation, in order."""
    verdicts: dict[str, Verdict]
    estimate: Estimate


def estimate(conversations: Conversations, settings: JudgeSettings) -> Estimate:
    """What judging them would take. Sends nothing.

    Raises SaefilterError for settings, a prompt or a cache that cannot be used.
    """
    settings.check()
    prompt = Prompt.load(settings.prompt)
    with VerdictCache(settings.cache_file(), settings.model, prompt.sha256) as cache:
        return _look_up(conversations, settings, prompt, cache).estimate


def judge(
    conversations: Conversations, settings: JudgeSettings, watch: Watch | None = None
) -> Judged:
    """The verdicts on conversations; equal ones are asked about once.

    Every verdict is on disk before the next is waited for, so whatever ends this loses no more than
    the questions that are under way.
    Raises SaefilterError for what cannot be used, and for an endpoint that cannot be reached, refuses
    the key or has stopped giving verdicts; Interrupted on Ctrl-C.
    """
    settings.check()
    watch = watch or Watch()
    prompt = Prompt.load(settings.prompt)
    with VerdictCache(settings.cache_file(), settings.model, prompt.sha256) as cache:
        known = _look_up(conversations, settings, prompt, cache)
        watch.say(known.estimate.words(settings))
        if settings.key_is_exposed() and known.estimate.requests:
            watch.say(
                f"The API key goes to {settings.url} unencrypted (--judge-key-env '' sends none)"
            )
        watch.plan(len(known.keys), known.estimate.cached)
        verdicts = dict(known.verdicts)
        failures: dict[str, str] = {}
        asked = tokens_in = tokens_out = 0
        questions = _questions(conversations, prompt, known)
        try:
            with closing(_ask(questions, settings, known)) as results:  # or threads would ask on
                for question, found in results:
                    if isinstance(found, Failure):
                        failures[question.key] = found.why
                        watch.advance(1, 0)
                        continue
                    cache.keep(question.key, found)
                    verdicts[question.key] = found
                    asked += 1
                    tokens_in += found.tokens_in
                    tokens_out += found.tokens_out
                    watch.advance(1, found.tokens_in + found.tokens_out)
        except KeyboardInterrupt as error:
            raise Interrupted(signal.SIGINT, _kept(len(verdicts), cache)) from error
        except SaefilterError as error:
            remedy = f"{error.remedy} {_kept(len(verdicts), cache)}" if error.remedy else None
            raise SaefilterError(
                error.problem, where=error.where, remedy=remedy or _kept(len(verdicts), cache)
            ) from error
    return Judged(
        [verdicts.get(key) for key in known.keys],
        {place: failures[key] for place, key in enumerate(known.keys) if key in failures},
        asked,
        tokens_in,
        tokens_out,
    )


def _look_up(
    conversations: Conversations, settings: JudgeSettings, prompt: Prompt, cache: VerdictCache
) -> _Known:
    keys: list[str] = []
    sizes: dict[str, int] = {}
    for conversation in conversations():
        block, key = conversation_block(conversation)
        keys.append(key)
        sizes[key] = len(block.encode("utf-8", "surrogatepass"))
    verdicts = cache.find(sizes)
    unknown = sizes.keys() - verdicts.keys()
    size = sum(sizes[key] for key in unknown)
    return _Known(keys, verdicts, Estimate.of(settings, prompt, len(keys), len(unknown), size))


def _ask(
    questions: Iterator[Question], settings: JudgeSettings, known: _Known
) -> Generator[Result, None, None]:
    """The results; where all is known, the openai package is not even imported."""
    if known.estimate.requests:
        asker = Asker(settings, Endpoint(settings))
        yield from asker.ask_all(questions, any_verdict=bool(known.verdicts))


def _questions(conversations: Conversations, prompt: Prompt, known: _Known) -> Iterator[Question]:
    seen = set(known.verdicts)
    for place, conversation in enumerate(conversations()):
        if known.keys[place] in seen:
            continue
        block, key = conversation_block(conversation)
        seen.add(key)
        yield Question(key, place, prompt.about(block))


def _kept(verdicts: int, cache: VerdictCache) -> str:
    return (
        f"{verdicts:,} verdicts are kept in {cache.path}; the same command asks for the others only"
    )
