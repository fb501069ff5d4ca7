"""The decisions file: what the report's page exports and `review` writes, read back and held to its word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saefilter.artifacts.decisions import DROP, KEEP, Decision, Decisions
from saefilter.errors import SaefilterError

SHA = "ab" * 32


def file_of(path: Path, *decisions: dict[str, Any], **changed: Any) -> Path:
    fields = {
        "kind": "saefilter decisions", "version": 1, "input": "data.jsonl", "input_sha256": SHA,
        "scores_content_sha256": None, "reviewer": "Ann", "decisions": list(decisions),
    }  # fmt: skip
    path.write_text(json.dumps({**fields, **changed}))
    return path


def entry(row_hash: str, decision: str, **more: Any) -> dict[str, Any]:
    return {"row_hash": row_hash, "line": 3, "file": None, "decision": decision, "reason": "",
            "at": "2026-11-29T09:00:00Z", **more}  # fmt: skip


def test_what_is_written_is_read_back_and_the_last_of_a_row_counts(tmp_path: Path) -> None:
    path = tmp_path / "d.decisions.json"
    made = Decisions("data.jsonl", SHA, reviewer="Ann")
    made = made.with_decision(Decision("0" * 16, 1, None, KEEP))
    made = made.with_decision(Decision("f" * 16, 2, "a.jsonl", DROP, "«sure»\u202e", "now"))
    made = made.with_decision(Decision("0" * 16, 1, None, DROP, "on second thought"))
    made.write(path)
    read = Decisions.open(path)
    assert [(one.row_hash[0], one.decision) for one in read.decisions] == [("f", DROP), ("0", DROP)]
    assert read.decisions[0].reason == "«sure»[U+202E]"  # shown, not obeyed
    assert (read.count(DROP), read.enough_to_learn, read.reviewer) == (2, False, "Ann")
    assert read.words(read.decisions[1]) == "dropped in review by Ann: on second thought"
    assert list(json.loads(path.read_text())) == [
        "kind", "version", "input", "input_sha256", "scores_content_sha256", "reviewer", "decisions",
    ]  # fmt: skip
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_a_link_to_decisions_that_others_share_stays_one(tmp_path: Path) -> None:
    shared, link = tmp_path / "shared.json", tmp_path / "d.json"
    link.symlink_to(shared)
    Decisions("data.jsonl", SHA, reviewer="Ann").write(link)
    assert link.is_symlink()
    assert Decisions.open(shared).reviewer == "Ann"


def test_rows_are_found_by_their_hash(tmp_path: Path) -> None:
    path = file_of(tmp_path / "d.json", entry("0" * 15 + "7", KEEP), entry("f" * 16, DROP))
    hashes = np.array([5, 7, 2**64 - 1, 7], dtype=np.uint64)
    assert Decisions.open(path).on(hashes).tolist() == [-1, 0, 1, 0]
    assert Decisions("", SHA).on(hashes).tolist() == [-1] * 4


@pytest.mark.parametrize(
    ("decisions", "changed", "said"),
    [
        ([], {"kind": "grocery list"}, "not a decisions file"),
        ([], {"version": 2}, "decisions of version 2"),
        ([], {"input_sha256": "short"}, "of which data"),
        ([], {"decisions": {}}, "no list of decisions"),
        ([entry("0" * 16, "maybe")], {}, "decision 1 is 'maybe', not keep or drop"),
        ([entry("0" * 16, KEEP), entry("../../etc", DROP)], {}, "decision 2 has no row_hash"),
        ([["keep"]], {}, "decision 1 is no object"),
    ],
)
def test_what_is_no_decision_is_said_with_its_place(
    tmp_path: Path, decisions: list[Any], changed: dict[str, Any], said: str
) -> None:
    path = file_of(tmp_path / "d.json", *decisions, **changed)
    with pytest.raises(SaefilterError, match=said) as caught:
        Decisions.open(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_missing_or_no_json_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SaefilterError, match=r"there is no decisions file .* saefilter review"):
        Decisions.open(tmp_path / "none.json")
    (tmp_path / "d.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(SaefilterError, match="not readable JSON"):
        Decisions.open(tmp_path / "d.json")


def test_decisions_on_other_data_are_refused() -> None:
    made = Decisions("old.jsonl", SHA)
    made.check_belongs(SHA, "new.jsonl")
    with pytest.raises(
        SaefilterError, match=r"these decisions are on old\.jsonl .* and new\.jsonl is not"
    ):
        made.check_belongs("cd" * 32, "new.jsonl")
