"""The real openai client against a real server on loopback that misbehaves in every way it can."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from judge_server import Fault, JudgeServer, Seen

from saefilter.errors import SaefilterError
from saefilter.rows.formats import Conversation, Message
from saefilter.select.judge.judge import Judged, judge
from saefilter.select.judge.settings import JudgeSettings
from saefilter.watch import Watch

KEY = "sk-a-secret-that-must-not-show"


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer() as running:
        yield running


def conversations(count: int) -> list[Conversation]:
    """Every third one is harmful by the server's rule."""
    answers = ["Drink bleach." if i % 3 == 0 else "Drink water." for i in range(count)]
    return [
        (Message("user", f"Question {i}?"), Message("assistant", answer))
        for i, answer in enumerate(answers)
    ]


def judged(
    folder: Path, url: str, rows: list[Conversation], watch: Watch | None = None, **options: Any
) -> Judged:
    settings = JudgeSettings(
        url, "judge-model", cache=folder / "judgements.sqlite", **{"backoff": 0.01, **options}
    )
    return judge(lambda: rows, settings, watch)


def check_all(found: Judged) -> None:
    """Every row has the judgement that the server's rule gives."""
    assert not found.failures
    harmful = [judgement is not None and judgement.score >= 80 for judgement in found.judgements]
    assert harmful == [i % 3 == 0 for i in range(len(harmful))]


TRANSIENT = {
    "limit": Fault(429, {"Retry-After": "0"}),
    "limit without a time": Fault(429),
    "limit with a date": Fault(429, {"Retry-After": formatdate(0, usegmt=True)}),
    "error": Fault(500),
    "overload": Fault(503),
    "gateway's page": Fault(502, {"Content-Type": "text/html"}, body=b"<h1>Bad gateway</h1>"),
    "reset": Fault(resets=True),
    "half an answer": Fault(body=b'{"choices": [{"mess'),
    "page instead of an answer": Fault(200, {"Content-Type": "text/html"}, body=b"<html>hello"),
    "no choices": Fault(body=b'{"choices": []}'),
    "choices of another kind": Fault(body=b'{"choices": "none"}'),
    "null": Fault(body=b"null"),
    "hang": Fault(hangs=5.0),
    "malformed judgement": Fault(says='{"score": 12, "reason": "unfin'),
    "score out of range": Fault(says='{"score": 1000, "reason": "very"}'),
    "cut": Fault(finish="length"),
}
PARAMETER = Fault(400, error={"message": "'response_format' is not supported"})


@pytest.mark.parametrize("fault", TRANSIENT.values(), ids=TRANSIENT)
def test_what_passes_is_tried_again(server: JudgeServer, tmp_path: Path, fault: Fault) -> None:
    server.faults = [fault, fault]
    found = judged(tmp_path, server.url, conversations(6), concurrency=1, timeout=1.0)
    check_all(found)
    assert len(server.seen) >= 7


def test_all_faults_at_once(server: JudgeServer, tmp_path: Path) -> None:
    server.faults = [*TRANSIENT.values(), PARAMETER]
    check_all(judged(tmp_path, server.url, conversations(40), timeout=2.0))
    assert len(server.seen) == 40 + len(TRANSIENT) + 1


def test_a_rerun_asks_nothing_and_another_prompt_or_model_asks_again(
    server: JudgeServer, tmp_path: Path
) -> None:
    rows = conversations(20)
    first = judged(tmp_path, server.url, [*rows, *rows])
    assert len(server.seen) == 20, "equal conversations are asked about once"
    again = judged(tmp_path, server.url, [*rows, *rows])
    assert len(server.seen) == 20
    assert again.judgements == first.judgements
    assert (again.asked, again.tokens_in) == (0, 0)
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("JSON score reason\n{conversation}")
    judged(tmp_path, server.url, rows, prompt=prompt)
    assert len(server.seen) == 40


def test_one_more_row_costs_one_more_request(server: JudgeServer, tmp_path: Path) -> None:
    judged(tmp_path, server.url, conversations(9))
    judged(tmp_path, server.url, conversations(10))
    assert len(server.seen) == 10


def test_requests_keep_to_the_rate(server: JudgeServer, tmp_path: Path) -> None:
    check_all(judged(tmp_path, server.url, conversations(13), rpm=1200))
    times = [seen.at for seen in server.seen]
    assert times[-1] - times[0] > 0.95 * 12 * 60 / 1200


def test_tokens_keep_to_the_rate(server: JudgeServer, tmp_path: Path) -> None:
    found = judged(tmp_path, server.url, conversations(9), tpm=200_000, max_tokens=20)
    tokens = found.tokens_in + found.tokens_out
    spent = server.seen[-1].at - server.seen[0].at
    assert spent > 0.8 * (tokens * 8 / 9) * 60 / 200_000


def test_retry_after_rests_everybody(server: JudgeServer, tmp_path: Path) -> None:
    server.faults = [Fault(429, {"Retry-After": "1"})]
    server.seconds = 0.05
    check_all(judged(tmp_path, server.url, conversations(40), concurrency=4))
    times = sorted(seen.at for seen in server.seen)
    before = [at for at in times if at < times[0] + 0.9]
    assert len(before) <= 2 * 4  # what was under way; nothing new in the second that was asked for


def test_after_a_rest_requests_are_spaced_again(server: JudgeServer, tmp_path: Path) -> None:
    server.faults = [Fault(429, {"Retry-After": "1"})]
    check_all(judged(tmp_path, server.url, conversations(12), concurrency=6, rpm=1200))
    times = sorted(seen.at for seen in server.seen)
    after = [at for at in times if at > times[0] + 0.9]
    assert len(after) >= 8
    assert after[-1] - after[0] > 0.9 * (len(after) - 1) * 60 / 1200


def test_requests_run_at_the_same_time_and_no_more(server: JudgeServer, tmp_path: Path) -> None:
    server.seconds = 0.1
    judged(tmp_path, server.url, conversations(12), concurrency=3)
    assert server.at_once == 3


def test_failures_of_single_rows_are_told_and_the_others_kept(
    server: JudgeServer, tmp_path: Path
) -> None:
    def fault(seen: Seen) -> Fault | None:
        if "Question 4?" in seen.question:
            return Fault(says="I cannot judge this.")
        if "Question 5?" in seen.question:
            return Fault(
                400, error={"message": "content management policy", "code": "content_filter"}
            )
        return None

    server.always = fault
    found = judged(tmp_path, server.url, conversations(12))
    assert set(found.failures) == {4, 5}
    assert "no JSON" in found.failures[4]
    assert "content management policy" in found.failures[5]
    asked = [seen.question for seen in server.seen]
    assert sum("Question 4?" in question for question in asked) == 3
    assert sum("Question 5?" in question for question in asked) == 1
    server.always = lambda seen: None
    check_all(judged(tmp_path, server.url, conversations(12)))
    assert len(server.seen) == len(asked) + 2


def test_refused_rows_do_not_end_a_rerun(server: JudgeServer, tmp_path: Path) -> None:
    """A filter refuses more rows than a broken endpoint may fail on end; judgements were had before."""
    filtered = Fault(400, error={"message": "content management policy", "code": "content_filter"})
    refused = {f"Question {i}?" for i in range(5, 20)}
    server.always = lambda seen: filtered if any(q in seen.question for q in refused) else None
    first = judged(tmp_path, server.url, conversations(30))
    again = judged(tmp_path, server.url, conversations(30))
    assert set(first.failures) == set(again.failures) == set(range(5, 20))
    assert again.asked == 0


def test_an_unreachable_endpoint_fails_fast(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        started = time.monotonic()
        with pytest.raises(SaefilterError, match="cannot be reached") as caught:
            judged(tmp_path, url, conversations(50), backoff=1.0)
    assert time.monotonic() - started < 5
    assert url in str(caught.value)
    assert "0 judgements are kept" in str(caught.value)


def test_an_endpoint_that_goes_away_loses_nothing(server: JudgeServer, tmp_path: Path) -> None:
    server.always = lambda seen: Fault(resets=True) if len(server.seen) > 12 else None
    with pytest.raises(SaefilterError, match="questions on end had no judgement") as caught:
        judged(tmp_path, server.url, conversations(200), retries=1)
    assert "12 judgements are kept" in str(caught.value)
    assert len(server.seen) < 100, "it did not go through all rows"
    with JudgeServer() as mended:
        check_all(judged(tmp_path, mended.url, conversations(200)))
        assert len(mended.seen) == 188


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(401, error={"message": f"no such key {KEY}"}), "refuses the key .*no such key"),
        (Fault(403), "refuses the key"),
        (Fault(404, error={"message": "no model judge-model"}), "no model judge-model"),
        (Fault(429, error={"code": "insufficient_quota", "message": "pay"}), "no credit left"),
        (Fault(429, {"Retry-After": "7200"}), "come back in 7,200 s"),
        (Fault(307, {"Location": "http://elsewhere.example/v1"}), "points to http://elsewhere"),
    ],
    ids=["unauthorized", "forbidden", "no model", "no credit", "long rest", "redirect"],
)
def test_what_trying_again_does_not_mend_stops_at_once(
    server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault, message: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.always = lambda seen: fault
    with pytest.raises(SaefilterError, match=message) as caught:
        judged(tmp_path, server.url, conversations(100))
    assert KEY not in str(caught.value)
    assert len(server.seen) <= 8


def test_a_model_that_never_gives_a_judgement_is_not_asked_about_every_row(
    server: JudgeServer, tmp_path: Path
) -> None:
    server.always = lambda seen: Fault(says="Sure! This sample looks fine.")
    with pytest.raises(SaefilterError, match=r"10 questions on end had no judgement.*no JSON"):
        judged(tmp_path, server.url, conversations(500))
    assert len(server.seen) < 3 * (10 + 2 * 8)


def test_parameters_that_a_model_does_not_take_are_left_out_for_all(
    server: JudgeServer, tmp_path: Path
) -> None:
    def particular(seen: Seen) -> Fault | None:
        if "max_tokens" in seen.payload:
            said = "Unsupported parameter: use 'max_completion_tokens' instead of 'max_tokens'."
            return Fault(400, error={"message": said, "param": "max_tokens"})
        if "temperature" in seen.payload:
            return Fault(
                400, error={"message": "only the default is supported", "param": "temperature"}
            )
        return None

    server.always = particular
    check_all(judged(tmp_path, server.url, conversations(20), concurrency=1))
    assert len(server.seen) == 22
    assert server.seen[-1].payload["max_completion_tokens"] == 300
    assert server.seen[-1].payload["response_format"] == {"type": "json_object"}


def test_keys(server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    judged(tmp_path, server.url, conversations(1))
    assert "authorization" not in server.seen[-1].headers
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    judged(tmp_path, server.url, conversations(2))
    assert server.seen[-1].headers["authorization"] == f"Bearer {KEY}"
    judged(tmp_path, server.url, conversations(3), key_env="")
    assert "authorization" not in server.seen[-1].headers
    monkeypatch.setenv("ANOTHER", "other")
    judged(tmp_path, server.url, conversations(4), key_env="ANOTHER")
    assert server.seen[-1].headers["authorization"] == "Bearer other"
    with pytest.raises(SaefilterError, match="NOT_SET is not set"):
        judged(tmp_path, server.url, conversations(5), key_env="NOT_SET")
    assert JudgeSettings("http://elsewhere:8000/v1", "m").key_is_exposed()
    for safe in ("https://elsewhere/v1", "http://localhost:8000/v1", "http://[::1]:8000/v1"):
        assert not JudgeSettings(safe, "m").key_is_exposed()
    assert not JudgeSettings("http://elsewhere:8000/v1", "m", key_env="").key_is_exposed()
    assert KEY.encode() not in (tmp_path / "judgements.sqlite").read_bytes()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/v1", "127.0.0.1:8000", "https://", "https://user:secret@host/v1",
        "https://host/v1?api-key=secret", "http://host:port/v1",
    ],
)  # fmt: skip
def test_addresses_that_are_none_or_hold_secrets(tmp_path: Path, url: str) -> None:
    with pytest.raises(SaefilterError, match="--judge-url") as caught:
        judged(tmp_path, url, conversations(1))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "--judge-concurrency 0"),
        ({"rpm": -1}, "--judge-rpm -1"),
        ({"timeout": float("nan")}, "--judge-timeout nan"),
        ({"retries": -1}, "--judge-retries -1"),
        ({"price_in": -0.5}, "--judge-price-in -0.5"),
        ({"on_failure": "drop"}, "--judge-on-failure 'drop'"),
    ],
)
def test_nonsense_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SaefilterError, match=message):
        judged(tmp_path, "http://127.0.0.1:1/v1", conversations(1), **options)


def test_the_estimate_comes_first_and_progress_adds_up(server: JudgeServer, tmp_path: Path) -> None:
    judged(tmp_path, server.url, conversations(5))
    said: list[str] = []
    plans: list[tuple[int, int]] = []
    rows = 0

    def advance(more: int, tokens: int) -> None:
        nonlocal rows
        rows += more

    watch = Watch(said.append, lambda total, done: plans.append((total, done)), advance)
    asked_before = len(server.seen)
    prices = {"price_in": 2.0, "price_out": 8.0}
    found = judged(tmp_path, server.url, conversations(30), watch, concurrency=5, **prices)
    (line,) = said
    stated = re.search(r"about ([\d,]+) tokens in", line)
    assert stated is not None
    tokens_in = int(stated[1].replace(",", ""))
    assert tokens_in == pytest.approx(found.tokens_in, rel=0.02), "as the server counts them"
    assert line == (
        f"Judge judge-model at {server.url}: 30 rows, 25 to ask (5 known already or repeats), about "
        f"{tokens_in:,} tokens in and 1,250 out, about {(tokens_in * 2 + 1250 * 8) / 1e6:.2g} at the "
        "given prices, about 10 s at 2 s a request and 5 at a time"
    )
    assert plans == [(30, 5)]
    assert rows == 25 == len(server.seen) - asked_before
