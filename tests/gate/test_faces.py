"""What the verdict looks like: each format read back by a program that is not ours."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import junitparser
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sarif_pydantic import Sarif

from saefilter.gate import ci, words
from saefilter.gate.verdict import Outcome, RuleVerdict, Unjudged, Verdict, WorstRow

HOSTILE = "\x1b[31m<script>|`*\n::error::x\r\n##[add-mask]y\u202e]]>&%0A,:\x00\ud800"


def outcome_of(text: str, rows: int = 30, file: str = "data/train.jsonl") -> Outcome:
    """Two failed rules with many rows, a passed one and an input without a verdict."""
    worst = tuple(
        WorstRow(i, f"{i:016x}", file, i + 1, True, 0.9, 99.5, (text, "b")) for i in range(rows)
    )
    odd = (WorstRow(0, "0" * 16, file, 3, False, None, None, (), text),)
    rules = (
        RuleVerdict("max-flagged", 12.5, 10.0, "%", False, f"many {text}", rows, worst),
        RuleVerdict("max-quarantined", 9.0, 5.0, "%", False, "not scored", 1, odd),
        RuleVerdict("min-scored", 91.0, 90.0, "%", True, "scored", 0, ()),
    )
    verdict = Verdict(file, 100, 91, 9, "minilm", "m", text, "contrast", text, rules, (text,))
    return Outcome([verdict], [Unjudged(f"x{text}.jsonl", f"there is no file {text}")])


def steers(text: str) -> bool:
    """Whether a terminal would be steered, or a reader misled, by characters in it."""
    return any(ord(c) < 32 and c not in "\n\t" for c in text) or "\u202e" in text or "\x7f" in text


def test_exit_codes() -> None:
    outcome = outcome_of("x")
    assert outcome.exit_code == 2
    assert Outcome(outcome.verdicts).exit_code == 1
    passed = replace(outcome.verdicts[0], rules=outcome.verdicts[0].rules[2:])
    assert Outcome([passed]).exit_code == 0
    assert Outcome([passed], outcome.unjudged).exit_code == 2


def test_text_names_rules_values_and_rows_and_steers_no_terminal() -> None:
    text = words.to_text(outcome_of(HOSTILE))
    assert "FAIL  data/train.jsonl" in text
    assert "FAIL  max-flagged      12.5% > 10%" in text
    assert "pass  min-scored       91% >= 90%" in text
    assert "The worst 10 of 30 rows:" in text
    assert "data/train.jsonl:10  closer than 99.5%" in text
    assert "data/train.jsonl row 3" in text
    assert "NO VERDICT on 1 of 2, 1 failed." in text
    assert not steers(text)


def test_a_row_is_named_with_its_themes_and_the_example_it_is_like() -> None:
    row = WorstRow(
        0, "0" * 16, "a.jsonl", 3, True, 0.9, 99.5, ("it, something",),
        themes=(f"plays down a danger: cosy, {HOSTILE}", "money"), closest=f"Nice and warm. {HOSTILE}",
    )  # fmt: skip
    said = words.why(row)
    assert said.startswith(
        "closer than 99.5% of harmless reference samples (plays down a danger: co"
    )
    assert "; money), like “Nice and warm. " in said
    assert "it, something" not in said
    assert not steers(said)
    assert "(many weak signs), like “Nice" in words.why(replace(row, themes=()))
    assert "(it, something)" in words.why(replace(row, closest=None))


def test_github_commands_are_within_its_limits_and_cannot_be_injected() -> None:
    text = ci.to_github(outcome_of(HOSTILE))
    commands = [line for line in text.splitlines() if line.lstrip().startswith("::")]
    assert len(commands) == 10
    assert all(line.startswith("::error file=") for line in commands)
    assert commands[0].startswith("::error file=x")
    assert [",title=saefilter%3A max-flagged::12.5%25 > 10%25" in c for c in commands].count(True)
    # each rule and the first row of each come before the tenth row of one
    assert sum("max-quarantined" in command for command in commands) == 2
    assert "line=1,title" in "".join(commands)
    assert "##[" not in text
    assert not steers(text)
    for command in commands:
        properties = command[len("::error ") :].split("::")[0]
        assert set(properties.split(",")[0]) & {":", "\n"} == set()


@given(name=st.text(min_size=1), label=st.text())
def test_nothing_in_names_becomes_a_command(name: str, label: str) -> None:
    commands = [
        line
        for line in ci.to_github(outcome_of(label, 2, name)).split("\n")
        if line.lstrip().startswith("::") or "##[" in line
    ]
    assert all(line.startswith("::error file=") for line in commands)
    assert len(commands) <= 10


def test_junit_is_read_by_a_reader() -> None:
    suites = junitparser.JUnitXml.fromstring(ci.to_junit(outcome_of(HOSTILE)).encode())
    first, second = list(suites)
    assert (first.tests, first.failures, first.errors) == (3, 2, 0)
    assert (second.tests, second.failures, second.errors) == (1, 0, 1)
    cases = {case.name: case for case in first}
    assert "12.5% > 10%" in cases["max-flagged"].result[0].message
    assert "data/train.jsonl:30" in cases["max-flagged"].result[0].text
    assert cases["min-scored"].is_passed


@given(st.text())
def test_junit_is_xml_whatever_the_texts(text: str) -> None:
    root = ElementTree.fromstring(ci.to_junit(outcome_of(text, 1, text or "x")).encode())
    assert root.tag == "testsuites"


def test_sarif_is_read_by_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = json.loads(ci.to_sarif(outcome_of(HOSTILE, file="data/a b,é.jsonl")))
    read = Sarif.model_validate(log)
    run = read.runs[0]
    assert run.tool.driver.name == "saefilter"
    assert run.results is not None
    assert len(run.results) == 2 + 30 + 1
    places = [r["locations"][0]["physicalLocation"] for r in log["runs"][0]["results"]]
    assert places[1] == {
        "artifactLocation": {"uri": "data/a%20b%2C%C3%A9.jsonl"}, "region": {"startLine": 1},
    }  # fmt: skip
    assert "region" not in places[-1]
    assert log["runs"][0]["results"][1]["partialFingerprints"] == {"rowHash/v1": "0" * 16}
    assert log["runs"][0]["invocations"][0]["executionSuccessful"] is False


@pytest.mark.skipif("SARIF_SCHEMA" not in os.environ, reason="the official schemas are not here")
def test_official_schemas(tmp_path: Path) -> None:
    """With SARIF_SCHEMA (OASIS's sarif-schema-2.1.0.json) and JUNIT_XSD (Jenkins's junit-10.xsd) naming
    downloaded files, and jsonschema and xmlschema installed."""
    jsonschema = pytest.importorskip("jsonschema")
    xmlschema = pytest.importorskip("xmlschema")
    schema = json.loads(Path(os.environ["SARIF_SCHEMA"]).read_text())
    for outcome in (outcome_of(HOSTILE), outcome_of("x", 0), Outcome()):
        jsonschema.validate(
            json.loads(ci.to_sarif(outcome)), schema, cls=jsonschema.Draft4Validator
        )
        (tmp_path / "o.xml").write_text(ci.to_junit(outcome), encoding="utf-8")
        xmlschema.XMLSchema(os.environ["JUNIT_XSD"]).validate(str(tmp_path / "o.xml"))


def test_markdown_is_plain_and_short_enough() -> None:
    text = words.to_markdown(outcome_of(HOSTILE))
    assert "<script>" not in re.sub(r"(`+)[^`].*?\1", "", text)  # code is shown as it is
    assert not steers(text)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 5
    assert all(line.replace("\\|", "").count("|") == 5 for line in table)
    long = words.to_markdown(outcome_of("ä" * 50, rows=40_000))
    assert 900_000 < len(long.encode()) <= 1_000_000
    assert long.endswith(words.CUT)


def test_json_has_everything(jsonl: Callable[..., Path]) -> None:
    fields = json.loads(words.to_json(outcome_of("x")))
    assert (fields["passed"], fields["exit_code"]) == (False, 2)
    rule = fields["verdicts"][0]["rules"][0]
    assert (rule["measured"], rule["limit"], rule["passed"]) == (12.5, 10.0, False)
    assert rule["rows"][0]["line"] == 1
