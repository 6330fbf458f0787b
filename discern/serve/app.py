"""The HTTP service: requests in, JSON, pictures and a page out.

No route takes a path or a URL, and no answer holds one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from discern._version import __version__
from discern.explain.table import EXPLAINERS
from discern.heap import give_back
from discern.serve.engine import Engine, Fault, Item
from discern.serve.gate import FULL, Gate, Gated, Room, refusal
from discern.serve.metrics import Metrics
from discern.serve.queue import Busy
from discern.serve.settings import ServeConfig
from discern.serve.watch import Watched

DECODERS = 2  # threads
SLOW = 4  # explanations and identifications at once; more are sent away
MOST_TOP = 100
TIDY_SECONDS = 30.0  # after which memory that was freed is given back
POLICY = (
    "default-src 'none'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
CODES = {400: "bad_request", 404: "not_found", 405: "wrong_method", 413: "too_large"}


def make_app(config: ServeConfig) -> FastAPI:
    """The service of one model.  Raises UsageError, IntegrityError for a model that is none."""
    engine, metrics = Engine(config), Metrics()
    room = Room(config.batch, config.queue, config.patience)
    pool = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")
    slow = asyncio.Semaphore(SLOW)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        tidier = asyncio.create_task(tidied())
        yield
        tidier.cancel()
        engine.queue.close()
        pool.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(
        title="Discern", version=__version__, lifespan=life, docs_url=None, redoc_url=None
    )
    app.state.engine, app.state.metrics = engine, metrics
    app.state.gate = Gate(config, metrics, room)
    app.add_middleware(Gated, gate=app.state.gate)
    page = resources.files("discern.serve").joinpath("page/index.html").read_text("utf-8")

    async def tidied() -> None:
        """Memory goes back again and again, in a thread that decodes, for some milliseconds."""
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            await asyncio.get_running_loop().run_in_executor(pool, give_back)

    async def given(request: Request) -> tuple[bytes, Item]:
        data = await body_of(request, config)
        loop = asyncio.get_running_loop()
        return data, await loop.run_in_executor(pool, engine.item, data)

    async def queued(item: Item) -> Any:
        try:
            future = engine.queue.ask(item.frames)
        except Busy:
            raise Fault(503, "busy", FULL, room.retry_after) from None
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), config.answer_seconds)
        except TimeoutError:
            raise Fault(503, "slow", "no answer in time: try again", 5) from None

    async def apart(work: Callable[[], Any]) -> Any:
        """Work that takes long, some of it at once."""
        if slow.locked():
            raise Fault(503, "busy", FULL, 2)
        async with slow:
            return await asyncio.to_thread(work)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})

    @app.get("/health")
    async def health() -> JSONResponse:
        """Whether the model answers."""
        well = engine.queue.alive
        said = {"status": "ok" if well else "failing", "version": __version__}
        return JSONResponse(said, status_code=200 if well else 503)

    @app.get("/v1/model")
    async def model() -> dict[str, Any]:
        """What the model knows."""
        return {
            "labels": engine.bundle.labels,
            "guard": bool(engine.bundle.certainty.guards),
            "gallery": engine.gallery is not None,
            "may_enroll": engine.gallery is not None and engine.may_enroll,
            "run": engine.run is not None,
            "explainers": list(EXPLAINERS),
        }

    @app.get("/metrics", response_class=PlainTextResponse)
    async def numbers() -> PlainTextResponse:
        """Counters for Prometheus."""
        return PlainTextResponse(metrics.text(engine.queue), media_type="text/plain; version=0.0.4")

    @app.post("/v1/predict", openapi_extra=BODY)
    async def predict(request: Request, top: int = Query(1, ge=1, le=MOST_TOP)) -> dict[str, Any]:
        """The likeliest classes of a picture or clip, sent as the body or as `file` of a form."""
        _, item = await given(request)
        return engine.said(await queued(item), item.clip.kind, top)

    @app.post("/v1/explain", openapi_extra=BODY)
    async def explain(request: Request, method: str | None = None) -> Response:
        """Where the class was seen: a PNG, for clips an MP4."""
        if method is not None and method not in EXPLAINERS:
            raise Fault(422, "no_such_method", f"there are {', '.join(EXPLAINERS)}")
        data, item = await given(request)
        picture, kind = await apart(lambda: engine.explained(data, item, method))
        return Response(picture, media_type=kind)

    @app.post("/v1/gallery/identify", openapi_extra=BODY)
    async def identify(request: Request, top: int = Query(1, ge=1, le=MOST_TOP)) -> dict[str, Any]:
        """Who of the gallery it is, or that nobody enrolled is near enough."""
        _, item = await given(request)
        found: dict[str, Any] = await apart(lambda: engine.identified(item, top))
        return found

    @app.get("/v1/gallery")
    async def gallery() -> dict[str, Any]:
        """Who is enrolled, with how many pictures."""
        found: dict[str, Any] = await apart(engine.enrolled)
        return found

    @app.post("/v1/gallery/enroll", openapi_extra=BODY)
    async def enroll(request: Request, name: str = Query(max_length=200)) -> dict[str, Any]:
        """Enrol a picture or clip of a name; where the server was started with --may-enroll."""
        _, item = await given(request)
        found: dict[str, Any] = await apart(lambda: engine.enroll(name, item))
        return found

    @app.delete("/v1/gallery")
    async def forget(name: str = Query(max_length=200)) -> dict[str, Any]:
        """Forget a name and all that was kept of it."""
        found: dict[str, Any] = await apart(lambda: engine.forget(name))
        return found

    @app.get("/v1/run")
    async def run() -> dict[str, Any]:
        """How far the run is that the server was told to watch."""
        found: dict[str, Any] = await apart(watched().state)
        return found

    @app.get("/v1/run/samples/{number}")
    async def sample(number: int) -> Response:
        """A sample sheet of that run, by its place in `samples`."""
        found = await asyncio.to_thread(watched().picture, number)
        if found is None:
            raise Fault(404, "no_sample", "there is no sheet of this number")
        return Response(found[0], media_type=found[1])

    def watched() -> Watched:
        if engine.run is None:
            raise Fault(404, "no_run", "this server was started without --watch")
        return engine.run

    @app.exception_handler(Fault)
    async def faulty(request: Request, fault: Fault) -> JSONResponse:
        return refusal(fault.status, fault.code, fault.message, fault.retry)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        names = {str(one["loc"][-1]) for one in error.errors()}
        return refusal(422, "invalid", f"parameters that do not fit: {', '.join(sorted(names))}")

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> JSONResponse:
        code = CODES.get(error.status_code, "refused")
        return refusal(error.status_code, code, str(error.detail))

    return app


BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}


async def body_of(request: Request, config: ServeConfig) -> bytes:
    """The item that was sent, in a form or as the body.  Raises Fault."""
    said = request.headers.get("content-length")
    if said is not None and (not said.isdecimal() or int(said) > config.most_bytes):
        raise Fault(413, "too_large", f"at most {config.most_bytes} bytes")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Fault(415, "encoded", "send the file as it is, without Content-Encoding")
    data = await _read(request, config)
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return data
    again = Request(request.scope, _once(data))
    try:
        async with again.form(max_files=1, max_fields=config.most_parts) as form:
            file = form.get("file")
            if file is None or isinstance(file, str):
                raise Fault(422, "no_file", "the form has no file of the name `file`")
            return await file.read()
    except (MultiPartException, HTTPException, KeyError, ValueError):
        raise Fault(400, "bad_form", "the form cannot be read") from None


async def _read(request: Request, config: ServeConfig) -> bytes:
    """The body, piece by piece, with a limit on bytes and on waiting."""
    pieces: list[bytes] = []
    size = 0
    stream = request.stream().__aiter__()
    while True:
        try:
            piece = await asyncio.wait_for(stream.__anext__(), config.body_seconds)
        except StopAsyncIteration:
            return b"".join(pieces)
        except TimeoutError:
            raise Fault(408, "slow_body", "the body came too slowly") from None
        size += len(piece)
        if size > config.most_bytes:
            raise Fault(413, "too_large", f"at most {config.most_bytes} bytes")
        pieces.append(piece)


def _once(data: bytes) -> Callable[[], Awaitable[dict[str, Any]]]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": data, "more_body": False}

    return receive
