"""The submitter against a dashboard that speaks Ray's HTTP and WebSocket, loses its memory, and goes away."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from trainer_app.errors import SubmissionRefusedError
from trainer_app.pod import submitter

pytestmark = pytest.mark.unit


@dataclass
class Head:
    """`states` are the job's, one a question, from its submission on; the log is sent in pieces, one a connection."""

    states: list[str]
    log: list[str]
    forgets_after: int | None = None  # connections to the log
    refuses: int | None = None
    silent: bool = False  # connections to the log stay open and say nothing
    loses: int = 0  # answers to submissions that it takes all the same
    jobs: list[Any] = field(default_factory=list)
    known: bool = False
    connections: int = 0
    tokens: set[str | None] = field(default_factory=set)
    error: int | None = None  # the answer to each question

    async def state(self, request: web.Request) -> web.Response:
        self.tokens.add(request.headers.get("Authorization"))
        if self.error:
            return web.Response(status=self.error)
        if not self.known:
            return web.Response(status=404)
        return web.json_response({"status": self.states.pop(0) if len(self.states) > 1 else self.states[0]})

    async def submit(self, request: web.Request) -> web.Response:
        if self.refuses:
            return web.Response(status=self.refuses, text="no")
        self.jobs.append(await request.json())
        self.known = True
        if self.loses:
            self.loses -= 1
            return web.Response(status=500)
        return web.json_response({})

    async def tail(self, request: web.Request) -> web.WebSocketResponse:
        answer = web.WebSocketResponse()
        await answer.prepare(request)
        self.connections += 1
        for piece in self.log[: self.connections]:
            await answer.send_str(piece)
        if self.silent:
            await asyncio.sleep(8)
        if self.connections == self.forgets_after:
            self.known, self.log, self.connections, self.forgets_after = False, ["after\n"], 0, None
        await answer.close()
        return answer


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(submitter, "PAUSE_S", 0.01)
    loop, runners = asyncio.new_event_loop(), []
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start(head: Head) -> int:
        app = web.Application()
        app.router.add_get("/api/jobs/{id}", head.state)
        app.router.add_post("/api/jobs/", head.submit)
        app.router.add_get("/api/jobs/{id}/logs/tail", head.tail)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return int(runner.addresses[0][1])

    def serving(head: Head) -> submitter.RayJobClient:
        port = asyncio.run_coroutine_threadsafe(start(head), loop).result(10)
        return submitter.RayJobClient(f"127.0.0.1:{port}", "demo-1", "token")

    async def end() -> None:
        for runner in runners:
            await runner.cleanup()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    yield serving
    asyncio.run_coroutine_threadsafe(end(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def test_submits_once_and_shows_each_line_once(serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    head = Head([*["RUNNING"] * 4, "SUCCEEDED"], ["one\ntw", "o\n", "three\n"])
    assert submitter.run_to_end(serve(head), "trainer tune x") == "SUCCEEDED"
    assert head.jobs == [{"entrypoint": "trainer tune x", "submission_id": "demo-1"}]
    assert capsys.readouterr().out == "one\ntwo\nthree\n"
    assert head.tokens == {"Bearer token"}


def test_a_head_that_forgot_the_job_gets_it_again(serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    head = Head(["RUNNING", "RUNNING", "FAILED"], ["before\n"], forgets_after=1)
    assert submitter.run_to_end(serve(head), "x") == "FAILED"
    assert len(head.jobs) == 2
    assert capsys.readouterr().out == "before\nafter\n"


def test_a_job_that_ray_refuses_is_not_tried_again(serve: Any) -> None:
    with pytest.raises(SubmissionRefusedError, match="HTTP 400 no"):
        submitter.run_to_end(serve(Head(["RUNNING"], [], refuses=400)), "x")


@pytest.mark.parametrize("status, limit", [(401, "DENIED_S"), (403, "DENIED_S"), (503, "SILENCE_S")])
def test_ray_is_not_asked_for_ever(status: int, limit: str, serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submitter, limit, 0.2)
    began = time.monotonic()
    with pytest.raises(SubmissionRefusedError, match=f"no answer from Ray at .* {status}") as caught:
        submitter.run_to_end(serve(Head([], [], error=status)), "x")
    assert 0.2 < time.monotonic() - began < 10
    assert ("RAY_AUTH_TOKEN" in str(caught.value)) == (status != 503)


def test_a_connection_that_is_cut_off_without_a_word_is_given_up(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that goes away closes no connection: after a silence the job is asked for."""
    monkeypatch.setattr(submitter, "TIMEOUT_S", 0.1)
    head = Head(["RUNNING", "RUNNING", "SUCCEEDED"], ["one\n"], silent=True)
    began = time.monotonic()
    assert submitter.run_to_end(serve(head), "x") == "SUCCEEDED"
    assert time.monotonic() - began < 6


def test_a_submission_whose_answer_is_lost_is_not_repeated(serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing of the new head's log is taken for what the old one has shown."""
    head = Head(["RUNNING", "RUNNING", "FAILED"], ["before\n"], forgets_after=1)
    ray_job = serve(head)
    submit = ray_job.submit

    def submitted(entrypoint: str) -> None:
        head.loses = len(head.jobs)  # the second one's
        submit(entrypoint)

    ray_job.submit = submitted
    assert submitter.run_to_end(ray_job, "x") == "FAILED"
    assert len(head.jobs) == 2
    assert capsys.readouterr().out == "before\nafter\n"


def test_the_end_is_the_end_though_its_last_words_are_lost(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ray_job = serve(Head(["SUCCEEDED"], [], known=True))
    monkeypatch.setattr(ray_job, "follow", lambda: (_ for _ in ()).throw(ConnectionResetError("the head is gone")))
    assert submitter.run_to_end(ray_job, "x") == "SUCCEEDED"


def test_it_ends_on_sigterm() -> None:
    """Process 1 of a container, which it is, gets no signal that it does not handle."""
    env = {**os.environ, "RAY_DASHBOARD_ADDRESS": "127.0.0.1:1", "RAY_JOB_SUBMISSION_ID": "demo-1"}
    command = [sys.executable, "-m", "trainer_app.pod.submitter", "--", "x"]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as submitter:
        assert submitter.stderr and "retrying" in submitter.stderr.readline()
        submitter.send_signal(signal.SIGTERM)
        assert submitter.wait(10) == 143
