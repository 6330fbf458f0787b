"""Picture files of a run go in, `<img>` and `<video>` elements that hold them come out.

A path may come from a file of others: it is followed only inside the run folder, and the bytes
decide what it is.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from discern.report.markup import Markup, tag

MAX_BYTES = 12 * 2**20  # of one embedded file
MAX_TOTAL = 48 * 2**20  # of all of them: a report must still open on a phone
SIGNATURES = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"GIF8", "image/gif"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (8, b"WEBP", "image/webp"),
    (4, b"ftyp", "video/mp4"),
)


@dataclass
class Album:
    """Embeds files of one folder until the page is full."""

    folder: Path
    left: int = MAX_TOTAL
    skipped: int = 0  # files that did not fit

    def picture(self, name: object, alt: str, width: int = 640) -> Markup | None:
        """The file as an element, enlarged by a whole factor up to `width` pixels.

        None where there is no such picture inside the folder, or no more room for it.
        """
        data = self._read(name)
        if data is None:
            return None
        kind = media_type(data)
        if kind is None:
            return None
        self.left -= len(data)
        source = f"data:{kind};base64,{base64.b64encode(data).decode()}"
        if kind == "video/mp4":
            return tag(
                "video", src=source, aria_label=alt, autoplay=True, loop=True, muted=True,
                playsinline=True, controls=True,
            )  # fmt: skip
        size = _size(data)
        shown = None
        if size is not None:
            factor = max(1, width // size[0])
            shown = size[0] * factor
        crisp = "crisp" if size is not None and shown is not None and shown > size[0] else None
        height = None if size is None or shown is None else round(size[1] * shown / size[0])
        return tag("img", src=source, alt=alt, width=shown, height=height, class_=crisp)

    def _read(self, name: object) -> bytes | None:
        if not isinstance(name, (str, Path)) or not str(name) or "\0" in str(name):
            return None
        try:
            root = self.folder.resolve()
            path = (root / name).resolve()
            if not path.is_relative_to(root) or not path.is_file():
                return None
            if path.stat().st_size > min(MAX_BYTES, self.left):
                self.skipped += 1
                return None
            return path.read_bytes()
        except OSError:
            return None


def media_type(data: bytes) -> str | None:
    """What the first bytes say the file is, or None for all that a page does not show."""
    for offset, signature, kind in SIGNATURES:
        if data[offset : offset + len(signature)] == signature:
            return kind
    return None


def _size(data: bytes) -> tuple[int, int] | None:
    """Width and height, from the header alone."""
    import io
    import warnings

    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # a header that declares a bomb is only read, not decoded
            with Image.open(io.BytesIO(data), formats=("PNG", "GIF", "JPEG", "WEBP")) as image:
                return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
