"""A second source, learned from without its labels: which of its items, and beside which others."""

from __future__ import annotations

from collections.abc import Sequence

from discern.data.items import Source
from discern.data.limits import Limits
from discern.data.sources import JoinedSource
from discern.errors import DataError
from discern.recipes.prepare import open_checked


def joined_with_unlabelled(
    source: Source, rest: Sequence[int], specs: Sequence[str]
) -> tuple[Source, list[int]]:
    """(a source, the items of it to learn from without labels): `rest` of `source`, and the others.

    A file that is named twice counts once, as what it is in `source` where that holds it: a test
    item named a second time stays unseen.  Their own validation and test items, and kinds that
    `source` has no labels for, are left out.  Raises UsageError, and DataError when nothing is
    left.
    """
    others = open_checked(specs)
    held = {source.location(index) for index in range(len(source.items))}
    kinds = {item.kind for item in source.items if item.labels}
    chosen = []
    for index, item in enumerate(others.items):
        place = others.location(index)
        if item.split in (None, "train") and item.kind in kinds and place not in held:
            chosen.append(len(source.items) + index)
            held.add(place)
    if not chosen and not rest:
        raise DataError(
            f"{others.spec}: nothing in it to learn from that {source.spec} does not hold already "
            "with a label in use: name another source, or use fewer labels (--labels)"
        )
    return JoinedSource([source, others], Limits()), [*rest, *chosen]
