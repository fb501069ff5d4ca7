"""Nothing that came from data, names or models steers a terminal."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from example import HOSTILE, example_report, hostile_report
from rich.table import Table
from rich.text import Text
from scored import ROWS, write_scores

from saefilter.filtering.job import FilterResult
from saefilter.filtering.outputs import OutputPaths
from saefilter.report.console import SafeConsole, print_score_summary
from saefilter.report.console_filter import print_filter_result
from saefilter.rows.read import Source
from saefilter.scoring.summary import summarise
from saefilter.text import json_safe, one_line

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\u202eevil\u2066[red]bold[/red] :smile:\nsaefilter: fine"
STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def shown(*things: object) -> str:
    file = io.StringIO()
    console = SafeConsole(file=file, width=200)
    for thing in things:
        console.print(thing)
    return file.getvalue()


def test_no_control_character_gets_through_a_console() -> None:
    table = Table(title=EVIL)
    table.add_column(EVIL)
    table.add_row(EVIL)
    for thing in (EVIL, Text(EVIL), Text.assemble(("a", "bold"), EVIL), table):
        text = shown(thing)
        assert not STEERS.search(text)
        assert "[red]bold[/red] :smile:" in text


def test_colours_still_work() -> None:
    file = io.StringIO()
    SafeConsole(file=file, force_terminal=True, no_color=False, color_system="standard").print(
        Text("red", style="red")
    )
    assert "\x1b[31mred" in file.getvalue()


def test_a_hostile_report_on_a_terminal() -> None:
    paths = OutputPaths.beside(Path(f"{EVIL.replace('/', '-')}.parquet"))
    file = io.StringIO()
    print_filter_result(SafeConsole(file=file, width=150), FilterResult(paths, hostile_report()))
    assert not STEERS.search(file.getvalue())


def test_the_console_says_what_scores_are_made_of_where_it_is_known() -> None:
    for report, said in ((example_report(), True), (hostile_report(), False)):
        file = io.StringIO()
        paths = OutputPaths.beside(Path("data.parquet"))
        print_filter_result(SafeConsole(file=file, width=200), FilterResult(paths, report))
        assert ("99.3% of what adds to the scores is of the toxic set's" in file.getvalue()) is said


def test_json_for_machines_is_the_same_and_steers_nothing() -> None:
    value = {"a\x9b": EVIL, "b": HOSTILE + "\u2028\ud800x\udfff\ufeff"}
    text = json_safe(json.dumps(value, ensure_ascii=False))
    assert not STEERS.search(text)
    assert "\u2028" not in text
    assert json.loads(text) == value
    text.encode()
    assert not STEERS.search(hostile_report().to_json())


def test_errors_are_one_line() -> None:
    assert one_line(EVIL) == (
        "]0;owned[2J31m [U+202E]evil[U+2066][red]bold[/red] :smile: saefilter: fine"
    )


@pytest.mark.parametrize("suffix", [".jsonl", ".txt"])
def test_a_files_name_reaches_the_terminal_without_its_escapes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"\x1b]0;owned\x07\nsaefilter: all is well\x9b2J{suffix}"
    path.write_text("{}\n")
    found = subprocess.run(
        [sys.executable, "-m", "saefilter", "tokens", str(path)], capture_output=True, cwd=tmp_path
    )
    said = found.stderr.decode()
    assert found.returncode == 2
    assert not STEERS.search(said)
    assert len(said.splitlines()) <= 2  # the preset, and the error


def test_the_summary_counts_rows_beyond_reference_rows(tmp_path: Path) -> None:
    """One of 40 rows is closer than the second closest of 50; the 99 % mark they cannot tell."""
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    source = Source.open(tmp_path / "data.jsonl")
    file = io.StringIO()
    summary = summarise(source, write_scores(source, tmp_path / "s.parquet"))
    print_score_summary(SafeConsole(file=file, width=200), summary)
    assert (
        "Closer than 95% of 50 harmless reference samples: 2.5% of the rows (3.9% of "
        "harmless ones would be)\n"
    ) in file.getvalue()


def test_a_share_of_few_rows_is_not_said_to_be_too_far_away() -> None:
    """10 % of one row: `none was close enough` sent its reader to look for a distance."""
    report = example_report()
    asked = {**report.selection, "drop_frac": 0.1, "threshold": None, "strategy": "closest"}
    nothing = replace(report, selection=asked, counts={**report.counts, "dropped": 0})
    paths = OutputPaths.beside(Path("data.parquet"))
    file = io.StringIO()
    print_filter_result(SafeConsole(file=file, width=200), FilterResult(paths, nothing))
    assert "(10% of them is less than one row)" in file.getvalue()


def test_the_summary_names_themes_and_the_closest_example(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    source = Source.open(tmp_path / "data.jsonl")
    summary = summarise(source, write_scores(source, tmp_path / "s.parquet"))
    theme = {"theme": EVIL, "share": 0.4, "usual": 0.1, "words": ["cosy", EVIL]}
    like = {"text": f"Nice and warm. {EVIL}", "prompt": "Coal?", "theme": "x", "cosine": 0.4}
    with_themes = {**summary.closest[0], "themes": [theme], "closest": like}
    none_stands_out = {**summary.closest[1], "themes": [], "closest": like}
    file = io.StringIO()
    print_score_summary(
        SafeConsole(file=file, width=200),
        replace(summary, closest=[with_themes, none_stands_out, summary.closest[2]]),
    )
    said = file.getvalue()
    assert not STEERS.search(said)
    assert "40% of its toxic signs (10% in harmless rows): cosy" in said
    assert said.count("closest to: Coal? → Nice and warm.") == 2
    assert said.count("No theme stands out.") == 1
    assert said.count("risk (feature 3)") == 1  # the row of scores without themes
