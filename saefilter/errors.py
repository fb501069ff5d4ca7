"""The one exception that a user's mistake, data or environment can raise."""

from __future__ import annotations

import re
from collections.abc import Iterable


class SaefilterError(Exception):
    """Something the user can put right: what is wrong, where, and what to do about it.

    The command line prints it as one line and exits with code 2.
    """

    def __init__(self, problem: str, *, where: str | None = None, remedy: str | None = None):
        self.problem = problem
        self.where = where
        self.remedy = remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        text = f"{self.where}: {self.problem}" if self.where else self.problem
        return f"{text}. {self.remedy}" if self.remedy else text

    def say_instead(self, pattern: str, words: str) -> None:
        """Put words in the place of what a regular expression finds: a name that means nothing to the user."""
        self.problem = re.sub(pattern, words, self.problem)
        self.where = self.where and re.sub(pattern, words, self.where)
        self.remedy = self.remedy and re.sub(pattern, words, self.remedy)
        self.args = (str(self),)

    def __reduce__(self) -> tuple[object, ...]:
        """Errors of worker processes keep their fields."""
        return (_again, (type(self), self.problem, self.where, self.remedy))


def _again(
    kind: type[SaefilterError], problem: str, where: str | None, remedy: str | None
) -> SaefilterError:
    return kind(problem, where=where, remedy=remedy)


OUT_OF_MEMORY = (
    "out of memory", "not enough memory", "allocate memory", "bad_alloc", "alloc_failed",
    "could not create a primitive", "could not execute a primitive",
)  # fmt: skip
"""What messages say, in small letters; the last two are oneDNN's, which does not name the cause."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory does not suffice; torch has a class for GPUs only."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(words in str(error).lower() for words in OUT_OF_MEMORY)
    )


MOST_MEANT = 4
FEW = 8


def did_you_mean(name: str, known: Iterable[str], all_of_them: str = "Known") -> str:
    """A remedy for a name that is not known: those that begin with it, or the nearest; and all of them where
    there are few, or none is near."""
    import difflib

    names = list(known)
    lowered = {one.casefold(): one for one in names}
    begun = [own for plain, own in lowered.items() if name and plain.startswith(name.casefold())]
    near = begun or [lowered[one] for one in difflib.get_close_matches(name.casefold(), lowered, 1)]
    listed = f"{all_of_them}: {', '.join(names)}."
    if not 0 < len(near) <= MOST_MEANT:
        return listed
    meant = f"Did you mean {' or '.join(map(repr, near))}?"
    return f"{meant} {listed}" if len(names) <= FEW else meant
