"""Find the scores of some data, or make them: the one place where scores that are there are held
against what is asked for. Scores made otherwise are never used in silence. No torch here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from saefilter import __version__
from saefilter.artifacts.provenance import Provenance
from saefilter.artifacts.scores import SUFFIX, Scores, latest_scores
from saefilter.asked import Asked
from saefilter.described import Described, described
from saefilter.errors import SaefilterError
from saefilter.rows.read import Source
from saefilter.settings import WHICH_MODEL
from saefilter.storage import Location
from saefilter.text import command_line

Say = Callable[[str], None]
DECIDED_LATER = (None, "auto")
"""Values that leave the choice to preset, toxic set or device."""


def usual_scores(source: Source) -> Path:
    """Where a dataset's scores are unless somebody says otherwise: in this folder."""
    return Path(f"{source.stem}{SUFFIX}")


def scores_for(
    source: Source,
    asked: Asked,
    *,
    named: Location | None = None,
    make: Callable[[str | None], Scores],
    strict: bool = False,
    look: bool = True,
    say: Say = lambda text: None,
) -> Scores:
    """The scores of `source`: those `named`, else the usual ones where they fit, else new ones.

    `make` scores the data; it is told why the usual ones do not serve, None where there are none, and
    may raise. `strict`: defaults count as asked for, and so does this version of saefilter. Without
    `look` the usual ones are not looked for.

    Raises SaefilterError when the named ones are of other data or were made in another way.
    """
    if named is not None:
        scores = Scores.open(named)
        scores.check_belongs(source)
        refuse_others(scores, asked)
        return scores
    usual = usual_scores(source)
    if not look or not usual.exists():
        return make(None)
    if (why := _why_not(usual, source, asked, strict)) is not None:
        return make(why)
    say(f"Using the scores {usual}")
    return Scores.open(usual)


def latest_scores_for(asked: Asked, folder: Path = Path()) -> Scores:
    """The scores that were written last in `folder`, where nobody names data.

    Raises SaefilterError when there are none, or they were made in another way than is asked for.
    """
    scores = Scores.open(latest_scores(folder))
    refuse_others(scores, asked)
    return scores


def refuse_others(scores: Scores, asked: Asked) -> None:
    """Raises SaefilterError for scores that were made in another way than somebody asked for."""
    differing = list(differences(scores.provenance, asked))
    if differing:
        data = scores.provenance.input_path
        raise SaefilterError(
            f"{scores.path} does not fit what is asked for: {'; '.join(differing)}",
            remedy=f"Score the data anew (saefilter score {command_line(data)} --overwrite), or ask for what the "
            "scores were made with.",
        )


def _why_not(path: Path, source: Source, asked: Asked, strict: bool) -> str | None:
    try:
        scores = Scores.open(path)
        scores.check_belongs(source)
    except SaefilterError as error:
        return error.problem
    return "; ".join(differences(scores.provenance, asked, strict=strict)) or None


def differences(made: Provenance, asked: Asked, *, strict: bool = False) -> Iterator[str]:
    """In what scores differ from what is asked for, a clause each; nothing where they may be used.

    What nobody asked for is a default, and only binds when `strict`: filtering by scores that somebody
    made with care needs no repetition of how. Raises SaefilterError for a preset, toxic set or metric that
    is not there.
    """
    if asked.settings.metric not in (None, made.metric):
        from saefilter.geometry.metrics import known_metric

        known_metric(asked.settings.metric)  # a misspelt one is no reason to score anew
    asked = asked.of_data(Path(made.input_path))
    if strict and made.version != __version__:
        yield f"they were made by saefilter {made.version}, this is {__version__}"
    if strict and not made.settings:
        yield "they do not say with which settings they were made"
        return
    known = described(type(asked.settings))
    if strict or set(asked.origin) & set(WHICH_MODEL):
        yield from _other_model(made, asked, strict)
    if strict or "toxic_set" in asked.origin:
        yield from _other_toxic_set(made, asked)
    if strict or "reference" in asked.origin:
        yield from _other_reference(made, asked)
    if made.trainer and "train_on" in asked.origin and asked.settings.trainer is None:
        yield f"they were made with --trainer {made.trainer}, {_says(asked, known['train_on'])}"
    for name, one in known.items():
        if not one.option.scores_depend or name in (*WHICH_MODEL, "toxic_set", "reference"):
            continue
        if strict or name in asked.origin:
            yield from _other_value(made, asked, one, strict)
    if asked.settings.on_bad_row == "error" and made.quarantined:
        yield f"{made.quarantined:,} of their rows could not be scored, --on-bad-row is error"


def _other_value(made: Provenance, asked: Asked, one: Described, strict: bool) -> Iterator[str]:
    """A setting whose value is kept with the scores: as it was resolved, and as it was asked for."""
    wanted = getattr(asked.settings, one.name)
    before = (made.settings or {}).get(one.name)
    if wanted in DECIDED_LATER:
        # `auto` is content with what it came to here or elsewhere, but not with what somebody chose
        unsaid = made.settings is None or before in DECIDED_LATER
        if unsaid or (one.name in asked.origin and not strict):
            return
        yield f"they were made with {one.flag} {before}, {_says(asked, one)}"
        return
    unknown = made.settings is None or one.name not in made.settings
    # of a cascade the provenance says under this name what it found out
    came_to = before if one.name == "cascade" else getattr(made, one.name, before)
    if came_to is None and unknown:
        yield f"they do not say with which {one.flag} they were made, {_says(asked, one)}"
    elif came_to != wanted and one.shown(came_to) != str(wanted):
        yield f"they were made with {one.flag} {one.shown(came_to)}, {_says(asked, one)}"


def _other_model(made: Provenance, asked: Asked, strict: bool) -> Iterator[str]:
    """Preset, model, SAE, layer and revision, which only together say what was read."""
    from saefilter.encode.presets import preset_of

    settings, origin = asked.settings, asked.origin
    wanted = preset_of(settings)
    # by name too: a preset brings a toxic set, a rendering and a context with its model and SAE
    if (made.preset, made.model, made.sae) != (wanted.name, wanted.model, wanted.sae):
        says = next(
            (origin[one] for one in ("layer", "preset", "model") if one in origin), "the default"
        )
        yield f"they were made with preset {made.preset}, {says} {_verb(says)} {wanted.name}"
        return
    before = (made.settings or {}).get("revision")
    if settings.revision is not None and settings.revision not in (made.revision, before):
        says = origin.get("revision", "the default")
        shown = before or made.revision or "newest"
        yield f"they were made with revision {shown}, {says} {_verb(says)} {settings.revision}"
    elif settings.revision is None and before is not None and strict:
        yield f"they were made with revision {before}, the default is the newest"


def _other_toxic_set(made: Provenance, asked: Asked) -> Iterator[str]:
    from saefilter.encode.presets import preset_of
    from saefilter.toxic.load import load_toxic_set

    settings, origin = asked.settings, asked.origin.get("toxic_set")
    name_or_file = settings.toxic_set
    if name_or_file is None:
        name_or_file = preset_of(settings).toxic_set
    if name_or_file is None:  # one is made for the model; where none was asked for, it is that
        if (made.settings or {}).get("toxic_set") is not None:
            yield f"they were made with toxic set {made.toxic_set}, the default is a set of its own"
        return
    wanted = load_toxic_set(name_or_file)
    if wanted.sha256() != made.toxic_set_sha256:
        same = " of other content" if wanted.name == made.toxic_set else ""
        says = origin or "the default"
        yield f"they were made with toxic set {made.toxic_set}{same}, {says} {_verb(says)} {name_or_file}"


def _other_reference(made: Provenance, asked: Asked) -> Iterator[str]:
    """The user's reference rows, by their content."""
    from saefilter.rows.inputs import open_input

    wanted = asked.settings.reference
    sha256 = None if wanted is None else open_input(wanted).sha256()
    if sha256 != made.reference_sha256:
        before = made.reference_name or "the toxic set's"
        same = " of other content" if wanted is not None and wanted == before else ""
        says = asked.origin.get("reference", "the default")
        yield (
            f"they were made with reference {before}{same}, {says} {_verb(says)} "
            + (wanted or "the toxic set's")
        )


def _says(asked: Asked, setting: Described) -> str:
    origin = asked.origin.get(setting.name, "the default")
    value = getattr(asked.settings, setting.name)
    return f"{origin} {_verb(origin)} {setting.shown(value)}"


def _verb(origin: str) -> str:
    return "is" if origin.startswith(("--", "the ")) else "says"
