"""A Hugging Face hub on this machine: as much of its API as `huggingface_hub` needs to make a repository, commit
files to it and fetch them again.

    with hub_server() as hub:
        hub.environment(token=WRITER)  # for a process that is to talk to it

Repositories are held in memory. `/team` and `/me` belong to the user of `WRITER`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WRITER, READER = "hf_writer", "hf_reader"
API = re.compile(
    r"/api/(model|dataset)s/([\w.-]+/[\w.-]+)(?:/(revision|preupload|commit)/([^/]+))?"
)
FILE = re.compile(r"/(datasets/)?([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)")
BATCH = re.compile(r"/(datasets/)?([\w.-]+/[\w.-]+)\.git/info/lfs/objects/batch")


@dataclass
class Repository:
    private: bool
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    """Hash and all files, the last one last."""

    def add(self, files: dict[str, bytes], gone: Sequence[str] = ()) -> str:
        whole = {**(self.commits[-1][1] if self.commits else {}), **files}
        whole = {name: content for name, content in whole.items() if name not in gone}
        said = repr((len(self.commits), sorted(whole.items()))).encode()
        self.commits.append((hashlib.sha1(said).hexdigest(), whole))
        return self.commits[-1][0]

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision == "main":
            return self.commits[-1]
        return next((one for one in self.commits if one[0] == revision), None)


@dataclass
class Hub:
    """What a test sees of it."""

    url: str = ""
    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    """By kind and name."""
    lines: list[str] = field(default_factory=list)
    """Every request: method and path."""
    large: tuple[str, ...] = ()
    """Files that go by LFS, by their ends."""
    ignored: tuple[str, ...] = ()
    busy: bool = False
    """Whether somebody else commits whenever somebody is about to."""
    broken: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """What it answers instead, by a part of the path: status and body."""
    objects: dict[str, bytes] = field(default_factory=dict)
    """Of LFS, by hash."""

    def environment(self, *, token: str | None, home: Any) -> dict[str, str]:
        """Of a process; `home` is where it has its cache and would have its token."""
        unset = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE")
        kept = {name: value for name, value in os.environ.items() if name not in unset}
        own = {"HF_ENDPOINT": self.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(home),
               "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}  # fmt: skip
        return {**kept, **own, **({"HF_TOKEN": token} if token else {})}

    def made(self, kind: str, name: str, files: dict[str, bytes], *, private: bool = True) -> str:
        repository = Repository(private)
        self.repositories[kind, name] = repository
        return repository.add(files)


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            hub.lines.append(f"{self.command} {self.path}")
            path = self.path.partition("?")[0]
            if self._broken():
                return None
            if path == "/api/whoami-v2":
                return self._whoami()
            if match := FILE.fullmatch(path):
                return self._file(*match.groups())
            if (match := API.fullmatch(path)) and match[3] in (None, "revision"):
                return self._info(match[1], match[2], match[4] or "main")
            return self._say(404, {})

        do_HEAD = do_GET

        def do_POST(self) -> None:
            hub.lines.append(f"{self.command} {self.path}")
            body = self._body()
            path = self.path.partition("?")[0]
            if self._broken():
                return None
            if path == "/api/validate-yaml":
                return self._say(200, {"errors": [], "warnings": []})
            if self._token() != WRITER:
                return self._say(401 if self._token() is None else 403, {"error": "no"})
            if path == "/api/repos/create":
                return self._create(json.loads(body))
            if BATCH.fullmatch(path):
                return self._batch(json.loads(body))
            match = API.fullmatch(path)
            repository = match and hub.repositories.get((match[1], match[2]))
            if not match or repository is None:
                return self._say(404, {}, error="RepoNotFound")
            place = ("datasets/" if match[1] == "dataset" else "") + match[2]
            if match[3] == "preupload":
                if hub.busy:
                    repository.add({"theirs": str(len(repository.commits)).encode()})
                return self._say(
                    200, {"files": [self._mode(one) for one in json.loads(body)["files"]]}
                )
            return self._commit(repository, place, [json.loads(line) for line in body.splitlines()])

        def do_PUT(self) -> None:
            hub.lines.append(f"{self.command} {self.path}")
            hub.objects[self.path.rpartition("/")[2]] = self._body()
            return self._say(200, {})

        def _broken(self) -> bool:
            for part, (status, body) in hub.broken.items():
                if part in self.path:
                    self._send(status, body, {"Content-Type": "text/html"})
                    return True
            return False

        def _whoami(self) -> None:
            if (token := self._token()) not in (WRITER, READER):
                return self._say(401, {"error": "Invalid username or password."})
            role = "write" if token == WRITER else "read"
            return self._say(200, {"name": "me", "type": "user", "orgs": [{"name": "team"}],
                            "auth": {"accessToken": {"role": role}}})  # fmt: skip

        def _seen(self, kind: str, name: str) -> Repository | None:
            repository = hub.repositories.get((kind, name))
            known = self._token() in (WRITER, READER)
            return None if repository is None or (repository.private and not known) else repository

        def _info(self, kind: str, name: str, revision: str) -> None:
            repository = self._seen(kind, name)
            if repository is None:
                return self._say(404 if self._token() else 401, {}, error="RepoNotFound")
            if (at := repository.at(revision)) is None:
                return self._say(404, {}, error="RevisionNotFound")
            return self._say(200, {"_id": name, "id": name, "sha": at[0], "private": repository.private,
                            "siblings": [{"rfilename": file} for file in at[1]], "tags": []})  # fmt: skip

        def _file(self, kind: str | None, name: str, revision: str, file: str) -> None:
            repository = self._seen("dataset" if kind else "model", name)
            if repository is None:
                return self._say(404 if self._token() else 401, {}, error="RepoNotFound")
            if (at := repository.at(revision)) is None:
                return self._say(404, {}, error="RevisionNotFound")
            if file not in at[1]:
                return self._say(404, {}, error="EntryNotFound")
            content = at[1][file]
            return self._send(200, content, {
                "X-Repo-Commit": at[0], "ETag": f'"{hashlib.sha1(content).hexdigest()}"',
            })  # fmt: skip

        def _create(self, asked: dict[str, Any]) -> None:
            owner = asked.get("organization") or "me"
            kind, name = asked.get("type", "model"), f"{owner}/{asked['name']}"
            if owner not in ("me", "team"):
                return self._say(403, {"error": f"You don't have the rights to create in {owner}"})
            if (kind, name) in hub.repositories:
                return self._say(409, {"error": "You already created this repo"})
            private = asked.get("private") or asked.get("visibility") == "private"
            hub.made(kind, name, {".gitattributes": b""}, private=bool(private))
            return self._say(200, {"url": f"{hub.url}/{'datasets/' * (kind == 'dataset')}{name}"})

        def _mode(self, asked: dict[str, Any]) -> dict[str, Any]:
            path = asked["path"]
            mode = "lfs" if path.endswith(hub.large) and hub.large else "regular"
            ignored = bool(hub.ignored) and path.endswith(hub.ignored)
            return {"path": path, "uploadMode": mode, "shouldIgnore": ignored, "oid": None}

        def _batch(self, asked: dict[str, Any]) -> None:
            objects = [
                {"oid": one["oid"], "size": one["size"],
                 "actions": {"upload": {"href": f"{hub.url}/lfs/{one['oid']}"}}}
                for one in asked["objects"]
            ]  # fmt: skip
            return self._say(200, {"transfer": "basic", "objects": objects})

        def _commit(self, repository: Repository, place: str, said: list[dict[str, Any]]) -> None:
            values = [(one["key"], one["value"]) for one in said]
            parent = next(value.get("parentCommit") for key, value in values if key == "header")
            if parent is not None and parent != repository.commits[-1][0]:
                return self._say(412, {"error": "A commit has happened since."})
            files = {v["path"]: base64.b64decode(v["content"]) for k, v in values if k == "file"}
            files |= {v["path"]: hub.objects[v["oid"]] for k, v in values if k == "lfsFile"}
            gone = [v["path"] for k, v in values if k == "deletedFile"]
            oid = repository.add(files, gone)
            return self._say(
                200,
                {"success": True, "commitOid": oid, "commitUrl": f"{hub.url}/{place}/commit/{oid}"},
            )

        def _token(self) -> str | None:
            return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                chunks = []
                while size := int(self.rfile.readline(), 16):
                    chunks.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(chunks)
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _say(self, status: int, said: dict[str, Any], error: str | None = None) -> None:
            extra = {"X-Error-Code": error} if error else {}
            return self._send(
                status, json.dumps(said).encode(), {"Content-Type": "application/json", **extra}
            )

        def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_arguments: Any) -> None:
            pass

    return Handler


@contextmanager
def hub_server() -> Iterator[Hub]:
    """A hub that runs while the block does."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
