"""Broken files, folders and settings through the command line.

Each ends in one line that names the file or the field and the way out, the right exit code, and no
traceback; a bomb is refused before it takes time or memory.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from discern.cli import main
from discern.predict import load, predict_files
from tests.child import child
from tests.data.broken import bombs, broken_inputs, damaged_inputs, picture, video_bombs
from tests.data.measured import measured
from tests.faults.killing import TINY, write_pictures

BROKEN = broken_inputs()
SETTINGS = [word for one in TINY if "generator" not in one for word in ("--set", one)]
# what an error must not show to a person: the insides of Python
INSIDES = ("Traceback", "fault in Discern", "Error:", "errno", "None", "<", "object at")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("good") / "pictures")


@pytest.fixture(scope="module")
def model(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier with a generator, which was told of no classes."""
    folder = tmp_path_factory.mktemp("model")
    tiny = [word for one in (*TINY, "masked_gan.code=0") for word in ("--set", one)]
    base, tuned = folder / "base", folder / "tuned"
    assert main(["pretrain", str(pictures), "--out", str(base), "--steps", "1", *tiny]) == 0
    words = ["train", str(pictures), "--from", str(base), "--out", str(tuned), "--steps", "1"]
    assert main([*words, "--set", "precision=fp32", "--set", "threads=1"]) == 0
    return tuned


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("broken")
    for number, (name, data) in enumerate(BROKEN):
        (folder / f"{number:03d}-{name}").write_bytes(data)
    return sorted(folder.iterdir())


@pytest.fixture
def refusal(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`refusal(code, words...)`: the one line with which a command fails."""

    def run(code: int, *words: object) -> str:
        capfd.readouterr()
        found = main([str(word) for word in words])
        printed = capfd.readouterr()
        assert found == code, printed.err
        assert printed.out == ""
        assert printed.err.startswith("discern: ") and printed.err.count("\n") == 1, printed.err
        assert not any(inside in printed.err for inside in INSIDES), printed.err
        return printed.err

    return run


def test_there_are_about_200() -> None:
    assert len(BROKEN) > 150
    assert len(BROKEN) + len(damaged_inputs()) >= 200


def test_no_broken_file_gets_a_name(
    model: Path, broken: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(model), *map(str, broken), "--json"]) == 4
    printed = capfd.readouterr()
    assert printed.err == ""  # libraries do not talk past us either
    found = json.loads(printed.out)
    assert [entry["file"] for entry in found] == [str(path) for path in broken]
    for entry in found:
        assert set(entry) == {"file", "error"}, entry
        reason = entry["error"]
        assert 8 < len(reason) < 200 and "\n" not in reason, entry
        assert not any(inside in reason for inside in INSIDES), entry


def test_damaged_files_are_named_or_refused(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for number, (name, data) in enumerate(damaged_inputs()):
        (tmp_path / f"{number:03d}-{name}").write_bytes(data)
    files = sorted(tmp_path.iterdir())
    assert main(["predict", str(model), *map(str, files), "--json"]) in (0, 4)
    printed = capfd.readouterr()
    assert printed.err == ""
    found = json.loads(printed.out)
    assert len(found) == len(files)
    assert all(("label" in entry) != ("error" in entry) for entry in found)


def test_a_folder_of_them(
    broken: list[Path], tmp_path: Path, refusal: Callable[..., str], pictures: Path
) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(pictures, folder)
    for path in broken:
        shutil.copy(path, folder / "dark")
    for verb in ("train", "pretrain"):
        out = tmp_path / verb
        said = refusal(4, verb, folder, "--out", out, "--steps", 1, *SETTINGS)
        assert "items cannot be read, more than 1%: dark/" in said and "mend or remove them" in said
        rows = [json.loads(line) for line in (out / "bad_files.jsonl").read_text().splitlines()]
        named = {Path(row["path"]).name for row in rows}
        assert named <= {path.name for path in broken}
        assert len(named) > len(broken) // 2  # the others are of the test split, not yet read
        assert all(row["reason"] for row in rows)
    assert not (tmp_path / "train" / "checkpoints").exists()


def test_data_check_lists_them(
    broken: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(broken[0].parent, tmp_path / "all" / "some")
    (tmp_path / "all" / "some" / "good.png").write_bytes(picture("PNG"))
    assert main(["data", "check", str(tmp_path / "all"), "--json"]) == 0
    printed = capfd.readouterr()
    found = json.loads(printed.out)
    assert len(found["bad_files"]) > 0.9 * len(broken)
    assert "good.png" not in json.dumps(found["bad_files"])


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_one_of_many_is_left_out_and_listed(
    tmp_path: Path, part: str, refusal: Callable[..., str]
) -> None:
    source = write_pictures(tmp_path / "pictures", count=120)
    words = ["train", source, "--steps", 1, *SETTINGS]
    if part != "train":
        for path in sorted(source.rglob("*.png"))[:36]:
            there = source / part / path.parent.name
            there.mkdir(parents=True, exist_ok=True)
            path.rename(there / path.name)
        for name in ("dark", "light"):
            (source / "train").mkdir(exist_ok=True)
            if (source / name).exists():
                (source / name).rename(source / "train" / name)
    victim = sorted((source if part == "train" else source / part).rglob("*.png"))[3]
    whole = victim.read_bytes()
    victim.write_bytes(whole[:60])
    key = victim.relative_to(source).as_posix()
    assert main([str(word) for word in [*words, "--out", tmp_path / "run"]]) == 0
    (row,) = (tmp_path / "run" / "bad_files.jsonl").read_text().splitlines()
    assert json.loads(row)["path"] == key
    assert json.loads((tmp_path / "run" / "results.json").read_text())["bad_files"] == 1
    said = refusal(4, *words, "--out", tmp_path / "strict", "--strict")
    assert key in said and "mend or remove it" in said
    # once it is mended the same command goes on
    victim.write_bytes(whole)
    again = [str(word) for word in [*words, "--out", tmp_path / "strict", "--strict"]]
    assert main(again) == 0
    assert not (tmp_path / "strict" / "bad_files.jsonl").exists()


def test_reconstruct_names_the_file(
    model: Path, broken: list[Path], tmp_path: Path, refusal: Callable[..., str]
) -> None:
    for path in broken[::20]:
        said = refusal(4, "reconstruct", model, path, "--out", tmp_path / "out.png")
        assert str(path) in said
    assert not list(tmp_path.iterdir())


def one_class(folder: Path) -> Path:
    write_pictures(folder)
    shutil.rmtree(folder / "light")
    return folder


def odd_folder(make: Callable[[Path], None]) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        folder.mkdir()
        make(folder)
        return folder

    return made


def unlabelled(folder: Path) -> None:
    (folder / "a.png").write_bytes(picture("PNG"))


def text_only(folder: Path) -> None:
    (folder / "cat").mkdir()
    (folder / "cat" / "notes.txt").write_text("no picture here")


def manifest(text: str) -> Callable[[Path], Path]:
    def made(path: Path) -> Path:
        path = path.with_suffix(".csv")
        (path.parent / "a.png").write_bytes(picture("PNG"))
        path.write_text(text)
        return path

    return made


SOURCES: dict[str, tuple[Callable[[Path], Path], int, str]] = {
    "one class": (one_class, 4, "one class only (dark): give each class a folder of its own"),
    "empty folder": (odd_folder(lambda folder: None), 4, "no images or clips in it"),
    "no pictures": (odd_folder(text_only), 4, "no images or clips in it"),
    "no labels": (odd_folder(unlabelled), 4, "no labels: give each class a folder"),
    "missing": (lambda path: path, 2, "no such file or folder"),
    "missing glob": (lambda path: path / "*.tfrecord", 2, "the pattern matches no file"),
    "empty manifest": (manifest(""), 4, "source.csv"),
    "manifest without files": (manifest("path,label\nb.png,x\nc.png,y\n"), 4, "b.png"),
    "manifest without path": (manifest("file,label\na.png,x\n"), 4, "path"),
    "manifest with one label": (manifest("path,label\na.png,x\n"), 4, "one class only (x)"),
}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("verb", ["train", "evaluate"])
def test_sources_that_cannot_be_used(
    name: str, verb: str, tmp_path: Path, model: Path, refusal: Callable[..., str]
) -> None:
    make, code, fragment = SOURCES[name]
    source = make(tmp_path / "source")
    out = tmp_path / "out"
    if verb == "train":
        said = refusal(code, "train", source, "--out", out, "--steps", 1, *SETTINGS)
        assert fragment in said
        assert not (out / "config.json").exists() or name == "manifest without files"
    elif "one" not in name:  # a model can be measured on one class
        refusal(code, "evaluate", model, source, "--out", out)
        assert not (out / "config.json").exists()


def test_what_cannot_be_opened(
    tmp_path: Path, model: Path, pictures: Path, refusal: Callable[..., str]
) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "circle.png").symlink_to(tmp_path / "circle.png")
    good = tmp_path / "good.png"
    good.write_bytes(picture("PNG"))
    for name in ("pipe.png", "folder.png"):
        path = tmp_path / name
        assert main(["predict", str(model), str(path)]) == 4
        assert str(path) in refusal(4, "reconstruct", model, path, "--out", tmp_path / "o.png")
    for words in (
        ("predict", model, tmp_path / "gone.png"),
        ("predict", model, tmp_path / "circle.png"),
        ("predict", tmp_path / "gone", good),
        ("predict", tmp_path, good),
        ("evaluate", tmp_path, pictures, "--out", tmp_path / "out"),
        ("generate", tmp_path / "gone", "--out", tmp_path / "o.png"),
        ("train", pictures, "--from", tmp_path, "--out", tmp_path / "out"),
    ):
        said = refusal(2, *words)
        assert str(tmp_path) in said
    if os.geteuid() != 0:  # root may read everything
        good.chmod(0)
        assert main(["predict", str(model), str(good)]) == 4
    (tmp_path / "a-file").touch()
    for out in (tmp_path / "a-file", tmp_path / "a-file" / "run", tmp_path / ("x" * 300)):
        said = refusal(2, "train", pictures, "--out", out, "--steps", 1, *SETTINGS)
        assert str(out)[:200] in said


ABSURD: list[tuple[list[str], str]] = [
    (["--set", "optim.rat=1"], "unknown setting optim.rat: did you mean rate?"),
    (["--set", "nonsense=1"], "unknown setting nonsense: there are: "),
    (["--set", "optim.rate"], "write it as key=value"),
    (["--set", "optim.rate=fast"], "optim.rate: Input should be a valid number"),
    (["--set", "optim.rate=NaN"], "optim.rate: nan is no number"),
    (["--rate", "nan"], "--rate nan: it must be more than 0"),
    (["--rate", "-1"], "--rate -1: it must be more than 0"),
    (["--minutes", "nan"], "--minutes nan"),
    (["--steps", "-3"], "--steps"),
    (["--steps", "1.5"], "--steps"),
    (["--batch", "0"], "--batch"),
    (["--labels", "0"], "--labels"),
    (["--patience", "0"], "--patience"),
    (["--seed", "-1"], "--seed"),
    (["--size", "enormous"], "--size enormous: there are hybrid_pico, hybrid, hybrid_small"),
    (["--target-accuracy", "95"], "write 0.95 for 95 %"),
    (["--set", "backbone.patch=0"], "backbone.patch: 0 must be 1 to"),
    (["--set", "backbone.patch=7"], "data.preprocess.height: 8 is no multiple of the patch (7)"),
    (["--set", "data.preprocess.height=100000"], "data.preprocess.height: 100000 must be"),
    (["--set", "data.val=2"], "data.val: 2.0 and data.test"),
    (["--set", "data.group_by=("], "not a regular expression"),
    (["--set", "device=tpu"], "device: tpu is not here"),
    (["--set", "objective=gan"], "objective: gan is not for `discern train`"),
    (["--no-such-flag"], "No such option: --no-such-flag"),
]


@pytest.mark.parametrize(("more", "fragment"), ABSURD, ids=[" ".join(more) for more, _ in ABSURD])
def test_absurd_settings(
    more: list[str], fragment: str, pictures: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    out = tmp_path / "out"
    assert fragment in refusal(2, "train", pictures, "--out", out, *SETTINGS, *more)
    assert not (out / "config.json").exists()  # the next try may use the same folder


def test_absurd_words_of_other_verbs(
    model: Path, pictures: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    image = next(pictures.rglob("*.png"))
    out = tmp_path / "out.png"
    for words, fragment in (
        (("pretrain", pictures, "--recipe", "magic"), "--recipe magic: there are masked_gan"),
        (("generate", model, "--count", 10**9), "--count 1000000000: at most"),
        (("generate", model, "--label", "dark"), "--label: this model knows no classes"),
        (("reconstruct", model, image, "--mask", "75"), "0.75"),
        (("reconstruct", model, image, "--mask", "nan"), "--mask"),
        (("compare", pictures, "--labels", "ten"), "--labels ten"),
    ):
        assert fragment in refusal(2, *words, "--out", out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "data"), bombs() + video_bombs(), ids=lambda value: str(value)[:24]
)
def test_bombs_take_neither_time_nor_memory(
    name: str, data: bytes, model: Path, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    bundle = load(model)
    found: list[dict[str, Any]] = []

    def look() -> None:
        found[:] = predict_files(bundle, [path])

    look()  # codecs are loaded at their first use
    seconds, memory = measured(look)
    assert "error" in found[0], found
    assert seconds < 0.010, f"{seconds * 1e3:.1f} ms"
    assert memory < 10 * 2**20, f"{memory / 2**20:.1f} MiB"


def test_a_sample_as_processes(model: Path, pictures: Path, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.jpg"
    bomb.write_bytes(dict(bombs())["bomb.jpg"])
    one = one_class(tmp_path / "one")
    for words, code, fragment in (
        (["reconstruct", model, bomb, "--out", tmp_path / "o.png"], 4, "bomb.jpg: more pixels"),
        (["train", one, "--out", tmp_path / "run"], 4, "one class only (dark)"),
    ):
        found, out, said = child(*words)
        assert found == code, said
        assert out == "" and said.count("\n") == 1
        assert fragment in said and "Traceback" not in said
