"""Weights that come with the package: a name in, the folder of its bundle out.

What they were trained on, for how long, and what they are not good for: docs/models.md.
"""

from __future__ import annotations

from pathlib import Path

# name -> folder under discern/weights
SHIPPED: dict[str, str] = {"discern-nano": "nano"}


def shipped(name: Path | str) -> Path | None:
    """The bundle's folder, or None where no weights of this name ship."""
    folder = SHIPPED.get(str(name))
    return None if folder is None else Path(__file__).parent / "weights" / folder
