"""The door: a crowd is sent away before anything is made ready for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from discern.serve import door
from discern.serve.door import Door
from discern.serve.gate import Gate, Room
from discern.serve.metrics import Metrics
from discern.serve.settings import ServeConfig

WHOLE = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"


class Wire:
    """A transport that keeps what is done to it."""

    def __init__(self) -> None:
        self.written, self.closed, self.protocol = b"", False, None

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol


class Http:
    """What a connection becomes."""

    made: list[Http] = []

    def __init__(self, **given: Any) -> None:
        self.given, self.heard = given, []
        self.made.append(self)

    def connection_made(self, transport: Any) -> None:
        self.heard.append(transport)

    def data_received(self, data: bytes) -> None:
        self.heard.append(data)


class State:
    """What uvicorn counts."""

    def __init__(self) -> None:
        self.connections: set[Any] = set()


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    room = Room(least=1, most=1, patience=0.5)
    monkeypatch.setattr(Door, "gate", Gate(ServeConfig(model="m"), Metrics(), room))
    monkeypatch.setattr(door, "GuardedProtocol", Http)
    monkeypatch.setattr(Http, "made", [])
    return room


def met(data: bytes | None, seconds: float = 10.0, waits: float = 0.0) -> tuple[Wire, State, int]:
    """What a connection comes to that sends `data`, and as how many it counted at first."""

    async def work() -> tuple[Wire, State, int]:
        wire, state = Wire(), State()
        new = Door(server_state=state, config="c")
        new.seconds = seconds
        new.connection_made(wire)  # type: ignore[arg-type]
        count = len(state.connections)
        if data is not None:
            new.data_received(data)
        await asyncio.sleep(waits)
        if wire.closed:
            new.connection_lost(None)
        return wire, state, count

    return asyncio.run(work())


def test_who_finds_room_comes_in(room: Room) -> None:
    wire, state, count = met(WHOLE)
    (inner,) = Http.made
    assert wire.protocol is inner and inner.heard == [wire, WHOLE] and not wire.written
    assert inner.given == {"server_state": state, "config": "c"}
    assert count == 1 and not state.connections  # it counts itself from here on


def test_a_crowd_is_sent_away(room: Room) -> None:
    room.enter(0.0)
    wire, state, _ = met(WHOLE)
    assert wire.written.startswith(b"HTTP/1.1 503 ") and b"\r\nretry-after: 1\r\n" in wire.written
    assert b'"code":"busy"' in wire.written and wire.closed
    assert not Http.made and not state.connections
    assert Door.gate is not None and Door.gate.metrics.requests["/v1/predict", 503] == 1
    other, _, _ = met(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert other.protocol is Http.made[0] and not other.written


def test_who_says_nothing_is_let_go(room: Room) -> None:
    wire, state, _ = met(None, seconds=0.01, waits=0.1)
    assert wire.closed and not Http.made and not state.connections
    wire, _, _ = met(WHOLE, seconds=0.01, waits=0.1)
    assert not wire.closed  # from here on HTTP has a limit of its own


def test_a_server_that_stops_lets_go_of_who_has_not_asked(room: Room) -> None:
    async def work() -> tuple[Wire, State]:
        wire, state = Wire(), State()
        Door(server_state=state).connection_made(wire)  # type: ignore[arg-type]
        for one in list(state.connections):
            one.shutdown()
            one.connection_lost(None)
        return wire, state

    wire, state = asyncio.run(work())
    assert wire.closed and not state.connections
