from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saefilter.errors import SaefilterError
from saefilter.gate.policy import DEFAULT_POLICY, choose_policy


def test_flags_win_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    assert choose_policy({}, tmp_path) == DEFAULT_POLICY
    (tmp_path / "pyproject.toml").write_text(
        '[tool.saefilter.check]\nmax_flagged = "2%"\nmax_quarantined = 0.07\n'
    )
    policy = choose_policy({}, tmp_path)
    assert policy.limits() == {"max_flagged": 2.0, "max_quarantined": 7.0}
    assert policy.origin == str(tmp_path / "pyproject.toml")
    (tmp_path / "saefilter.toml").write_text('[check]\nmax-flagged = "3%"\nmax_proximity = 0.8\n')
    policy = choose_policy({"max_flagged": "0.5%", "at_fpr": "1%", "min_scored": None}, tmp_path)
    assert policy.limits() == {"max_flagged": 0.5, "max_proximity": 0.8}
    assert policy.at_fpr == 1.0
    assert policy.origin == f"{tmp_path / 'saefilter.toml'} and the command's flags"
    (tmp_path / "saefilter.toml").write_text("preset = 'minilm'\n")
    assert choose_policy({}, tmp_path).limits() == {"max_flagged": 2.0, "max_quarantined": 7.0}


@given(st.decimals(0, 100, places=3))
def test_a_percentage_and_a_part_of_one_are_the_same_limit(share: object) -> None:
    text = choose_policy({"max_flagged": f"{share}%"}, Path("/nowhere")).max_flagged
    assert text == float(str(share))
    part = choose_policy({"max_flagged": float(str(share)) / 100}, Path("/nowhere")).max_flagged
    assert part == pytest.approx(text, abs=1e-9)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "[check]\nmax_flaged = 0.1\n",
            r"saefilter.toml \[check\]: 'max_flaged' is no rule. Did you mean 'max_flagged'",
        ),
        ("[check]\nmax_flagged = 5\n", "the share 5 is not between 0% and 100%"),
        ('[check]\nmax_flagged = "many"\n', "'many' is no share"),
        ("[check]\nmax_flagged = true\n", "True is no share"),
        ("[check]\nmax_flagged = nan\n", "the share nan is not between"),
        ("[check]\nmax_proximity = '3%'\n", "not a finite number"),
        ("[check]\nmax_proximity = []\n", "is no number"),
        ("[check]\nat_fpr = 0\n", "a false-positive rate is between"),
        ("[check]\nmax-flagged = '3%'\nmax_flagged = 1\n", "'max_flagged' is there twice"),
        (
            "[check]\nat_fpr = '1%'\nmax_proximity = 3\n",
            "saefilter.toml: --at-fpr has no effect without --max-flagged",
        ),
        ("check = 3\n", "'check' must be a table"),
        ("check = [\n", "saefilter.toml: not readable TOML"),
    ],
)
def test_nonsense_names_the_file(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "saefilter.toml").write_text(content)
    with pytest.raises(SaefilterError, match=message):
        choose_policy({}, tmp_path)


def test_nonsense_names_the_flag() -> None:
    with pytest.raises(SaefilterError, match="--max-flagged: 'x' is no share"):
        choose_policy({"max_flagged": "x"}, Path("/nowhere"))
