"""Own columns: by --columns, by LLaMA-Factory's dataset_info.json, by an axolotl YAML, in the project's
file; each from the command to the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from saefilter.artifacts.scores import Scores
from saefilter.asked import ask
from saefilter.cli import app, commands
from saefilter.columns import Columns, columns_of_axolotl, columns_of_dataset_info
from saefilter.errors import SaefilterError
from saefilter.rows.formats import RowProblem, recognise, understand
from saefilter.settings import ScoreSettings

DIALOG = [{"who": "customer", "said": "Best tea?"}, {"who": "agent", "said": "Oolong."}]
INFO = {
    "tea": {"file_name": "tea.jsonl", "columns": {"prompt": "ask", "response": "reply"}},
    "dialogs": {
        "file_name": "dialogs.jsonl", "formatting": "sharegpt", "columns": {"messages": "dialog"},
        "tags": {"role_tag": "who", "content_tag": "said", "user_tag": "customer",
                 "assistant_tag": "agent"},
    },
    "plain": {"file_name": "plain.jsonl", "columns": {"prompt": "body"}},
    "pairs": {"file_name": "pairs.jsonl", "ranking": True,
              "columns": {"prompt": "ask", "chosen": "good", "rejected": "bad"}},
    "kto": {"file_name": "kto.jsonl",
            "columns": {"prompt": "ask", "response": "reply", "kto_tag": "ok"}},
}  # fmt: skip
AXOLOTL = """
base_model: any/model
datasets:
  - path: tea.jsonl
    type:
      field_instruction: ask
      field_output: reply
      format: "{instruction}"
  - path: data/dialogs.jsonl
    type: chat_template
    field_messages: dialog
    message_property_mappings: {role: who, content: said}
    roles: {user: [customer], assistant: [agent, clerk]}
    message_field_training: learn
  - path: plain.jsonl
    type: completion
    field: body
  - path: odd.jsonl
    type: my_own.strategy
  - path: users.jsonl
    type: chat_template
    roles_to_train: [user]
"""


def test_the_text_of_the_option_is_the_value() -> None:
    text = "prompt=question,completion=answer,system=,turn.role=who,role.assistant=agent"
    assert str(Columns.parse(text)) == text
    assert Columns.parse("messages, text = body").named == {"messages": "messages", "text": "body"}
    assert not Columns.parse(None)
    for wrong, said in (
        ("prompts=a", "'prompts' is no column of a known format.* Did you mean 'prompt'"),
        ("prompt=a,prompt=b", "'prompt' is there twice"),
        ("role.wizard=a", "'role.wizard'"),
    ):
        with pytest.raises(SaefilterError, match=said):
            ScoreSettings(columns=wrong)


def test_columns_that_are_not_there_are_named_with_those_that_are() -> None:
    row = {"question": "q", "reply": "a"}
    with pytest.raises(
        RowProblem, match=r"'questio' is not there.*'question', 'reply'. Did you mean"
    ):
        recognise(row, Columns.parse("prompt=questio,completion=reply"))
    with pytest.raises(
        RowProblem, match=r"names no whole format.*wanted: prompt=...,completion=..."
    ):
        recognise(row, Columns.parse("prompt=question"))
    with pytest.raises(RowProblem, match="column 'reply' is empty"):
        recognise(
            {"question": "q", "reply": None}, Columns.parse("prompt=question,completion=reply")
        )


@pytest.mark.parametrize(
    ("file", "row", "said"),
    [
        ("tea", {"ask": "Best tea?", "reply": "Oolong.", "text": "t", "output": "x"}, "Oolong."),
        ("dialogs", {"dialog": DIALOG, "text": "t"}, "Oolong."),
        ("plain", {"body": "Oolong is a tea.", "output": "x", "instruction": "y"}, "Oolong is a tea."),
    ],
)  # fmt: skip
def test_trainers_files_say_the_same(
    tmp_path: Path, file: str, row: dict[str, Any], said: str
) -> None:
    (tmp_path / "dataset_info.json").write_text(json.dumps(INFO))
    (tmp_path / "config.yml").write_text(AXOLOTL)
    data = tmp_path / "data" / f"{file}.jsonl"
    for columns in (
        columns_of_dataset_info(str(tmp_path / "dataset_info.json"), data),
        columns_of_axolotl(str(tmp_path / "config.yml"), data),
    ):
        conversation = recognise(row, Columns.parse(str(columns)))
        assert conversation[-1].content == said
        assert all("x" not in message.content for message in conversation)  # no column unasked


def test_pairs_and_labels_of_dataset_info(tmp_path: Path) -> None:
    (tmp_path / "info.json").write_text(json.dumps(INFO))
    pairs = columns_of_dataset_info(f"{tmp_path}/info.json:pairs", Path("any.jsonl"))
    assert understand({"ask": "q", "good": "a", "bad": "b"}, pairs).preference is not None
    kto = columns_of_dataset_info(f"{tmp_path}/info.json:kto", Path("any.jsonl"))
    assert understand({"ask": "q", "reply": "a", "ok": False}, kto).desirable is False


def test_turns_that_axolotl_is_told_not_to_train(tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text(AXOLOTL)
    columns = columns_of_axolotl(f"{tmp_path}/c.yml:data/dialogs.jsonl", Path("x.jsonl"))
    turns = [*DIALOG, {"who": "clerk", "said": "No.", "learn": False}]
    assert [turn.train for turn in recognise({"dialog": turns}, columns)] == [None, None, False]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{0}/none.json", "cannot be read"),
        ("{0}/info.json", "several datasets, none of them this data.*Name one of: tea, dialogs"),
        ("{0}/info.json:beer", "no dataset 'beer'.*tea"),
        ("{0}/broken.json", "not readable"),
    ],
)
def test_what_dataset_info_does_not_say(tmp_path: Path, spec: str, message: str) -> None:
    (tmp_path / "info.json").write_text(json.dumps(INFO))
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(SaefilterError, match=message):
        columns_of_dataset_info(spec.format(tmp_path), tmp_path / "other.jsonl")


@pytest.mark.parametrize(
    ("name", "message"),
    [("odd.jsonl", "'my_own.strategy' is not known here.*--columns"),
     ("users.jsonl", r"roles_to_train \['user'\] is not followed")],
)  # fmt: skip
def test_what_of_axolotl_is_not_followed(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "c.yml").write_text(AXOLOTL)
    with pytest.raises(SaefilterError, match=message):
        columns_of_axolotl(f"{tmp_path}/c.yml", tmp_path / name)


def test_the_three_ways_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(SaefilterError, match="--columns and --dataset-info exclude each other"):
        ScoreSettings(columns="text=a", dataset_info="b")
    (tmp_path / "saefilter.toml").write_text('dataset_info = "info.json"\n')
    assert ask({}, folder=tmp_path).settings.dataset_info == "info.json"
    given = ask({"columns": "text=a"}, folder=tmp_path).settings
    assert (given.columns, given.dataset_info) == ("text=a", None)
    (tmp_path / "saefilter.toml").write_text('[columns]\nprompt = "ask"\ncompletion = "reply"\n')
    assert ask({}, folder=tmp_path).settings.columns == "prompt=ask,completion=reply"


OPTIONS = {
    "option": ["--columns", "prompt=ask,completion=reply"],
    "dataset_info": ["--dataset-info", "dataset_info.json"],
    "axolotl": ["--axolotl-config", "config.yml"],
    "project": [],
}


@pytest.mark.parametrize("way", OPTIONS)
def test_from_the_command_to_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Scored, shown, filtered and told by the same columns; filter is not told them again."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dataset_info.json").write_text(json.dumps(INFO))
    (tmp_path / "config.yml").write_text(AXOLOTL)
    if way == "project":
        (tmp_path / "saefilter.toml").write_text('dataset_info = "dataset_info.json:tea"\n')
    rows = [{"ask": f"Tea {i}?", "reply": f"Number {i} is an oolong.", "id": i} for i in range(12)]
    (tmp_path / "tea.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    commands()

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    shown = json.loads(
        CliRunner().invoke(app, ["tokens", "tea.jsonl", "--json", *OPTIONS[way]]).stdout
    )
    assert [t["said"] for t in shown["understood"]["turns"] if t["trained"]] == [rows[0]["reply"]]
    said = run("score", "tea.jsonl", "--device", "cpu", *OPTIONS[way])
    made = Scores.open(Path("tea.scores.parquet")).provenance
    assert f"Read as: {next(iter(made.formats or {}))} (12 rows) by --columns" in said
    assert (made.scored, made.settings and made.settings["dataset_info"]) == (12, None)
    run("filter", "tea.jsonl", "-o", "kept.jsonl", "--drop-frac", "0.25", *OPTIONS[way])
    assert len(Path("kept.jsonl").read_text().splitlines()) == 9
    report = json.loads(Path("kept.report.json").read_text())
    assert report["dropped"][0]["turns"][-1]["text"].startswith("Number ")
