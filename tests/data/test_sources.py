from __future__ import annotations

from pathlib import Path

import pytest

from discern.data.sources import SOURCES, open_source
from discern.errors import UsageError
from tests.data.test_folders import make


def test_single_files_and_patterns(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "b.mp4", "c.txt")
    assert [item.labels for item in open_source(str(tmp_path / "a.jpg")).items] == [()]
    source = open_source(str(tmp_path / "*"))
    assert len(source) == 2 and source.ignored == 1
    assert source.read(1) == b"x"
    with pytest.raises(UsageError, match="matches no file"):
        open_source(str(tmp_path / "*.webp"))


def test_several_sources_are_one(tmp_path: Path) -> None:
    make(tmp_path, "one/cat/a.jpg", "one/notes.txt", data=b"1")
    make(tmp_path, "two/dog/b.jpg", data=b"2")
    source = open_source([str(tmp_path / "one"), str(tmp_path / "two")])
    assert [item.key for item in source.items] == ["cat/a.jpg", "dog/b.jpg"]
    assert [source.read(index) for index in range(2)] == [b"1", b"2"]
    assert source.classes == ["cat", "dog"] and source.ignored == 1


def test_clashing_keys_are_told_apart(tmp_path: Path) -> None:
    make(tmp_path, "one/cat/a.jpg", data=b"1")
    make(tmp_path, "two/cat/a.jpg", data=b"2")
    source = open_source([str(tmp_path / "one"), str(tmp_path / "two")])
    assert [item.key for item in source.items] == ["0:cat/a.jpg", "1:cat/a.jpg"]
    assert source.sample(1).encoded == b"2"


def test_unknown_kinds_say_what_to_do(tmp_path: Path) -> None:
    make(tmp_path, "a.zip", "b.weird")
    with pytest.raises(UsageError, match="unpack it"):
        open_source(str(tmp_path / "a.zip"))
    with pytest.raises(UsageError, match="not a kind of source"):
        open_source(str(tmp_path / "b.weird"))
    with pytest.raises(UsageError, match="no source given"):
        open_source([])
    assert {"folder", "manifest"} <= set(SOURCES)


def test_a_file_lies_at_one_place_however_it_is_named(tmp_path: Path) -> None:
    make(tmp_path, "real/cat/a.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "list.csv").write_text("path,label\nreal/cat/a.jpg,cat\n")
    specs = [tmp_path / "real", tmp_path / "link", tmp_path / "list.csv", tmp_path / "real/cat/*"]
    places = {open_source(str(spec)).location(0) for spec in specs}
    assert places == {str((tmp_path / "real/cat/a.jpg").resolve())}
    both = open_source([str(tmp_path / "real"), str(tmp_path / "list.csv")])
    assert both.location(0) == both.location(1) == places.pop()
