"""A source in, a report out: counts, sizes, broken files, duplicates, leaks between splits."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Any

from discern.clip import Clip, Kind
from discern.data.badfiles import BadFiles
from discern.data.decode import decode
from discern.data.fingerprint import Fingerprint, alike_pairs, clusters, fingerprint
from discern.data.items import Source
from discern.data.limits import Limits
from discern.errors import BadItem

FRAMES = 3  # of a clip that are decoded: first, middle and last
THREADS = 2
CHUNK = 64  # items in flight, so that the bytes of a large source never lie in memory together
IMBALANCED = 10.0  # largest class over smallest


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What is kept of an item that was read and decoded."""

    digest: bytes
    width: int
    height: int
    seconds: float
    print: Fingerprint
    notes: tuple[str, ...]


def check(
    source: Source,
    limits: Limits | None = None,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Read and decode everything once.  Bad items are listed; with `strict` the first one raises.

    `progress` is called with (done, total).
    """
    bad = BadFiles(None, strict=strict)
    seen = _see_all(source, limits or Limits(), bad, progress)
    exact, near = _duplicates(source, seen)
    return {
        **_counts(source),
        "sizes": _sizes(source, seen),
        "bad_files": [{"path": key, "reason": reason} for key, reason in bad.reasons.items()],
        "duplicates": [
            {"kind": kind, "paths": _keys(source, group)}
            for kind, groups in (("exact", exact), ("near", near))
            for group in groups
        ],
        "leaks": _leaks(source, [*exact, *near]),
        "conflicting_labels": _conflicts(source, exact, near),
        "mended": [
            {"path": source.items[index].key, "notes": list(each.notes)}
            for index, each in seen.items()
            if each.notes
        ],
        "imbalance": _imbalance(source),
        "ignored": source.ignored,
        "notes": list(source.notes),
    }


def _see_all(
    source: Source, limits: Limits, bad: BadFiles, progress: Callable[[int, int], None] | None
) -> dict[int, Seen]:
    def see(index: int) -> Seen | str:
        try:
            is_clip = source.items[index].kind == Kind.CLIP
            return _see(source.read(index), limits, FRAMES if is_clip else None)
        except BadItem as error:
            return str(error)

    seen: dict[int, Seen] = {}
    total = len(source.items)
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, total, CHUNK):
            indices = range(start, min(start + CHUNK, total))
            for index, result in zip(indices, pool.map(see, indices), strict=True):
                if isinstance(result, Seen):
                    seen[index] = result
                else:
                    bad.add(source.items[index].key, result)
            if progress:
                progress(indices.stop, total)
    return seen


def _see(encoded: bytes | list[bytes], limits: Limits, frames: int | None) -> Seen:
    clip = decode(encoded, limits, frames)
    digest = hashlib.blake2b(digest_size=16)
    for part in [encoded] if isinstance(encoded, bytes) else encoded:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return Seen(
        digest=digest.digest(),
        width=clip.frames.shape[2],
        height=clip.frames.shape[1],
        seconds=_seconds(clip),
        print=fingerprint(clip),
        notes=clip.notes,
    )


def _seconds(clip: Clip) -> float:
    """About how long it is: the decoded frames are the middles of equal parts of it."""
    count = len(clip.times)
    return float(clip.times[-1] - clip.times[0]) * count / (count - 1) if count > 1 else 0.0


def _counts(source: Source) -> dict[str, Any]:
    kinds = Counter(item.kind for item in source.items)
    classes = Counter(label for item in source.items for label in item.labels)
    splits = Counter(item.split for item in source.items if item.split)
    return {
        "items": len(source.items),
        "images": kinds[Kind.IMAGE],
        "clips": kinds[Kind.CLIP],
        "classes": dict(sorted(classes.items())),
        "unlabelled": sum(not item.labels for item in source.items),
        "splits": dict(sorted(splits.items())),
        "groups": len({item.group for item in source.items if item.group is not None}),
    }


def _sizes(source: Source, seen: dict[int, Seen]) -> dict[str, Any]:
    def spread(values: Sequence[float]) -> dict[str, float]:
        return {"min": min(values), "median": median(values), "max": max(values)}

    clips = [each for index, each in seen.items() if source.items[index].kind == Kind.CLIP]
    sizes: dict[str, Any] = {}
    if seen:
        sizes["width"] = spread([each.width for each in seen.values()])
        sizes["height"] = spread([each.height for each in seen.values()])
    if clips:
        sizes["seconds"] = spread([round(each.seconds, 3) for each in clips])
    return sizes


def _duplicates(source: Source, seen: dict[int, Seen]) -> tuple[list[list[int]], list[list[int]]]:
    """(groups of equal bytes, groups of those that only look the same, one of each equal group)"""
    by_digest: dict[bytes, list[int]] = defaultdict(list)
    for index, each in seen.items():
        by_digest[each.digest].append(index)
    exact = [group for group in by_digest.values() if len(group) > 1]
    near: list[list[int]] = []
    # an image and a clip are compared with their own kind only
    shapes: dict[int, list[int]] = defaultdict(list)
    for first, *_ in by_digest.values():
        if not seen[first].print.is_flat:
            shapes[len(seen[first].print.thumbnail)].append(first)
    for indices in shapes.values():
        pairs = alike_pairs([seen[index].print for index in indices])
        near += [[indices[place] for place in group] for group in clusters(len(indices), pairs)]
    return exact, near


def _leaks(source: Source, groups: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """Duplicates and named groups that lie in more than one split."""
    joined = clusters(len(source.items), _links(groups))
    named: dict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(source.items):
        if item.group is not None:
            named[item.group].append(index)
    return [
        {"kind": kind, "splits": splits, "paths": _keys(source, group)}
        for kind, candidates in (("duplicate", joined), ("group", list(named.values())))
        for group in candidates
        if len(splits := sorted({source.items[index].split or "train" for index in group})) > 1
    ]


def _links(groups: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    return ((group[0], other) for group in groups for other in group[1:])


def _conflicts(
    source: Source, exact: Sequence[Sequence[int]], near: Sequence[Sequence[int]]
) -> list[dict[str, Any]]:
    """Duplicates whose labels differ."""
    found = []
    for kind, groups in (("exact", exact), ("near", near)):
        for group in groups:
            labels = {source.items[index].labels for index in group} - {()}
            if len(labels) > 1:
                names = sorted(";".join(each) for each in labels)
                found.append({"kind": kind, "labels": names, "paths": _keys(source, group)})
    return found


def _imbalance(source: Source) -> dict[str, Any] | None:
    """The largest class beside the smallest, and whether that asks for balancing."""
    counts = Counter(label for item in source.items for label in item.labels)
    if len(counts) < 2:
        return None
    largest = min(counts, key=lambda name: (-counts[name], name))
    smallest = min(counts, key=lambda name: (counts[name], name))
    ratio = counts[largest] / counts[smallest]
    return {
        "largest": largest,
        "smallest": smallest,
        "ratio": round(ratio, 2),
        "is_imbalanced": ratio >= IMBALANCED,
    }


def _keys(source: Source, group: Sequence[int]) -> list[str]:
    return sorted(source.items[index].key for index in group)
