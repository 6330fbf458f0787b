"""Progress of a verb: counts come in, a bar on a terminal or a plain line now and then goes out.

Everything goes to stderr, so that stdout holds the answer alone.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

PLAIN_SECONDS = 10.0  # between two plain lines


@contextlib.contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A function to call with (done, total)."""
    if sys.stderr.isatty():
        with _bar(title) as show:
            yield show
    else:
        yield _plain_lines(title)


@contextlib.contextmanager
def _bar(title: str) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    start = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def show(done: int, total: int) -> None:
            rate = done / max(time.monotonic() - start, 1e-9)
            text = f"{title} {done} of {total}, {rate:.1f}/s"
            bar.update(task, completed=done, total=total, description=text)

        yield show


def _plain_lines(title: str) -> Callable[[int, int], None]:
    start = last = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < PLAIN_SECONDS:
            return
        last = now
        rate = done / (now - start)
        left = f", {(total - done) / rate:.0f} s left" if rate > 0 else ""
        print(f"{title}: {done} of {total}, {rate:.1f}/s{left}", file=sys.stderr, flush=True)

    return show
