"""A real Chromium, and a page in it with everything that it did."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module", name="browser")
def running_browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chrome")
    assert chromium, "these tests were asked for and need Chromium: install it or set CHROMIUM"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield running
        running.close()


class Visit:
    """A page, opened; `context`: how it is looked at."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        self.page = browser.new_page(**context)
        self.path = path
        self.dialogs: list[str] = []
        self.requests: list[str] = []
        self.problems: list[str] = []
        self.page.on("dialog", self._dialog)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.goto(path.as_uri(), wait_until="load")

    def _dialog(self, dialog: Any) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    @property
    def wrong(self) -> list[str]:
        """Whatever it did that it must not; a download that it made itself it may."""
        own = (self.path.as_uri(), "blob:")
        strange = [url for url in self.requests if not url.startswith(own)]
        return [*self.dialogs, *self.problems, *strange]

    def unfold(self) -> None:
        """What is folded must be as harmless."""
        for summary in self.page.locator("summary").all():
            summary.click()
        self.page.wait_for_timeout(200)
