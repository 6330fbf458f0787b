"""Verbs that train, in several processes: the folder of this one comes out.

A launcher such as torchrun starts the same words several times.  The first process works as one
alone would; the others have a folder of their own that nobody keeps, and say nothing.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import typer


@contextlib.contextmanager
def together(out: Path) -> Iterator[Path]:
    """Join the other processes, if there are any, for the time of a verb."""
    from discern.scale.ranks import Followed, joined

    with joined() as ranks:
        if ranks.leads:
            yield out
            return
        try:
            with (
                tempfile.TemporaryDirectory(prefix="discern-rank-") as home,
                open(os.devnull, "w") as nowhere,
                contextlib.redirect_stdout(nowhere),
                contextlib.redirect_stderr(nowhere),
            ):
                yield Path(home) / "run"
        except Followed:
            raise typer.Exit(0) from None
