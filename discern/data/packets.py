"""Which packets of a video to decode: the packets of a stream come in, runs of them go out.

A frame is made from the key frame before it onwards, so a few frames of a long video need a few
short runs of packets.  Packets are picked from memory: seeking is imprecise in half of all
containers.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from av.packet import Packet

AnyPacket = TypeVar("AnyPacket", bound="Packet")
GAP = 4  # a run that begins so soon after the other costs less than emptying the decoder

Run = tuple[int, int]  # places of packets in the order of decoding: first, and one past the last


def timeline(packets: Sequence[Packet]) -> tuple[np.ndarray, int] | None:
    """The time stamps at which frames are shown, sorted, and when the last one ends.  int64 [N]

    None when the container does not say (bare H.264, some AVI): then frames must be counted.
    """
    shown = [packet for packet in packets if packet.pts is not None and not packet.is_discard]
    if not shown or len(shown) * 2 < len(packets):
        return None
    stamps = np.unique(np.array([packet.pts for packet in shown], dtype=np.int64))
    last = max(shown, key=lambda packet: packet.pts or 0)
    usual = int(np.median(np.diff(stamps))) if len(stamps) > 1 else 1
    return stamps, int(stamps[-1]) + (last.duration or usual)


def needed(packets: Sequence[AnyPacket], wanted: Sequence[int]) -> list[AnyPacket]:
    """Without the packets from which nothing but an unwanted frame is made."""
    shown = set(wanted)
    return [p for p in packets if p.pts in shown or p.is_keyframe or not _is_disposable(p)]


def _is_disposable(packet: Packet) -> bool:
    """Whether no other frame refers to this one; its container says it, or H.264 itself does."""
    return packet.is_disposable or _is_unreferenced(packet)


def _is_unreferenced(packet: Packet) -> bool:
    """All slices in an H.264 packet have nal_ref_idc 0 (ITU-T H.264, 7.4.1).

    Only where lengths stand before the units (ISO/IEC 14496-15), as in MP4 and Matroska.
    """
    context = packet.stream.codec_context
    about = context.extradata if context is not None and context.name == "h264" else None
    if not about or len(about) < 5 or about[0] != 1:
        return False
    data, size, place, slices = bytes(packet), (about[4] & 3) + 1, 0, 0
    while place + size < len(data):
        head = data[place + size]
        if 1 <= head & 31 <= 5:
            if head & 0x60:
                return False
            slices += 1
        place += size + int.from_bytes(data[place : place + size], "big")
    return slices > 0


def runs_for(packets: Sequence[Packet], wanted: Sequence[int]) -> list[Run]:
    """The packets that frames at the `wanted` time stamps are made from."""
    place_of = {packet.pts: place for place, packet in enumerate(packets) if packet.pts is not None}
    keys = [place for place, packet in enumerate(packets) if packet.is_keyframe]
    runs: list[Run] = []
    for run in sorted({_run(packets, keys, place_of[stamp], stamp) for stamp in set(wanted)}):
        if runs and run[0] <= runs[-1][1] + GAP:
            runs[-1] = (runs[-1][0], max(runs[-1][1], run[1]))
        else:
            runs.append(run)
    return runs


def _run(packets: Sequence[Packet], keys: Sequence[int], place: int, stamp: int) -> Run:
    for index in range(bisect.bisect_right(keys, place) - 1, -1, -1):
        # a frame that is shown before its key frame is made from the one before that (open GOP)
        pts = packets[keys[index]].pts
        if pts is not None and pts <= stamp:
            return keys[index], place + 1
    return 0, place + 1
