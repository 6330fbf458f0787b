"""The verb that serves: a model comes in, an HTTP service runs until it is stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from discern.cli import answer, words
from discern.cli.options import PRECISIONS, AsJson, Debug, Model, Precision, Signed
from discern.errors import UsageError


def serve(
    model: Model,
    host: Annotated[str, typer.Option("--host", metavar="H", help="Address to listen on.")] = (
        "127.0.0.1"
    ),
    port: Annotated[
        int, typer.Option("--port", metavar="P", min=0, max=65535, help="Port.")
    ] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="F", help="Its first line is asked of clients."),
    ] = None,
    gallery: Annotated[
        Path | None, typer.Option("--gallery", metavar="G", help="Also answer who it is.")
    ] = None,
    may_enroll: Annotated[
        bool, typer.Option("--may-enroll", help="Clients may write the gallery.")
    ] = False,
    watch: Annotated[
        Path | None, typer.Option("--watch", metavar="RUN", help="Show this run as it trains.")
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=1, max=64, help="Processes.")
    ] = 1,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="F", help="Certificate chain, PEM.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="F", help="Its private key, PEM.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let everybody who reaches it ask.")
    ] = False,
    precision: Precision = "fp32",
    signed: Signed = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Answer over HTTP, with a page for the browser.

    On this machine alone, unless --host says otherwise; another host wants a token.
    """
    folder = words.model(model)
    bits = words.one_of(precision, PRECISIONS, "--precision")
    if may_enroll and gallery is None:
        raise UsageError("--may-enroll: name the file with --gallery")
    known = None if may_enroll else gallery  # it may be made by the first who is enrolled
    files = ((known, "gallery"), (watch, "run"), (tls_cert, "certificate"), (tls_key, "key"))
    for file, what in files:
        if file is not None:
            words.existing(file, what)
    if (tls_cert is None) != (tls_key is None):
        raise UsageError("--tls-cert and --tls-key go together")
    from discern.serve.settings import ServeConfig, read_token

    config = ServeConfig(
        model=str(folder),
        gallery=None if gallery is None else str(gallery),
        may_enroll=may_enroll,
        watch=None if watch is None else str(watch),
        token=None if token_file is None else read_token(token_file),
        host=host,
        port=port,
        workers=workers,
        certificate=None if tls_cert is None else str(tls_cert),
        key=None if tls_key is None else str(tls_key),
        require_signature=None if signed is None else str(signed),
        precision=bits,
    )
    if not config.is_local and config.token is None and not insecure:
        raise UsageError(
            f"--host {host}: others can reach this address: give --token-file F, or --insecure"
        )
    from discern.serve.start import serve as work

    scheme = "http" if tls_cert is None else "https"
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/"

    def ready() -> None:
        if as_json:
            answer.say_json({"verb": "serve", "model": str(folder), "url": url})
        else:
            print(f"serving {folder} at {url} (Ctrl-C stops it)", flush=True)

    work(config, ready)
    return 0
