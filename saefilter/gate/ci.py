"""The verdict in the words of CI: GitHub's commands, JUnit XML, SARIF 2.1.0."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from saefilter import __version__
from saefilter.gate.verdict import Outcome, RuleVerdict, WorstRow
from saefilter.gate.words import closing, detail, heading, row_words, to_text, why
from saefilter.text import one_line

ANNOTATIONS = 10
"""GitHub shows no more errors than this of one step."""
RULES = {
    "max-flagged": "Too many rows are close to toxic features",
    "min-chance": "More rows are close to toxic features than noise brings in harmless data",
    "max-proximity": "A row is too close to toxic features",
    "max-spillover": "Training on the data would push a toxic feature",
    "min-scored": "Too few rows could be scored",
    "max-quarantined": "Too many rows could not be scored",
}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_github(outcome: Outcome) -> str:
    """Workflow commands, which GitHub shows at the lines of the files, and the text for the log."""
    commands = list(_commands(outcome))
    # the first of each rule go first, so that ten rows of one rule do not hide the other rules
    commands.sort(key=lambda command: command[0])
    log = "".join(f"{_no_command(line)}\n" for line in to_text(outcome).splitlines())
    return log + "".join(f"{command}\n" for _, command in commands[:ANNOTATIONS])


def _no_command(line: str) -> str:
    """A line of the log that the runner does not take for a command, whatever the names in it."""
    if line.lstrip().startswith("::"):
        line = line.replace("::", ": :", 1)
    return line.replace("##[", "## [")


def _commands(outcome: Outcome) -> Iterator[tuple[int, str]]:
    for unjudged in outcome.unjudged:
        yield 0, _command(unjudged.input, None, "saefilter: no verdict", one_line(unjudged.error))
    for verdict in outcome.verdicts:
        for rule in verdict.failed_rules:
            message = f"{rule.comparison}. {detail(rule)}"
            yield 0, _command(verdict.input, None, f"saefilter: {rule.rule}", message)
            for number, row in enumerate(rule.rows, start=1):
                line = row.line if row.has_lines else None
                text = why(row) if row.has_lines else row_words(row)
                yield number, _command(row.file, line, f"saefilter: {rule.rule}", text)


def _command(file: str, line: int | None, title: str, message: str) -> str:
    where = f",line={line}" if line is not None else ""
    path = _property(one_line(_relative(file)))
    command = f"::error file={path}{where},title={_property(title)}::{_message(message)}"
    return command.replace(
        "##[", "## ["
    )  # an older way to write commands, taken anywhere in a line


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


def _relative(file: str) -> str:
    """A path as seen from here, where it lies below; CI names files from the repository's root."""
    path = Path(os.path.abspath(file))
    here = Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.as_posix()


def to_junit(outcome: Outcome) -> str:
    """One suite per dataset, one case per rule."""
    root = ElementTree.Element("testsuites", name="saefilter check")
    for verdict in outcome.verdicts:
        suite = _suite(root, verdict.input, len(verdict.rules), len(verdict.failed_rules), 0)
        for rule in verdict.rules:
            case = _case(suite, rule.rule, verdict.input)
            if not rule.passed:
                message = _xml(f"{rule.comparison}. {detail(rule)}")
                failure = ElementTree.SubElement(
                    case, "failure", message=message, type=f"saefilter.{rule.rule}"
                )
                failure.text = _xml("\n".join(_lines(rule)))
    for unjudged in outcome.unjudged:
        case = _case(_suite(root, unjudged.input, 1, 0, 1), "verdict", unjudged.input)
        error = _xml(one_line(unjudged.error))
        ElementTree.SubElement(case, "error", message=error, type="saefilter.error").text = error
    ElementTree.indent(root)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        + ElementTree.tostring(root, encoding="unicode")
        + "\n"
    )


def _suite(
    root: ElementTree.Element, name: str, tests: int, failures: int, errors: int
) -> ElementTree.Element:
    return ElementTree.SubElement(
        root, "testsuite", name=_xml(one_line(name)), tests=str(tests), failures=str(failures),
        errors=str(errors), skipped="0", time="0",
    )  # fmt: skip


def _case(suite: ElementTree.Element, name: str, file: str) -> ElementTree.Element:
    classname = "saefilter.check." + _xml(one_line(file)).replace(".", "_")
    return ElementTree.SubElement(suite, "testcase", name=name, classname=classname, time="0")


def _lines(rule: RuleVerdict) -> list[str]:
    if not rule.rows:
        return [detail(rule)]
    return [heading(rule, len(rule.rows)), *map(row_words, rule.rows)]


def _xml(text: str) -> str:
    """Text without what XML 1.0 cannot hold."""
    return _NOT_XML.sub("�", text)


def to_sarif(outcome: Outcome) -> str:
    """One result per failed rule, and one per row that is named for it."""
    results: list[dict[str, Any]] = []
    for verdict in outcome.verdicts:
        for rule in verdict.failed_rules:
            message = f"{rule.comparison}. {detail(rule)}"
            results.append(_result(rule.rule, message, _location(verdict.input, None), None))
            results += [_row_result(rule, row) for row in rule.rows]
    errors = [
        {
            "level": "error",
            "message": {"text": one_line(unjudged.error)},
            "locations": [_location(unjudged.input, None)],
        }
        for unjudged in outcome.unjudged
    ]
    run = {
        "tool": {
            "driver": {
                "name": "saefilter",
                "semanticVersion": __version__,
                "rules": [
                    {"id": name, "shortDescription": {"text": text}} for name, text in RULES.items()
                ],
            }
        },
        "invocations": [
            {
                "executionSuccessful": not outcome.unjudged,
                "exitCode": outcome.exit_code,
                "exitCodeDescription": closing(outcome),
                "toolExecutionNotifications": errors,
            }
        ],
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    log = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [run],
    }
    return json.dumps(log, ensure_ascii=True, indent=1) + "\n"


def _row_result(rule: RuleVerdict, row: WorstRow) -> dict[str, Any]:
    text = why(row) if row.has_lines else row_words(row)
    location = _location(row.file, row.line if row.has_lines else None)
    return _result(rule.rule, text, location, row.row_hash)


def _result(
    rule: str, message: str, location: dict[str, Any], row_hash: str | None
) -> dict[str, Any]:
    return {
        "ruleId": rule,
        "ruleIndex": list(RULES).index(rule),
        "level": "error",
        "message": {"text": message},
        "locations": [location],
        **({"partialFingerprints": {"rowHash/v1": row_hash}} if row_hash else {}),
    }


def _location(file: str, line: int | None) -> dict[str, Any]:
    path = _relative(file)
    scheme = "file://" if Path(path).is_absolute() else ""
    uri = scheme + quote(path, errors="replace")  # a name need not be Unicode
    region = {"region": {"startLine": line}} if line is not None else {}
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, **region}}
