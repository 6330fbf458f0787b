from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from discern.clip import Kind
from discern.data.limits import Limits
from discern.data.sources import open_source
from discern.errors import BadItem, DataError, Refused, UsageError


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    yield fs
    fs.store.clear()


def put(fs: fsspec.AbstractFileSystem, **files: bytes) -> None:
    for name, data in files.items():
        fs.pipe_file("/data/" + name, data)


def test_folder(memory: fsspec.AbstractFileSystem) -> None:
    put(
        memory,
        **{
            "train/cat/a.jpg": b"1",
            "train/dog/b.mp4": b"22",
            "test/cat/c.png": b"3",
            "train/cat/d.frames/10.jpg": b"5",
            "train/cat/d.frames/9.jpg": b"4",
            "readme.txt": b"x",
            "train/.cache/x.jpg": b"x",
        },
    )
    source = open_source("memory://data")
    found = {item.key: (item.labels, item.split, item.kind) for item in source.items}
    assert found == {
        "test/cat/c.png": (("cat",), "test", Kind.IMAGE),
        "train/cat/a.jpg": (("cat",), "train", Kind.IMAGE),
        "train/cat/d.frames": (("cat",), "train", Kind.CLIP),
        "train/dog/b.mp4": (("dog",), "train", Kind.CLIP),
    }
    data = {item.key: source.read(index) for index, item in enumerate(source.items)}
    assert data["train/cat/d.frames"] == [b"4", b"5"] and data["train/dog/b.mp4"] == b"22"
    assert source.ignored == 2


def test_manifest_and_single_file(memory: fsspec.AbstractFileSystem) -> None:
    put(
        memory,
        **{"m.csv": b"path,label,split\nx/a.jpg,cat,train\nb.mp4,dog,\n", "x/a.jpg": b"1"},
    )
    source = open_source("memory://data/m.csv")
    assert [(item.key, item.labels, item.split) for item in source.items] == [
        ("x/a.jpg", ("cat",), "train"),
        ("b.mp4", ("dog",), None),
    ]
    assert source.read(0) == b"1"
    with pytest.raises(BadItem, match="no longer there"):
        source.read(1)
    assert open_source("memory://data/x/a.jpg").read(0) == b"1"


def test_a_remote_manifest_cannot_name_files_of_this_machine(
    memory: fsspec.AbstractFileSystem,
) -> None:
    for path in ("/etc/hosts.jpg", "../a.jpg", "file:///etc/passwd"):
        put(memory, **{"m.csv": f"path,label\n{path},cat\n".encode()})
        with pytest.raises(DataError, match="field path"):
            open_source("memory://data/m.csv")


def test_a_changed_manifest_is_fetched_again(memory: fsspec.AbstractFileSystem) -> None:
    put(memory, **{"m.csv": b"path,label\na.jpg,cat\n"})
    assert open_source("memory://data/m.csv").classes == ["cat"]
    put(memory, **{"m.csv": b"path,label\na.jpg,hippopotamus\n"})
    assert open_source("memory://data/m.csv").classes == ["hippopotamus"]


def test_limits_and_errors(memory: fsspec.AbstractFileSystem) -> None:
    put(memory, **{"cat/a.jpg": b"12345"})
    with pytest.raises(Refused):
        open_source("memory://data", Limits(bytes=4)).read(0)
    with pytest.raises(UsageError, match="does not exist"):
        open_source("memory://nowhere")
    with pytest.raises(UsageError, match="matches no file"):
        open_source("memory://data/*.tfrecord")
    with pytest.raises(UsageError, match="nosuchprotocol"):
        open_source("nosuchprotocol://x/y")
    put(memory, **{"docs/a.txt": b"x"})
    with pytest.raises(DataError, match="no images or clips"):
        open_source("memory://data/docs")


def test_a_flaky_connection_is_tried_again(
    memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(memory, **{"cat/a.jpg": b"1"})
    source = open_source("memory://data")
    monkeypatch.setattr("discern.data.remote.time.sleep", lambda seconds: None)
    tries = []
    cat_file = type(memory).cat_file

    def flaky(self: object, path: str, **options: int) -> bytes:
        tries.append(path)
        if len(tries) < 3:
            raise ConnectionResetError("reset by peer")
        return cat_file(self, path, **options)

    monkeypatch.setattr(type(memory), "cat_file", flaky)
    assert source.read(0) == b"1" and len(tries) == 3
    tries[:] = [""] * -9
    monkeypatch.setattr("discern.data.remote.ATTEMPTS", 2)
    with pytest.raises(BadItem, match="reset by peer"):
        source.read(0)


def test_nothing_above_the_folder_is_listed(
    memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(memory, **{"cat/a.jpg": b"1"})
    found = ["/data/cat/a.jpg", "/data/../etc/b.jpg", "/elsewhere/c.jpg"]
    monkeypatch.setattr(type(memory), "find", lambda *arguments: found)
    assert [item.key for item in open_source("memory://data").items] == ["cat/a.jpg"]


def test_a_file_lies_at_one_place_however_it_is_named(
    memory: fsspec.AbstractFileSystem,
) -> None:
    put(memory, **{"cat/a.jpg": b"1", "m.csv": b"path,label\ncat/a.jpg,cat\n"})
    specs = ("memory://data", "memory://data/cat/a.jpg", "memory://data/m.csv")
    places = {open_source(spec).location(0) for spec in specs}
    assert places == {"memory:///data/cat/a.jpg"}
