"""Own columns: which of a row's columns hold what, as a user says it (`--columns`) or as the files of
LLaMA-Factory (dataset_info.json) and axolotl (YAML) say it already.

All three come to one value, `Columns`, which can be written as the text that `--columns` takes; that
text is what scores keep. What is read out of the columns is not known here (rows/formats.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saefilter.errors import SaefilterError, did_you_mean

COLUMN_KEYS = (
    "messages", "conversations", "contents", "prompt", "completion", "instruction", "input", "output",
    "history", "system", "question", "answer", "query", "response", "text", "chat", "chat_history",
    "chosen", "rejected", "chosen_messages", "rejected_messages", "label", "tools",
)  # fmt: skip
"""What a column can be named as: the columns of the formats that are known."""
TURN_KEYS = ("role", "content", "train")
"""`turn.role=speaker`: by which key of a turn the format's own is meant."""
TURN_ROLES = ("system", "user", "assistant", "tool")
"""`role.user=customer`: how a turn's role is written; several are given one by one."""
EXAMPLE = "prompt=question,completion=answer"


@dataclass(frozen=True)
class Columns:
    """Which of a row's columns are what."""

    named: Mapping[str, str] = field(default_factory=dict)
    """Of COLUMN_KEYS -> the row's column; an empty text says that there is none, even where a column
    has that name."""
    turn: Mapping[str, str] = field(default_factory=dict)
    """Of TURN_KEYS -> the key that a turn has."""
    roles: Mapping[str, str] = field(default_factory=dict)
    """A turn's role, in lower case -> of TURN_ROLES."""

    def __bool__(self) -> bool:
        return bool(self.named or self.turn or self.roles)

    @classmethod
    def parse(cls, text: str | None, where: str | None = None) -> Columns:
        """From `prompt=question,completion=answer`; a name alone stands for itself. Raises
        SaefilterError."""
        named: dict[str, str] = {}
        turn: dict[str, str] = {}
        roles: dict[str, str] = {}
        for pair in (text or "").split(","):
            if not (pair := pair.strip()):
                continue
            key, is_pair, value = (part.strip() for part in pair.partition("="))
            kind, _, name = key.partition(".")
            if kind == "turn" and name in TURN_KEYS and value:
                turn[name] = value
            elif kind == "role" and name in TURN_ROLES and value:
                roles[value.lower()] = name
            elif key in COLUMN_KEYS and key not in named:
                named[key] = value if is_pair else key
            else:
                known = [*COLUMN_KEYS, *(f"turn.{one}" for one in TURN_KEYS),
                         *(f"role.{one}" for one in TURN_ROLES)]  # fmt: skip
                wrong = "is there twice" if key in named else "is no column of a known format"
                raise SaefilterError(
                    f"--columns: {key[:40]!r} {wrong}", where=where,
                    remedy=f"{did_you_mean(key, known)} Write OURS=YOURS, as in {EXAMPLE}.",
                )  # fmt: skip
        return cls(named, turn, roles)

    def __str__(self) -> str:
        """As `--columns` takes it."""
        return ",".join(
            [f"{key}={value}" for key, value in self.named.items()]
            + [f"turn.{key}={value}" for key, value in self.turn.items()]
            + [f"role.{ours}={theirs}" for theirs, ours in self.roles.items()]
        )


def columns_of_dataset_info(spec: str, data: Path) -> Columns:
    """What LLaMA-Factory's dataset_info.json says of the data: of the entry whose `file_name` is the
    data's, of the only one, or of the one that is named as in `dataset_info.json:NAME`.

    Raises SaefilterError where there is no such file or entry.
    """
    path, name = _file_and_name(spec)
    entries = _parsed(path, "--dataset-info", json.loads)
    if not isinstance(entries, dict) or not all(isinstance(e, dict) for e in entries.values()):
        raise SaefilterError(
            "no dataset_info.json: an object of datasets by name was expected", where=str(path)
        )
    entry = _chosen_entry(
        entries, name, path, "--dataset-info",
        lambda one: _same_data(str(one.get("file_name") or ""), data),
    )  # fmt: skip
    given = entry.get("columns")
    sharegpt = entry.get("formatting", "alpaca") in ("sharegpt", "openai")
    if sharegpt:
        return _of_sharegpt(given or {"messages": "conversations"}, entry.get("tags") or {})
    return _of_alpaca(given or {"prompt": "instruction", "query": "input", "response": "output"})


def _of_alpaca(given: Mapping[str, str]) -> Columns:
    """Of LLaMA-Factory's columns: those that are not named there are not read, whatever they are
    called; a prompt without a response is a text to pretrain on."""
    side = "chosen" in given or "rejected" in given
    if set(given) <= {"prompt"}:
        return Columns({"text": given.get("prompt", "text")})
    ours = {"prompt": "instruction", "query": "input", "history": "history", "system": "system",
            "tools": "tools", "kto_tag": "label"}  # fmt: skip
    named = {ours_one: given.get(theirs) or "" for theirs, ours_one in ours.items()}
    if side:
        named |= {key: given.get(key) or key for key in ("chosen", "rejected")}
    else:
        named |= {"output": given.get("response") or "output", "chosen": "", "rejected": ""}
    return Columns(named)


def _of_sharegpt(given: Mapping[str, str], tags: Mapping[str, str]) -> Columns:
    named = {"conversations": given.get("messages") or "conversations"}
    named |= {key: given.get(key) or "" for key in ("system", "tools")}
    named |= {key: given.get(key) or "" for key in ("chosen", "rejected")}
    named["label"] = given.get("kto_tag") or ""
    turn = {"role": tags.get("role_tag", "from"), "content": tags.get("content_tag", "value")}
    usual = {"user": "human", "assistant": "gpt", "observation": "observation",
             "function": "function_call", "system": "system"}  # fmt: skip
    ours = {"observation": "tool", "function": "assistant"}
    roles = {
        tags.get(f"{one}_tag", theirs).lower(): ours.get(one, one) for one, theirs in usual.items()
    }
    return Columns(named, turn, roles)


AXOLOTL_TYPES: Mapping[str, Mapping[str, str]] = {
    "alpaca": {"instruction": "instruction", "input": "input", "output": "output"},
    "gpteacher": {"instruction": "instruction", "input": "input", "output": "response"},
    "alpaca_chat.load_qa": {"prompt": "question", "completion": "answer"},
    "alpaca_chat.load_default": {"instruction": "instruction", "input": "input", "output": "output"},
    "alpaca_w_system": {"instruction": "instruction", "input": "input", "output": "output",
                        "system": "system"},
    "sharegpt": {"conversations": "conversations"},
}  # fmt: skip
"""axolotl's prompt strategies whose columns are fixed."""


def columns_of_axolotl(spec: str, data: Path) -> Columns:
    """What an axolotl YAML says of the data: of the entry of `datasets` whose `path` or `data_files`
    are the data, of the only one, or of the one named as in `config.yml:PATH`.

    Raises SaefilterError for an entry whose columns or trained turns cannot be followed.
    """
    import yaml

    path, name = _file_and_name(spec)
    config = _parsed(path, "--axolotl-config", yaml.safe_load)
    listed = (config or {}).get("datasets") if isinstance(config, dict) else None
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise SaefilterError("it has no list of `datasets`", where=str(path))
    entries = {str(one.get("path") or number): one for number, one in enumerate(listed, start=1)}
    entry = _chosen_entry(
        entries, name, path, "--axolotl-config",
        lambda one: any(_same_data(file, data) for file in _axolotl_files(one)),
    )  # fmt: skip
    where = f"{path}: {entry.get('path')}"
    trained = entry.get("roles_to_train")
    if trained and not set(trained) <= {"assistant", "gpt", "model"}:
        raise SaefilterError(
            f"roles_to_train {trained} is not followed", where=where,
            remedy="Mark the turns with `train`, or use --columns with --train-on.",
        )  # fmt: skip
    return _of_axolotl(entry, where)


def _of_axolotl(entry: Mapping[str, Any], where: str) -> Columns:
    kind = entry.get("type")
    if isinstance(kind, dict):  # a format of the user's
        named = {"instruction": kind.get("field_instruction") or "instruction",
                 "input": kind.get("field_input") or "input",
                 "output": kind.get("field_output") or "output",
                 "system": kind.get("field_system") or "system"}  # fmt: skip
        return Columns(named)
    name = str(kind).partition(":")[0]
    if name in ("completion", "pretrain"):
        return Columns({"text": entry.get("field") or entry.get("text_column") or "text"})
    if name == "chat_template" or name.startswith("chat_template."):
        return _of_chat_template(entry)
    if name in AXOLOTL_TYPES:
        return Columns(AXOLOTL_TYPES[name])
    raise SaefilterError(
        f"the dataset type {kind!r} is not known here", where=where,
        remedy=f"Known are chat_template, completion, {', '.join(AXOLOTL_TYPES)} and own fields; say "
        f"what the columns hold with --columns {EXAMPLE}.",
    )  # fmt: skip


def _of_chat_template(entry: Mapping[str, Any]) -> Columns:
    of_turn = entry.get("message_property_mappings") or {}
    turn = {
        "role": of_turn.get("role") or entry.get("message_field_role") or "role",
        "content": of_turn.get("content") or entry.get("message_field_content") or "content",
    }
    if entry.get("message_field_training"):
        turn["train"] = entry["message_field_training"]
    roles = {
        str(theirs).lower(): ours
        for ours, several in (entry.get("roles") or {}).items()
        if ours in TURN_ROLES
        for theirs in ([several] if isinstance(several, str) else several)
    }
    named = {"messages": entry.get("field_messages") or "messages"}
    if "field_chosen" in entry or "field_rejected" in entry:
        named |= {key: entry.get(f"field_{key}") or key for key in ("chosen", "rejected")}
    if entry.get("field_tools"):
        named["tools"] = entry["field_tools"]
    return Columns(named, turn, roles)


def _axolotl_files(entry: Mapping[str, Any]) -> Iterator[str]:
    files = entry.get("data_files") or []
    yield from [files] if isinstance(files, str) else map(str, files)
    yield str(entry.get("path") or "")


def _file_and_name(spec: str) -> tuple[Path, str | None]:
    """`file:NAME`, where there is no file of that whole name."""
    file, colon, name = spec.rpartition(":")
    return (Path(file), name) if colon and not Path(spec).exists() else (Path(spec), None)


def _same_data(name: str, data: Path) -> bool:
    """Whether a file's name in such a file means the data: it may be relative to another folder."""
    wanted = Path(name).parts
    return bool(wanted) and data.absolute().parts[-len(wanted) :] == wanted


def _chosen_entry(
    entries: Mapping[str, dict[str, Any]], name: str | None, path: Path, flag: str, fits: Any
) -> dict[str, Any]:
    if name is not None and name in entries:
        return entries[name]
    fitting = [entry for entry in entries.values() if fits(entry)]
    if name is None and len(fitting) == 1:
        return fitting[0]
    if name is None and len(entries) == 1:
        return next(iter(entries.values()))
    shown = ", ".join(list(entries)[:12]) + (", ..." if len(entries) > 12 else "")
    which = (
        f"no dataset {name!r}" if name is not None else "several datasets, none of them this data"
    )
    raise SaefilterError(
        f"{flag}: it has {which}", where=str(path),
        remedy=f"Name one of: {shown}; as in {flag} {path}:NAME.",
    )  # fmt: skip


def _parsed(path: Path, flag: str, parse: Any) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SaefilterError(f"{flag}: {path} cannot be read ({error})") from error
    try:
        return parse(text)
    except Exception as error:  # json's and yaml's own
        reason = " ".join(str(error).split())
        raise SaefilterError(f"{flag}: not readable ({reason})", where=str(path)) from error
