"""How fast to ask: requests and tokens per minute, and rests that the endpoint asks for."""

from __future__ import annotations

import threading
import time


class Pace:
    """Gives each request its moment, evenly spaced; shared by all threads.

    Even spacing, not a burst at the start of every minute: endpoints count in windows of their own.
    """

    def __init__(self, rpm: float | None = None, tpm: float | None = None):
        self._request_seconds = 60 / rpm if rpm else 0.0
        self._token_seconds = 60 / tpm if tpm else 0.0
        self._next_request = self._next_token = self._rested = 0.0
        self._lock = threading.Lock()

    def wait(self, tokens: float, stop: threading.Event) -> None:
        """Return when a request of about so many tokens may be sent, or when `stop` is set."""
        while True:
            with self._lock:
                rest = self._rested
                start = max(time.monotonic(), rest, self._next_request, self._next_token)
                self._next_request = start + self._request_seconds
                self._next_token = start + tokens * self._token_seconds
            while (left := start - time.monotonic()) > 0 and not stop.is_set():
                stop.wait(left)
            # a rest that was declared meanwhile: those who wait go on one by one, not all at its end
            if stop.is_set() or self._rested == rest or self._rested <= time.monotonic():
                return

    def correct(self, tokens: float) -> None:
        """A request took so many tokens more (or fewer, if negative) than was said."""
        with self._lock:
            self._next_token += tokens * self._token_seconds

    def rest(self, seconds: float) -> None:
        """Nothing is sent for so long: the endpoint said so to one, and means all."""
        with self._lock:
            self._rested = max(self._rested, time.monotonic() + seconds)
