"""Built-in strategies by name: what goes with what, and nothing imported unasked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from saefilter.errors import SaefilterError
from saefilter.select.registry import BUILT_IN, StrategyOptions, options_of
from saefilter.select.strategies import Selection


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_strategy_is_where_it_is_said_to_be(name: str) -> None:
    assert callable(BUILT_IN[name].load())
    known = set(vars(StrategyOptions()))
    assert BUILT_IN[name].options <= known


@pytest.mark.parametrize(
    ("strategy", "options", "message"),
    [
        ("closest", {"contrast_toxic": ("a",)}, "--contrast-toxic does not go with --strategy closest. "
         "It goes with text-classifier, embedding-classifier, projection-difference"),
        ("random", {"label": "bad"}, "--label does not go with --strategy random"),
        ("loss", {"hook": "blocks.1.hook_resid_post"}, "--hook does not go with --strategy loss"),
        ("labels", {}, "--strategy labels needs --label or --labels"),
        ("matched-random", {}, "needs --label or --labels"),
        ("text-classifer", {}, "there is no strategy 'text-classifer'"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused(
    strategy: str, options: dict[str, object], message: str
) -> None:
    asked = Selection(strategy, drop_frac=0.1, options=StrategyOptions(**options))  # type: ignore[arg-type]
    with pytest.raises(SaefilterError, match=message):
        asked.check()


def test_every_strategy_is_documented_and_in_the_help() -> None:
    from typer.testing import CliRunner

    from saefilter.cli import app, commands

    commands()
    said = CliRunner().invoke(app, ["filter", "--help"], env={"COLUMNS": "300"}).output
    page = (Path(__file__).parents[2] / "docs/strategies.md").read_text()
    for name in BUILT_IN:
        assert f"| `{name}` |" in page
        assert f"**`{name}`**" in page or f"[{name}.md]" in page
        assert name in "".join(said.split())  # lines may break at hyphens


def test_a_strategy_gets_its_own_options_alone() -> None:
    given = StrategyOptions(label="bad", model="m", temperature=0.5, contrast_toxic=("a",))
    assert options_of("labels", given).given() == {"label": "bad"}
    assert options_of("loss", given).given() == {"model": "m"}
    assert options_of("closest", given).given() == {}


def test_artifacts_name_files_without_their_folders(tmp_path: object) -> None:
    path = f"{tmp_path}/bad.jsonl"
    open(path, "w").close()
    options = StrategyOptions(contrast_toxic=(path,), model="org/name")
    assert options.described() == {"contrast_toxic": ["bad.jsonl"], "model": "org/name"}


def test_choosing_by_distance_imports_nothing_of_the_others() -> None:
    code = """
import sys
import numpy as np
from saefilter.select.strategies import Candidates, Selection, choose
for strategy in ("closest", "random"):
    choose(Candidates(np.zeros(4), np.arange(4)), Selection(strategy, drop_frac=0.5))
heavy = {"torch", "transformers", "sklearn", "scipy", "openai"} & set(sys.modules)
others = {name for name in sys.modules if name.startswith("saefilter.select.") and "classif" in name}
assert not heavy | others, heavy | others
"""
    subprocess.run([sys.executable, "-c", code], check=True)
