"""A server's process: settings in, until a signal ends it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from discern.serve.app import make_app
from discern.serve.engine import Engine
from discern.serve.gate import Gate
from discern.serve.settings import ServeConfig

VARIABLE = "DISCERN_SERVE"  # how worker processes learn their settings
MOST_HEADERS = 64 * 2**10  # bytes
MOST_CONNECTIONS = 1024
KEEP_ALIVE = 5  # seconds


class GuardedProtocol(H11Protocol):
    """Closes connections whose headers do not come (slow loris), and sends a crowd away.

    Where there is no room, a request that is all there is answered before it is parsed: at ten
    times what the server can do, parsing alone would take all of its time.
    """

    seconds = 10.0
    gate: Gate | None = None
    _expiry: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expiry = self.loop.call_later(self.seconds, self._expire)

    def data_received(self, data: bytes) -> None:
        waits = self.cycle is None or self.cycle.response_complete
        refused = self.gate.crowded(data) if self.gate is not None and waits else None
        if refused is not None:
            self.transport.write(refused)
            self.transport.close()
            return
        super().data_received(data)
        if self.cycle is not None and self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport is not None and not self.transport.is_closing() and self._expiry is None:
            self._expiry = self.loop.call_later(self.seconds, self._expire)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        super().connection_lost(exc)

    def _expire(self) -> None:
        self._expiry = None
        waits = self.cycle is None or self.cycle.response_complete
        if waits and self.transport is not None:
            self.transport.close()


def serve(config: ServeConfig, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGINT or SIGTERM, and answer what was accepted first.

    `ready` is called once the model is known to be one.  Raises as `make_app` does.
    """
    shared: dict[str, Any] = {
        "host": config.host,
        "port": config.port,
        "http": GuardedProtocol,
        "ws": "none",
        "log_level": "warning",
        "access_log": False,
        "server_header": False,
        "timeout_keep_alive": KEEP_ALIVE,
        "timeout_graceful_shutdown": config.drain_seconds,
        "limit_concurrency": MOST_CONNECTIONS,
        "h11_max_incomplete_event_size": MOST_HEADERS,
        "ssl_certfile": config.certificate,
        "ssl_keyfile": config.key,
    }
    if config.workers == 1:
        app = guarded(config)
        ready()
        uvicorn.run(app, **shared)
        return
    Engine(config).queue.close()  # what is wrong with the model is told here, and once
    ready()
    os.environ[VARIABLE] = json.dumps(dataclasses.asdict(config))
    make = "discern.serve.start:from_environment"
    # a worker that dies is replaced by uvicorn's supervisor
    uvicorn.run(make, factory=True, workers=config.workers, **shared)


def from_environment() -> FastAPI:
    """The service of a worker process."""
    return guarded(ServeConfig(**json.loads(os.environ[VARIABLE])))


def guarded(config: ServeConfig) -> FastAPI:
    """The service, whose gate and limits the connections know."""
    app = make_app(config)
    GuardedProtocol.seconds, GuardedProtocol.gate = config.header_seconds, app.state.gate
    return app
