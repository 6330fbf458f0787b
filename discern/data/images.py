"""Image files: encoded bytes to a `Clip` of one frame, and back; the header is judged first."""

from __future__ import annotations

import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

# WebP and TIFF by name: else Pillow imports its forty other parsers to find them
from PIL import Image, TiffImagePlugin, WebPImagePlugin

from discern.clip import Clip, Kind
from discern.data.limits import Limits
from discern.data.sampling import Detail
from discern.errors import BadItem, Refused, UsageError
from discern.files import replacing

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
assert TiffImagePlugin and WebPImagePlugin

# suffix -> Pillow's name and settings; all but JPEG and GIF keep every value
WRITERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
    ".gif": ("GIF", {}),
}

WHITE = (255, 255, 255)  # behind transparent pixels: most such pictures were drawn for white paper

ORIENTATION = 0x0112  # EXIF and TIFF tag
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}

TILE_WIDTH, TILE_LENGTH = 322, 323  # TIFF tags


def read_image(data: bytes, limits: Limits, detail: Detail | None = None) -> Clip:
    """The picture in JPEG, PNG, WebP, BMP, GIF or TIFF bytes.  -> frames [1, H, W, 3]

    Turned as EXIF says, 16 bits brought to 8, transparent pixels laid on white; of several frames
    or pages the first.  A JPEG may be decoded smaller, never below `detail`.
    """
    notes: list[str] = []
    with opened(data, limits) as image:
        if getattr(image, "is_animated", False):
            notes.append("several frames, the first one is used")
        if detail is not None:
            # only JPEG obeys: it leaves out frequencies, and takes the next larger of 1/2, 1/4, 1/8
            image.draft(None, detail.size(*image.size))
        image.load()
        pixels = _turned(image, to_rgb(image, notes), notes)
    return Clip(
        frames=np.ascontiguousarray(pixels)[None],
        times=np.zeros(1),
        kind=Kind.IMAGE,
        notes=tuple(notes),
    )


def write_image(clip: Clip, path: Path) -> None:
    """Write the only frame of a clip, in the format that the suffix names; whole or not at all."""
    path = Path(path)
    if path.suffix.lower() not in WRITERS:
        raise UsageError(f"{path}: not an image suffix that is known: use {' '.join(WRITERS)}")
    if len(clip.frames) != 1:
        raise UsageError(f"{path}: {len(clip.frames)} frames do not fit into an image: use .mp4")
    name, settings = WRITERS[path.suffix.lower()]
    with writing(path) as temporary:
        Image.fromarray(clip.frames[0]).save(temporary, format=name, **settings)


@contextmanager
def opened(data: bytes, limits: Limits) -> Iterator[Image.Image]:
    """The image with its header read and found within the limits; any failure becomes BadItem."""
    limits.check_bytes(len(data))
    size = _webp_size(data)
    if size is not None:
        limits.check_size(*size)  # Pillow's WebP decoder takes memory for the canvas when it opens
    try:
        with _QUIET, Image.open(BytesIO(data), formats=FORMATS) as image:
            limits.check_size(*image.size)
            _check_tiles(image, limits)
            yield image
    except BadItem:
        raise
    except Image.DecompressionBombError:
        raise Refused(
            "more pixels than Pillow decodes at all (178,956,970): shrink the image"
        ) from None
    except MemoryError:
        raise Refused("the memory does not suffice to decode it: shrink the image") from None
    except Image.UnidentifiedImageError:
        raise BadItem("the header is damaged, or it is none of " + ", ".join(FORMATS)) from None
    except Exception as error:  # Pillow's parsers raise nearly every kind on broken input
        raise BadItem(f"the image is damaged ({one_line(error)})") from None


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """`replacing`, with the errors of the disk and of encoders as one line for the user."""
    try:
        with replacing(path) as temporary:
            yield temporary
    except (OSError, ValueError, MemoryError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"{path}: cannot be written: {reason}") from None


def to_rgb(image: Image.Image, notes: list[str]) -> np.ndarray:
    """Pixels of any mode.  -> uint8 [H, W, 3]"""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        values = np.asarray(image).astype(np.int64)
        grey = (np.clip(values, 0, 65535) * 255 + 32767) // 65535
    elif image.mode in ("I", "F"):
        grey = _stretched(np.asarray(image), notes)
    else:
        return np.array(_on_white(image))  # a copy: Pillow's own bytes are read-only
    return grey.astype(np.uint8)[..., None].repeat(3, axis=-1)


def one_line(error: BaseException) -> str:
    """The error's text without line breaks and addresses, its class name where it has none."""
    text = " ".join(str(error).split())
    return text if text and "object at 0x" not in text else type(error).__name__


class _Quiet:
    """Pillow's warnings are off while any thread is inside.

    `warnings.catch_warnings` alone restores the wrong filters when two threads leave in turn.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._filters.__exit__(None, None, None)


_QUIET = _Quiet()


def _turned(image: Image.Image, pixels: np.ndarray, notes: list[str]) -> np.ndarray:
    # after load(): Pillow turns TIFF files itself there, and takes the tag away
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # the picture is whole, only what is told about it is not
        notes.append("the EXIF data is damaged and was passed over")
        return pixels
    turn = TURNS.get(orientation) if isinstance(orientation, int) else None
    return pixels if turn is None else turn(pixels)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBa" and not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    alpha = image.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return image.convert("RGB")
    paper = Image.new("RGB", image.size, WHITE)
    paper.paste(image, mask=alpha)
    return paper


def _stretched(values: np.ndarray, notes: list[str]) -> np.ndarray:
    """32-bit grey, whose white is not written anywhere: 0..1 if it fits, else its own range."""
    values = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        return np.rint(values * 255)
    notes.append(f"32-bit values from {low:g} to {high:g} were stretched to 0..255")
    return np.rint((values - low) * (255 / max(high - low, 1e-12)))


def _check_tiles(image: Image.Image, limits: Limits) -> None:
    """A small TIFF may declare one huge tile: it would be taken into memory whole."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        width, length = (image.tag_v2.get(tag, 1) for tag in (TILE_WIDTH, TILE_LENGTH))
        limits.check_size(max(1, int(width)), max(1, int(length)))


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height from the header of a WebP file."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    data = data[:30].ljust(30, b"\0")
    if data[12:16] == b"VP8X":
        width, height = (int.from_bytes(data[place : place + 3], "little") for place in (24, 27))
        return width + 1, height + 1
    if data[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if data[12:16] == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None
