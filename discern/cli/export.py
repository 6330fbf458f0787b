"""The verb that hands a model to other programs: a model comes in, graphs in a folder go out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from discern.cli import answer, words
from discern.cli.options import AsJson, Debug, Model, Seed, Signed

FORMS = ("onnx", "openvino", "program")
PRECISIONS = ("fp32", "bf16", "int8")


def export(
    model: Model,
    to: Annotated[str, typer.Option("--to", metavar="FORM", help="onnx, openvino or program.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write.")],
    precision: Annotated[
        str, typer.Option("--precision", metavar="P", help="fp32, bf16 or int8.")
    ] = "fp32",
    check: Annotated[
        list[str] | None,
        typer.Option("--check", metavar="SOURCE", help="Items on which both must agree."),
    ] = None,
    seed: Seed = 0,
    signed: Signed = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Write a model for other programs.

    ONNX, OpenVINO or a torch.export program, with labels, preprocessing and guard beside it; what
    does not give the model's own answers, or with fewer bits is less often right, is not kept, and
    the exit code is 5.
    """
    folder, form = words.model(model), words.one_of(to, FORMS, "--to")
    bits = words.one_of(precision, PRECISIONS, "--precision")
    specs = words.sources(check or [])
    from discern.recipes.export import export as work
    from discern.seal.sign import requiring

    with answer.one_answer(as_json), requiring(signed):
        result = work(folder, form, out, precision=bits, check=specs, seed=seed)
    then = None if form == "program" else answer.command("discern", "predict", out, "FILE")
    return answer.finish(result, as_json, then)
