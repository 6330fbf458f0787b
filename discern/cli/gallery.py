"""Verbs of the gallery: names and files come in, who it is goes out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from discern.cli import answer, words
from discern.cli.options import AsJson, Debug, Signed
from discern.errors import UsageError

Home = Annotated[
    Path, typer.Argument(metavar="GALLERY", show_default=False, help="The gallery's file.")
]
Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="Who it is.")]
By = Annotated[
    Path, typer.Option("--model", metavar="MODEL", help="The model that sees; always the same one.")
]


def enroll(
    gallery: Home,
    model: By,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", show_default=False, help="Who it is.")
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", show_default=False, help="Pictures and clips of them."),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option("--source", metavar="SOURCE", help="Enrol every class folder of this."),
    ] = None,
    signed: Signed = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Enrol a name by a few pictures or clips, without any training."""
    folder = words.model(model)
    if (source is None) == (name is None) or (name is not None and not files):
        raise UsageError("enroll GALLERY NAME FILE..., or enroll GALLERY --source SOURCE")
    paths = [words.existing(file, "file") for file in files or []]
    specs = None if source is None else words.sources(source)
    from discern.gallery.people import enroll as work
    from discern.seal.sign import requiring

    with answer.one_answer(as_json), requiring(signed):
        result = work(gallery, name, paths, model=folder, source=specs)
    then = answer.command("discern", "gallery", "identify", gallery, "FILE", "--model", model)
    return answer.finish(result, as_json, then)


def remove(gallery: Home, name: Name, as_json: AsJson = False, debug: Debug = False) -> int:
    """Forget a name and all that was kept of it."""
    from discern.gallery.people import remove as work

    return answer.finish(work(gallery, name), as_json)


def show(gallery: Home, as_json: AsJson = False, debug: Debug = False) -> int:
    """Who is enrolled, by how many vectors."""
    from discern.gallery.people import listed

    found = listed(gallery)
    if as_json:
        answer.say_json(found)
        return 0
    for name, count in found["names"].items():
        print(f"{name}  {count}")
    threshold = found["threshold"]
    print("not calibrated" if threshold is None else f"threshold {threshold:.3f}")
    return 0


def identify(
    gallery: Home,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", show_default=False, help="Images and clips.")
    ],
    model: By,
    top: Annotated[int, typer.Option("--top", metavar="K", min=1, help="Names to show.")] = 1,
    signed: Signed = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Who it is, or that nobody enrolled is near enough."""
    folder, paths = words.model(model), [words.existing(file, "file") for file in files]
    from discern.gallery.people import identify as work
    from discern.seal.sign import requiring

    with answer.one_answer(as_json), requiring(signed):
        found = work(gallery, paths, model=folder, top=top)
    return answer.finish_names(found, as_json)


def verify(
    gallery: Home,
    name: Name,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", show_default=False, help="Image or clip.")
    ],
    model: By,
    signed: Signed = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Whether a picture shows this name."""
    folder, path = words.model(model), words.existing(file, "file")
    from discern.gallery.people import verify as work
    from discern.seal.sign import requiring

    with answer.one_answer(as_json), requiring(signed):
        result = work(gallery, name, path, model=folder)
    return answer.finish(result, as_json)


def calibrate(
    gallery: Home,
    source: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE", show_default=False, help="Class folders of others."),
    ],
    model: By,
    false_match: Annotated[
        float,
        typer.Option("--false-match", metavar="R", help="How often a stranger may pass, a share."),
    ] = 0.001,
    signed: Signed = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Settle the threshold for a false-match rate, on people who are not enrolled."""
    folder, specs = words.model(model), words.sources(source)
    words.share(false_match, "--false-match")
    from discern.gallery.people import calibrate as work
    from discern.seal.sign import requiring

    with answer.one_answer(as_json), requiring(signed):
        result = work(gallery, specs, model=folder, false_match=false_match)
    return answer.finish(result, as_json)
