"""A real S3 server on loopback (moto's), and a proxy before it that lets requests fail."""

from __future__ import annotations

import logging
import os
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlparse

BUCKET = "bucket-of-tests"
BUSY = b"<?xml version='1.0'?><Error><Code>ServiceUnavailable</Code><Message>busy</Message></Error>"


@dataclass
class Fault:
    """What happens to requests, chosen by their number and first line."""

    busy: Callable[[int, str], bool] = lambda number, line: False
    """Answered with 503."""
    cut: Callable[[int, str], bool] = lambda number, line: False
    """Cut off: the server does what it is asked, but half of its answer gets back."""
    slow: Callable[[int, str], bool] = lambda number, line: False
    """Answered late."""
    hold: Callable[[str], bool] = lambda line: False
    """Never answered, nor handed on, once it comes to one of these; `reached` then says so."""
    reached: threading.Event = field(default_factory=threading.Event)
    lines: list[str] = field(default_factory=list)
    """First lines of the requests so far."""


class _Handler(socketserver.BaseRequestHandler):
    """One connection, one request: whoever asks is told to close."""

    server: _Proxy

    def handle(self) -> None:
        head, body = _read_message(self.request)
        if not head:
            return
        line, fault = head.split(b"\r\n", 1)[0].decode(), self.server.fault
        with self.server.lock:
            fault.lines.append(line)
            number = len(fault.lines)
        if fault.hold(line):
            fault.reached.set()
            time.sleep(60)
            return
        if fault.busy(number, line):
            self.request.sendall(
                b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n"
                b"Content-Type: application/xml\r\nContent-Length: %d\r\n\r\n"
                % len(BUSY)
                + (b"" if line.startswith("HEAD") else BUSY)
            )
            return
        if fault.slow(number, line):
            time.sleep(0.3)
        with socket.create_connection(self.server.upstream, timeout=30) as server:
            lines = [
                one for one in head.split(b"\r\n") if not one.lower().startswith(b"connection")
            ]
            server.sendall(b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + body)
            answer = bytearray()
            while more := server.recv(1 << 16):
                answer += more
        if fault.cut(number, line):
            del answer[len(answer) // 2 :]
        self.request.sendall(answer)


def _read_message(connection: socket.socket) -> tuple[bytes, bytes]:
    """Head and body, by Content-Length or in chunks as they are."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        more = connection.recv(1 << 16)
        if not more:
            return b"", b""
        raw += more
    head, _, rest = raw.partition(b"\r\n\r\n")
    body = bytearray(rest)
    fields = dict(one.lower().split(b":", 1) for one in head.split(b"\r\n")[1:] if b":" in one)
    if fields.get(b"expect", b"").strip() == b"100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        head = b"\r\n".join(
            one for one in head.split(b"\r\n") if not one.lower().startswith(b"expect")
        )
    chunked = b"chunked" in fields.get(b"transfer-encoding", b"")
    length = int(fields.get(b"content-length", b"0"))
    while not body.endswith(b"0\r\n\r\n") if chunked else len(body) < length:
        more = connection.recv(1 << 16)
        if not more:
            break
        body += more
    return head, bytes(body)


class _Proxy(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, upstream: tuple[str, int]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream, self.fault, self.lock = upstream, Fault(), threading.Lock()


@dataclass(frozen=True)
class Store:
    """Where the server is, and the proxy's fault."""

    proxy: Any
    environment: dict[str, str]
    """For processes that use it."""

    def url(self, name: str) -> str:
        return f"s3://{BUCKET}/{name}"

    @property
    def lines(self) -> list[str]:
        return list(self.proxy.fault.lines)

    @contextmanager
    def fault(self, **kinds: Any) -> Iterator[Fault]:
        """Requests fail so inside the block."""
        self.proxy.fault = fault = Fault(**kinds)
        try:
            yield fault
        finally:
            self.proxy.fault = Fault()


@contextmanager
def s3_server() -> Iterator[Store]:
    """A server with an empty bucket, which this process and those that it starts find by the usual
    variables of AWS."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    proxy = _Proxy((host, port))
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    variables = {
        "AWS_ENDPOINT_URL": "http://{}:{}".format(*proxy.server_address),
        "AWS_ACCESS_KEY_ID": "of-tests",
        "AWS_SECRET_ACCESS_KEY": "of-tests",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    assert urlparse(variables["AWS_ENDPOINT_URL"]).hostname == "127.0.0.1"
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        import boto3
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()  # those of another server
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield Store(proxy, variables)
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        proxy.shutdown()
        proxy.server_close()
        server.stop()
