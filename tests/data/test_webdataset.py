"""WebDataset tars: grouping, labels, damage, names that lead elsewhere."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import tarfile
from pathlib import Path

import pytest

from discern.clip import Kind
from discern.data.webdataset import index_tar, read_sample
from discern.errors import BadItem, DataError

JPEG = b"\xff\xd8\xff\xe0" + bytes(700)


def write_tar(path: Path, members: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_samples_are_grouped_by_name(tmp_path: Path, form: int) -> None:
    long = "f" * 90 + "/" + "n" * 90  # needs a header of its own in some formats
    path = write_tar(
        tmp_path / "a.tar",
        {
            "d/001.jpg": JPEG + b"1",
            "d/001.cls": b"cat\n",
            "./002.v1.JPG": JPEG + b"2",
            "002.cls": b"dog",
            f"{long}.mp4": b"clip",
            "e/001.png": b"png",  # another folder, another sample
            "e/001.mask.png": b"mask",
        },
        form,
    )
    samples, notes = index_tar(path)
    assert notes == []
    found = [(sample.key, sample.kind, sample.extension, sample.labels) for sample in samples]
    assert found == [
        ("d/001", Kind.IMAGE, "jpg", ("cat",)),
        ("002", Kind.IMAGE, "v1.jpg", ("dog",)),
        (long, Kind.CLIP, "mp4", ()),
        ("e/001", Kind.IMAGE, "png", ()),
    ]
    expected = [JPEG + b"1", JPEG + b"2", b"clip", b"png"]
    assert [read_sample(path, sample) for sample in samples] == expected


@pytest.mark.parametrize(
    ("members", "labels"),
    [
        ({"cls": b"1"}, ("dog",)),
        ({"cls": b"-1"}, ()),
        ({"cls": b"hen"}, ("hen",)),
        ({"cls": b"hen", "txt": b"a bird", "json": b'{"label": "x"}'}, ("hen",)),
        ({"txt": b"a bird\n"}, ("a bird",)),
        ({"txt": b"a long caption " * 20}, ()),
        ({"txt": b"two\nlines"}, ()),
        ({"json": b'{"label": 0}'}, ("cat",)),
        ({"json": b'{"labels": ["cat", 1]}'}, ("cat", "dog")),
        ({"json": b'{"caption": "x"}', "txt": b"cat"}, ("cat",)),
        ({"json": b'{"label": null}'}, ()),
        ({"json": b"[1]"}, ()),
        ({}, ()),
    ],
)
def test_labels(tmp_path: Path, members: dict[str, bytes], labels: tuple[str, ...]) -> None:
    parts = {f"x.{extension}": data for extension, data in members.items()}
    samples, notes = index_tar(write_tar(tmp_path / "a", {"x.jpg": JPEG, **parts}), ["cat", "dog"])
    assert notes == []
    assert samples[0].labels == labels


def test_group_and_split(tmp_path: Path) -> None:
    more = json.dumps({"label": "a", "group": 7, "split": "validation"}).encode()
    samples, _ = index_tar(write_tar(tmp_path / "a", {"x.jpg": JPEG, "x.json": more}))
    assert (samples[0].group, samples[0].split) == ("7", "val")


def test_what_cannot_be_used_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in [
            ("../up.jpg", tarfile.REGTYPE),
            ("/etc/passwd.jpg", tarfile.REGTYPE),
            ("a/../../b.jpg", tarfile.REGTYPE),
            ("link.jpg", tarfile.SYMTYPE),
            ("hard.jpg", tarfile.LNKTYPE),
            ("pipe.jpg", tarfile.FIFOTYPE),
            ("folder.jpg", tarfile.DIRTYPE),
            ("README", tarfile.REGTYPE),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        for name, data in [
            ("only.cls", b"1"),
            ("b.jpg", JPEG),
            ("b.json", b"{"),
            ("c.jpg", JPEG),
            ("c.cls", b"9"),
            ("d.jpg", JPEG),
            ("d.cls", b"x" * (2**20 + 1)),
            ("good.jpg", JPEG),
        ]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    samples, notes = index_tar(path, ["cat"])
    assert [sample.key for sample in samples] == ["good"]
    text = "\n".join(notes)
    assert text.count("leads out of the tar") == 3
    assert text.count("a link") == 2
    assert "'pipe.jpg' passed over: not a file" in text
    assert "only: no image or video among its members (cls)" in text
    assert "b: its .json is not JSON" in text
    assert "c: label 9: there are 1 class names" in text
    assert "d: a label of 1,048,577 bytes" in text
    assert len(notes) == 10
    assert all(note.startswith(str(path)) for note in notes)


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    return write_tar(tmp_path / "a.tar", {f"{n}.jpg": JPEG for n in range(3)}, tarfile.USTAR_FORMAT)


def test_every_cut_is_seen(tar: Path) -> None:
    data = tar.read_bytes()
    for size in [*range(0, 512 * 12, 64), 1, 511, 513]:
        tar.write_bytes(data[:size])
        try:
            samples, notes = index_tar(tar)
        except DataError as error:
            assert str(tar) in str(error)
            assert "\n" not in str(error)
        else:
            assert len(samples) == 3 or "no end mark" in notes[0]
            assert all(read_sample(tar, sample) == JPEG for sample in samples)


def test_a_damaged_header_is_not_the_end(tar: Path) -> None:
    data = bytearray(tar.read_bytes())
    data[512 * 3 + 5] ^= 4  # the second header
    tar.write_bytes(data)
    with pytest.raises(DataError, match=r"a.tar: damaged at byte 1536, no header"):
        index_tar(tar)


@pytest.mark.parametrize("data", [b"", b"x", JPEG, b"PK\x03\x04" + bytes(600), bytes(100)])
def test_something_else_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(DataError, match=r"x.tar: not a whole tar"):
        index_tar(tmp_path / "x.tar")


def test_a_packed_tar_says_the_way_out(tar: Path) -> None:
    tar.write_bytes(gzip.compress(tar.read_bytes()))
    with pytest.raises(DataError, match="a packed tar.*unpack it"):
        index_tar(tar)


def test_missing_and_shrunk(tar: Path) -> None:
    with pytest.raises(DataError, match=r"none.tar: cannot be read \(No such file"):
        index_tar(tar.with_name("none.tar"))
    samples, _ = index_tar(tar)
    os.truncate(tar, samples[2].offset + 10)
    assert read_sample(tar, samples[1]) == JPEG
    with pytest.raises(BadItem, match=r"a.tar: ends inside 2.jpg"):
        read_sample(tar, samples[2])
    tar.unlink()
    with pytest.raises(BadItem, match=r"a.tar: cannot be read \(No such file"):
        read_sample(tar, samples[0])


def test_random_damage_is_one_line_or_samples(tmp_path: Path) -> None:
    members = {"a.jpg": JPEG, "a.cls": b"1", "n" * 150 + ".jpg": JPEG}
    good = write_tar(tmp_path / "a", members).read_bytes()
    path, draw = tmp_path / "b", random.Random(2)
    path.write_bytes(good)
    with open(path, "r+b", buffering=0) as file:
        for _ in range(1500):
            at = draw.randrange(len(good))
            os.pwrite(file.fileno(), bytes((draw.randrange(256),)), at)
            try:
                index_tar(path)
            except DataError as error:
                assert "\n" not in str(error)
            os.pwrite(file.fileno(), good[at : at + 1], at)


def test_a_header_that_promises_much_allocates_little(tmp_path: Path) -> None:
    import tracemalloc

    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 2**40  # an extended header of a terabyte
    (tmp_path / "a").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"27 path=" + bytes(2000))
    tracemalloc.start()
    with pytest.raises(DataError, match="not a whole tar|damaged"):
        index_tar(tmp_path / "a")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
