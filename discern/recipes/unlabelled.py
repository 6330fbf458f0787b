"""A second source, learned from without its labels: which of its items, and beside which others."""

from __future__ import annotations

from collections.abc import Sequence

from discern.data.items import SPLITS, Source
from discern.data.limits import Limits
from discern.data.sources import JoinedSource, open_source
from discern.errors import DataError


def joined_with_unlabelled(
    source: Source, rest: Sequence[int], specs: Sequence[str]
) -> tuple[Source, list[int]]:
    """(a source, the items of it to learn from without labels): `rest` of `source`, and the others.

    Of the others, what `source` holds as well counts once, as what it is there: a test item named a
    second time stays unseen.  Their own validation and test items, and kinds that `source` has no
    labels for, are left out.  Raises UsageError, and DataError when nothing is left.
    """
    limits = Limits()
    others = open_source(list(specs), limits)
    held = {source.location(index) for index in range(len(source.items))}
    kinds = {item.kind for item in source.items if item.labels}
    first = len(source.items)
    chosen = [
        first + index
        for index, item in enumerate(others.items)
        if item.split in (None, SPLITS[0])
        and item.kind in kinds
        and others.location(index) not in held
    ]
    if not chosen and not rest:
        raise DataError(
            f"{others.spec}: nothing in it to learn from that {source.spec} does not hold already "
            "with a label in use: name another source, or use fewer labels (--labels)"
        )
    return JoinedSource([source, others], limits), [*rest, *chosen]
