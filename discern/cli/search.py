"""The verb that searches settings: a labelled source in, better settings out."""

from __future__ import annotations

from typing import Annotated

import typer

from discern.cli import answer, words
from discern.cli.options import AsJson, Debug, Out, Seed, Set, Sources, Start, Steps


def tune(
    source: Sources,
    out: Out,
    trials: Annotated[
        int, typer.Option("--trials", metavar="N", min=2, help="Trainings; the first: defaults.")
    ] = 20,
    base: Start = None,
    labels: Annotated[
        int | None,
        typer.Option("--labels", metavar="N", min=1, help="Use this many labels per class."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", metavar="M", help="Of one trial; 1 by default.")
    ] = None,
    steps: Steps = None,
    budget: Annotated[
        float | None,
        typer.Option("--budget", metavar="M", help="Minutes of all trials; 30 by default."),
    ] = None,
    seed: Seed = 0,
    setting: Set = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Search better settings for `train` on your data.

    Trials are judged on the validation split; those that fall behind are stopped early. At the
    end the defaults and the winner are tested once. The same command goes on where it stopped.
    """
    specs = words.sources(source)
    words.positive(minutes, "--minutes")
    words.positive(budget, "--budget")
    if base is not None:
        words.start(base)
    from discern.recipes.tune import tune as work

    with answer.one_answer(as_json):
        result = work(
            specs,
            out,
            trials=trials,
            base=base,
            labels=labels,
            minutes=minutes,
            steps=steps,
            budget=budget,
            seed=seed,
            overrides=setting or [],
        )
    return answer.finish(
        result, as_json, answer.command(*result["command"], "--out", f"{out}-again")
    )
