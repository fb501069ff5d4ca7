"""Settings describe themselves: what a field says holds wherever the value is from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from saefilter.artifacts.provenance import Identity, Provenance
from saefilter.asked import ask, ask_with
from saefilter.cli import options as opt
from saefilter.curate.options import CurationOptions
from saefilter.described import described, option
from saefilter.errors import SaefilterError
from saefilter.select.registry import StrategyOptions
from saefilter.settings import ScoreSettings

FIELDS = described(ScoreSettings)
IDENTITY = Identity(
    preset="p", model="m", sae="s", hook="h", sae_fingerprint="f", toxic_set="t",
    toxic_set_sha256="x", metric="nearest", pool="mean", train_on="assistant", max_tokens=9,
    dtype="fp32", device="cpu", reference_rows=0,
)  # fmt: skip


def test_every_setting_is_an_option_with_help() -> None:
    assert set(FIELDS) == set(ScoreSettings.__dataclass_fields__)
    for one in FIELDS.values():
        assert one.option.help.endswith((".", "..."))
        assert one.flag.startswith("--")


@pytest.mark.parametrize("name", [n for n, one in FIELDS.items() if one.option.choices])
def test_a_value_that_is_no_choice_is_refused_by_name(name: str) -> None:
    one = FIELDS[name]
    with pytest.raises(SaefilterError, match=f"{one.flag} 'nonsense' is not known") as refused:
        ScoreSettings(**{name: "nonsense"})
    assert all(choice in str(refused.value) for choice in one.option.choices)
    for choice in one.option.choices:
        ScoreSettings(**{name: choice})


@pytest.mark.parametrize("value", ["3", 2.5, True, [1], {"a": 1}])
def test_a_value_of_another_type_is_refused(value: Any) -> None:
    for name in ("max_tokens", "shard_rows", "neighbours"):
        with pytest.raises(SaefilterError, match=f"{FIELDS[name].flag} .* is not a whole number"):
            ScoreSettings(**{name: value})


def test_values_that_stand_for_the_same_are_taken() -> None:
    made = ScoreSettings(max_tokens=np.int64(5), toxic_set=Path("a.json"))  # type: ignore[arg-type]
    assert (type(made.max_tokens), made.max_tokens, made.toxic_set) == (int, 5, "a.json")
    json.dumps(made.shaping())
    assert StrategyOptions(contrast_toxic=["a"]).contrast_toxic == ("a",)  # type: ignore[arg-type]
    assert CurationOptions(fdr=np.float32(0.5), seed=np.int32(3)).seed == 3  # type: ignore[arg-type]


def test_what_excludes_each_other_and_what_is_too_small() -> None:
    with pytest.raises(SaefilterError, match=r"--max-tokens 0 is out of range. The smallest is 1"):
        ScoreSettings(max_tokens=0)
    with pytest.raises(SaefilterError, match="exclude each other"):
        ScoreSettings("minilm", sae="y")
    with pytest.raises(SaefilterError, match="--workers and --device-map"):
        ScoreSettings(workers=2, device_map="auto")
    with pytest.raises(SaefilterError, match=r"standard input only once.* Save the rows"):
        ScoreSettings(reference="-")
    with pytest.raises(SaefilterError, match="--dtype 'fp8' is not known"):
        StrategyOptions(dtype="fp8")


def test_what_scores_depend_on_is_in_the_fingerprint() -> None:
    made = ScoreSettings().fingerprint(IDENTITY)
    for name, one in FIELDS.items():
        if one.option.scores_depend:
            assert one.fingerprint, name
            assert set(one.fingerprint) <= set(made)
    assert made["precision"] == "fp32"  # what `auto` came to
    assert made["rows per shard"] == 1024
    assert set(ScoreSettings().shaping()) == {
        n for n, o in FIELDS.items() if o.option.scores_depend
    }


def test_provenance_is_the_identity_and_what_a_run_found() -> None:
    found = {
        "version": "1", "created": "c", "input_path": "i", "input_sha256": "s", "rows": 1,
        "scored": 1, "quarantined": 0, "truncated": 0, "duplicates": 0, "tokens": 1,
        "seconds": 1.0, "note": None,
    }  # fmt: skip
    provenance = Provenance.of(IDENTITY, **found)
    assert {**vars(IDENTITY), **found}.items() <= vars(provenance).items()


def test_options_win_over_the_project_which_wins_over_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAEFILTER_PRESET", "gemma-2-2b")
    monkeypatch.chdir(tmp_path)
    assert ask({}).why() == "Preset gemma-2-2b (SAEFILTER_PRESET)"
    (tmp_path / "pyproject.toml").write_text(
        '[tool.saefilter]\npreset = "gemma-2-9b"\nmax-tokens = 9\nmetric = "probe"\n'
    )
    (tmp_path / "saefilter.toml").write_text('max_tokens = 7\n[check]\nmax_flagged = "1%"\n')
    asked = ask({"metric": "nearest"})
    assert (asked.settings.preset, asked.settings.max_tokens) == ("gemma-2-9b", 7)
    assert asked.origin == {
        "preset": "pyproject.toml", "max_tokens": "saefilter.toml", "metric": "--metric",
    }  # fmt: skip
    # who names a model anew has nothing of what the project says of another
    pair = ask({"model": "m", "sae": "s"}).settings
    assert (pair.preset, pair.model, pair.sae) == (None, "m", "s")
    # a program's settings are complete, but for the model
    assert ask_with(ScoreSettings(), {}).settings.max_tokens == 1024
    origin = ask_with(ScoreSettings(), {}).origin
    assert (origin["preset"], origin["pool"]) == ("pyproject.toml", "the argument")
    assert ask_with(ScoreSettings("minilm"), {}).settings.preset == "minilm"


def test_a_layer_goes_with_the_model_that_it_was_said_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("saefilter.toml").write_text('preset = "gemma-2-2b"\nlayer = 5\n', encoding="utf-8")
    assert ask({}).settings.layer == 5
    assert ask({"layer": 7}).settings.preset == "gemma-2-2b"
    assert ask({"preset": "gpt-oss-20b"}).settings.layer is None
    assert ask_with(ScoreSettings(layer=7), {}).settings.layer == 7
    assert ask_with(ScoreSettings("gpt-oss-20b"), {}).settings.layer is None
    assert ask({}).why() == "Preset gemma-2-2b (saefilter.toml), layer 5"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prepare-workers = -1", "--prepare-workers -1 is out of range"),
        ("max_tokns = 3", "'max_tokns' is no setting. Did you mean 'max-tokens'"),
        ('pool = "median"', "--pool 'median' is not known"),
        ("max-tokens = 3\nmax_tokens = 4", "'max_tokens' is there twice"),
        ("preset = 3", "--preset 3 is not a text"),
        ('preset = "a"\nsae = "b"', "exclude each other"),
        ("preset = ", "not readable TOML"),
        ('toxic-set = ""', "--toxic-set is empty"),
    ],
)
def test_mistakes_in_the_projects_file_name_it(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "saefilter.toml").write_text(text)
    with pytest.raises(SaefilterError, match=message):
        ask({}, folder=tmp_path)


@dataclass(frozen=True)
class MoreSettings(ScoreSettings):
    """As the project's settings with one more, added as CONTRIBUTING.md says: by one field."""

    min_letters: int = option(3, "Leave out shorter words.", least=1, scores_depend=True)


def test_an_option_is_added_in_one_place(tmp_path: Path) -> None:
    app = typer.Typer()

    @app.command()
    @opt.with_options(MoreSettings, "scoring")
    def command(*, scoring: opt.Given) -> None:
        """Print what was given."""
        asked = ask(scoring, base=MoreSettings(), folder=tmp_path)
        settings = asked.settings
        typer.echo(json.dumps([settings.fingerprint(IDENTITY), settings.shaping(), asked.origin]))

    def run(*arguments: str) -> Any:
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.output)

    shown = CliRunner().invoke(app, ["--help"]).output  # the command line has it
    assert "--min-letters" in shown
    assert "Leave out shorter words [3]." in " ".join(shown.split())
    fingerprint, shaping, origin = run("--min-letters", "5")
    assert fingerprint["min letters"] == 5
    assert shaping["min_letters"] == 5  # which is kept in the provenance
    assert origin["min_letters"] == "--min-letters"
    (tmp_path / "saefilter.toml").write_text("min-letters = 4\n")  # the project's file has it
    assert run()[2]["min_letters"] == str(tmp_path / "saefilter.toml")
    assert run()[1]["min_letters"] == 4
    with pytest.raises(SaefilterError, match="--min-letters 0 is out of range"):  # it is checked
        run("--min-letters", "0")
    with pytest.raises(SaefilterError, match="--min-letters 'a' is not a whole number"):
        MoreSettings(min_letters="a")  # type: ignore[arg-type]


def test_odd_files_of_the_project_are_not_passed_over(tmp_path: Path) -> None:
    toml = tmp_path / "saefilter.toml"
    toml.write_bytes(b"\xef\xbb\xbfpreset = 'gemma-2-2b'\n")  # as some editors on Windows save it
    assert ask({}, folder=tmp_path).settings.preset == "gemma-2-2b"
    toml.unlink()
    toml.mkdir()
    with pytest.raises(SaefilterError, match=r"saefilter.toml: not readable"):
        ask({}, folder=tmp_path)
    toml.rmdir()
    toml.symlink_to("nowhere")
    with pytest.raises(SaefilterError, match=r"saefilter.toml: not readable"):
        ask({}, folder=tmp_path)
    toml.unlink()
    for text in ("tool = 3", "[[tool.saefilter]]"):
        (tmp_path / "pyproject.toml").write_text(text)
        with pytest.raises(SaefilterError, match=r"pyproject.toml: '\w+' is no table"):
            ask({}, folder=tmp_path)
