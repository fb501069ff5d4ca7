"""Judgements on disk: they outlive a kill, are shared by runs, and a file that is none is an error."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from judge_server import JudgeServer

from saefilter.errors import SaefilterError
from saefilter.rows.formats import Message
from saefilter.select.judge.cache import JudgementCache
from saefilter.select.judge.judge import judge
from saefilter.select.judge.prompt import Judgement
from saefilter.select.judge.settings import JudgeSettings

ROWS = [(Message("user", f"{i}?"), Message("assistant", "Yes.")) for i in range(600)]
"""So many that a machine which stalls for a second does not see the last one before it is stopped."""
RUN = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores Ctrl-C
from test_judge_cache import ROWS
from saefilter.select.judge.judge import judge
from saefilter.select.judge.settings import JudgeSettings
judge(lambda: ROWS, JudgeSettings(sys.argv[1], "m", cache=Path(sys.argv[2]), concurrency=2))
"""


def stored(path: Path) -> int:
    connection = sqlite3.connect(path)
    (count,) = connection.execute("SELECT count(*) FROM verdicts").fetchone()
    connection.close()
    return int(count)


@pytest.mark.parametrize(
    "kill",
    [
        pytest.param(signal.SIGKILL, id="kill", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, id="ctrl-c"),
    ],
)
def test_a_killed_run_loses_no_more_than_what_was_under_way(tmp_path: Path, kill: int) -> None:
    path = tmp_path / "judgements.sqlite"
    with JudgeServer() as server:
        server.seconds = 0.05
        here = str(Path(__file__).parent)
        run = subprocess.Popen(
            [sys.executable, "-c", RUN, server.url, str(path)], stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([here, *sys.path])},
        )  # fmt: skip
        while len(server.seen) < 20:
            assert run.poll() is None, run.communicate()
            time.sleep(0.01)
        run.send_signal(kill)
        _, errors = run.communicate(timeout=20)
        asked = len(server.seen)
        kept = stored(path)
        assert asked - 5 <= kept <= asked < len(ROWS)
        if kill == signal.SIGINT:
            said = re.search(r"(\d+) judgements are kept in " + re.escape(str(path)), errors)
            assert said is not None
            assert kept - 1 <= int(said[1]) <= kept  # Ctrl-C may come between keeping and counting
        server.seconds = 0
        found = judge(lambda: ROWS, JudgeSettings(server.url, "m", cache=path))
        assert not found.failures
        assert len(server.seen) == asked + len(ROWS) - kept
    assert stored(path) == len(ROWS)


def test_two_runs_share_one_file(tmp_path: Path) -> None:
    path = tmp_path / "judgements.sqlite"
    with JudgementCache(path, "m", "p") as one, JudgementCache(path, "m", "p") as other:
        for number in range(50):
            (one if number % 2 else other).keep(f"{number}", Judgement(number, "said", 10, 2))
        found = one.find(f"{number}" for number in range(2000))
    assert found == {f"{number}": Judgement(number, "said", 10, 2) for number in range(50)}
    with JudgementCache(path, "another", "p") as cache:
        assert cache.find(["1"]) == {}
    with JudgementCache(path, "m", "another") as cache:
        assert cache.find(["1"]) == {}
    assert path.stat().st_mode & 0o077 == 0, "reasons quote rows; nobody else reads them"


def test_a_reason_that_is_no_unicode_is_kept_as_far_as_it_is(tmp_path: Path) -> None:
    with JudgementCache(tmp_path / "v.sqlite", "m", "p") as cache:
        cache.keep("1", Judgement(1, "half \ud800 a pair"))
        assert cache.find(["1"])["1"].reason == "half ? a pair"


def test_files_that_are_no_cache(tmp_path: Path) -> None:
    text = tmp_path / "text.sqlite"
    text.write_text("no database, but long enough to have a header of one " * 10)
    with pytest.raises(SaefilterError, match=r"not a database") as caught:
        JudgementCache(text, "m", "p")
    assert str(text) in str(caught.value)
    newer = tmp_path / "newer.sqlite"
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(SaefilterError, match="judgements of version 99"):
        JudgementCache(newer, "m", "p")
    with pytest.raises(SaefilterError, match="cannot be kept there"):
        JudgementCache(tmp_path / "text.sqlite" / "v.sqlite", "m", "p")
