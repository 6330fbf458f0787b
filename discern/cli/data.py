"""Verbs about data and machine: a source comes in, findings or other files go out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from discern.cli import answer, words
from discern.cli.options import AsJson, Debug, Sources, Strict
from discern.cli.progress import progress

FORMS: tuple[Literal["tfrecord", "folder"], ...] = ("tfrecord", "folder")


def doctor(as_json: AsJson = False, debug: Debug = False) -> int:
    """What this machine has and what is missing."""
    from discern.doctor import examine, lines

    with answer.one_answer(as_json):
        found = examine()
    if as_json:
        answer.say_json(found)
    else:
        print("\n".join(lines(found)))
        print("next: discern demo")
    return 0


def check(
    source: Sources,
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="MODEL", help="Name the labels that this model doubts."),
    ] = None,
    strict: Strict = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Counts, broken files, duplicates, leaks, imbalance; with a model, doubtful labels."""
    specs = words.sources(source)
    judge = None if model is None else words.model(model)
    from discern.data.check import check
    from discern.data.limits import Limits
    from discern.data.sources import open_source

    with answer.one_answer(as_json), progress("reading") as show:
        opened = open_source(specs)
        found = check(opened, Limits(), strict=strict, progress=show)
        if judge is not None:
            from discern.recipes.suspects import suspects

            found["doubtful_labels"] = suspects(judge, opened)
    then = ("discern", "pretrain", *specs, "--out", "runs/pretrained")
    return answer.finish_check(found, as_json, answer.command(*then))


def convert(
    source: Sources,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", show_default=False, help="Folder to write.")
    ],
    to: Annotated[str, typer.Option("--to", metavar="FORM", help="tfrecord or folder.")],
    shards: Annotated[
        int, typer.Option("--shards", metavar="N", min=1, help="TFRecord files per split.")
    ] = 1,
    gzip: Annotated[bool, typer.Option("--gzip", help="Compress TFRecord files.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Write data as TFRecord shards, or as class folders."""
    specs, form = words.sources(source), words.one_of(to, FORMS, "--to")
    from discern.data.convert import convert
    from discern.data.sources import open_source

    with answer.one_answer(as_json), progress("writing") as show:
        result = convert(open_source(specs), out, form, shards, gzip, progress=show)
    return answer.finish(result, as_json, answer.command("discern", "data", "check", out))
