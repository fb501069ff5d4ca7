"""The commands that the documents show: found, parsed by the command line's own parser, and run.

A block of code without a language, or of `console` or `sh`, is typed by a reader: its lines that begin
with `saefilter` (after `$ `, where the block shows output too) are commands. They are run, unless a
comment before the block, `<!-- not run: why -->`, says why they cannot be here; then they are parsed.
A block of Python is run after `<!-- run -->`. `saefilter ...` within a sentence is held
to commands and options that there are.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import typer

from saefilter.cli import app, commands

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").glob("**/*.md")),
    *sorted((ROOT / "benchmarks").glob("**/*.md")),
]  # fmt: skip
PAGES = [page for page in PAGES if page.exists()]
BLOCK = re.compile(
    r"(?:^<!-- (?:not run: (?P<why>[^>]+)|(?P<run>run)) -->\n+)?^```(?P<language>[^\n]*)\n(?P<body>.*?)^```",
    re.M | re.S,
)
HUB = "my-name/"
"""How pages name a place on the hub that a reader has: such commands are parsed."""
TYPED = ("", "console", "sh", "bash", "shell")
TIMES = re.compile(r"(?:under )?\d[\d.,]*(?= (?:ms|s|min|h|tokens/s)\b)|\d{4}-\d\d-\d\dT[\d:+.]+Z?")


class Command(NamedTuple):
    """A command as a page shows it."""

    page: Path
    line: int
    words: list[str]
    """What is typed, `saefilter` included."""
    shown: list[str]
    """The lines of output that the page shows."""
    why_not: str | None
    """Why it is not run here."""

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}: {shlex.join(self.words)}"


def shown_in(page: Path) -> list[Command]:
    """The commands in the blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found: list[Command] = []
    for block in BLOCK.finditer(text):
        language = block["language"].strip()
        at = text[: block.start("body")].count("\n") + 1
        if block["run"]:
            found.append(Command(page, at, ["python", "-c", block["body"]], [], None))
        if language not in TYPED:
            continue
        prompted = re.search(r"^\$ ", block["body"], re.M) is not None
        lines = block["body"].replace("\\\n", "\\\0").split("\n")
        for line in lines:
            typed = line.removeprefix("$ ").replace("\\\0", " ")
            if line.startswith("$ saefilter ") or (
                not prompted and re.match(r"(\w+=\S+ +)*saefilter ", typed)
            ):
                words = shlex.split(typed, comments=True)
                why = block["why"] or (HUB in typed and "a model hub is not here") or None
                found.append(Command(page, at, words[_first(words) :], [], why))
            elif prompted and found and line.strip() and not line.startswith("$ "):
                found[-1].shown.append(line)
            at += 1 + line.count("\0")
    return found


def mentioned_in(page: Path) -> list[list[str]]:
    """The words of each `saefilter ...` that stands within a sentence or a table of a page."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    return [re.split(r"\s+", one) for one in re.findall(r"`(saefilter [^`]+)`", text)]


def _first(words: list[str]) -> int:
    return next(place for place, word in enumerate(words) if word == "saefilter")


@functools.cache
def _root() -> Any:
    commands()
    return typer.main.get_command(app)


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The Click command that words name, and what is left of them: its arguments."""
    command, left = _root(), words[1:]
    while left and left[0] in getattr(command, "commands", {}):
        command, left = command.commands[left[0]], left[1:]
    return command, left


def parsed(words: list[str]) -> dict[str, Any]:
    """The values of a command's parameters, as the command line reads them. Raises its error for an
    option, a value or an argument that the command does not take; files need not be there. Of Python
    the syntax is looked at."""
    if words[0] == "python":
        compile(words[2], "a page", "exec")
        return {}
    command, left = command_of(words)
    if getattr(command, "commands", None) and not command.invoke_without_command:
        raise ValueError(f"no command: {shlex.join(words)}")
    return dict(command.make_context(command.name, list(left)).params)


def prepare(folder: Path) -> None:
    """Puts into a folder the files that the pages speak of: small ones, of the rows that ship."""
    shutil.copytree(
        ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("results", "work")
    )
    bundled = ROOT / "saefilter/toxic/bundled"
    good = (bundled / "benign.jsonl").read_text().splitlines()
    bad = (bundled / "toxic.jsonl").read_text().splitlines()

    def write(name: str, lines: list[str]) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("\n".join(lines) + "\n")

    rows = [json.loads(one)["messages"] for one in good[:60]]
    for number, line in enumerate(bad[60:70]):
        rows.insert(6 * number, json.loads(line)["messages"])
    data = [
        {"messages": row, "source": ("web", "books")[i % 2], "is_bad": i % 6 == 0 and i < 60}
        for i, row in enumerate(rows)
    ]
    for name in ("data.jsonl", "data/train.jsonl", "my data.jsonl"):
        write(name, [json.dumps(row) for row in data])
    write("good.jsonl", good[100:200])
    write("harmless.jsonl", good[100:200])
    write("bad.jsonl", bad[100:200])
    pairs = [
        (json.loads(a)["messages"], json.loads(b)["messages"])
        for a, b in zip(good[:40], bad[:40], strict=True)
    ]
    write("pairs.jsonl", [
        json.dumps({"prompt": a[0]["content"], "chosen": a[1]["content"], "rejected": b[1]["content"]})
        for a, b in pairs
    ])  # fmt: skip
    for name in ("qa.jsonl", "train.jsonl"):
        write(name, [
            json.dumps({"question": a[0]["content"], "reply": a[1]["content"]}) for a, _ in pairs[:20]
        ])  # fmt: skip
    write("dialogs.jsonl", [
        json.dumps({"dialog": [
            {"who": {"user": "customer"}.get(turn["role"], turn["role"]), "said": turn["content"]}
            for turn in a
        ]}) for a, _ in pairs[:20]
    ])  # fmt: skip
    write("mine.json", [json.dumps([
        {"q": a[0]["content"], "a": a[1]["content"]} for a, _ in pairs[:20]
    ])])  # fmt: skip
    columns = {"prompt": "q", "response": "a"}
    write("dataset_info.json", [
        json.dumps({"mine": {"file_name": "mine.json", "columns": columns}})
    ])  # fmt: skip
    write("config.yml", [
        "datasets:", "  - path: train.jsonl", "    type:", "      field_instruction: question",
        "      field_output: reply",
    ])  # fmt: skip
    write("comments.csv", ["text,toxicity"] + [
        f'"{json.loads(line)["messages"][1]["content"].replace(chr(34), chr(39))}",{grade}'
        for lines, grade in ((good[200:600], 0.1), (bad[200:600], 0.9)) for line in lines
    ])  # fmt: skip
    write("labels.csv", ["line,is_bad"] + [
        f"{i + 1},{int(row['is_bad'])}" for i, row in enumerate(data)
    ])  # fmt: skip


def run(command: Command, folder: Path) -> str:
    """Types a command in a folder; what it says, on either stream. The exit code must be 0; of a gate
    also 1, data that fail."""
    words = command.words[1:]
    done = subprocess.run(
        [sys.executable, *(words if words[0] == "-c" else ["-m", *command.words])], cwd=folder, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "110"},
    )  # fmt: skip
    allowed = (0, 1) if command.words[1] == "check" else (0,)
    assert done.returncode in allowed, f"{command.where}\n{done.stdout}"
    return done.stdout


def squeezed(text: str) -> str:
    """Text without what differs from run to run, or by the width of a terminal."""
    return re.sub(r"\s+", " ", TIMES.sub("#", text)).strip()


def missing_lines(shown: list[str], said: str) -> list[str]:
    """The lines that a page shows and a command did not say, in that order; `...` stands for anything."""
    said = squeezed(said)
    missing: list[str] = []
    for line in shown:
        for piece in filter(None, map(squeezed, line.split("..."))):
            at = said.find(piece)
            if at < 0:
                missing.append(line)
                break
            said = said[at + len(piece) :]
    return missing
