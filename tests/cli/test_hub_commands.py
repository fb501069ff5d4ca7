"""Rows and toxic sets handed over to a hub and taken from it: by the commands, to a server that speaks as one."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub_server import READER, WRITER, Hub, hub_server
from scored import ROWS, write_scores

from saefilter.rows.inputs import open_input
from saefilter.toxic.load import SHIPPED

SET = (SHIPPED / "smollm2-135m.json").read_bytes()
DIGEST = hashlib.sha256(SET).hexdigest()
Say = Callable[..., Any]


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with hub_server() as running:
        yield running


@pytest.fixture
def hub(server: Hub) -> Hub:
    for held in (server.repositories, server.lines, server.objects, server.broken):
        held.clear()
    server.large = server.ignored = ()
    server.busy = False
    return server


@pytest.fixture
def say(hub: Hub, tmp_path: Path) -> Say:
    """Runs a command in a folder with data, their scores and a set; returns what it says."""
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    write_scores(open_input(tmp_path / "d.jsonl"), tmp_path / "d.scores.parquet")
    (tmp_path / "set.json").write_bytes(SET)

    def run(*arguments: Any, token: str | None = WRITER, fails: bool = False, **more: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "saefilter", *map(str, arguments)], cwd=tmp_path,
            capture_output=True, text=True, check=False,
            env={**hub.environment(token=token, home=tmp_path / "home"),
                 "SAEFILTER_CACHE": str(tmp_path / "cache"), **more},
        )  # fmt: skip
        said = " ".join((done.stderr if fails else done.stdout).split())
        assert done.returncode == (2 if fails else 0), (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return said

    return run


TOLD = """
import json, os, sys
from typer.testing import CliRunner
from saefilter.cli import app, commands
commands()
for arguments, token in json.load(sys.stdin):
    os.environ["HF_TOKEN"] = token or ""
    done = CliRunner().invoke(app, arguments)
    print(json.dumps([done.exit_code, repr(done.exception), str(done.exception)]))
"""
"""One process for many commands that fail: each with its token, which is read when it is needed."""


@pytest.fixture
def refused(hub: Hub, say: Say, tmp_path: Path) -> Callable[[list[Any]], list[str]]:
    def run(asked: list[Any]) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", TOLD], cwd=tmp_path, input=json.dumps(asked), text=True,
            env={**hub.environment(token=None, home=tmp_path / "home"),
                 "SAEFILTER_CACHE": str(tmp_path / "cache")}, capture_output=True, check=True,
        )  # fmt: skip
        said = []
        for line in done.stdout.splitlines():
            code, kind, text = json.loads(line)
            assert (code, kind.partition("(")[0]) == (1, "SaefilterError"), kind
            said.append(text)
        return said

    return run


FILTER = ("filter", "d.jsonl", "--scores", "d.scores.parquet", "--drop-frac", "0.25")


def test_kept_rows_and_their_card_are_pushed_and_nothing_that_was_dropped(
    hub: Hub, say: Say, tmp_path: Path
) -> None:
    hub.large = (".jsonl",)  # as the hub does with large files
    said = say(*FILTER, "--push-to-hub", "team/clean", "-o", "new/clean.jsonl")
    repository = hub.repositories["dataset", "team/clean"]
    assert repository.private
    commit, files = repository.commits[-1]
    assert set(files) == {".gitattributes", "clean.jsonl", "README.md"}
    assert f"{hub.url}/datasets/team/clean (private), commit {commit[:12]}" in said
    assert files["clean.jsonl"] == (tmp_path / "new" / "clean.jsonl").read_bytes()
    assert not (tmp_path / "new" / "README.md").exists()
    dropped = [json.loads(line)["messages"][-1]["content"]
               for line in (tmp_path / "new" / "clean.dropped.jsonl").read_text().splitlines()]  # fmt: skip
    card = files["README.md"].decode()
    assert len(dropped) == 10
    assert not any(
        f'"{text}"' in content.decode() for text in dropped for content in files.values()
    )
    front = yaml.safe_load(card.split("---")[1])
    assert front["configs"][0]["data_files"] == [{"split": "train", "path": "clean.jsonl"}]

    # again, to what is saefilter's own: a commit more; `--json` says which
    told = json.loads(say(*FILTER, "--push-to-hub", "team/clean", "-o", "new/clean.jsonl",
                          "--overwrite", "--drop-frac", "0.5", "--json"))  # fmt: skip
    assert len(repository.commits) == 3
    assert told["hub"] == {"repo": "team/clean", "url": f"{hub.url}/datasets/team/clean",
                           "commit": repository.commits[-1][0], "private": True}  # fmt: skip
    assert len(repository.commits[-1][1]["clean.jsonl"].splitlines()) == 20

    # under another name: the data of before, which may hold rows that are dropped now, are gone
    repository.add({"LICENSE": b"theirs"})
    say(*FILTER, "--push-to-hub", "team/clean", "-o", "new/other.parquet")
    assert set(repository.commits[-1][1]) == {
        ".gitattributes",
        "LICENSE",
        "README.md",
        "other.parquet",
    }


def test_a_folder_is_pushed_by_its_names(hub: Hub, say: Say, tmp_path: Path) -> None:
    (tmp_path / "data" / "a").mkdir(parents=True)
    for number, name in enumerate(("one.jsonl", "a/two.jsonl")):
        text = "".join(json.dumps(row) + "\n" for row in ROWS[number * 20 : number * 20 + 20])
        (tmp_path / "data" / name).write_text(text)
    write_scores(open_input(tmp_path / "data"), tmp_path / "data.scores.parquet")
    say("filter", "data", "--scores", "data.scores.parquet", "--drop-frac", "0.25", "--public",
        "--push-to-hub", "me/folder")  # fmt: skip
    repository = hub.repositories["dataset", "me/folder"]
    assert not repository.private
    assert set(repository.commits[-1][1]) == {
        ".gitattributes",
        "a/two.jsonl",
        "one.jsonl",
        "README.md",
    }


REFUSED = [
    (None, "me/x", "needs a token that may write. Log in first: hf auth login"),
    ("hf_unknown", "me/x", "the hub refuses me/x (it does not know the token"),
    (READER, "me/x", "the token may only read from the hub. Log in with a token that may write"),
    (WRITER, "other/x", "the token is of me, who may not write to other on the hub"),
    (WRITER, "x", "'x' is no name of a repository on the hub. Names look like org/name"),
    (WRITER, "me/open", "the dataset me/open on the hub is public. Add --public if"),
    (WRITER, "me/mine", "holds rows.csv and no card of saefilter. Name a new one"),
    (WRITER, "me/carded", "holds README.md and no card of saefilter. Name a new one"),
    (WRITER, "me/quoted", "holds README.md and no card of saefilter. Name a new one"),
    ("hf_é", "me/x", "Is there a proxy between, or is HF_ENDPOINT or HF_TOKEN not what"),
]


def test_what_cannot_be_pushed_is_refused_before_anything_is_done(
    hub: Hub, refused: Callable[[list[Any]], list[str]], tmp_path: Path
) -> None:
    hub.made("dataset", "me/open", {}, private=False)
    hub.made("dataset", "me/mine", {"rows.csv": b"a"})
    hub.made("dataset", "me/carded", {"README.md": b"# My own rows"})
    quoting = b"---\nlicense: mit\n---\nI never read `# made by saefilter`.\n# made by saefilter\n"
    hub.made("dataset", "me/quoted", {"README.md": quoting, "rows.csv": b"a"})
    said = refused([[[*FILTER, "--push-to-hub", name], token] for token, name, _ in REFUSED])
    for text, (_, _, says) in zip(said, REFUSED, strict=True):
        assert says in text
        assert "hf_é" not in text
    assert all(len(one.commits) == 1 for one in hub.repositories.values())
    assert len(hub.repositories) == 4
    assert not list(tmp_path.glob("d.filtered*"))


def test_a_hub_that_is_away_or_refuses(
    hub: Hub, say: Say, refused: Callable[[list[Any]], list[str]], tmp_path: Path
) -> None:
    offline = say(*FILTER, "--push-to-hub", "me/x", fails=True, HF_HUB_OFFLINE="1")
    assert "the hub is not to be asked: HF_HUB_OFFLINE is set" in offline
    away = say(*FILTER, "--push-to-hub", "me/x", fails=True, HF_ENDPOINT="http://127.0.0.1:9")
    assert "the hub cannot be reached" in away
    assert "--public has no effect without" in say(*FILTER, "--public", fails=True)
    hub.ignored = (".jsonl",)  # as a repository's .gitignore may ask
    said = say(*FILTER, "--push-to-hub", "me/x", fails=True)
    assert "filtered into d.filtered.jsonl, and not pushed: me/x on the hub did not take" in said
    assert "The same command with --overwrite tries again" in said
    assert (tmp_path / "d.filtered.jsonl").exists()
    hub.busy, hub.ignored = True, ()  # what others commit in the meantime is not undone
    (said,) = refused([[["features", "push", "set.json", "me/busy"], WRITER]])
    assert said.endswith("(it was changed in the meantime). Push again.")
    assert set(hub.repositories["model", "me/busy"].commits[-1][1]) == {".gitattributes", "theirs"}


BROKEN = [
    ("/api/models", 503, b"", "the hub has trouble of its own (status 503). Try again later."),
    ("/api/whoami", 500, b"", "the hub has trouble of its own (status 500). Try again later."),
    ("/commit/", 429, b"", "the hub takes no more requests for now. Try again later."),
    ("/api/whoami", 200, b"<html>Log in to the wifi", "me/x was not answered as a hub answers"),
    ("/api/models", 200, b"{}", "Is there a proxy between"),
    ("/commit/", 200, b"{}", "me/x was not answered as a hub answers"),
]


def test_what_is_no_fault_of_the_token_is_not_laid_to_it(
    hub: Hub, refused: Callable[[list[Any]], list[str]]
) -> None:
    for part, status, body, says in BROKEN:
        hub.repositories.clear()
        hub.broken = {part: (status, body)}
        (said,) = refused([[["features", "push", "set.json", "me/x"], WRITER]])
        assert says in said
        assert "log in first" not in said
        assert "with a token" not in said


def test_a_set_goes_to_the_hub_and_comes_back_by_its_pin(
    hub: Hub, say: Say, tmp_path: Path
) -> None:
    said = say("features", "push", "set.json", "me/mine")
    commit, files = hub.repositories["model", "me/mine"].commits[-1]
    pin = f"me/mine@{commit}#sha256={DIGEST}"
    assert said.endswith(pin)
    assert "(private)" in said
    assert set(files) == {".gitattributes", "toxic-set.json", "README.md"}
    assert files["toxic-set.json"] == SET
    card = files["README.md"].decode()
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "saefilter"

    assert say("features", "pull", pin, "-o", "new/back.json").endswith(pin)
    assert (tmp_path / "new" / "back.json").read_bytes() == SET
    told = json.loads(say("features", "pull", "me/mine", "--json"))  # without one it is told
    assert (told["pin"], told["file"]) == (pin, "mine.json")
    assert (tmp_path / "mine.json").read_bytes() == SET
    # by the pin wherever a set is named; the second time without the hub
    assert "smollm2" in say("features", "show", pin).lower()
    hub.lines.clear()
    assert "smollm2" in say("features", "show", pin, token=None, HF_HUB_OFFLINE="1").lower()
    assert not hub.lines
    refused = say("features", "remove", pin, "1", "--reason", "x", fails=True)
    assert "is of the hub and is not changed in place" in refused


def test_what_is_not_the_pinned_set_is_refused(
    hub: Hub, say: Say, refused: Callable[[list[Any]], list[str]], tmp_path: Path
) -> None:
    good = hub.made("model", "team/set", {"toxic-set.json": SET, "model.pkl": b"\x80\x04"})
    other = hub.repositories["model", "team/set"].add({"toxic-set.json": SET + b"\n"})
    hub.made("model", "team/bad", {"toxic-set.json": b'{"features": [], "schema": 3}'})
    hub.made("model", "team/none", {"set.safetensors": b"", "model.pkl": b""}, private=False)
    wrong = {
        f"team/set@{other}#sha256={DIGEST}": "has the SHA-256",
        f"team/set#sha256={DIGEST}": "It was changed after it was pinned",
        "team/set@nothing": "there is no such repository or revision",
        "team/bad": "team/bad/toxic-set.json: the set lacks",
        "team/none": "team/none on the hub has no such file",
        "team/away": "there is no such repository",
        "team/set#sha256=12": "a SHA-256 has 64 hex digits",
        "team/set:model.pkl": "is no name of a repository",
    }
    asked = [[["features", "pull", reference, "-o", "x.json"], WRITER] for reference in wrong]
    for text, says in zip(refused(asked), wrong.values(), strict=True):
        assert says in text
    assert not (tmp_path / "x.json").exists()
    say("features", "pull", f"team/set@{good}#sha256={DIGEST}", "-o", "x.json")
    assert not [line for line in hub.lines if "model.pkl" in line]  # nothing else is ever fetched
