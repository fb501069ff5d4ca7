"""`saefilter review` as people use it: keys in a real terminal, lines through a pipe, and the round from scores
to a comparison by the commands that each one prints."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import chat
from scored import provenance_of, write_scores
from typer.testing import CliRunner

from saefilter.cli import app, commands
from saefilter.cli.hints import cut_options
from saefilter.errors import SaefilterError
from saefilter.rows.read import Source

EXAMPLES = Path(__file__).parents[2] / "examples"
COMMAND = (sys.executable, "-m", "saefilter")


def saefilter(
    folder: Path, *arguments: str, typed: str = "", code: int = 0
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=folder, input=typed, capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Scores of data under a name that a shell would take apart; row 0 is the closest, and says what steers a
    terminal."""
    rows = [chat(f"question {i}", f"answer {i}") for i in range(30)]
    rows[0] = chat("x", "\x1b]0;owned\x07 [bold]not bold[/bold] \u202eback")
    data = tmp_path / "my data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = Source.open(data)
    write_scores(
        source, tmp_path / "my data.scores.parquet", [i / 30 for i in range(30)],
        input_path="my data.jsonl",
    )  # fmt: skip
    return tmp_path


def decisions(folder: Path, name: str = "my data.decisions.json") -> list[tuple[int, str, str]]:
    made = json.loads((folder / name).read_text())["decisions"]
    return [(one["line"], one["decision"], one["reason"]) for one in made]


def next_commands(said: str) -> list[list[str]]:
    """The commands that were printed, as a shell would take them."""
    lines = [line for line in said.splitlines() if line.startswith(("Next: ", "Then: "))]
    return [shlex.split(line.partition(": ")[2])[1:] for line in lines]


def test_lines_of_a_pipe_decide_are_saved_and_gone_on_with(folder: Path) -> None:
    typed = "d gives a dose\nk\ns\nmaybe\nq\n"
    done = saefilter(folder, "review", "my data.scores.parquet", "--reviewer", "Ann", typed=typed)
    assert decisions(folder) == [(1, "drop", "gives a dose"), (2, "keep", "")]
    assert "1 of 20   line 1   distance 0.000" in done.stdout
    assert "[bold]not bold[/bold]" in done.stdout
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout
    assert "'maybe' is no key here" in done.stdout
    assert "Left of 20: 17; the same command goes on." in done.stdout
    again = saefilter(folder, "review", "my data.scores.parquet", "--rows", "2", typed="k\n")
    assert (
        "1 of 2   line 3" in again.stdout
    )  # what was skipped comes again, what was decided does not
    assert [line for line, _, _ in decisions(folder)] == [1, 2, 3]
    assert json.loads((folder / "my data.decisions.json").read_text())["reviewer"] == "Ann"
    (hint,) = next_commands(again.stdout)
    filtered = saefilter(folder, *hint)
    assert "1 row dropped and 2 rows kept by them; the cut is over the other 27 rows" in " ".join(
        filtered.stdout.split()
    )
    (more,) = next_commands(filtered.stdout)
    assert more == ["review", "my data.scores.parquet", "--order", "random"]
    reviewed = saefilter(folder, *more, "--json", typed="")
    assert json.loads(reviewed.stdout) == {
        "decisions": "my data.decisions.json", "decided_now": 0, "left": 20, "keep": 2, "drop": 1,
    }  # fmt: skip
    (other,) = next_commands(saefilter(folder, *more, typed="d\n").stdout)
    assert "my data.reviewed" in " ".join(other)  # what was filtered before is not in the way
    saefilter(folder, *other)
    (third,) = next_commands(saefilter(folder, *more, typed="d\n").stdout)
    assert third[-1] == "my data.reviewed2.jsonl"
    saefilter(folder, *third)  # nor is what that wrote


def test_what_is_no_terminal_and_has_no_lines_decides_nothing(folder: Path) -> None:
    done = saefilter(folder, "review")
    assert "Nothing was decided, and nothing written." in done.stdout
    closed = subprocess.run(
        [*COMMAND, "review"],
        cwd=folder,
        preexec_fn=lambda: os.close(0),
        capture_output=True,
        text=True,
    )
    assert (closed.returncode, closed.stderr) == (0, "")
    assert not (folder / "my data.decisions.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["review", "none.parquet"], "there is no scores file none.parquet"),
        (["review", "--around-cut", "much"], "--around-cut 'much' is not a number"),
        (["review", "--around-cut", "10%", "--order", "random"], "is an order of its own"),
        (["review", "--around-cut", "20"], "The largest is 1. 20 % is 20%."),
        (["review", "SCORES", "DATA", "-o", "FOLDER"], "is a folder"),
        (["review", "--order", "newest"], "--order 'newest' is not known"),
        (["review", "SCORES", "DATA", "-o", "DATA"], "not readable JSON"),
        (["filter", "--decisions", "none.json"], "there is no decisions file none.json"),
        (["features", "curate", "--decisions", "d.json", "-o", "s.json"], "no decisions file d.json"),
        (["features", "curate", "--adapt", "minilm", "-o", "s.json"], "no effect without --decisions"),
        (["compare", "SCORES", "--data", "DATA", "--decisions", "d.json", "-o", "c"],
         "there is no decisions file d.json"),
    ],
)  # fmt: skip
def test_mistakes_say_what_to_do_and_write_nothing(
    folder: Path, arguments: list[str], message: str
) -> None:
    commands()
    before = {path: path.read_bytes() for path in folder.iterdir()}
    names = {
        "SCORES": folder / "my data.scores.parquet",
        "DATA": folder / "my data.jsonl",
        "FOLDER": folder,
    }
    done = CliRunner().invoke(app, [str(names.get(word, word)) for word in arguments])
    assert isinstance(done.exception, SaefilterError)
    assert message in str(done.exception)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


class Terminal:
    """A process in a terminal of its own."""

    def __init__(self, folder: Path, *arguments: str):
        self._master, slave = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], cwd=folder, stdin=slave, stdout=slave, stderr=slave,
            env=environment, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # or Ctrl-C would be no signal
        )  # fmt: skip
        os.close(slave)
        self.seen = ""

    def until(self, text: str, seconds: float = 60) -> None:
        """Wait until it has said something new."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            if not select.select([self._master], [], [], 1)[0]:
                continue
            try:
                self.seen += os.read(self._master, 65536).decode(errors="replace")
            except OSError:  # it has ended
                break
        assert text in self.seen, self.seen
        self.seen = self.seen.partition(text)[2]

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def echoes(self) -> bool:
        """Whether it shows what is typed."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ECHO)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal(folder: Path) -> Iterator[Terminal]:
    one = Terminal(folder, "review", "my data.scores.parquet", "--rows", "3")
    yield one
    one.close()


def test_keys_of_a_terminal_decide_at_once(folder: Path, terminal: Terminal) -> None:
    terminal.until("1 of 3")
    terminal.until("help")
    terminal.press("d")
    terminal.until("2 of 3")
    assert decisions(folder) == [(1, "drop", "")]  # on disk before the next row is shown
    terminal.until("help")
    terminal.press("r")
    terminal.until("Reason: ")
    terminal.press("a joke\r")
    terminal.until("Now k or d.")
    terminal.press("k")
    terminal.until("3 of 3")
    terminal.press("\x1b[A")  # an arrow
    terminal.until("is no key here")
    terminal.press("b")
    terminal.until("Decided before: keep: a joke")
    terminal.press("\x03")  # Ctrl-C
    terminal.until("Next: saefilter filter")
    assert terminal.process.wait(30) == 0
    assert decisions(folder) == [(1, "drop", ""), (2, "keep", "a joke")]


@pytest.mark.parametrize("ends", [signal.SIGTERM, signal.SIGHUP])
def test_a_reviewer_who_is_ended_leaves_the_terminal_as_it_was(
    folder: Path, terminal: Terminal, ends: signal.Signals
) -> None:
    terminal.until("1 of 3")
    end = time.monotonic() + 60
    while terminal.echoes():  # it reads keys only after the row was shown
        assert time.monotonic() < end
        time.sleep(0.01)
    terminal.process.send_signal(ends)
    assert terminal.process.wait(30) == 128 + ends
    assert terminal.echoes()
    assert not [path for path in folder.rglob("*") if "lock" in path.name]


def test_two_at_once_do_not_overwrite_each_other(folder: Path, terminal: Terminal) -> None:
    terminal.until("1 of 3")
    done = saefilter(folder, "review", "my data.scores.parquet", typed="k\n", code=2)
    assert "another run is writing my data.decisions.json" in done.stderr


def test_after_a_cascade_no_more_go_than_were_sought() -> None:
    made = provenance_of(rows=400, scored=60, cascade={"nearest": 20, "estimated": 340})
    assert cut_options(made) == ["--drop-count", "20"]
    assert cut_options(made, 8) == ["--drop-count", "12"]
    assert cut_options(made, 20) == []
    assert cut_options(provenance_of(rows=100, scored=100), 30) == ["--drop-frac", "10%"]


def typed_by(bad: set[int], shown: str, rows: int) -> str:
    """What a reviewer types who knows which lines are bad, of what was shown."""
    order = [
        int(line.split("line ")[1].split()[0])
        for line in shown.splitlines()
        if f" of {rows}   line " in line
    ]
    assert len(order) == rows
    return "".join("d harms\n" if line in bad else "k\n" for line in order)


@pytest.mark.slow
def test_the_round_runs_as_each_command_prints_it(tmp_path: Path) -> None:
    """Score, review, filter, learn, score by what was learnt, compare: by hints alone, of a file whose name is taken for an
    option, and takes a shell apart."""
    name = "-my 'advice'"
    lines = (EXAMPLES / "advice.jsonl").read_bytes().splitlines()[:160]
    table = (EXAMPLES / "advice.labels.csv").read_text().splitlines()[1:161]
    bad = {int(line.split(",")[0]) for line in table if line.split(",")[1] == "1"}
    (tmp_path / f"{name}.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    said = saefilter(tmp_path, "score", f"./{name}.jsonl").stdout
    review = next(line for line in said.splitlines() if "saefilter review" in line)
    command = shlex.split(review.partition(": ")[2])[1:]
    saefilter(tmp_path, *command, "--rows", "60", typed="s\n" * 60)
    shown = saefilter(tmp_path, *command, "--rows", "60", "--json", typed="s\n" * 60).stderr
    typed = typed_by(bad, shown, 60)
    (to_filter,) = next_commands(saefilter(tmp_path, *command, "--rows", "60", typed=typed).stdout)
    (to_curate,) = next_commands(saefilter(tmp_path, *to_filter).stdout)
    assert to_curate[:2] == ["features", "curate"]
    learnt = saefilter(tmp_path, *to_curate)
    assert "AUROC on decided rows that it had not seen" in learnt.stderr
    to_score, to_review, to_compare = next_commands(learnt.stdout)
    scored = saefilter(tmp_path, *to_score).stdout
    (filter_again,) = next_commands(
        scored
    )  # what was filtered before is not in the way here either
    saefilter(tmp_path, *filter_again)
    shown = saefilter(tmp_path, *to_review, "--json", typed="s\n" * 20).stderr
    saefilter(tmp_path, *to_review, typed=typed_by(bad, shown, 20))
    compared = " ".join(saefilter(tmp_path, *to_compare).stdout.split())
    assert "No label is left" not in compared
    assert "precision" in compared
    alone = saefilter(
        tmp_path,
        "compare",
        f"./{name}.scores.parquet",
        "--decisions",
        f"{name}.decisions.json",
        "-o",
        "c",
    )
    assert "labels" in alone.stdout
    assert "decisions of a review" in " ".join(alone.stdout.split())
