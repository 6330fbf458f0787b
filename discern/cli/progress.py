"""Progress of a verb that counts: (done, total) comes in, a bar or now and then a line goes out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from discern.recipes.progress import progress_bar


@contextlib.contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A function to call with (done, total)."""
    start = time.monotonic()

    def show(done: int, total: int) -> None:
        rate = done / max(time.monotonic() - start, 1e-9)
        bar(done / max(total, 1), f"{done} of {total}, {rate:.1f}/s")

    with progress_bar(title) as bar:
        yield show
