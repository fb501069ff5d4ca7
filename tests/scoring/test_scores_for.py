"""Scores that are there are used exactly where nothing that they depend on is asked for otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from conftest import chat
from scored import write_scores

from saefilter import __version__
from saefilter.artifacts.scores import Scores
from saefilter.asked import Asked
from saefilter.described import Described, described, option
from saefilter.encode.presets import load_preset, resolve
from saefilter.errors import SaefilterError
from saefilter.rows.read import Source
from saefilter.scoring.scores_for import differences, latest_scores_for, scores_for
from saefilter.settings import OF_CASCADES, OF_RAY, ScoreSettings
from saefilter.toxic.load import load_toxic_set

MADE = load_preset("minilm")


@dataclass(frozen=True)
class MoreSettings(ScoreSettings):
    """With settings that nobody has thought of when scores_for was written."""

    min_letters: int = option(3, "Leave out shorter words.", scores_depend=True)
    nice: int = option(0, "Be nice to others.")


FIELDS = described(MoreSettings)
OTHER: dict[str, Any] = {
    "preset": "gemma-2-2b", "model": "m", "sae": "s", "revision": "abc", "metric": "nearest",
    "device": "cpu", "device_map": "auto", "address": "auto", "cascade": "tokens:8", "recall": 0.8,
    "nearest": 0.2, "budget": 0.5,
}  # fmt: skip
"""Another value where neither choices nor numbers give one; `toxic_set` and `reference` are files that
a test makes."""


def another(one: Described) -> Any:
    """A value that scores by the defaults were not made with."""
    if one.name in OTHER:
        return OTHER[one.name]
    came_to = {"rendering": "plain", "dtype": "fp32"}
    if one.option.choices:
        used = ("auto", came_to.get(one.name, one.default))
        return next(choice for choice in one.option.choices if choice not in used)
    if isinstance(one.default, bool):
        return not one.default
    return (one.default or 1) + 1


def asked_for(name: str, value: Any) -> Asked:
    """One thing that somebody asked for, by an option."""
    given = {name: value}
    if name in ("model", "sae"):
        given = {"model": OTHER["model"], "sae": OTHER["sae"]}
    base = {} if name in ("preset", "model", "sae") else {"preset": "minilm"}
    if name in ("revision", "layer"):  # only a model on the hub has them
        base = {"preset": "gemma-2-2b"}
    if name in OF_RAY:
        base["engine"] = "ray"
    if name in OF_CASCADES:
        base["cascade"] = "tokens:8"
    return Asked(MoreSettings(**base, **given), {n: FIELDS[n].flag for n in given})


@pytest.fixture
def made(
    jsonl: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Source, Scores]:
    """Scores as the defaults make them."""
    monkeypatch.chdir(tmp_path)
    source = Source.open(jsonl([chat(f"q{i}", f"a{i}") for i in range(5)]))
    scores = write_scores(
        source, tmp_path / "data.scores.parquet", version=__version__, model=MADE.model,
        sae=MADE.sae, toxic_set="minilm", toxic_set_sha256=load_toxic_set("minilm").sha256(),
        settings=MoreSettings("minilm").shaping(),
    )  # fmt: skip
    return source, scores


def find(source: Source, asked: Asked, **how: Any) -> tuple[Scores | None, str | None]:
    """The scores that are used, or why they are not."""
    said: list[str | None] = []

    def make(why: str | None) -> Scores:
        said.append(why)
        raise SaefilterError("made")

    try:
        return scores_for(source, asked, make=make, **how), None
    except SaefilterError as error:
        return None, said[0] if said else error.problem


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", FIELDS)
def test_another_value_is_seen_exactly_where_scores_depend_on_it(
    made: tuple[Source, Scores], jsonl: Callable[..., Path], tmp_path: Path, name: str, strict: bool
) -> None:
    source, scores = made
    one, value = FIELDS[name], None
    if name == "toxic_set":
        value = str(tmp_path / "own.json")
        own = replace(load_toxic_set("minilm"), name="own")
        Path(value).write_text(own.to_json(), encoding="utf-8")
    elif name == "reference":
        value = str(jsonl([chat("q", "a")], "good.jsonl"))
    elif name == "columns":
        value = "text=body"
    elif name == "dataset_info":
        value = str(tmp_path / "info.json")
        Path(value).write_text('{"any": {"columns": {"prompt": "body"}}}')
    elif name == "axolotl_config":
        value = str(tmp_path / "config.yml")
        Path(value).write_text("datasets: [{path: any, type: completion, field: body}]")
    asked = asked_for(name, another(one) if value is None else value)
    used, why = find(source, asked, strict=strict)
    if not one.option.scores_depend:
        assert used is not None, why
        return
    assert used is None
    assert why is not None
    assert one.flag in why or name in why or "preset" in why
    # named, it is an error that says the same; as are the last in a folder
    used, named = find(source, asked, named=scores.path)
    assert used is None
    assert named is not None
    assert "does not fit what is asked for" in named
    with pytest.raises(SaefilterError, match="does not fit what is asked for"):
        latest_scores_for(asked, tmp_path)


@pytest.mark.parametrize("name", [n for n, one in FIELDS.items() if one.option.scores_depend])
def test_what_they_were_made_with_serves(
    made: tuple[Source, Scores], jsonl: Callable[..., Path], name: str
) -> None:
    source, scores = made
    values = {"preset": "minilm", "toxic_set": "minilm", "metric": "contrast", "neighbours": 1,
              "dtype": "fp32", "rendering": "plain"}  # fmt: skip
    if name in ("model", "sae"):
        pair = MoreSettings(model=MADE.model, sae=MADE.sae)
        asked = Asked(pair, {name: FIELDS[name].flag})
        # of the same pair, but with what the preset brings besides: its toxic set, how it renders
        assert "made with preset minilm" in (find(source, asked)[1] or "")
        write_scores(
            source, scores.path, preset=f"{MADE.model} with {MADE.sae}", model=MADE.model,
            sae=MADE.sae, settings=pair.shaping(),
        )  # fmt: skip
    elif name == "revision":
        write_scores(
            source, scores.path, model="google/gemma-2-2b", sae=load_preset("gemma-2-2b").sae,
            preset="gemma-2-2b", revision="0123", settings=replace(MoreSettings(), revision="main").shaping(),
        )  # fmt: skip
        for revision in ("main", "0123"):  # as it was asked for, and the commit that it was
            used, why = find(source, asked_for(name, revision))
            assert used is not None, why
        return
    elif name == "layer":
        gemma = resolve("gemma-2-2b", None, None, None, 3)
        write_scores(
            source, scores.path, preset=gemma.name, model=gemma.model, sae=gemma.sae,
            settings=replace(MoreSettings(), layer=3).shaping(),
        )  # fmt: skip
        asked = asked_for(name, 3)
    elif name == "reference":
        good = jsonl([chat("q", "a")], "good.jsonl")
        write_scores(
            source, scores.path, model=MADE.model, sae=MADE.sae,
            reference={"name": "good.jsonl", "sha256": Source.open(good).sha256()},
            settings=replace(MoreSettings("minilm"), reference="good.jsonl").shaping(),
        )  # fmt: skip
        asked = asked_for(name, str(good))
        # what counts is the content, not the name
        good.write_text(good.read_text(encoding="utf-8") * 2, encoding="utf-8")
        assert "--reference is" in (find(source, asked)[1] or "")
        good = jsonl([chat("q", "a")], "good.jsonl")
    else:
        asked = asked_for(name, values.get(name, FIELDS[name].default))
    used, why = find(source, asked)
    assert used is not None, why


def test_defaults_bind_a_gate_alone(made: tuple[Source, Scores]) -> None:
    source, scores = made
    write_scores(
        source, scores.path, version=__version__, model=MADE.model, sae=MADE.sae, max_tokens=64,
        toxic_set_sha256=load_toxic_set("minilm").sha256(),
        settings=MoreSettings("minilm", max_tokens=64).shaping(),
    )  # fmt: skip
    asked = Asked(MoreSettings("minilm"), {})
    assert find(source, asked)[0] is not None
    why = find(source, asked, strict=True)[1]
    assert why == "they were made with --max-tokens 64, the default is 1024"


def test_another_version_other_data_and_damage_are_seen(
    made: tuple[Source, Scores], jsonl: Callable[..., Path]
) -> None:
    source, scores = made
    write_scores(source, scores.path, version="0.0.1", settings=MoreSettings("minilm").shaping())
    why = find(source, Asked(MoreSettings("minilm"), {}), strict=True)[1]
    assert why is not None
    assert f"made by saefilter 0.0.1, this is {__version__}" in why
    other = Source.open(jsonl([chat("q", "a")]))
    assert "is not the data" in (find(other, Asked(MoreSettings("minilm"), {}))[1] or "")
    scores.path.write_bytes(b"PAR1")
    assert "not a readable Parquet file" in (find(source, Asked(MoreSettings(), {}))[1] or "")
    scores.path.unlink()
    assert find(source, Asked(MoreSettings(), {})) == (None, None)


def test_files_of_before_settings_were_kept(made: tuple[Source, Scores]) -> None:
    source, scores = made
    write_scores(source, scores.path, settings=None)
    old = Scores.open(scores.path).provenance
    assert not list(differences(old, asked_for("pool", "mean")))
    assert list(differences(old, asked_for("neighbours", 2))) == [
        "they do not say with which --neighbours they were made, --neighbours is 2"
    ]
    # a gate takes no metric for granted that nobody wrote down
    assert "they do not say with which settings they were made" in list(
        differences(old, Asked(MoreSettings("minilm"), {}), strict=True)
    )


def test_auto_said_aloud_does_not_open_the_gate(made: tuple[Source, Scores]) -> None:
    source, scores = made
    for name, value in (("dtype", "bf16"), ("rendering", "chat")):
        write_scores(
            source, scores.path, version=__version__, model=MADE.model, sae=MADE.sae,
            toxic_set_sha256=load_toxic_set("minilm").sha256(), **{name: value},
            settings=MoreSettings("minilm", **{name: value}).shaping(),
        )  # fmt: skip
        asked = asked_for(name, "auto")
        assert find(source, asked)[0] is not None
        assert find(source, asked, strict=True)[0] is None


def test_another_revision_and_rows_that_are_no_scores(made: tuple[Source, Scores]) -> None:
    source, scores = made
    gemma = load_preset("gemma-2-2b")
    write_scores(
        source, scores.path, version=__version__, preset="gemma-2-2b", model=gemma.model,
        sae=gemma.sae, revision="c0ffee", quarantined=2,
        settings=MoreSettings("gemma-2-2b", revision="v1").shaping(),
    )  # fmt: skip
    asked = Asked(MoreSettings("gemma-2-2b"), {"preset": "--preset"})
    assert find(source, asked)[0] is not None
    assert "revision v1, the default is the newest" in (find(source, asked, strict=True)[1] or "")
    refused = Asked(MoreSettings(on_bad_row="error"), {"on_bad_row": "--on-bad-row"})
    assert "2 of their rows could not be scored" in (find(source, refused)[1] or "")


def test_turns_are_another_reading_than_a_trainers(made: tuple[Source, Scores]) -> None:
    source, scores = made
    asked = asked_for("train_on", "assistant")
    assert find(source, asked)[0] is not None
    write_scores(
        source, scores.path, model=MADE.model, sae=MADE.sae, trainer="trl",
        settings=replace(MoreSettings("minilm"), trainer="trl").shaping(),
    )  # fmt: skip
    why = find(source, asked)[1]
    assert why == "they were made with --trainer trl, --train-on is assistant"
    assert find(source, asked_for("trainer", "trl"))[0] is not None


def test_scores_from_before_there_were_trainers_are_of_train_on(
    made: tuple[Source, Scores],
) -> None:
    source, scores = made
    before = MoreSettings("minilm").shaping()
    del before["trainer"], before["read"]
    write_scores(
        source, scores.path, version=__version__, model=MADE.model, sae=MADE.sae,
        toxic_set="minilm", toxic_set_sha256=load_toxic_set("minilm").sha256(), settings=before,
    )  # fmt: skip
    assert find(source, Asked(MoreSettings("minilm"), {}), strict=True)[0] is not None
    assert find(source, asked_for("read", "at"))[0] is not None
    assert "--read at" in str(find(source, asked_for("read", "before"))[1])
    assert "--trainer" in str(find(source, asked_for("trainer", "trl"))[1])
