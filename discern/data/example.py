"""tf.train.Example: named lists of bytes, ints or floats to and from its protobuf bytes, without TensorFlow.

STUB: signatures are settled, bodies follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

Value: TypeAlias = bytes | str | int | float | Sequence[bytes] | Sequence[str] | Sequence[int] | Sequence[float] | np.ndarray


def encode_example(features: Mapping[str, Value]) -> bytes:
    """The Example as bytes: keys sorted, ints and floats packed (as TensorFlow writes).  bool counts as int."""
    raise NotImplementedError


class Example:
    """A parsed Example; values are decoded when they are asked for.  Missing or wrong kind -> BadItem naming the keys."""

    def keys(self) -> list[str]: ...
    def __contains__(self, key: str) -> bool: ...  # also True for an empty list
    def kind(self, key: str) -> str: ...  # "bytes" | "float" | "int" | "empty"
    def bytes_list(self, key: str) -> list[bytes]: ...
    def ints(self, key: str) -> list[int]: ...
    def floats(self, key: str) -> np.ndarray: ...
    def bytes(self, key: str) -> bytes: ...  # exactly one value, else BadItem
    def int(self, key: str) -> int: ...
    def text(self, key: str) -> str: ...


def parse_example(record: bytes) -> Example:
    """Reads the outline of an Example.  Raises BadItem for bytes that are none; unknown fields are skipped."""
    raise NotImplementedError
