"""Decode: kinds by their bytes; images, clips and lists of frames; 300 broken inputs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from discern.clip import Kind
from discern.data.decode import HEAD, decode, sniff
from discern.data.limits import Limits
from discern.data.sampling import Detail
from discern.errors import BadItem, Refused
from tests.data.broken import (
    bombs,
    broken_inputs,
    damaged_inputs,
    moving_picture,
    picture,
    scene,
    video,
)
from tests.data.measured import measured

LIMITS = Limits()


# ---------------------------------------------------------------- sniff


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_images_are_known_by_their_bytes(name) -> None:
    assert sniff(picture(name)[:64]) == "image"


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("mp4", "libx264"),
        ("mov", "libx264"),
        ("matroska", "libx264"),
        ("webm", "libvpx-vp9"),
        ("avi", "mpeg4"),
        ("mpegts", "libx264"),
        ("flv", "libx264"),
        ("asf", "mpeg4"),
        ("mpeg", "mpeg2video"),
        ("ivf", "libvpx-vp9"),
        ("nut", "ffv1"),
        ("h264", "libx264"),
    ],
)
def test_clips_are_known_by_their_bytes(container, codec) -> None:
    data = video(container, codec, rate=25)
    assert sniff(data[:HEAD]) == "clip"
    assert decode(data, LIMITS, frames=3).frames.shape == (3, 48, 64, 3)


def test_pictures_that_move_are_clips() -> None:
    assert sniff(moving_picture("GIF", loop=0)[:HEAD]) == "clip"
    assert sniff(moving_picture("WEBP")[:64]) == "clip"


def test_other_bytes_are_neither() -> None:
    for head in (b"", b"\0", b"RIFF", b"<html>", b"\xff\xd8", b"G" * 3, b"RIFF\0\0\0\0WAVE"):
        assert sniff(head) is None, head


# ---------------------------------------------------------------- decode


def test_an_image() -> None:
    clip = decode(picture("PNG"), LIMITS, frames=8, detail=Detail(16))
    assert clip.kind is Kind.IMAGE and (clip.frames == scene()).all()


def test_the_name_does_not_matter_only_the_bytes() -> None:
    assert decode(video(), LIMITS).kind is Kind.CLIP
    assert decode(bytearray(picture("GIF")), LIMITS).kind is Kind.IMAGE


@pytest.mark.parametrize("name", ["GIF", "WEBP"])
def test_a_moving_picture_is_a_clip_when_frames_are_asked_for(name) -> None:
    data = moving_picture(name, loop=0)
    still, clip = decode(data, LIMITS), decode(data, LIMITS, frames=4)
    assert still.kind is Kind.IMAGE and len(still.frames) == 1
    assert clip.kind is Kind.CLIP and len(clip.frames) == 4
    assert decode(picture(name), LIMITS, frames=4).kind is Kind.IMAGE


@pytest.mark.parametrize("side", [8, 24, 40, 64, 100, 5000])
def test_never_smaller_than_the_hint(side) -> None:
    moving = moving_picture("GIF")
    jpegs = [picture("JPEG", scene(300, 200))] * 2
    for encoded, longest in (
        (picture("JPEG", scene(300, 200)), 300),
        (picture("PNG", scene(300, 200)), 300),
        (video(frames=[scene(96, 128)] * 4), 128),
        (video(frames=[scene(96, 128)] * 4, rotation=90), 128),
        (moving, 48),
        (jpegs, 300),
    ):
        clip = decode(encoded, LIMITS, frames=2, detail=Detail(side))
        assert max(clip.frames.shape[1:3]) >= min(side, longest)


def test_encoded_frames() -> None:
    frames = [picture("PNG", scene(step=step)) for step in range(8)]
    clip = decode(frames, LIMITS)
    assert clip.kind is Kind.CLIP and clip.notes == ()
    assert (clip.frames == np.stack([scene(step=step) for step in range(8)])).all()
    assert clip.times.tolist() == [each / 8 for each in range(8)]
    four = decode(frames, LIMITS, frames=4)
    assert (four.frames == clip.frames[[1, 3, 5, 7]]).all()
    ten = decode(tuple(frames), LIMITS, frames=10)
    assert len(ten.frames) == 10 and "8 frames only" in ten.notes[0]


def test_encoded_frames_of_several_sizes() -> None:
    clip = decode([picture("PNG"), picture("PNG", scene(20, 20))], LIMITS)
    assert clip.frames.shape == (2, 32, 48, 3) and "size" in clip.notes[0]


def test_broken_encoded_frames_are_named() -> None:
    with pytest.raises(BadItem, match="without frames"):
        decode([], LIMITS)
    with pytest.raises(BadItem, match="frame 2 of 3: "):
        decode([picture("PNG"), b"junk", picture("PNG")], LIMITS)
    with pytest.raises(Refused, match="frame 1 of 1: "):
        decode([bombs()[0][1]], LIMITS)
    frames = [picture("PNG")] * 5
    for limits in (Limits(frames=4), Limits(bytes=5 * len(frames[0]) - 1), Limits(memory=20_000)):
        with pytest.raises(Refused):
            decode(frames, limits)


# ---------------------------------------------------------------- what is broken


def test_two_hundred_broken_inputs(capfd) -> None:
    inputs = broken_inputs()
    assert len(inputs) >= 190
    assert len({name for name, _ in inputs}) > 180
    for name, data in inputs:
        started = time.perf_counter()
        with pytest.raises(BadItem) as caught:
            decode(data, LIMITS, frames=8, detail=Detail(32))
        reason = str(caught.value)
        assert time.perf_counter() - started < 1.0, name
        assert reason and "\n" not in reason and len(reason) < 200, (name, reason)
        assert "0x" not in reason and "Traceback" not in reason, (name, reason)
    assert capfd.readouterr() == ("", "")


def test_damaged_inputs_are_read_or_bad() -> None:
    read = 0
    for name, data in damaged_inputs():
        try:
            clip = decode(data, LIMITS, frames=8)
        except BadItem as error:
            assert "\n" not in str(error), name
        else:
            assert len(clip.frames) in (1, 8), name
            read += 1
    assert read > 20


def test_flipped_headers_stay_small_and_quick() -> None:
    rng = np.random.default_rng(5)
    sources = [picture(n) for n in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")] + [video()]

    def fuzz() -> None:
        for data in sources:
            for _ in range(40):
                flipped = bytearray(data)
                for place in rng.integers(0, min(len(data), 400), 3):
                    flipped[place] = int(rng.integers(256))
                try:
                    decode(bytes(flipped), LIMITS, frames=4, detail=Detail(32))
                except BadItem:
                    pass

    seconds, memory = measured(fuzz, rounds=1)
    assert seconds < 20
    assert memory < 200 * 2**20  # a header may truly declare 50 million pixels


def test_reasons_help() -> None:
    reasons = {}
    for name, data in broken_inputs():
        try:
            decode(data, LIMITS)
        except BadItem as error:
            reasons[name] = str(error)
    assert "empty" in reasons["empty.jpg"]
    assert "web page" in reasons["page.jpg"]
    assert "Git LFS" in reasons["pointer.jpg"]
    assert "HEIC" in reasons["heic.heic"]
    assert "sound" in reasons["song.mp4"] and "audio" in reasons["sound-only-named.jpg"]
    assert "zero bytes" in reasons["zeros-4096.jpg"]


def test_decode_refuses_bombs_as_quickly() -> None:
    data = dict(bombs())["bomb-50-million.png"]
    seconds, memory = measured(lambda: pytest.raises(Refused, decode, data, LIMITS))
    assert seconds < 0.010 and memory < 10 * 2**20


# ---------------------------------------------------------------- real clips


def test_real_clips() -> None:
    folder = Path(os.environ.get("DISCERN_DATA", "/nowhere")) / "jhmdb" / "train"
    if not folder.is_dir():
        pytest.skip("DISCERN_DATA does not name the real data")
    for path in sorted(folder.glob("*/*.mp4"))[::80]:
        clip = decode(path.read_bytes(), LIMITS, frames=16, detail=Detail(64))
        assert clip.frames.shape == (16, 48, 64, 3)
        assert (np.diff(clip.times) > 0).all()
