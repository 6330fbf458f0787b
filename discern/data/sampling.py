"""Which frames to keep, and in what detail.

The times of all frames come in, the places of those to keep go out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TICK = 1e-3  # seconds: containers round time stamps, most coarsely to milliseconds


@dataclass(frozen=True)
class Detail:
    """What the caller will make of a frame, so that a decoder may shrink it: never below that."""

    side: int  # pixels, above 0
    shorter: bool = False  # the shorter side is brought to it, not the longer one

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) shrunk until that side has so many pixels; never enlarged."""
        given = min(width, height) if self.shorter else max(width, height)
        if given <= self.side:
            return width, height
        return max(1, round(width * self.side / given)), max(1, round(height * self.side / given))


def displayed(times: np.ndarray, end: float, count: int) -> np.ndarray:
    """The frames on screen at `count` evenly spaced moments; all frames if there are not more.

    The moments are the middles of `count` equal parts of the time from the first frame to `end`.
    A frame that stays on screen for long is chosen several times.  float [N] -> int [<= count]
    """
    if len(times) <= count:
        return np.arange(len(times))
    moments = times[0] + (np.arange(count) + 0.5) * (end - times[0]) / count
    places = np.searchsorted(times, moments + TICK, side="right") - 1
    return np.clip(places, 0, len(times) - 1)


def repeat_last(frames: np.ndarray, times: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames [T, ...] and times [T] with the last one repeated until there are `count`."""
    short = count - len(frames)
    if short <= 0:
        return frames, times
    return np.concatenate([frames, frames[-1:].repeat(short, 0)]), np.pad(times, (0, short), "edge")
