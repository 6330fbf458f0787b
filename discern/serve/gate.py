"""What every request passes first and every answer last: who may ask, how many at once, headers.

Plain ASGI, and before anything is read: a server that is asked for more than it can do must spend
its time on answers, not on refusals.
"""

from __future__ import annotations

import functools
import hmac
import logging
import re
import time
from http import HTTPStatus

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from discern.serve.metrics import Metrics
from discern.serve.settings import LOOPBACK, ServeConfig

_log = logging.getLogger("discern.serve")
FULL = "as many wait as can: come again"
OPEN = ("/", "/health")  # without a token
ANSWERED = "/v1/predict"  # what the room is for; the other slow routes have limits of their own
LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d{1,12})\r?$", re.MULTILINE)
ALWAYS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


class Room:
    """How many may be inside at once: as many as are answered within `patience` seconds.

    At least `least`, so that a slow model still gets whole batches, and at most `most`.
    """

    def __init__(self, least: int, most: int, patience: float) -> None:
        self.least, self.most, self.patience = least, most, patience
        self.inside = 0
        self.pace = 0.0  # seconds from one answer to the next while there is work, smoothed
        self._since = 0.0  # the last answer, or the first who came after a pause

    @property
    def size(self) -> int:
        """How many may be inside by now."""
        if self.pace <= 0:
            return self.most
        return min(self.most, max(self.least, int(self.patience / self.pace)))

    @property
    def retry_after(self) -> int:
        """Seconds until those inside are answered, as HTTP counts: at least 1."""
        return max(1, round(self.inside * self.pace))

    def enter(self, now: float) -> bool:
        """Whether there is room for one more."""
        if self.inside >= self.size:
            return False
        if self.inside == 0:
            self._since = now
        self.inside += 1
        return True

    def leave(self, now: float) -> None:
        """One got its answer."""
        self.inside -= 1
        taken, self._since = now - self._since, now
        self.pace = taken if self.pace <= 0 else self.pace + 0.05 * (taken - self.pace)


class Gate:
    """Who may come in."""

    def __init__(self, config: ServeConfig, metrics: Metrics, room: Room) -> None:
        self.config, self.metrics, self.room = config, metrics, room

    def crowded(self, data: bytes) -> bytes | None:
        """The whole answer to a whole request for which there is no room, unparsed; else None."""
        if self.room.inside < self.room.size or not data.startswith(b"POST " + ANSWERED.encode()):
            return None
        head, _, body = data.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if length is None or len(body) < int(length[1]):
            return None  # who still writes would not read an answer
        self.metrics.add(ANSWERED, 503, 0.0)
        return _full(self.room.retry_after)

    def refused(self, scope: Scope) -> JSONResponse | None:
        """Why a request may not come in."""
        headers, config = Headers(scope=scope), self.config
        if config.is_local and _host(headers) not in LOOPBACK:
            # a page of somebody else whose name leads here (DNS rebinding)
            return refusal(403, "wrong_host", "ask for this server by its own name")
        foreign = headers.get("sec-fetch-site", "none") in ("cross-site", "same-site")
        if foreign and (scope["method"] != "GET" or scope["path"] != "/"):
            # a browser says that another page asks: it may hold a link here, and nothing else
            return refusal(403, "foreign_page", "another page may not ask here")
        if config.token is None or scope["path"] in OPEN:
            return None
        kind, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip().encode("utf-8", "replace")
        if kind.lower() == "bearer" and hmac.compare_digest(given, config.token.encode()):
            return None
        refused = refusal(401, "unauthorized", "send the token as Authorization: Bearer TOKEN")
        refused.headers["WWW-Authenticate"] = "Bearer"
        return refused


class Gated:
    """ASGI middleware around the whole service."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self.app, self.gate = app, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.monotonic(), 0

        async def finished(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(raw=message["headers"]).update(ALWAYS)
            await send(message)

        room, metrics = self.gate.room, self.gate.metrics
        refused = self.gate.refused(scope)
        asks = refused is None and scope["path"] == ANSWERED and scope["method"] == "POST"
        if asks and not room.enter(started):
            asks, refused = False, refusal(503, "busy", FULL, room.retry_after)
        try:
            await (refused or self.app)(scope, receive, finished)
        except Exception:  # no trace reaches a client; it is in the server's own log
            _log.exception("fault in %s", scope["path"])
            metrics.fault()
            if not status:
                await refusal(500, "fault", "a fault of the server")(scope, receive, finished)
        finally:
            now = time.monotonic()
            if asks:
                room.leave(now)
            if status:  # who left has no answer to count
                route = getattr(scope.get("route"), "path", "other")
                metrics.add(route, status, now - started)


def refusal(status: int, code: str, message: str, retry: int | None = None) -> JSONResponse:
    """An answer that is none: a code for programs, a line for people."""
    headers = {} if retry is None else {"Retry-After": str(retry)}
    said = {"error": {"code": code, "message": message}}
    return JSONResponse(said, status_code=status, headers=headers)


@functools.lru_cache
def _full(retry: int) -> bytes:
    """What a crowd is told, as bytes: the same for all of it."""
    return _as_bytes(refusal(503, "busy", FULL, retry))


def _as_bytes(answer: JSONResponse) -> bytes:
    """An answer as HTTP/1.1 writes it; the connection ends with it."""
    answer.headers.update(ALWAYS)
    answer.headers["Connection"] = "close"
    lines = [b"%s: %s" % (name, value) for name, value in answer.raw_headers]
    start = f"HTTP/1.1 {answer.status_code} {HTTPStatus(answer.status_code).phrase}".encode()
    return b"\r\n".join([start, *lines, b"", bytes(answer.body)])


def _host(headers: Headers) -> str:
    name = headers.get("host", "")
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].lower()
