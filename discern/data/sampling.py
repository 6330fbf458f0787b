"""Which frames to keep: the times of all frames come in, the places of those to keep go out."""

from __future__ import annotations

import numpy as np

TICK = 1e-3  # seconds: containers round time stamps, most coarsely to milliseconds


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


def scaled(width: int, height: int, max_side: int | None) -> tuple[int, int]:
    """(width, height) shrunk until the longer side is at most `max_side`; never enlarged."""
    longer = max(width, height)
    if max_side is None or longer <= max_side:
        return width, height
    return max(1, round(width * max_side / longer)), max(1, round(height * max_side / longer))


def repeat_last(frames: np.ndarray, times: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames [T, ...] and times [T] with the last one repeated until there are `count`."""
    short = count - len(frames)
    if short <= 0:
        return frames, times
    return np.concatenate([frames, frames[-1:].repeat(short, 0)]), np.pad(times, (0, short), "edge")
