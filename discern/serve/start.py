"""A server's process: settings in, until a signal ends it."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI

from discern.heap import share_heaps
from discern.serve.app import make_app
from discern.serve.door import Door
from discern.serve.engine import Engine
from discern.serve.settings import ServeConfig

VARIABLE = "DISCERN_SERVE"  # how worker processes learn their settings
MOST_HEADERS = 64 * 2**10  # bytes
MOST_CONNECTIONS = 1024
KEEP_ALIVE = 5  # seconds


def serve(config: ServeConfig, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGINT or SIGTERM, and answer what was accepted first.

    `ready` is called once the model is known to be one.  Raises as `make_app` does.
    """
    shared: dict[str, Any] = {
        "host": config.host,
        "port": config.port,
        "http": Door,
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
    engine = Engine(config)  # what is wrong with the model is told here, and once
    engine.queue.close()
    # timed once: workers that start together would disturb each other, and all are to answer alike
    config = dataclasses.replace(config, precision=engine.bundle.model.precision)
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
    share_heaps()
    app = make_app(config)
    # all that torch has loaded would be searched for garbage again and again, and while that
    # goes on nobody gets an answer
    gc.collect()
    gc.freeze()
    Door.seconds, Door.gate = config.header_seconds, app.state.gate
    return app
