"""What comes next in a round of review, as commands that run as they are printed: from decisions to filtered rows,
from these to a toxic set of one's own, and from that to a comparison.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from saefilter.cli.common import SEVERAL
from saefilter.cli.hints import (
    as_options,
    cut_options,
    free_name,
    no_option,
    output_words,
    scores_words,
)
from saefilter.cli.options import READING, TRAINED
from saefilter.described import described
from saefilter.settings import ScoreSettings
from saefilter.text import command_line

if TYPE_CHECKING:
    from saefilter.artifacts.decisions import Decisions
    from saefilter.artifacts.provenance import Provenance
    from saefilter.artifacts.scores import Scores
    from saefilter.cli.options import Given
    from saefilter.rows.read import Source
    from saefilter.storage import Location
    from saefilter.toxic.toxicset import ToxicSet


def usual_decisions(scores: Scores) -> Location:
    """Where the decisions on rows of these scores are unless somebody says otherwise: beside them."""
    from saefilter.artifacts.decisions import SUFFIX
    from saefilter.artifacts.scores import SUFFIX as SCORES_SUFFIX

    path = scores.path
    return path.with_name(path.name.removesuffix(SCORES_SUFFIX).removesuffix(".parquet") + SUFFIX)


def to_filter(data: str, source: Source, scores: Scores, decisions: Decisions) -> str:
    """Filter by what was decided, and the rest by distance."""
    from saefilter.scoring.scores_for import usual_scores

    is_usual = str(usual_scores(source)) == str(scores.path)
    made = scores.provenance
    words = [
        "saefilter",
        "filter",
        *scores_words(data, None if is_usual else scores.path, made, {}),
    ]
    words += ["--decisions", str(decisions.path)]
    words += cut_options(made, len(decisions.decisions))
    return command_line(*words, *output_words(source.stem, "reviewed"))


def to_review_more(scores: Scores, decisions: Decisions) -> str:
    """Decide on more rows: any, where rows to keep are missing."""
    from saefilter.artifacts.decisions import ENOUGH, KEEP

    order = ["--order", "random"] if decisions.count(KEEP) < ENOUGH else []
    path = no_option(str(scores.path))
    return command_line("saefilter", "review", path, *_where(scores, decisions), *order)


def _where(scores: Scores, decisions: Decisions) -> list[str]:
    usual = usual_decisions(scores)
    return [] if str(usual) == str(decisions.path) else ["-o", str(decisions.path)]


def after_filter(data: str, source: Source, scores: Scores, decisions: Decisions) -> str:
    """Learn from the decisions, or make more where these are too few."""
    if not decisions.enough_to_learn:
        return to_review_more(scores, decisions)
    if scores.of_preferences:
        # of a pair no answer is toxic by itself, so that no set is learnt from it
        return command_line(
            "saefilter", "compare", no_option(str(scores.path)), "--data", data,
            "--decisions", str(decisions.path), *_report(),
        )  # fmt: skip
    return command_line(
        "saefilter", "features", "curate", "--data", data, "--decisions", str(decisions.path),
        *reading(scores.provenance), *_adapting(scores), "-o", free_name(f"{source.stem}.set", ".json"),
    )  # fmt: skip


def reading(made: Provenance) -> list[str]:
    """How the rows of scores were read, as options: the model and its SAE, and what differs from the defaults."""
    asked = made.settings or {}
    defaults = {name: one.default for name, one in described(ScoreSettings).items()}
    given = {
        name: asked[name]
        for name in (*READING, *TRAINED, "columns")
        if asked.get(name) not in (None, defaults[name])
    }
    if not {"preset", "model"} & set(given):
        given["preset"] = made.preset
    return as_options(given)


def _adapting(scores: Scores) -> list[str]:
    """The set by which rows were shown, where it is not the preset's."""
    from saefilter.toxic.learnt import named_set

    return ["--adapt", named] if (named := named_set(scores)) else []


def after_curate(data: str, toxic_set: Path, options: list[str]) -> list[str]:
    """Score by the new set, decide on rows that it has not learnt from, and compare it by these with the old one."""
    from saefilter.artifacts.decisions import SUFFIX as DECISIONS_SUFFIX
    from saefilter.artifacts.scores import SUFFIX as SCORES_SUFFIX
    from saefilter.rows.inputs import open_input
    from saefilter.scoring.scores_for import usual_scores

    usual = usual_scores(open_input(data))
    name = toxic_set.name.removesuffix(".json")
    new = free_name(f"{usual.name.removesuffix(SCORES_SUFFIX)}.by-{name}", SCORES_SUFFIX)
    score = ["saefilter", "score", data, "--toxic-set", str(toxic_set), *options, "-o", new]
    review = ["saefilter", "review", no_option(new), "--order", "random"]
    decided = f"{new.removesuffix(SCORES_SUFFIX)}{DECISIONS_SUFFIX}"
    old = [no_option(str(usual))] if usual.exists() else []
    compare = [
        "saefilter",
        "compare",
        *old,
        no_option(new),
        "--data",
        data,
        "--decisions",
        decided,
    ]
    return [command_line(*score), command_line(*review), command_line(*compare, *_report())]


def kept_reading(given: Given, kept: ToxicSet) -> list[str]:
    """The options that were given on how rows are read, to score by the set that was made; where several SAEs
    were tried, those of the one that is kept."""
    several = any(len(given.get(name) or ()) > 1 for name in SEVERAL)
    once = {name: given[name][0] for name in SEVERAL if name in given}
    if several:
        once = {"model": given.get("model") or kept.model, "sae": kept.sae}
    return as_options({**{k: v for k, v in given.items() if k not in SEVERAL}, **once})


def _report() -> list[str]:
    """Where a comparison goes, where the usual name is taken."""
    report = free_name("compare", ".html").removesuffix(".html")
    return [] if report == "compare" else ["-o", report]
