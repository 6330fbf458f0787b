"""What an item costs: work on a set goes in, processor seconds of an item on a thread come out."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from discern.data.clipset import ClipSet

ITEMS, LEAST = 256, 4  # of a pass
SECONDS = 2.0  # of a pass, about: a large network is timed on fewer items
REPEATS = 3


def seconds_per_item(work: Callable[[ClipSet], object], items: ClipSet) -> float:
    """The best of a few passes, as the hand-crafted methods are timed.

    Other work on the machine only adds time.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        few = items.subset(np.arange(min(LEAST, len(items))))
        _seconds(work, few)  # the first pass pays for what is cached afterwards
        affordable = int(SECONDS / max(1e-9, _seconds(work, few) / len(few)))
        many = items.subset(np.arange(min(max(LEAST, min(ITEMS, affordable)), len(items))))
        return min(_seconds(work, many) for _ in range(REPEATS)) / len(many)
    finally:
        torch.set_num_threads(threads)


def _seconds(work: Callable[[ClipSet], object], items: ClipSet) -> float:
    started = time.process_time()
    work(items)
    return time.process_time() - started
