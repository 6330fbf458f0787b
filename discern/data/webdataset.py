"""WebDataset tars: members grouped into samples by basename, read by offset, never unpacked to disk.

STUB: signatures are settled, bodies follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from discern.clip import Kind


@dataclass(frozen=True, kw_only=True, slots=True)
class TarSample:
    """One sample of a tar, not read yet."""

    key: str  # member name without its extension
    kind: Kind
    offset: int  # of the image or video bytes in the tar
    size: int
    extension: str  # "jpg", "mp4"
    labels: tuple[str, ...] = ()
    group: str | None = None
    split: str | None = None


def index_tar(path: str | Path, classes: Sequence[str] | None = None) -> tuple[list[TarSample], list[str]]:
    """All samples of a tar, and one note per member that could not be used.  Raises DataError for a corrupt tar."""
    raise NotImplementedError


def read_sample(path: str | Path, sample: TarSample) -> bytes:
    """The encoded image or video.  Raises BadItem when the tar is gone or shorter than its index."""
    raise NotImplementedError
