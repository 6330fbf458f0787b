"""Connections before they are requests: bytes come in, and are refused or become HTTP.

At ten times what a server can do, parsing what it will not answer would take all of its time, and
so would making ready to parse.  Where there is no room, a request that is all there is answered
from its first bytes.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

from discern.serve.gate import Gate


class Door(asyncio.Protocol):
    """What a new connection meets; it makes way for HTTP once there are bytes to be read."""

    seconds = 10.0  # until headers must have come
    gate: Gate | None = None

    def __init__(self, *, server_state: Any, **given: Any) -> None:
        self._connections = server_state.connections  # what a server that stops waits for
        self._given = {"server_state": server_state, **given}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)
        loop = asyncio.get_running_loop()
        self._expiry = loop.call_later(self.seconds, transport.close)

    def data_received(self, data: bytes) -> None:
        if self.sent_away(self._transport, data):
            return
        self.connection_lost(None)
        inner = GuardedProtocol(**self._given)
        self._transport.set_protocol(inner)
        inner.connection_made(self._transport)
        inner.data_received(data)

    @classmethod
    def sent_away(cls, transport: asyncio.Transport, data: bytes) -> bool:
        """Whether this was a request for which there is no room; it has its answer then."""
        refused = None if cls.gate is None else cls.gate.crowded(data)
        if refused is None:
            return False
        transport.write(refused)
        transport.close()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._expiry.cancel()

    def shutdown(self) -> None:
        """The server stops: nothing was asked."""
        self._transport.close()


class GuardedProtocol(H11Protocol):
    """Closes connections whose headers do not come (slow loris), and sends a crowd away."""

    _expiry: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expiry = self.loop.call_later(Door.seconds, self._expire)

    def data_received(self, data: bytes) -> None:
        waits = self.cycle is None or self.cycle.response_complete
        if waits and Door.sent_away(self.transport, data):
            return
        super().data_received(data)
        if self.cycle is not None and self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport is not None and not self.transport.is_closing() and self._expiry is None:
            self._expiry = self.loop.call_later(Door.seconds, self._expire)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        super().connection_lost(exc)

    def _expire(self) -> None:
        self._expiry = None
        waits = self.cycle is None or self.cycle.response_complete
        if waits and self.transport is not None:
            self.transport.close()
