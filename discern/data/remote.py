"""Data behind a URL of any kind that fsspec knows to a `Source`.

Files of a folder or manifest are fetched one by one when they are read.  Shards and tars, which
are read in any order, are copied once into a cache folder.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from discern.clip import Kind
from discern.data.folders import Directory, layout
from discern.data.items import (
    FRAMES,
    Item,
    Source,
    frame_order,
    kind_by_name,
)
from discern.data.limits import Limits
from discern.data.manifests import SUFFIXES, read_manifest
from discern.data.shards import LABELS, is_record_name, is_tar_name
from discern.errors import BadItem, DiscernError, UsageError
from discern.files import replacing

ATTEMPTS = 3
TFDS = ("features.json", "dataset_info.json")


def open_remote(spec: str, limits: Limits) -> Source:
    """The source behind a URL, or behind a pattern such as `s3://bucket/train-*.tfrecord`."""
    from discern.data.sources import open_paths

    with _plain_errors(spec):
        import fsspec

        fs, root = fsspec.core.url_to_fs(spec)
        root = root.rstrip("/")
        name = root.rpartition("/")[2]
        if "*" in root:
            found = sorted(fs.glob(root))
            if not found:
                raise UsageError(f"{spec}: the pattern matches no file")
            return open_paths(spec, _copy_all(fs, found), limits)
        if is_record_name(name) or is_tar_name(name):
            parent = root.rpartition("/")[0]
            labels = [f"{parent}/{LABELS}"] if fs.exists(f"{parent}/{LABELS}") else []
            return open_paths(spec, _copy_all(fs, [root, *labels])[:1], limits)
        if name.lower().endswith(SUFFIXES):
            return _open_manifest(spec, fs, root, limits)
        if kind_by_name(name):
            parent, _, name = root.rpartition("/")
            item = Item(key=name, kind=kind_by_name(name) or Kind.IMAGE)
            return RemoteSource(spec, fs, parent, [item], [[name]], limits)
        return _open_folder(spec, fs, root, limits)


class RemoteSource(Source):
    """Files below a remote folder, each fetched when it is read."""

    def __init__(
        self,
        spec: str,
        fs: Any,
        root: str,
        items: Sequence[Item],
        paths: Sequence[Sequence[str]],
        limits: Limits,
    ) -> None:
        super().__init__(spec, limits)
        self.items = items
        self._paths = paths  # of each item relative to the root; several: the frames of a clip
        self._root = root
        self._json = fs.to_json()  # a connection must not be carried into another process
        self._fs, self._owner = fs, os.getpid()

    def read(self, index: int) -> bytes | list[bytes]:
        """The file of item `index`, or the files of its frames."""
        item, paths = self.items[index], self._paths[index]
        if item.key.lower().endswith(FRAMES):
            self.limits.check_length(len(paths), 0.0)
            frames: list[bytes] = []
            for path in paths:
                frames.append(self._fetch(path))
                self.limits.check_bytes(sum(map(len, frames)))
            return frames
        return self._fetch(paths[0])

    def location(self, index: int) -> str:
        """Where item `index` lies, with its protocol."""
        return str(self._fs.unstrip_protocol(f"{self._root}/{self.items[index].key}"))

    def _fetch(self, path: str) -> bytes:
        end = self.limits.bytes + 1
        for attempt in range(1, ATTEMPTS + 1):
            try:
                data = self._connection().cat_file(f"{self._root}/{path}", start=0, end=end)
                break
            except FileNotFoundError:
                raise BadItem("cannot be read: no longer there") from None
            except Exception as error:  # each protocol has errors of its own
                if attempt == ATTEMPTS:
                    raise BadItem(f"cannot be fetched: {_line(error)}") from None
                time.sleep(0.2 * attempt)
        self.limits.check_bytes(len(data))
        return data

    def _connection(self) -> Any:
        if self._owner != os.getpid():
            import fsspec

            self._fs = fsspec.AbstractFileSystem.from_json(self._json)
            self._owner = os.getpid()
        return self._fs


def _open_folder(spec: str, fs: Any, root: str, limits: Limits) -> Source:
    from discern.data.sources import open_paths

    found = sorted(fs.find(root))
    if not found and not fs.exists(root):
        raise UsageError(f"{spec}: does not exist, or may not be read")
    prefix = root + "/" if root else ""
    names = [path[len(prefix) :] for path in found if path.startswith(prefix)]
    top = [name for name in names if "/" not in name]
    if set(TFDS) <= set(top):
        return open_paths(spec, [_copy_all(fs, [prefix + name for name in top])[0].parent], limits)
    packed = [name for name in top if is_record_name(name) or is_tar_name(name)]
    if packed:
        labels = [LABELS] if LABELS in top else []
        copies = _copy_all(fs, [prefix + name for name in [*packed, *labels]])
        return open_paths(spec, copies[: len(packed)], limits)
    return _files_source(spec, fs, root, names, limits)


def _files_source(
    spec: str, fs: Any, root: str, names: Sequence[str], limits: Limits
) -> RemoteSource:
    frames: dict[str, list[str]] = defaultdict(list)
    by_folder: dict[tuple[str, ...], set[str]] = defaultdict(set)
    hidden = 0
    for name in names:
        *parts, last = name.split("/")
        clip = next((place for place, part in enumerate(parts) if part.endswith(FRAMES)), None)
        if any(part.startswith(".") for part in parts):
            hidden += 1
        elif clip is None:
            by_folder[tuple(parts)].add(last)
        else:
            by_folder[tuple(parts[:clip])].add(parts[clip])
            frames["/".join(parts[: clip + 1])].append(name)
    notes: list[str] = []
    directories = [
        Directory(parts=parts, names=sorted(files)) for parts, files in sorted(by_folder.items())
    ]
    items, other, ignored = layout(directories, notes)
    paths = [
        sorted(frames[item.key], key=frame_order)
        if item.key in frames
        else [other.get(i, item.key)]
        for i, item in enumerate(items)
    ]
    source = RemoteSource(spec, fs, root, items, paths, limits)
    source.notes += notes
    source.ignored = ignored + hidden
    return source


def _open_manifest(spec: str, fs: Any, root: str, limits: Limits) -> RemoteSource:
    (copy,) = _copy_all(fs, [root])
    entries, notes = read_manifest(copy, absolute=False)
    paths = [PurePosixPath(entry.path.replace("\\", "/")).as_posix() for entry in entries]
    items = [
        Item(
            key=path,
            kind=kind_by_name(path.rpartition("/")[2]) or Kind.IMAGE,
            labels=entry.labels,
            split=entry.split,
            group=entry.group,
        )
        for entry, path in zip(entries, paths, strict=True)
    ]
    parent = root.rpartition("/")[0]
    source = RemoteSource(spec, fs, parent, items, [[path] for path in paths], limits)
    source.notes += notes
    return source


def _copy_all(fs: Any, paths: Sequence[str]) -> list[Path]:
    """Copies of remote files, side by side in one cache folder that changes when a file does."""
    marks = [f"{fs.protocol} {path} {_mark(fs, path)}" for path in paths]
    digest = hashlib.sha256("\n".join(marks).encode()).hexdigest()[:24]
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "discern" / "remote" / digest
    folder.mkdir(parents=True, exist_ok=True)
    copies = []
    for path in paths:
        copy = folder / (PurePosixPath(path).name or "data")
        if copy in copies:
            raise UsageError(f"{path}: two files have this name: name one folder of shards")
        if not copy.exists():
            with replacing(copy) as temporary:
                fs.get_file(path, str(temporary))
        copies.append(copy)
    return copies


def _mark(fs: Any, path: str) -> str:
    """Size and time or tag of a remote file, as far as its protocol tells."""
    about = fs.info(path)
    names = ("size", "mtime", "LastModified", "last_modified", "updated", "created", "ETag", "etag")
    return " ".join(f"{name}={about[name]}" for name in names if name in about)


@contextmanager
def _plain_errors(spec: str) -> Iterator[None]:
    try:
        yield
    except DiscernError:
        raise
    except FileNotFoundError:
        raise UsageError(f"{spec}: does not exist, or may not be read") from None
    except ImportError as error:
        raise UsageError(f"{spec}: {_line(error)}") from None
    except Exception as error:  # each protocol has errors of its own
        raise UsageError(f"{spec}: cannot be opened: {_line(error)}") from None


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:200] or type(error).__name__
