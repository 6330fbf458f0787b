from __future__ import annotations

from pathlib import Path

import pytest

from discern.clip import Kind
from discern.data.items import Item
from discern.data.manifests import read_manifest, write_manifest
from discern.data.sources import open_source
from discern.errors import BadItem, DataError
from tests.data.test_folders import make


def write(tmp_path: Path, text: str, name: str = "m.csv") -> Path:
    make(tmp_path, "a.jpg", "sub/b.mp4", "plain", data=b"\x89PNG\r\n\x1a\n")
    path = tmp_path / name
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return path


def test_csv_with_everything(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "\ufeffPath,label,split,group,extra\r\n"
        'a.jpg,"cat; dog",train,film 1,x\r\n'
        "\r\n"
        "./sub/b.mp4,,Validation,,y\r\n"
        f"{tmp_path}/plain,ship,test,2,\r\n",
    )
    source = open_source(str(path))
    assert list(source.items) == [
        Item(key="a.jpg", kind=Kind.IMAGE, labels=("cat", "dog"), split="train", group="film 1"),
        Item(key="sub/b.mp4", kind=Kind.CLIP, split="val"),
        Item(key=f"{tmp_path}/plain", kind=Kind.IMAGE, labels=("ship",), split="test", group="2"),
    ]
    assert source.notes == ["field extra is not used"]
    assert source.read(2).startswith(b"\x89PNG")


def test_json_lines(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '{"path": "a.jpg", "label": ["x;y", "z"]}\n\n{"path": "sub\\\\b.mp4", "label": 3}\n'
        '{"path": "gone.jpg", "label": null}\n',
        "m.jsonl",
    )
    source = open_source(str(path))
    assert [item.labels for item in source.items] == [("x;y", "z"), ("3",), ()]
    assert source.read(1)
    with pytest.raises(BadItem):
        source.read(2)


def test_written_manifests_are_read_back(tmp_path: Path) -> None:
    items = {
        "a.jpg": Item(key="0", kind=Kind.IMAGE, labels=("x;y", "z"), split="val", group="g"),
        "sub/b.mp4": Item(key="1", kind=Kind.CLIP),
    }
    path = write(tmp_path, "", "m.jsonl")
    write_manifest(path, items)
    back = {item.key: item for item in open_source(str(path)).items}
    for name, item in items.items():
        assert (back[name].labels, back[name].split, back[name].group) == (
            item.labels,
            item.split,
            item.group,
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.jpg,x\n", "line 1: the first line must name the columns"),
        ("path,path\na.jpg,x\n", "line 1: the first line must name the columns"),
        ("path,label\na.jpg,x,y\n", "line 2: 3 values for 2 columns"),
        ("path,label\na.jpg\n", "line 2: 1 values for 2 columns"),
        ("path,label\n,x\n", "line 2, field path: missing"),
        ('path,label\n"a.jpg,x\n', "not CSV"),
        ("path,label,split\na.jpg,x,trian\n", "line 2, field split: 'trian'"),
        ("path,label\na.jpg,x\n./a.jpg,y\n", "line 3, field path: a.jpg is on line 2 already"),
        ("path,label\n../a.jpg,x\n", "line 2, field path: .* leads out"),
        ("path,label\nsub/../../a.jpg,x\n", "line 2, field path: .* leads out"),
        ("path,label\nsub\\..\\..\\a.jpg,x\n", "line 2, field path: .* leads out"),
        ("path,label\nhttp://x/a.jpg,x\n", "line 2, field path: .* not a path"),
        ("path,label\na.jpg,x;x\n", "line 2, field label: the same label twice"),
        ("path,label\nno.jpg,x\n", "line 2, field path: no.jpg does not exist"),
        ("path,label\na.jpg,x\nb\udcff.jpg,x\n", "line 3: not UTF-8"),
        ("path,label\n", "no images or clips in it"),
    ],
)
def test_csv_errors_name_line_and_field(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        open_source(str(write(tmp_path, text)))
    assert "\n" not in str(caught.value) and "m.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"path": "a.jpg"}\n{"path": ', "line 2: not JSON"),
        ('["a.jpg"]\n', "line 1: write"),
        ("[" * 100_000, "line 1: not JSON"),
        ('{"path": 3}\n', "line 1, field path: missing"),
        ('{"path": "a.jpg", "label": NaN}\n', "line 1, field label: nan"),
        ('{"path": "a.jpg", "label": true}\n', "line 1, field label: True"),
        ('{"path": "a.jpg", "label": [["x"]]}\n', "line 1, field label"),
        ('{"path": "a.jpg", "group": {}}\n', "line 1, field group"),
    ],
)
def test_json_errors_name_line_and_field(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_source(str(write(tmp_path, text, "m.jsonl")))


def test_absolute_paths_of_strangers_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, f"path,label\n{tmp_path}/a.jpg,x\n")
    with pytest.raises(DataError, match="line 2, field path: .* is absolute"):
        read_manifest(path, absolute=False)
