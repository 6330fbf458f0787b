"""The verb for very many items: a model and sources come in, Parquet files go out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from discern.cli import answer, words
from discern.cli.options import PRECISIONS, AsJson, Debug, Out, Precision, Signed, Sources
from discern.errors import EXIT_DATA, EXIT_DONE


def score(
    source: Sources,
    out: Out,
    model: Annotated[Path, typer.Option("--model", "-m", metavar="M", help="A tuned model.")],
    chunk: Annotated[
        int | None, typer.Option("--chunk", metavar="N", min=1, help="Items of one file.")
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=1, help="Processes on this machine.")
    ] = 1,
    ray: Annotated[
        str | None,
        typer.Option("--ray", metavar="ADDRESS", help="A Ray cluster; `local` starts one here."),
    ] = None,
    precision: Precision = "fp32",
    signed: Signed = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Answer very many items, each exactly once.

    Sources of any size go in, Parquet files come out, by many processes or a Ray cluster.

    The same command goes on where it was stopped, with any number of workers.
    """
    folder, specs = words.model(model), words.sources(source)
    bits = words.one_of(precision, PRECISIONS, "--precision")
    from discern.recipes.score import CHUNK
    from discern.recipes.score import score as work

    with answer.one_answer(as_json):
        result = work(
            specs,
            folder,
            out,
            chunk=chunk or CHUNK,
            workers=workers,
            ray=ray,
            require_signature=signed,
            precision=bits,
        )
    code = EXIT_DATA if result["bad_files"] == result["samples"] else EXIT_DONE
    return answer.finish({**result, "exit_code": code}, as_json)
