"""The layout of one image or clip as a tf.train.Example: a record in, a still encoded sample out, and back.

STUB: signatures are settled, bodies follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from discern.clip import Kind


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One image or clip as it is stored: still encoded."""

    encoded: bytes | list[bytes]  # a list holds the encoded frames of one clip
    kind: Kind
    labels: tuple[str, ...] = ()
    group: str | None = None
    split: str | None = None
    key: str | None = None


def sample_to_record(sample: Sample, classes: Mapping[str, int] | Sequence[str] = ()) -> bytes:
    """The Example bytes of a sample.  `classes` (names in order, or name -> number) adds the numbers of its labels."""
    raise NotImplementedError


def record_to_sample(record: bytes, classes: Sequence[str] | None = None) -> Sample:
    """The sample in an Example with our keys or usual foreign ones.  `classes` names numeric labels.

    Raises BadItem that names the keys looked for and the keys present.
    """
    raise NotImplementedError
