"""How large an item may be: numbers from its header come in, `Refused` goes out."""

from __future__ import annotations

from dataclasses import dataclass

from discern.errors import BadItem, Refused


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one image or clip may take.  Loader, command line and server share it."""

    bytes: int = 512 * 2**20  # of the encoded item
    pixels: int = 50_000_000  # of one frame; Pillow refuses above 178,956,970 whatever stands here
    frames: int = 100_000  # in the file, whether kept or not
    seconds: float = 3600.0  # from the first frame to the last
    memory: int = 2 * 2**30  # bytes of all frames that are kept of one item

    def check_bytes(self, count: int) -> None:
        """Refuse an encoded item that is too large, and an empty one."""
        if count == 0:
            raise BadItem("the file is empty (0 bytes)")
        if count > self.bytes:
            self._refuse(f"{count:,} bytes", "bytes")

    def check_size(self, width: int, height: int) -> None:
        """Refuse a frame that is too large, and one without any pixel."""
        if width < 1 or height < 1:
            raise BadItem(f"{width} x {height} pixels: there is nothing to see")
        if width * height > self.pixels:
            self._refuse(f"{width} x {height} pixels", "pixels")

    def check_length(self, frames: int, seconds: float) -> None:
        """Refuse a clip that is too long; 0 where the header does not say."""
        if frames > self.frames:
            self._refuse(f"{frames:,} frames", "frames")
        if seconds > self.seconds:
            self._refuse(f"{seconds:,.0f} seconds", "seconds")

    def check_memory(self, frames: int, width: int, height: int) -> None:
        """Refuse when the frames that are kept would fill the memory."""
        if frames * width * height * 3 > self.memory:
            self._refuse(f"{frames} frames of {width} x {height} pixels in memory", "memory")

    def _refuse(self, found: str, name: str) -> None:
        raise Refused(
            f"{found}: over the limit of {getattr(self, name):,} ({name});"
            " shrink it or raise the limit"
        )
