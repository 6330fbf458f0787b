"""Labelled and unlabelled items in one batch: two loaders in, one of the same positions out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch

from discern.clip import Batch, Kind
from discern.data.clipset import UNLABELLED, ClipSet
from discern.data.loader import START, Loader, LoaderConfig, Position


class MixedLoader:
    """Each batch of the labelled loader, followed by unlabelled items of its kind where there are
    any.

    Positions are those of the labelled loader; which unlabelled items come with a batch follows
    from how many batches of its kind came before.
    """

    def __init__(
        self,
        labelled: Mapping[Kind, ClipSet],
        unlabelled: Mapping[Kind, ClipSet],
        config: LoaderConfig,
        *,
        ratio: float,
        seed: int,
        clip_tokens_per_image: int = 4,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        cost = clip_tokens_per_image
        whole = Loader(labelled, config, seed=seed, clip_tokens_per_image=cost, part=part)
        shares = {
            kind: max(1, min(size - 1, round(size / (1 + ratio))))
            for kind, size in whole.batch_size.items()
        }
        self.labelled, self.unlabelled = whole, {}
        for kind, one in unlabelled.items():
            rest = Loader({kind: one}, config, seed=seed + 1, part=part)
            rest.batch_size[kind] = max(1, whole.batch_size[kind] - shares[kind])
            self.unlabelled[kind] = rest
        for kind in self.unlabelled:  # where there are none the batch is all labelled
            whole.batch_size[kind] = shares[kind]

    def batches(self, start: Position = START) -> Iterator[tuple[Position, Batch]]:
        """(position after it, batch) from `start` on, for ever.

        Labelled items first, label -1 for the others.
        """
        here = start
        kinds = self._kinds(here.epoch)
        streams: dict[Kind, Iterator[tuple[Position, Batch]]] = {}
        for after, batch in self.labelled.batches(start):
            kind = kinds[here.index]
            if kind in self.unlabelled and kind not in streams:
                streams[kind] = self._stream(kind, here, kinds)
            if kind in streams:
                _, more = next(streams[kind])
                batch = _joined(batch, more)
            yield after, batch
            if after.epoch != here.epoch:
                kinds = self._kinds(after.epoch)
            here = after

    def _kinds(self, epoch: int) -> list[Kind]:
        return [request.kind for request in self.labelled.plan(epoch)]

    def _stream(
        self, kind: Kind, here: Position, kinds: list[Kind]
    ) -> Iterator[tuple[Position, Batch]]:
        """The unlabelled batches of a kind, from the one that belongs to the position `here`."""
        # every epoch has as many batches of a kind as any other
        before = here.epoch * kinds.count(kind) + kinds[: here.index].count(kind)
        loader = self.unlabelled[kind]
        return loader.batches(Position(*divmod(before, len(loader.plan(0)))))


def _joined(batch: Batch, more: Batch) -> Batch:
    assert batch.label is not None
    nameless = batch.label.new_full((len(more.clip),), UNLABELLED)
    clip, label = torch.cat([batch.clip, more.clip]), torch.cat([batch.label, nameless])
    return replace(batch, clip=clip, label=label, index=None)
