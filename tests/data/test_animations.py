"""Animated GIF and WebP: frames by their time, damage, limits, and GIFs of our own."""

from __future__ import annotations

import os
import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from discern.clip import Clip, Kind
from discern.data.animations import frame_seconds, read_animation
from discern.data.limits import Limits
from discern.data.sampling import Detail
from discern.data.videos import write_video
from discern.errors import BadItem, Refused
from tests.data.broken import moving_picture, picture, scene

LIMITS = Limits()
DURATIONS = [100, 50, 300, 100, 70]


def gif() -> bytes:
    return moving_picture("GIF", duration=DURATIONS, loop=0)


def webp() -> bytes:
    return moving_picture("WEBP", duration=DURATIONS, lossless=True)


def every_frame(data: bytes) -> list[np.ndarray]:
    with Image.open(BytesIO(data)) as image:
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]


@pytest.mark.parametrize("make", [gif, webp])
def test_frames_and_times_as_pillow_reads_them(make) -> None:
    data = make()
    assert frame_seconds(data) == pytest.approx([each / 1000 for each in DURATIONS])
    clip = read_animation(data, LIMITS)
    assert clip.kind is Kind.CLIP and clip.notes == ()
    assert clip.times == pytest.approx([0, 0.1, 0.15, 0.45, 0.55])
    assert (clip.frames == np.stack(every_frame(data))).all()


@pytest.mark.parametrize("make", [gif, webp])
def test_frames_are_chosen_by_time(make) -> None:
    data = make()
    clip = read_animation(data, LIMITS, frames=4)  # at 78, 233, 388 and 543 of 620 ms
    assert (clip.frames == np.stack(every_frame(data))[[0, 2, 2, 3]]).all()
    assert clip.times == pytest.approx([0, 0.15, 0.15, 0.45])


def test_too_few_frames_repeat_the_last() -> None:
    clip = read_animation(gif(), LIMITS, frames=8)
    assert len(clip.frames) == 8 and (clip.frames[4:] == clip.frames[4]).all()
    assert "5 frames only" in clip.notes[0]


def test_frames_are_scaled() -> None:
    assert read_animation(webp(), LIMITS, frames=2, detail=Detail(24)).frames.shape == (
        2,
        16,
        24,
        3,
    )
    assert read_animation(webp(), LIMITS, frames=2, detail=Detail(400)).frames.shape == (
        2,
        32,
        48,
        3,
    )


def test_no_delay_counts_as_browsers_do() -> None:
    assert frame_seconds(moving_picture("GIF", duration=0)) == [0.1] * 5
    assert frame_seconds(picture("WEBP")) == [0.1]
    assert frame_seconds(picture("PNG")) == []


def test_a_frame_without_a_delay_of_its_own() -> None:
    data = gif()
    control = -1
    for _ in range(3):
        control = data.index(b"\x21\xf9\x04", control + 1)  # of the third frame
    assert frame_seconds(data[:control] + data[control + 8 :]) == [0.1, 0.05, 0.1, 0.1, 0.07]


def test_a_gif_cut_off_gives_what_is_there() -> None:
    data = gif()
    whole = read_animation(data, LIMITS)
    found = set()
    for length in range(0, len(data), 25):
        try:
            clip = read_animation(data[:length], LIMITS)
        except BadItem:
            continue
        found.add(len(clip.frames))
        sure = len(clip.frames) - 1
        assert (clip.frames[:sure] == whole.frames[:sure]).all()
    assert found >= {1, 2, 3, 4}


def test_limits() -> None:
    for limits in (Limits(frames=4), Limits(seconds=0.5), Limits(pixels=1000), Limits(memory=9000)):
        for data in (gif(), webp()):
            with pytest.raises(Refused):
                read_animation(data, limits)


def test_a_gif_may_not_grow_over_the_limit() -> None:
    data = gif()
    second = b"\x2c" + struct.pack("<HHHH", 0, 0, 11, 18)  # Pillow writes what has changed only
    assert data.count(second) == 1
    for width, height in ((30_000, 30_000), (8000, 8000)):  # over Pillow's own limit, over ours
        grown = b"\x2c" + struct.pack("<HHHH", 0, 0, width, height)
        with pytest.raises(Refused):
            read_animation(data.replace(second, grown), LIMITS)


def test_written_gifs_read_back(tmp_path: Path) -> None:
    frames = np.stack([scene(64, 48, step) for step in range(9)])
    clip = Clip(frames=frames, times=np.arange(9) / 8, kind=Kind.CLIP)
    path = tmp_path / "clip.gif"
    write_video(clip, path, fps=8.0)
    read = read_animation(path.read_bytes(), LIMITS)
    assert read.frames.shape == frames.shape
    assert np.abs(read.frames.astype(int) - frames).mean() < 6
    assert read.times == pytest.approx(np.arange(9) / 8, abs=0.006)  # no drift adds up
    assert os.listdir(tmp_path) == ["clip.gif"]
