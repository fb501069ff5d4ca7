"""What to type next, so that it runs as it is printed: names quoted for a shell, and what was given repeated
where the next command needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from saefilter.described import described
from saefilter.settings import ScoreSettings
from saefilter.text import command_line

if TYPE_CHECKING:
    from saefilter.artifacts.provenance import Provenance
    from saefilter.cli.options import Given
    from saefilter.storage import Location

USUAL_SHARE = 0.1
"""To drop, where nobody has said anything."""


def as_options(given: Given) -> list[str]:
    """Settings as they were given, as words of a command line."""
    words: list[str] = []
    for name, one in described(ScoreSettings).items():
        value: Any = given.get(name)
        if value is None or value is False:
            continue
        words += [one.flag] if value is True else [one.flag, str(value)]
    return words


def scores_words(data: str, scores: Location | None, made: Provenance, given: Given) -> list[str]:
    """What names data and their scores for the next command; `scores` is None for those that it finds by
    itself. Settings are repeated where something else than the command line, such as saefilter.toml, asks for
    others than these scores were made with."""
    from saefilter.cli.common import asked_of
    from saefilter.errors import SaefilterError
    from saefilter.scoring.scores_for import differences

    words = [no_option(data), *(["--scores", no_option(str(scores))] if scores else [])]
    try:
        differing = list(differences(made, asked_of({})))
    except SaefilterError:
        differing = ["what is asked for is not there"]
    depend = [name for name, one in described(ScoreSettings).items() if one.option.scores_depend]
    again = {name: given[name] for name in depend if name in given}
    return [*words, *as_options(again)] if differing else words


def after_score(
    data: str, scores: Location | None, made: Provenance, given: Given, stem: str
) -> str:
    """The command that drops rows by scores that were just made, or what stands in its way. `stem`: of the data,
    by which filtered rows are called."""
    if data == "-":
        return "save the rows to a file and score that: filter reads the data again"
    return command_line(
        "saefilter", "filter", *scores_words(data, scores, made, given), *cut_options(made),
        *output_words(stem, "filtered"),
    )  # fmt: skip


def no_option(name: str) -> str:
    """A file's name that no command takes for an option."""
    return f"./{name}" if name.startswith("-") else name


def cut_options(made: Provenance, decided: int = 0) -> list[str]:
    """A tenth, or the rows that a cascade has sought where they are fewer; of these some may be among the
    `decided` ones, which are no longer ranked, and where none is left nothing is cut."""
    if made.cascade:
        sought = min(int(made.cascade["nearest"]), made.scored)
        sought -= decided if made.estimated else 0
        if sought < USUAL_SHARE * (made.scored + made.estimated):
            return ["--drop-count", str(sought)] if sought > 0 else []
    return ["--drop-frac", f"{USUAL_SHARE:.0%}"]


def output_words(stem: str, name: str) -> list[str]:
    """Where filtered rows go, as a free name, where the usual one is taken."""
    from saefilter.rows.read import COMPRESSIONS
    from saefilter.rows.written import FORMATS

    endings = [f".{kind}{packed}" for kind in FORMATS for packed in ("", *COMPRESSIONS)]
    taken = [
        end for end in (*endings, "") if Path(f"{stem}.filtered{end}").exists()
    ]  # "": a folder
    return ["-o", free_name(f"{stem}.{name}", taken[0])] if taken else []


def free_name(stem: str, ending: str) -> str:
    """A name that nothing has here."""
    names = (f"{stem}{number}{ending}" for number in ("", *range(2, 10_000)))
    return next(name for name in names if not Path(name).exists())
