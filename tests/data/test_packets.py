"""Packets: the runs of a stream that are decoded for the frames that are wanted."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from discern.data.limits import Limits
from discern.data.packets import GAP, needed, runs_for, timeline
from discern.data.sampling import displayed
from discern.data.videos import read_video
from tests.data.broken import scene, video
from tests.data.test_videos import pyav_frames


@dataclass(frozen=True)
class FakePacket:
    pts: int | None
    is_keyframe: bool = False
    is_discard: bool = False
    is_disposable: bool = False
    stream: Any = field(default_factory=lambda: SimpleNamespace(codec_context=None))
    duration: int | None = None


def stream(group: int, groups: int) -> list[FakePacket]:
    return [FakePacket(i, is_keyframe=i % group == 0) for i in range(group * groups)]


def test_timeline_sorts_and_ends_after_the_last() -> None:
    packets = [FakePacket(0, True), FakePacket(30), FakePacket(10), FakePacket(20)]
    stamps, end = timeline(packets)
    assert stamps.tolist() == [0, 10, 20, 30] and end == 40
    assert timeline([FakePacket(5, duration=7)])[1] == 12


def test_packets_that_are_not_shown_have_no_time() -> None:
    assert timeline([FakePacket(-5, True, is_discard=True), FakePacket(0)])[0].tolist() == [0]


def test_no_timeline_without_time_stamps() -> None:
    assert timeline([FakePacket(None), FakePacket(None)]) is None
    assert timeline([FakePacket(0), FakePacket(None), FakePacket(None)]) is None


def test_runs_begin_at_the_key_frame_and_end_at_the_frame() -> None:
    assert runs_for(stream(20, 5), [3, 47, 99]) == [(0, 4), (40, 48), (80, 100)]


def test_near_runs_become_one() -> None:
    assert runs_for(stream(10, 3), [9 - GAP, 10]) == [(0, 11)]
    assert runs_for(stream(10, 3), [8 - GAP, 10]) == [(0, 9 - GAP), (10, 11)]


def test_a_frame_before_its_key_frame_needs_the_one_before() -> None:
    packets = [FakePacket(pts, pts in (0, 12)) for pts in (0, 3, 6, 9, 12, 10, 11, 15, 18)]
    assert runs_for(packets, [10]) == [(0, 6)]
    assert runs_for(packets, [15]) == [(4, 8)]


def test_a_stream_without_key_frames_is_read_from_the_start() -> None:
    assert runs_for([FakePacket(i) for i in range(30)], [20]) == [(0, 21)]


def test_frames_that_no_other_needs_are_left_out_unless_wanted() -> None:
    packets = [FakePacket(i, is_keyframe=i == 0, is_disposable=i % 2 == 1) for i in range(7)]
    assert [p.pts for p in needed(packets, [3])] == [0, 2, 3, 4, 6]
    first = [FakePacket(0, is_keyframe=True, is_disposable=True)]
    assert needed(first, []) == first


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4"])
def test_what_is_left_out_changes_no_picture(codec: str) -> None:
    """Against PyAV, which decodes everything."""
    data = video(frames=[scene(96, 64, step=step) for step in range(40)], codec=codec, bf="3")
    with av.open(BytesIO(data)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        left = needed(packets, [])
    assert len(left) == 40 if codec == "mpeg4" else len(left) < 30
    kept = read_video(data, Limits(), frames=7)
    assert (kept.frames == pyav_frames(data)[displayed(np.arange(40.0), 40.0, 7)]).all()
