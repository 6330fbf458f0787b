"""Broken inputs for every test that reads files: (name, bytes) pairs, the same each time.

`broken_inputs` must be refused; `damaged_inputs` may be read with notes, but must never crash.
"""

from __future__ import annotations

import struct
import tempfile
import zlib
from collections.abc import Sequence
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from PIL import Image

Named = list[tuple[str, bytes]]

HUGE = 30000  # pixels on each side of a bomb


def scene(width: int = 48, height: int = 32, step: int = 0) -> np.ndarray:
    """A colour gradient with a white square that moves with `step`.  -> uint8 [H, W, 3]"""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 255 // width, y * 255 // height, (x + y) * 3 % 256], -1).astype(np.uint8)
    left = step * 2 % max(1, width - 8)
    pixels[height // 4 : height // 4 + 8, left : left + 8] = 255
    return pixels


def picture(name: str, pixels: np.ndarray | None = None, **settings: Any) -> bytes:
    """A good image file in Pillow's format `name`."""
    file = BytesIO()
    Image.fromarray(scene() if pixels is None else pixels).save(file, format=name, **settings)
    return file.getvalue()


def moving_picture(name: str, count: int = 5, **settings: Any) -> bytes:
    """A good animated GIF or WebP."""
    first, *rest = [Image.fromarray(scene(step=step)) for step in range(count)]
    file = BytesIO()
    first.save(file, format=name, save_all=True, append_images=rest, **settings)
    return file.getvalue()


def video(
    container: str = "mp4",
    codec: str = "libx264",
    *,
    frames: Sequence[np.ndarray] | None = None,
    stamps: Sequence[int] | None = None,
    rate: int = 10,
    rotation: float | None = None,
    sound: bool = False,
    header_first: bool = False,
    **options: str,
) -> bytes:
    """A good video file; `stamps` are the times of the frames in units of 1 / rate."""
    if header_first:  # FFmpeg needs a real file to move the header
        with tempfile.NamedTemporaryFile(suffix="." + container) as file:
            _encode(file.name, container, codec, frames, stamps, rate, rotation, sound, options)
            return Path(file.name).read_bytes()
    memory = BytesIO()
    _encode(memory, container, codec, frames, stamps, rate, rotation, sound, options)
    return memory.getvalue()


def _encode(
    file: str | BytesIO,
    container: str,
    codec: str,
    frames: Sequence[np.ndarray] | None,
    stamps: Sequence[int] | None,
    rate: int,
    rotation: float | None,
    sound: bool,
    options: dict[str, str],
) -> None:
    pictures = [scene(64, 48, step) for step in range(20)] if frames is None else list(frames)
    faststart = {"movflags": "faststart"} if isinstance(file, str) else {}
    with av.open(file, "w", format=container, options=faststart) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        # with x264's macroblock tree the file would not be the same each time
        stream.options = {"mbtree": "0", **options} if codec == "libx264" else options
        stream.codec_context.thread_count = 1
        if rotation is not None:
            stream.set_display_rotation(rotation)
        if sound:
            beep = output.add_stream("aac", rate=8000)
            for packet in [*beep.encode(_silence()), *beep.encode(None)]:
                output.mux(packet)
        for number, pixels in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = number if stamps is None else stamps[number]
            frame.time_base = Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def sound_only(container: str = "mp4", cover: bytes | None = None) -> bytes:
    """A video container that holds sound, at most with the JPEG of a record's cover."""
    file = BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream("aac", rate=8000)
        if cover is not None:
            pictures = output.add_stream("mjpeg", rate=1)
            pictures.width, pictures.height, pictures.pix_fmt = 48, 32, "yuvj420p"
            pictures.disposition = Disposition.attached_pic
            packet = av.Packet(cover)
            packet.stream, packet.pts, packet.time_base = pictures, 0, Fraction(1, 1)
            output.mux(packet)
        output.mux(stream.encode(_silence()))
        output.mux(stream.encode(None))
    return file.getvalue()


def jpeg_bomb() -> bytes:
    """A whole JPEG of 691 bytes that declares 30000 x 30000 pixels."""
    good = picture("JPEG", np.full((8, 8, 3), 90, np.uint8))
    start = good.index(b"\xff\xc0") + 5  # height and width in the frame header
    bomb = good[:start] + struct.pack(">HH", HUGE, HUGE) + good[start + 4 :]
    filler = 691 - len(bomb) - 4
    if filler >= 0:  # a comment of the right length
        bomb = bomb[:2] + b"\xff\xfe" + struct.pack(">H", filler + 2) + b" " * filler + bomb[2:]
    return bomb


def bombs() -> Named:
    """Small files that declare very many pixels."""
    png = b"\x89PNG\r\n\x1a\n" + _png_chunk(
        b"IHDR", struct.pack(">IIBBBBB", HUGE, HUGE, 8, 2, 0, 0, 0)
    )
    rows = zlib.compress(b"\0" * 1_000_000)
    gif = b"GIF89a" + struct.pack("<HHBBB", HUGE, HUGE, 0, 0, 0) + b","
    gif += struct.pack("<HHHHB", 0, 0, HUGE, HUGE, 0) + b"\x02\x02\x4c\x01\x00;"
    small_gif = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0) + b","
    small_gif += struct.pack("<HHHHB", 0, 0, HUGE, HUGE, 0) + b"\x02\x02\x4c\x01\x00;"
    bmp = picture("BMP")
    tiff = picture("TIFF")
    vp8x = b"VP8X" + struct.pack("<IB3x", 10, 0) + _24(16383) + _24(16383)
    canvas = b"VP8X" + struct.pack("<IB3x", 10, 0) + _24(11_999) + _24(11_999)
    vp8l = b"VP8L" + struct.pack("<IBI", 5, 0x2F, 16383 | 16383 << 14) + b"\0"
    lossy = b"VP8 " + struct.pack("<I", 10) + b"\x10\0\0\x9d\x01\x2a" + b"\xff\x3f\xff\x3f"
    return [
        ("bomb.jpg", jpeg_bomb()),
        ("bomb.png", png + _png_chunk(b"IDAT", rows) + _png_chunk(b"IEND", b"")),
        ("bomb-50-million.png", _solid_png(7200, 7200)),
        ("bomb.gif", gif),
        ("bomb-frame.gif", small_gif),
        ("bomb.bmp", bmp[:18] + struct.pack("<ii", HUGE, HUGE) + bmp[26:]),
        ("bomb-topdown.bmp", bmp[:18] + struct.pack("<ii", HUGE, -HUGE) + bmp[26:]),
        ("bomb.tiff", _with_tags(tiff, {256: HUGE, 257: HUGE})),
        ("bomb-wide.tiff", _with_tags(tiff, {256: 2**31 - 1, 257: 2**31 - 1})),
        ("bomb-extended.webp", _riff(vp8x + vp8l)),
        ("bomb-canvas.webp", _riff(canvas + vp8l)),
        ("bomb-lossless.webp", _riff(vp8l)),
        ("bomb-lossy.webp", _riff(lossy)),
    ]


def video_bombs() -> Named:
    """Small videos whose first frame declares very many pixels, the header a few."""
    return [
        ("bomb-frame.avi", packed_jpegs([jpeg_bomb()] * 5, 320, 260)),
        ("bomb-frame.mkv", packed_jpegs([jpeg_bomb()] * 5, 320, 260, "matroska")),
    ]


def lying_headers() -> Named:
    """Good videos whose header declares very many pixels."""
    small = [picture("JPEG", scene(320, 260))] * 5
    avi, mkv = (packed_jpegs(small, 320, 260, container) for container in ("avi", "matroska"))
    place = avi.index(b"strf") + 12
    for element, size in ((b"\xb0\x82", 320), (b"\xba\x82", 260)):  # PixelWidth, PixelHeight
        mkv = mkv.replace(element + struct.pack(">H", size), element + struct.pack(">H", HUGE))
    return [
        ("header.avi", avi[:place] + struct.pack("<ii", HUGE, HUGE) + avi[place + 8 :]),
        ("header.mkv", mkv),
    ]


def packed_jpegs(jpegs: Sequence[bytes], width: int, height: int, container: str = "avi") -> bytes:
    """A motion JPEG video of these frames, ten a second, under a header of its own."""
    file = BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
        for number, jpeg in enumerate(jpegs):
            packet = av.Packet(jpeg)
            packet.stream = stream
            packet.pts = packet.dts = number
            packet.time_base = Fraction(1, 10)
            packet.is_keyframe = True
            output.mux(packet)
    return file.getvalue()


def broken_inputs() -> Named:
    """About 200 files of which no picture can be had."""
    made: Named = [(f"empty.{suffix}", b"") for suffix in ("jpg", "png", "mp4", "mkv")]
    made += [(f"one-byte.{suffix}", b"\xff") for suffix in ("jpg", "mp4")]
    made += [(f"zeros-{count}.jpg", bytes(count)) for count in (1, 64, 4096, 100_000)]
    made += _garbage()
    made += _strangers()
    made += bombs() + video_bombs()
    for suffix, data in _images().items():
        made += _truncated(suffix, data, (0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.75, 0.9))
    for suffix, data in _videos().items():
        made += _truncated(suffix, data, (0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4))
        made.append((f"no-payload.{suffix}", data[:64] + bytes(len(data) - 64)))
    made += [("sound-only.mp4", sound_only()), ("sound-only.mkv", sound_only("matroska"))]
    made.append(("sound-only-named.jpg", sound_only()))
    made.append(("song-with-cover.mp4", sound_only(cover=picture("JPEG"))))
    made.append(("no-moov.mp4", _videos()["mp4"].split(b"moov")[0]))
    made.append(("empty-moov.mp4", b"\0\0\0\x14ftypisom\0\0\2\0isom\0\0\0\x08moov\0\0\0\x08mdat"))
    made.append(("header-only.png", bombs()[1][1][:33]))
    made.append(("heic.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)))
    return made


def damaged_inputs() -> Named:
    """Files with flipped bytes, missing ends or lying headers: some can be read, none may crash."""
    rng = np.random.default_rng(20)
    made = lying_headers()
    for suffix, data in {**_images(), **_videos()}.items():
        for round_ in range(6):
            flipped = bytearray(data)
            for place in rng.integers(0, len(data), 2**round_):
                flipped[place] ^= int(rng.integers(1, 256))
            made.append((f"flipped-{2**round_}.{suffix}", bytes(flipped)))
        made.append((f"missing-end.{suffix}", data[:-7]))
        made.append((f"longer.{suffix}", data + b"\0" * 100))
    return made


def mkv_with_flips(seed: int = 0) -> bytes:
    """A Matroska file whose header is whole and whose pictures are damaged in many places."""
    data = bytearray(video("matroska", g="5"))
    rng = np.random.default_rng(seed)
    for place in rng.integers(len(data) // 3, len(data) * 9 // 10, 12):
        data[place] ^= 0xFF
    return bytes(data)


def _images() -> dict[str, bytes]:
    return {
        "jpg": picture("JPEG", quality=95),
        "progressive.jpg": picture("JPEG", progressive=True),
        "png": picture("PNG", compress_level=0),
        "webp": picture("WEBP"),
        "lossless.webp": picture("WEBP", lossless=True),
        "bmp": picture("BMP"),
        "gif": picture("GIF"),
        "tiff": picture("TIFF"),
    }


def _videos() -> dict[str, bytes]:
    return {
        "mp4": video("mp4", header_first=True),
        "mkv": video("matroska"),
        "webm": video("webm", "libvpx-vp9"),
        "avi": video("avi", "mpeg4"),
    }


def _truncated(suffix: str, data: bytes, shares: Sequence[float]) -> Named:
    return [(f"truncated-{share:g}.{suffix}", data[: int(len(data) * share)]) for share in shares]


def _garbage() -> Named:
    rng = np.random.default_rng(7)
    made = [
        (f"garbage-{count}.{suffix}", rng.bytes(count))
        for count in (3, 50, 1000, 30_000)
        for suffix in ("jpg", "png", "mp4", "mkv")
    ]
    starts = {
        "jpg": b"\xff\xd8\xff\xe0",
        "png": b"\x89PNG\r\n\x1a\n",
        "webp": b"RIFF\x00\x10\x00\x00WEBPVP8 ",
        "bmp": b"BM",
        "gif": b"GIF89a",
        "tiff": b"II*\x00",
        "mp4": b"\x00\x00\x00\x18ftypisom",
        "mkv": b"\x1a\x45\xdf\xa3",
        "avi": b"RIFF\x00\x10\x00\x00AVI ",
        "flv": b"FLV\x01",
    }
    return made + [
        (f"good-start-{count}.{suffix}", start + rng.bytes(count))
        for suffix, start in starts.items()
        for count in (0, 40, 5000)
    ]


def _strangers() -> Named:
    return [
        ("page.jpg", b"<!DOCTYPE html><html><body>404 Not Found</body></html>"),
        ("error.png", b'{"error": "access denied"}'),
        ("text.mp4", b"this is not a video\n" * 50),
        ("archive.jpg", b"PK\x03\x04" + bytes(100)),
        ("packed.png", b"\x1f\x8b\x08" + bytes(100)),
        ("paper.jpg", b"%PDF-1.7\n" + bytes(100)),
        ("song.mp4", b"ID3\x04" + bytes(100)),
        ("sound.avi", b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(40)),
        ("list.mp4", b"#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"),
        ("files.mp4", b"ffconcat version 1.0\nfile '/etc/passwd'\n"),
        ("drawing.png", b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
        ("script.gif", b"#!/bin/sh\necho hello\n"),
        ("pointer.jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"),
        ("print.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 30000 30000\n"),
        ("stars.fits", b"SIMPLE  =                    T" + bytes(2850)),
        ("grey.ppm", b"P5 4 4 255\n" + bytes(16)),
    ]


def _silence() -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", layout="mono")
    frame.sample_rate = 8000
    return frame


def _png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _solid_png(width: int, height: int) -> bytes:
    """A true PNG of one bit a pixel: small, and every pixel is there."""
    rows = zlib.compress(bytes((width // 8 + 1) * height), 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(*chunk) for chunk in chunks)


def _with_tags(tiff: bytes, values: dict[int, int]) -> bytes:
    """A little-endian TIFF with other numbers in some tags of its first directory."""
    changed = bytearray(tiff)
    (place,) = struct.unpack_from("<I", tiff, 4)
    (count,) = struct.unpack_from("<H", tiff, place)
    for entry in range(place + 2, place + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", tiff, entry)
        if tag in values:
            struct.pack_into("<HHII", changed, entry, tag, 4, 1, values[tag])
    return bytes(changed)


def _riff(chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


def _24(value: int) -> bytes:
    return struct.pack("<I", value)[:3]
