"""Verbs that use a model: a model and data come in, measures and files go out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from discern.cli import answer, words
from discern.cli.options import (
    PRECISIONS,
    AsJson,
    Debug,
    Minutes,
    Model,
    Out,
    Precision,
    Seed,
    Signed,
    Sources,
    Start,
    Strict,
    Views,
)
from discern.errors import UsageError


def evaluate(
    model: Model,
    source: Sources,
    out: Out,
    unknown: Annotated[
        list[str] | None,
        typer.Option(
            "--unknown",
            metavar="SOURCE",
            help="Items of no class it knows: how many the guard finds; may be repeated.",
        ),
    ] = None,
    strict: Strict = False,
    views: Views = 1,
    merge: Annotated[
        float | None,
        typer.Option(
            "--merge", metavar="SHARE", help="Merge this share of the tokens: less to compute."
        ),
    ] = None,
    signed: Signed = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Measure a model on labelled data; write a report.

    Accuracy with intervals, calibration, confusion, per class, the guard, and the wrong
    predictions.
    """
    folder, specs = words.model(model), words.sources(source)
    strange = words.sources(unknown or [])
    from discern.evaluate.evaluate import evaluate as work
    from discern.seal.sign import requiring

    with answer.one_answer(as_json), requiring(signed):
        result = work(folder, specs, out, unknown=strange, strict=strict, views=views, merge=merge)
    then = ("discern", "compare", *specs, "--from", folder, "--out", f"{out}-compared")
    return answer.finish(result, as_json, answer.command(*then))


def compare(
    source: Sources,
    out: Out,
    labels: Annotated[
        str,
        typer.Option("--labels", metavar="N,...", help="Labels per class, for example 10,100,all."),
    ] = "all",
    minutes: Minutes = None,
    base: Start = None,
    seed: Seed = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Hand-crafted, from scratch, pre-trained: side by side.

    Accuracy and time per item of each, on the same labels and the same test items.
    """
    specs, counts = words.sources(source), words.label_counts(labels)
    words.positive(minutes, "--minutes")
    if base is not None:
        words.start(base)
    from discern.recipes.compare import compare as work

    with answer.one_answer(as_json):
        result = work(specs, out, labels=counts, minutes=minutes, base=base, seed=seed)
    return answer.finish(result, as_json)


def predict(
    model: Model,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", show_default=False, help="Images, clips, or folders."),
    ],
    top: Annotated[
        int, typer.Option("--top", metavar="K", min=1, help="Classes to show per file.")
    ] = 1,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="FILE", help="Also write .csv, .jsonl, .parquet or .json."),
    ] = None,
    views: Views = 1,
    precision: Precision = "fp32",
    signed: Signed = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Name what is in images and clips, and how surely."""
    folder, paths = words.model(model), words.media(files)
    if save is not None and save.suffix.lower() not in (".csv", ".jsonl", ".parquet", ".json"):
        raise UsageError(f"--save {save}: write a .csv, .jsonl, .parquet or .json file")
    bits = words.one_of(precision, PRECISIONS, "--precision")
    from discern.predict import predict_files
    from discern.seal.sign import requiring

    with answer.one_answer(as_json), requiring(signed):
        found = predict_files(folder, paths, top, views=views, precision=bits)
    if save is not None:
        answer.save_predictions(found, save)
    return answer.finish_predictions(found, as_json)


def generate(
    model: Model,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FILE", help="A .png, .jpg, .webp, .mp4, .gif file, or a folder."
        ),
    ],
    count: Annotated[int, typer.Option("--count", "-n", metavar="N", min=1, help="How many.")] = 16,
    label: Annotated[
        str | None,
        typer.Option(
            "--label", metavar="CLASS", help="Of this class, where the model knows classes."
        ),
    ] = None,
    walk: Annotated[
        bool, typer.Option("--walk", help="Images on the way from one sample to another.")
    ] = False,
    seed: Seed = 0,
    signed: Signed = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Make new images or clips."""
    folder = words.model(model)
    from discern.recipes.generate import generate as work
    from discern.seal.sign import requiring

    with answer.one_answer(as_json), requiring(signed):
        result = work(folder, count, out, label, seed, between=walk)
    return answer.finish(result, as_json)


def reconstruct(
    model: Model,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", show_default=False, help="Image or clip.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="An image or video file.")
    ],
    mask: Annotated[
        float, typer.Option("--mask", metavar="SHARE", help="Share of the patches to hide.")
    ] = 0.75,
    seed: Seed = 0,
    signed: Signed = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Hide parts of an image or clip and paint them anew."""
    folder, path = words.model(model), words.existing(file, "file")
    words.share(mask, "--mask")
    from discern.recipes.generate import reconstruct as work
    from discern.seal.sign import requiring

    with answer.one_answer(as_json), requiring(signed):
        result = work(folder, path, out, mask, seed)
    return answer.finish(result, as_json)


def explain(
    model: Model,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", show_default=False, help="Image or clip.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="An image or video file.")
    ],
    method: Annotated[
        str | None,
        typer.Option("--method", metavar="M", help="occlusion, relevance or gradients."),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option("--label", metavar="CLASS", help="Why this class, and not the likeliest."),
    ] = None,
    seed: Seed = 0,
    signed: Signed = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Show what an answer rests on.

    A picture of where the class was seen, for clips a video with a curve over time, and a score
    of how faithful the picture is.
    """
    folder, path = words.model(model), words.existing(file, "file")
    from discern.recipes.explain import explain as work
    from discern.seal.sign import requiring

    with answer.one_answer(as_json), requiring(signed):
        result = work(folder, path, out, method=method, label=label, seed=seed)
    return answer.finish(result, as_json)
