"""Animated GIF and WebP: encoded bytes to a `Clip` of several frames, and back to GIF."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from discern.clip import Clip, Kind
from discern.data.images import one_line, opened, to_rgb, writing
from discern.data.limits import Limits
from discern.data.sampling import Detail, displayed, repeat_last
from discern.errors import BadItem, Refused

SHORTEST = 0.02  # seconds; browsers show a frame with less for 0.1 s, and so do we
USUAL = 0.1


def frame_seconds(data: bytes) -> list[float]:
    """How long each frame of a GIF or WebP file is shown, from its block headers; [] for others."""
    if data[:4] == b"GIF8":
        delays = _gif_delays(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        delays = _webp_delays(data)
    else:
        return []
    return [delay if delay >= SHORTEST else USUAL for delay in delays]


def read_animation(
    data: bytes, limits: Limits, frames: int | None = None, detail: Detail | None = None
) -> Clip:
    """Frames of an animated GIF or WebP, by the rules of `videos.read_video`.  -> [T, H, W, 3]"""
    seconds = np.array(frame_seconds(data))
    if not len(seconds):
        raise BadItem("no frame in it")
    limits.check_length(len(seconds), float(seconds.sum()))
    ends = np.cumsum(seconds)
    times = ends - seconds
    wanted = displayed(times, float(ends[-1]), frames or len(seconds))
    notes: list[str] = []
    kept, trouble = _decode(data, limits, wanted, detail)
    if len(kept) * 2 < len(wanted):
        raise BadItem(f"only {len(kept)} of {len(wanted)} frames can be decoded ({trouble})")
    if trouble:
        notes.append(f"{len(kept)} of {len(wanted)} frames can be decoded ({trouble})")
    pixels, moments = np.stack(kept), times[wanted[: len(kept)]]
    if frames is not None and len(kept) < frames:
        notes.append(f"{len(kept)} frames only, the last is repeated to make {frames}")
        pixels, moments = repeat_last(pixels, moments, frames)
    return Clip(frames=pixels, times=moments - moments[0], kind=Kind.CLIP, notes=tuple(notes))


def write_gif(clip: Clip, path: Path, fps: float) -> None:
    """Write an endless GIF of 256 colours a frame.  Equal neighbours become one longer frame."""
    # GIF counts hundredths of a second: rounding moments, not durations, lets no drift add up
    moments = np.rint(np.arange(len(clip.frames) + 1) * 100 / fps).astype(int)
    first, *rest = [Image.fromarray(frame) for frame in clip.frames]
    with writing(path) as temporary:
        first.save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=rest,
            duration=[int(hundredths) * 10 for hundredths in np.diff(moments)],
            loop=0,
        )


def _decode(
    data: bytes, limits: Limits, wanted: np.ndarray, detail: Detail | None
) -> tuple[list[np.ndarray], str]:
    """The wanted frames as far as they can be decoded, and what went wrong then."""
    kept: list[np.ndarray] = []
    with opened(data, limits) as image:
        size = image.size if detail is None else detail.size(*image.size)
        limits.check_memory(len(wanted), *size)
        try:
            for place in range(int(wanted[-1]) + 1):
                image.seek(place)  # one by one: a frame is drawn over those before it
                limits.check_size(*image.size)  # a GIF may grow on the way
                if place in wanted:
                    frame = _fitted(to_rgb(image, []), size)
                    kept += [frame] * int((wanted == place).sum())
        except (Refused, Image.DecompressionBombError, MemoryError):
            raise
        except Exception as error:  # as in `opened`; the frames before it are good
            return kept, one_line(error)
    return kept, ""


def _fitted(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if frame.shape[1::-1] == size:
        return frame
    return np.array(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR))


def _gif_delays(data: bytes) -> list[float]:
    """Walk over the blocks of a GIF: one delay for each image in it."""
    delays: list[float] = []
    delay = 0
    place = 13 + _colors(data, 10)
    while place + 1 < len(data):
        kind, label = data[place], data[place + 1]
        if kind == 0x21:  # extension; 0xF9 holds the delay of the next image
            if label == 0xF9:
                delay = int.from_bytes(data[place + 4 : place + 6], "little")
            place = _after_blocks(data, place + 2)
        elif kind == 0x2C:
            if place + 10 >= len(data):
                break
            delays.append(delay / 100)
            delay = 0
            place = _after_blocks(data, place + 11 + _colors(data, place + 9))
        else:  # the trailer, or damage
            break
    return delays


def _colors(data: bytes, place: int) -> int:
    """Bytes of the colour table that the flags at `place` announce."""
    flags = data[place] if place < len(data) else 0
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_blocks(data: bytes, place: int) -> int:
    while place < len(data) and data[place]:
        place += data[place] + 1
    return place + 1


def _webp_delays(data: bytes) -> list[float]:
    """Walk over the chunks of a WebP: one delay for each ANMF chunk; a still image has one."""
    delays: list[float] = []
    place = 12
    while place + 8 <= len(data):
        length = int.from_bytes(data[place + 4 : place + 8], "little")
        if data[place : place + 4] == b"ANMF":
            delays.append(int.from_bytes(data[place + 20 : place + 23], "little") / 1000)
        place += 8 + length + (length & 1)
    return delays or [0.0]
