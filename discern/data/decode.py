"""The door for untrusted bytes: an encoded image, video or list of frames in, a `Clip` out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from discern.clip import Clip, Kind
from discern.data.animations import frame_seconds, read_animation
from discern.data.images import read_image
from discern.data.limits import Limits
from discern.data.sampling import Detail, displayed, repeat_last
from discern.errors import BadItem

HEAD = 4096  # bytes; enough to see that a GIF moves, 64 are enough for anything else

FRAME_SECONDS = 1 / 8  # between encoded frames, which carry no time

IMAGES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF8", b"II*\0", b"MM\0*")

CLIPS = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"FLV",
    b"OggS",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF, WMV
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG video
    b"\x00\x00\x01\xb0",  # MPEG-4 video
    b"\x00\x00\x00\x01\x67",  # H.264
    b"\x00\x00\x01\x67",
    b"\x00\x00\x00\x01\x40\x01",  # H.265
    b"DKIF",  # IVF
    b"YUV4MPEG2",
    b"nut/multimedia",
    b".RMF",
    b"\x06\x0e\x2b\x34",  # MXF
)

# first boxes of MP4 and QuickTime, at byte 4
BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")

# ftyp brands of still pictures that are not read
STILLS = (b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis", b"hevc")

STRANGERS = {
    b"<": "a web page or other text",
    b"{": "JSON text",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"%PDF": "a PDF document",
    b"ID3": "sound only",
    b"fLaC": "sound only",
    b"RIFF": "a RIFF file that is neither WebP nor AVI",
    b"#EXTM3U": "a play list",
    b"version https://git-lfs": "a Git LFS pointer: fetch the real file",
}


def sniff(head: bytes) -> Literal["image", "clip"] | None:
    """What the first bytes of a file promise: an image, a clip (also a GIF that moves), neither."""
    if head.startswith(b"GIF8"):
        moves = b"\x21\xff\x0bNETSCAPE2.0" in head or b"\x21\xff\x0bANIMEXTS1.0" in head
        return "clip" if moves else "image"
    if head.startswith(b"RIFF"):
        if head[8:12] == b"WEBP":
            is_extended = head[12:16] == b"VP8X" and len(head) > 20
            return "clip" if is_extended and head[20] & 2 else "image"
        return "clip" if head[8:12] in (b"AVI ", b"AVIX", b"AMV ") else None
    if head.startswith(IMAGES):
        return "image"
    if head[4:8] in BOXES:
        return None if head[4:8] == b"ftyp" and head[8:12] in STILLS else "clip"
    if head.startswith(CLIPS) or _is_transport_stream(head):
        return "clip"
    return None


def decode(
    encoded: bytes | Sequence[bytes],
    limits: Limits,
    frames: int | None = None,
    detail: Detail | None = None,
) -> Clip:
    """One item's encoded bytes, or the encoded frames of one clip.  -> frames [T, H, W, 3]

    `frames` = n asks for n frames of what moves; without it a video gives all frames, an animated
    GIF or WebP its first.  `detail`: what the caller will shrink frames to.  Raises BadItem or
    Refused with a reason in one line.
    """
    if not isinstance(encoded, bytes | bytearray | memoryview):
        return _decode_frames(encoded, limits, frames, detail)
    encoded = bytes(encoded)
    limits.check_bytes(len(encoded))
    kind = sniff(encoded[:HEAD])
    if kind is None:
        raise BadItem(f"not an image or video that is known: {_describe(encoded)}")
    shown = frame_seconds(encoded)  # GIF and WebP only
    if frames is not None and len(shown) > 1:
        return read_animation(encoded, limits, frames, detail)
    if shown or kind == "image":
        return read_image(encoded, limits, detail)
    from discern.data.videos import read_video  # PyAV takes 0.1 s to import

    return read_video(encoded, limits, frames, detail)


def _decode_frames(
    encoded: Sequence[bytes], limits: Limits, frames: int | None, detail: Detail | None
) -> Clip:
    """Encoded pictures as one clip; all are brought to the size of the first."""
    if not encoded:
        raise BadItem("a clip without frames")
    times = np.arange(len(encoded)) * FRAME_SECONDS
    limits.check_length(len(encoded), float(times[-1]))
    limits.check_bytes(sum(map(len, encoded)))
    wanted = displayed(times, len(encoded) * FRAME_SECONDS, frames or len(encoded))
    pictures: list[np.ndarray] = []
    notes: list[str] = []
    for place in wanted.tolist():
        try:
            clip = read_image(encoded[place], limits, detail)
        except BadItem as error:
            raise type(error)(f"frame {place + 1} of {len(encoded)}: {error}") from None
        picture = clip.frames[0]
        limits.check_memory(len(wanted), *(pictures or [picture])[0].shape[:2])
        if pictures and picture.shape != pictures[0].shape:
            picture = _resized(picture, pictures[0])
            notes.append("the size of the frames changes: all are brought to the first one's")
        pictures.append(picture)
        notes += clip.notes
    stacked, moments = np.stack(pictures), times[wanted]
    if frames is not None and len(stacked) < frames:
        notes.append(f"{len(stacked)} frames only, the last is repeated to make {frames}")
        stacked, moments = repeat_last(stacked, moments, frames)
    return Clip(
        frames=stacked,
        times=moments - moments[0],
        kind=Kind.CLIP,
        notes=tuple(dict.fromkeys(notes)),
    )


def _resized(picture: np.ndarray, like: np.ndarray) -> np.ndarray:
    from PIL import Image

    size = like.shape[1::-1]
    return np.array(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))


def _is_transport_stream(head: bytes) -> bool:
    # packets of 188 bytes, or of 192 with a clock in front (Blu-ray, camcorders)
    for start, length in ((0, 188), (4, 192)):
        marks = head[start::length]
        if len(marks) > 1 and marks == b"G" * len(marks):
            return True
    return False


def _describe(encoded: bytes) -> str:
    if encoded[4:8] == b"ftyp" and encoded[8:12] in STILLS:
        return "a HEIC or AVIF picture: convert it to JPEG, PNG or WebP"
    for magic, name in STRANGERS.items():
        if encoded.lstrip()[: len(magic)] == magic:
            return name
    if not any(encoded):
        return "zero bytes only"
    return f"it begins with the bytes {encoded[:8].hex(' ')}"
