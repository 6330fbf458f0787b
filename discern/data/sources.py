"""What the user typed (a folder, a manifest, shards, an archive, a URL) to a `Source` of items."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from discern.data.folders import FilesSource, FolderSource
from discern.data.items import Item, Source
from discern.errors import DataError, UsageError

if TYPE_CHECKING:
    from discern.data.limits import Limits

__all__ = ["SOURCES", "Item", "Source", "open_source"]

# the first that claims the paths opens them
SOURCES = {
    "folder": FolderSource,
    "files": FilesSource,
}


def open_source(spec: str | Sequence[str], limits: Limits | None = None) -> Source:
    """Open one source, or several as one.  Raises UsageError for a missing path, DataError for an empty one."""
    from discern.data.limits import Limits

    limits = limits or Limits()
    specs = [spec] if isinstance(spec, str | Path) else list(spec)
    if not specs:
        raise UsageError("no source given: name a folder, a manifest, shards or an archive")
    sources = [_open_one(str(each), limits) for each in specs]
    return sources[0] if len(sources) == 1 else JoinedSource(sources, limits)


class JoinedSource(Source):
    """Several sources one after the other; where two keys clash, they are prefixed by the place of their source."""

    def __init__(self, sources: Sequence[Source], limits: Limits) -> None:
        super().__init__(" ".join(source.spec for source in sources), limits)
        self._sources = sources
        self.ignored = sum(source.ignored for source in sources)
        self.notes = [f"{source.spec}: {note}" for source in sources for note in source.notes]
        self.items = _joined_items(sources)
        self._places = [(part, index) for part in sources for index in range(len(part.items))]

    def read(self, index: int) -> bytes | list[bytes]:
        """The bytes of item `index`, from the source it came from."""
        source, place = self._places[index]
        return source.read(place)


def _joined_items(sources: Sequence[Source]) -> list[Item]:
    keys = [item.key for source in sources for item in source.items]
    if len(set(keys)) == len(keys):
        return [item for source in sources for item in source.items]
    return [
        Item(
            key=f"{place}:{item.key}",
            kind=item.kind,
            labels=item.labels,
            split=item.split,
            group=item.group,
        )
        for place, source in enumerate(sources)
        for item in source.items
    ]


def _open_one(spec: str, limits: Limits) -> Source:
    paths = _paths(spec)
    for kind in SOURCES.values():
        if kind.claims(paths):
            source = kind(spec, paths, limits)
            break
    else:
        raise UsageError(f"{spec}: not a kind of source that is known: {', '.join(SOURCES)}")
    if not source.items:
        passed = f" ({source.ignored} other files passed over)" if source.ignored else ""
        raise DataError(
            f"{spec}: no images or clips in it{passed}: name the folder that holds them"
        )
    return source


def _paths(spec: str) -> list[Path]:
    if not spec.strip():
        raise UsageError(
            "the source is an empty text: name a folder, a manifest, shards or an archive"
        )
    path = Path(spec).expanduser()
    if path.exists():
        return [path]
    if glob.has_magic(spec):
        found = sorted(glob.glob(str(path), recursive=True))
        if not found:
            raise UsageError(f"{spec}: the pattern matches nothing")
        return [Path(each) for each in found]
    parent = next((each for each in path.absolute().parents if each.exists()), Path("/"))
    raise UsageError(f"{spec}: does not exist (the nearest folder that does is {parent})")
