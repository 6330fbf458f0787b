"""Progress of long work: (share done, a short line) in; a bar or a plain line to stderr out."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

PLAIN_SECONDS = 10.0  # between two lines where there is no terminal


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Callable[[float, str], None]]:
    """A function to call with (share from 0 to 1, what is going on)."""
    if not sys.stderr.isatty():
        yield _plain_lines(title)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[line]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1.0, line="")
        yield lambda share, line: bar.update(task, completed=share, line=line)


def _plain_lines(title: str) -> Callable[[float, str], None]:
    start = last = time.monotonic()

    def show(share: float, line: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < PLAIN_SECONDS:
            return
        last = now
        left = (now - start) * (1 - share) / share if share > 0 else 0.0
        print(f"{title}: {share:.0%}, {left:.0f} s left, {line}", file=sys.stderr, flush=True)

    return show
