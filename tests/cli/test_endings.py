"""How commands end: a reader that leaves is no verdict, a terminal sees the verdict in colour, machines get JSON,
and what is printed as the next command runs.
"""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import chat
from scored import ROWS, write_scores
from typer.testing import CliRunner

from saefilter.cli import app, commands
from saefilter.rows.read import Source
from saefilter.text import command_line

commands()
SAEFILTER = command_line(sys.executable, "-m", "saefilter")
ODD = "my 'odd' & $data [1].jsonl"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset with made-up scores of it."""
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    source = Source.open(tmp_path / "data.jsonl")
    write_scores(source, tmp_path / "data.scores.parquet", input_sha256=source.sha256())
    return tmp_path


def bash(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, capture_output=True, text=True, timeout=200, check=False
    )


CHECK = f"{SAEFILTER} check data.jsonl --scores data.scores.parquet --max-proximity"


@pytest.mark.parametrize(
    ("command", "own_code"),
    [
        (f"{CHECK} 0.1", 1),
        (f"{CHECK} 2", 0),
        (f"{SAEFILTER} verify data.scores.parquet --input data.jsonl", None),
        (f"{SAEFILTER} features show minilm --limit 1000", 0),  # more than a pipe holds
        (f"{SAEFILTER} features show minilm --json", 0),
    ],
    ids=["fails", "passes", "verify", "show", "json"],
)
def test_a_closed_pipe_is_no_verdict(folder: Path, command: str, own_code: int | None) -> None:
    done = bash(folder, f"{command} | head -1; exit ${{PIPESTATUS[0]}}")
    assert done.returncode == 141, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") <= 1
    whole = bash(folder, f"{command} | cat; exit ${{PIPESTATUS[0]}}")
    assert whole.returncode != 141
    if own_code is not None:
        assert whole.returncode == own_code, whole.stderr


BROKEN = """
import sys
import saefilter.cli

@saefilter.cli.app.command("broken")
def broken() -> None:
    raise BrokenPipeError(32, "a worker is gone")

sys.argv = ["saefilter", "broken"]
saefilter.cli.main()
"""


def test_the_end_of_another_process_is_no_verdict_either() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BROKEN], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2  # not typer's 1
    assert "another process" in done.stderr


def test_a_terminal_sees_the_verdict_in_colour_and_wrapped(folder: Path) -> None:
    ours, theirs = pty.openpty()
    coloured = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    words = ["check", "data.jsonl", "--scores", "data.scores.parquet", "--max-proximity", "0.1"]
    done = subprocess.Popen(
        [sys.executable, "-m", "saefilter", *words], stdout=theirs, stderr=subprocess.DEVNULL,
        cwd=folder, env={**coloured, "TERM": "xterm-256color", "COLUMNS": "60"},
    )  # fmt: skip
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 65536):
            said += part
    except OSError:  # how a terminal ends
        pass
    assert done.wait(60) == 1
    text = said.decode().replace("\r\n", "\n")
    assert re.match(r"\x1b\[[0-9;]*41mFAIL\x1b\[0m  data\.jsonl", text)  # 41: on red
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert max(len(line.rstrip()) for line in plain.splitlines()) <= 60
    assert plain.rstrip().endswith("FAIL: the data fails the policy.")


def test_notes_are_said_once(folder: Path) -> None:
    """`a note` was said when the scores were made; reports keep it."""
    done = bash(folder, f"{SAEFILTER} filter --drop-frac 10%")
    assert done.returncode == 0, done.stderr
    assert "a note" not in done.stdout
    assert "a note" in (folder / "data.filtered.report.md").read_text()
    done = bash(folder, f"{SAEFILTER} compare data.scores.parquet --data data.jsonl")
    assert "a note" not in done.stdout
    assert "a note" in (folder / "compare.md").read_text()
    done = bash(folder, f"{CHECK} 2 --report check.md")
    assert "a note" not in done.stdout
    assert "a note" in (folder / "check.md").read_text()


@pytest.mark.parametrize(
    "words",
    [
        ["presets"], ["presets", "show", "minilm"], ["features", "list"],
        ["features", "show", "minilm"], ["features", "search", "minilm", "doctor"],
        ["features", "diff", "minilm", "minilm"],
        ["features", "name", "minilm", "1", "new", "-o", "named.json"],
        ["features", "merge", "minilm", "minilm", "-o", "merged.json"],
        ["tokens", "data.jsonl", "--line", "3"],
        ["check", "data.jsonl", "--scores", "data.scores.parquet", "--max-proximity", "2"],
        ["verify", "data.scores.parquet", "--input", "data.jsonl"],
        ["filter", "data.jsonl", "--drop-frac", "10%"],
        ["compare", "data.scores.parquet", "--data", "data.jsonl", "--drop-frac", "10%", "20%"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_prints_prints_json(
    folder: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, [*words, "--json"])
    json.loads(done.stdout)


def test_every_command_that_prints_takes_json() -> None:
    import typer

    def leaves(command: object) -> list[object]:
        below = getattr(command, "commands", {})
        return [command] if not below else [one for c in below.values() for one in leaves(c)]

    for command in leaves(typer.main.get_command(app)):
        flags = {flag for one in command.params for flag in one.opts}  # type: ignore[attr-defined]
        assert "--json" in flags, command.name  # type: ignore[attr-defined]


def test_a_row_is_found_by_its_line(folder: Path) -> None:
    (folder / "gaps.jsonl").write_text("\n\n" + json.dumps(chat("q", "third line")) + "\n")
    by_line = bash(folder, f"{SAEFILTER} tokens gaps.jsonl --line 3")
    assert by_line.returncode == 0, by_line.stderr
    assert by_line.stdout == bash(folder, f"{SAEFILTER} tokens gaps.jsonl --row 0").stdout
    assert (
        "there is no row on line 1"
        in bash(folder, f"{SAEFILTER} tokens gaps.jsonl --line 1").stderr
    )
    both = bash(folder, f"{SAEFILTER} tokens gaps.jsonl --line 3 --row 0")
    assert "--row and --line exclude each other" in both.stderr


def test_what_follows_a_line_is_not_read(folder: Path) -> None:
    rows = [json.dumps(chat("q", os.urandom(500).hex())) for _ in range(2000)]
    packed = gzip.compress("\n".join([json.dumps(chat("q", "first")), *rows]).encode())
    (folder / "cut.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    shown = bash(folder, f"{SAEFILTER} tokens cut.jsonl.gz --line 1")
    assert shown.returncode == 0, shown.stderr
    assert "[first]" in shown.stdout


def next_command(said: str) -> str:
    line = next(line for line in said.splitlines() if line.startswith("Next: "))
    return line.removeprefix("Next: saefilter ")


@pytest.mark.parametrize(
    ("name", "options", "project"),
    [
        ("data.jsonl", "", ""),
        (ODD, "-o 'odd scores.parquet'", ""),
        ("-dash.jsonl", "--pool max", 'pool = "mean"\n'),
    ],
    ids=["plain", "odd", "project"],
)
def test_the_next_command_runs_as_it_is_printed(
    tmp_path: Path, name: str, options: str, project: str
) -> None:
    rows = [chat(f"Question {i}?", f"Answer {i} is short.") for i in range(20)]
    (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "saefilter.toml").write_text(project)
    scored = bash(tmp_path, f"{SAEFILTER} score {options} -- {command_line(name)}")
    assert scored.returncode == 0, scored.stderr
    typed = next_command(scored.stdout)
    assert "--drop-frac 10%" in typed
    filtered = bash(tmp_path, f"{SAEFILTER} {typed}")
    assert filtered.returncode == 0, (typed, filtered.stderr)
    assert "18 kept + 2 dropped" in filtered.stdout
    assert "scoring" not in filtered.stderr  # by the scores that are there


@pytest.mark.parametrize(
    "name", [ODD, "tab\there.jsonl", "new\nline'.jsonl", "bell\x07\x1b[31m", "ö"]
)
def test_a_shell_reads_what_was_quoted(name: str) -> None:
    typed = command_line("printf", "%s", name)
    assert not re.search("[\x00-\x1f]", typed)
    assert subprocess.run(["bash", "-c", typed], capture_output=True, check=True).stdout == (
        name.encode()
    )
