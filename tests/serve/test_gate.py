"""The gate: how many may be inside, and that who may not is told before anything is read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from discern.serve.gate import Gate, Gated, Room
from discern.serve.metrics import Metrics
from discern.serve.settings import ServeConfig


def test_the_room_is_what_can_be_answered_in_time() -> None:
    room, now = Room(least=4, most=50, patience=0.5), 100.0
    assert room.size == 50 and room.enter(now)
    now += 0.1
    room.leave(now)  # the first one shows the pace
    assert room.pace == pytest.approx(0.1) and room.size == 5
    for _ in range(5):
        assert room.enter(now)
    assert not room.enter(now) and room.inside == 5 and room.retry_after == 1
    for _ in range(200):  # it gets faster: 100 a second
        now += 0.01
        room.leave(now)
        assert room.enter(now)
    assert room.size == pytest.approx(50, abs=1)
    for _ in range(200):  # and slow
        now += 5.0
        room.leave(now)
        room.enter(now)
    assert room.size == 4 and room.retry_after == 20


def test_a_pause_is_not_slowness() -> None:
    room = Room(least=1, most=50, patience=0.5)
    for start in (0.0, 1000.0, 5000.0):
        assert room.enter(start)
        room.leave(start + 0.02)
    assert room.pace == pytest.approx(0.02) and room.inside == 0


Answer = tuple[int, dict[str, str], dict[str, Any]]


async def _asked(
    gate: Gated, path: str = "/v1/predict", receive: Callable[[], Awaitable[Any]] | None = None
) -> Answer:
    headers = [(b"host", b"127.0.0.1:8000")]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def nothing() -> None:
        raise AssertionError("the body was read")

    await gate(scope, receive or nothing, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, json.loads(sent[1]["body"])


def test_one_too_many_is_sent_away_unread_and_others_are_not_held_up() -> None:
    async def run() -> None:
        go, reading = asyncio.Event(), asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/v1/predict":
                reading.set()
                await go.wait()
            start = {"type": "http.response.start", "status": 200, "headers": []}
            await send(start)
            await send({"type": "http.response.body", "body": b"{}"})

        metrics, room = Metrics(), Room(least=1, most=2, patience=1.0)
        gate = Gated(app, Gate(ServeConfig(model="x"), metrics, room))
        inside = [asyncio.create_task(_asked(gate)) for _ in range(2)]
        await reading.wait()
        status, headers, said = await _asked(gate)
        assert status == 503 and said["error"]["code"] == "busy"
        assert int(headers["retry-after"]) >= 1 and headers["cache-control"] == "no-store"
        assert (await _asked(gate, "/v1/model"))[0] == 200
        go.set()
        assert [(await one)[0] for one in inside] == [200, 200]
        assert room.inside == 0 and (await _asked(gate))[0] == 200
        assert metrics.requests["other", 503] == 1 and metrics.requests["other", 200] == 4

    asyncio.run(run())


def test_who_leaves_before_the_answer_leaves_the_room_and_is_not_counted() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(30)

    async def run() -> None:
        metrics, room = Metrics(), Room(least=1, most=2, patience=1.0)
        asked = asyncio.create_task(_asked(Gated(app, Gate(ServeConfig(model="x"), metrics, room))))
        await asyncio.sleep(0)
        assert room.inside == 1
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert room.inside == 0 and not metrics.requests

    asyncio.run(run())


@pytest.mark.parametrize("begun", [False, True])
def test_a_fault_leaves_the_room(begun: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"{}"})
        raise ValueError("/secret/path")

    metrics, room = Metrics(), Room(least=1, most=2, patience=1.0)
    gate = Gated(app, Gate(ServeConfig(model="x"), metrics, room))
    for _ in range(5):
        status, _, said = asyncio.run(_asked(gate))
        assert status == (200 if begun else 500) and "secret" not in json.dumps(said)
    assert room.inside == 0 and metrics.faults == 5


def test_a_crowd_gets_its_answer_before_it_is_parsed() -> None:
    metrics, room = Metrics(), Room(least=1, most=1, patience=1.0)
    gate = Gate(ServeConfig(model="x"), metrics, room)
    head = b"POST /v1/predict?top=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
    whole = head + b"A: b\r\n\r\n12345"
    assert gate.crowded(whole) is None  # there is room
    assert room.enter(0.0)
    told = gate.crowded(whole)
    assert told is not None and metrics.requests["/v1/predict", 503] == 1
    start, _, rest = told.partition(b"\r\n")
    assert start == b"HTTP/1.1 503 Service Unavailable"
    lines, _, body = rest.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in lines.decode().split("\r\n"))
    assert int(headers["content-length"]) == len(body) and headers["connection"] == "close"
    assert int(headers["retry-after"]) >= 1 and headers["cache-control"] == "no-store"
    assert json.loads(body)["error"]["code"] == "busy"
    for other in (
        whole[:-1],  # it is not all there
        head + b"\r\n",
        head.replace(b"Content-Length", b"Transfer-Length") + b"\r\n12345",
        whole.replace(b"POST", b"GET"),
        whole.replace(b"/v1/predict", b"/v1/explain"),
        b"",
    ):
        assert gate.crowded(other) is None
    room.leave(1.0)
    assert gate.crowded(whole) is None
