"""What the user typed (a folder, a manifest, shards, a tar, a URL) to a `Source` of items."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from discern.data import folders, manifests, shards
from discern.data.items import Item, Source, require_classes
from discern.data.layout import Sample
from discern.data.limits import Limits
from discern.errors import DataError, UsageError

__all__ = ["SOURCES", "Item", "Opener", "Source", "open_paths", "open_source", "require_classes"]


@dataclass(frozen=True)
class Opener:
    """A kind of source: whether it is what lies under some paths, and how it is opened."""

    claims: Callable[[Sequence[Path]], bool]
    open: Callable[[str, Sequence[Path], Limits], Source]


# the first that claims the paths opens them: what is told by its names comes before any folder
SOURCES = {
    "tfds": Opener(shards.is_prepared, shards.open_tfds),
    "tfrecord": Opener(shards.are_records, shards.open_records),
    "webdataset": Opener(shards.are_tars, shards.TarSource),
    "manifest": Opener(manifests.is_manifest, manifests.ManifestSource),
    "folder": Opener(folders.is_folder, folders.FolderSource),
    "files": Opener(folders.are_files, folders.FilesSource),
}

PACKED = (".zip", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar")


def open_source(spec: str | Path | Sequence[str], limits: Limits | None = None) -> Source:
    """Open one source, or several as one.  UsageError: no such path.  DataError: nothing in it."""
    limits = limits or Limits()
    specs = [spec] if isinstance(spec, str | Path) else list(spec)
    if not specs:
        raise UsageError("no source given: name a folder, a manifest, shards or a tar")
    sources = [_open_one(str(each), limits) for each in specs]
    return sources[0] if len(sources) == 1 else JoinedSource(sources, limits)


class JoinedSource(Source):
    """Several sources one after the other; keys that clash are prefixed by the source's number."""

    def __init__(self, sources: Sequence[Source], limits: Limits) -> None:
        super().__init__(" ".join(source.spec for source in sources), limits)
        self.ignored = sum(source.ignored for source in sources)
        self.notes = [f"{source.spec}: {note}" for source in sources for note in source.notes]
        self.items = _joined_items(sources)
        self._places = [(part, index) for part in sources for index in range(len(part.items))]

    def read(self, index: int) -> bytes | list[bytes]:
        """The bytes of item `index`, from the source it came from."""
        source, place = self._places[index]
        return source.read(place)

    def sample(self, index: int) -> Sample:
        """Item `index` as the source it came from stores it."""
        source, place = self._places[index]
        return source.sample(place)

    def location(self, index: int) -> str:
        """Where item `index` lies."""
        source, place = self._places[index]
        return source.location(place)


def open_paths(spec: str, paths: Sequence[Path], limits: Limits) -> Source:
    """The source that lies under some paths of this machine."""
    name = paths[0].name.lower()
    if name.endswith(PACKED):
        raise UsageError(f"{spec}: a packed archive: unpack it, and name the folder (or the .tar)")
    for opener in SOURCES.values():
        if opener.claims(paths):
            return opener.open(spec, paths, limits)
    raise UsageError(f"{spec}: not a kind of source that is known: {', '.join(SOURCES)}")


def _open_one(spec: str, limits: Limits) -> Source:
    if "://" in spec:
        from discern.data.remote import open_remote

        source = open_remote(spec, limits)
    else:
        source = open_paths(spec, _paths(spec), limits)
    if not source.items:
        passed = f" ({source.ignored} other files were passed over)" if source.ignored else ""
        raise DataError(
            f"{spec}: no images or clips in it{passed}: name the folder that holds them"
        )
    return source


def _paths(spec: str) -> list[Path]:
    if not spec.strip() or "\0" in spec:
        raise UsageError("the source is not a path: name a folder, a manifest, shards or a tar")
    path = Path(spec).expanduser()
    try:
        if path.exists():
            return [path]
    except OSError as error:
        raise UsageError(f"{spec}: cannot be opened: {error.strerror}") from None
    if glob.has_magic(spec):
        found = sorted(glob.glob(str(path), recursive=True))
        if not found:
            raise UsageError(f"{spec}: the pattern matches no file")
        return [Path(each) for each in found]
    parent = next((each for each in path.absolute().parents if each.exists()), Path("/"))
    raise UsageError(f"{spec}: does not exist (the nearest folder that does is {parent})")


def _joined_items(sources: Sequence[Source]) -> list[Item]:
    items = [item for source in sources for item in source.items]
    if len({item.key for item in items}) == len(items):
        return items
    return [
        replace(item, key=f"{number}:{item.key}")
        for number, source in enumerate(sources)
        for item in source.items
    ]
