"""The one exception that a user's mistake, data or environment can raise."""

from __future__ import annotations

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


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A remedy for a name that is not known: the nearest that is, else all of them."""
    import difflib

    names = list(known)
    near = difflib.get_close_matches(name, names, 1)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(names)}."
