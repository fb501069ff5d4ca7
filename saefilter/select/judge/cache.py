"""Judgements on disk, so that no conversation is paid for twice: SQLite, one transaction for each.

A judgement is kept by the SHA-256 of the conversation, the model's name and the SHA-256 of the
prompt. The endpoint's URL does not count: the same model elsewhere judges alike. API keys never come
here.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from saefilter.errors import SaefilterError
from saefilter.select.judge.prompt import Judgement

VERSION = 1
AT_ONCE = 500
"""Keys in one query; SQLite's smallest limit is 999."""
_TABLE = """
CREATE TABLE IF NOT EXISTS verdicts (
  conversation TEXT NOT NULL,
  model TEXT NOT NULL,
  prompt TEXT NOT NULL,
  score REAL NOT NULL,
  reason TEXT NOT NULL,
  tokens_in INTEGER NOT NULL,
  tokens_out INTEGER NOT NULL,
  judged TEXT NOT NULL,
  PRIMARY KEY (conversation, model, prompt)
) WITHOUT ROWID
"""


class JudgementCache:
    """The judgements of one model on one prompt. Use as a context manager, from one thread."""

    def __init__(self, path: Path, model: str, prompt_sha256: str):
        """Open or create. Raises SaefilterError when the file is no cache or cannot be written."""
        self.path, self._model, self._prompt = path, model, prompt_sha256
        with self._said():
            path.parent.mkdir(parents=True, exist_ok=True)
            # the reasons quote rows: for the user's eyes, like the rows
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._database = sqlite3.connect(path, timeout=30, isolation_level=None)
            (version,) = self._database.execute("PRAGMA user_version").fetchone()
            if version not in (0, VERSION):
                raise SaefilterError(
                    f"judgements of version {version}; this saefilter reads {VERSION}",
                    where=str(path),
                    remedy="Name another file with --judge-cache.",
                )
            # each commit is forced to disk: a judgement that counts as had survives a power cut
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.execute(_TABLE)
            self._database.execute(f"PRAGMA user_version={VERSION}")

    def __enter__(self) -> JudgementCache:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def find(self, conversations: Iterable[str]) -> dict[str, Judgement]:
        """The judgements there are, by the conversation's hash."""
        judgements: dict[str, Judgement] = {}
        keys = iter(conversations)
        while some := list(islice(keys, AT_ONCE)):
            marks = ",".join("?" * len(some))
            query = (
                "SELECT conversation, score, reason, tokens_in, tokens_out FROM verdicts "
                f"WHERE model = ? AND prompt = ? AND conversation IN ({marks})"
            )
            with self._said():
                for key, *fields in self._database.execute(
                    query, [self._model, self._prompt, *some]
                ):
                    judgements[key] = Judgement(*fields)
        return judgements

    def keep(self, conversation: str, judgement: Judgement) -> None:
        """Keep a judgement; it is on disk when this returns."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        # half of a surrogate pair, which an answer may hold, is no UTF-8
        reason = judgement.reason.encode("utf-8", "replace").decode()
        with self._said():
            self._database.execute(
                "INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    conversation, self._model, self._prompt, judgement.score, reason,
                    judgement.tokens_in, judgement.tokens_out, now,
                ),
            )  # fmt: skip

    @contextmanager
    def _said(self) -> Iterator[None]:
        """SQLite's and the system's errors as the user's."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise SaefilterError(
                f"the judgements cannot be kept there ({error})",
                where=str(self.path),
                remedy="Make room, remove the file if it is damaged, or name another with "
                "--judge-cache.",
            ) from error
