"""The verb that breaks a model: a model and labelled data come in, how it breaks goes out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from discern.cli import answer, words
from discern.cli.options import AsJson, Debug, Model, Seed, Signed, Sources

SUITES = ("quick", "standard")


def attack(
    model: Model,
    source: Sources,
    norm: Annotated[str, typer.Option("--norm", metavar="N", help="linf or l2.")] = "linf",
    eps: Annotated[
        str, typer.Option("--eps", metavar="E", help="Size of a change, of pixels in [0, 1].")
    ] = "8/255",
    suite: Annotated[
        str, typer.Option("--suite", metavar="S", help="quick, or standard (AutoAttack's).")
    ] = "quick",
    items: Annotated[
        int, typer.Option("--items", metavar="N", min=1, help="At most so many of each kind.")
    ] = 500,
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", min=1, help="Of each gradient attack.")
    ] = None,
    certify: Annotated[
        str | None,
        typer.Option("--certify", metavar="S", help="Prove answers under noise S (smoothing)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Write a report here.")
    ] = None,
    at_least: Annotated[
        float | None,
        typer.Option("--at-least", metavar="A", help="Exit code 5 if less stays right."),
    ] = None,
    seed: Seed = 0,
    signed: Signed = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Measure how a model breaks under the worst small changes.

    And under bad cameras, weather and lines; with red flags, signs that a number may say too
    much good.
    """
    folder, specs = words.model(model), words.sources(source)
    norm, suite = (
        words.one_of(norm, ("linf", "l2"), "--norm"),
        words.one_of(suite, SUITES, "--suite"),
    )
    size = words.size(eps, "--eps")
    sigma = None if certify is None else words.size(certify, "--certify")
    words.share(at_least, "--at-least")
    from discern.recipes.attack import attack as work
    from discern.seal.sign import requiring

    with answer.one_answer(as_json), requiring(signed):
        result = work(
            folder,
            specs,
            out,
            norm=norm,
            eps=size,
            names=suite,
            items=items,
            steps=steps,
            seed=seed,
            at_least=at_least,
            certify=sigma,
        )
    then = ("discern", "train", *specs, "--harden", f"{norm}:{eps}", "--out", "runs/hardened")
    return answer.finish(result, as_json, answer.command(*then))
