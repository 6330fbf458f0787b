"""Batches on their way to a GPU: one is made ready while the one before it is learned from."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from discern.clip import Batch
from discern.data.loader import Position

Arrived = tuple[Position, Batch]


def arriving(batches: Iterator[Arrived], device: torch.device) -> Iterator[Arrived]:
    """The same batches, on the device.

    For a GPU a thread makes the next one ready in page-locked memory, from where it is copied while
    the GPU computes.  On a CPU nothing is done ahead: there it would take the time it saves.
    """
    if device.type != "cuda":
        yield from batches
        return
    for position, batch in _ahead(batches):
        yield position, batch.to(device)


def _ahead(batches: Iterator[Arrived]) -> Iterator[Arrived]:
    """One batch is always being made.  Where making it fails, so does taking it."""
    locked = torch.cuda.is_available()

    def made() -> Arrived | None:
        found = next(batches, None)
        return (found[0], found[1].pinned()) if found is not None and locked else found

    with ThreadPoolExecutor(1, thread_name_prefix="batches") as one:
        coming = one.submit(made)
        while (found := coming.result()) is not None:
            coming = one.submit(made)
            yield found
