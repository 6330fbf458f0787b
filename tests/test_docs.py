"""The documentation: its runnable blocks run, its links lead somewhere, its flags exist.

A block is runnable when `<!-- runnable -->` stands above it, or `<!-- runnable: slow -->` where it
trains.  All blocks of a page run in order in one folder of small made-up data; times are cut.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from discern.cli.verbs import DATA_VERBS, GALLERY_VERBS, SEAL_VERBS, VERBS, command_line

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
TEXTS = [*PAGES, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md"))]
BLOCK = re.compile(r"<!-- runnable(: slow)? -->\n```bash\n(.*?)```", re.DOTALL)
# in the order of a user's work: a later page uses what an earlier one has made
TRAINING_PAGES = ["pretrain", "train", "evaluate", "predict", "generate", "reconstruct", "compare"]
TRAINING_PAGES += ["score", "explain", "attack", "data", "gallery", "seal", "tune"]
TRAINING_PAGES += ["../models", "../uses"]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, slow: bool) -> list[str]:
    """The runnable blocks of a page, as they stand there."""
    found = BLOCK.findall(path.read_text(encoding="utf-8"))
    return [code for mark, code in found if bool(mark) is slow]


def run(code: str, folder: Path) -> None:
    """One block in a shell that stops at the first error, with times cut to seconds."""
    short = re.sub(r"--minutes \d+", "--minutes 0.05", code).replace("--count 16", "--count 2")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    program = f'discern() {{ {sys.executable} -m discern "$@"; }}\n{short}'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", program],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    # 3: a few seconds of training do not reach the target, and say so
    assert done.returncode in ((0, 3) if "--target-accuracy" in code else (0,)), done.stderr
    assert "Traceback" not in done.stderr


def make_data(folder: Path) -> None:
    """Two classes of small images and clips, one more photo and clip, and images of no class."""
    random = np.random.default_rng(0)
    for label, low in (("cat", 0), ("dog", 128)):
        home = folder / "photos" / label
        home.mkdir(parents=True)
        for index in range(24):
            pixels = random.integers(low, low + 128, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(home / f"{index}.png")
        for index in range(6):
            write_clip(home / f"{index}.mp4", random.integers(low, low + 128, (8, 32, 32, 3)))
    Image.fromarray(random.integers(0, 255, (40, 32, 3), dtype=np.uint8)).save(folder / "photo.jpg")
    for home in (folder / "strange", folder / "more-photos"):  # no class; no label
        home.mkdir()
        for index in range(8):
            pixels = random.integers(0, 255, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(home / f"{index}.png")
    write_clip(folder / "clip.mp4", random.integers(0, 255, (8, 32, 32, 3)))


def write_clip(path: Path, frames: np.ndarray) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for frame in frames.astype(np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("docs")
    make_data(folder)
    yield folder


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, slow=False)], ids=name_of)
def test_blocks_run(page: Path, place: Path) -> None:
    for code in blocks(page, slow=False):
        run(code, place)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("verb", TRAINING_PAGES)
def test_blocks_that_train_run(verb: str, place: Path) -> None:
    for code in blocks(ROOT / "docs" / "verbs" / f"{verb}.md", slow=True):
        run(code, place)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_tour_runs(tmp_path: Path) -> None:
    make_data(tmp_path)
    for code in blocks(ROOT / "docs" / "index.md", slow=True):
        run(code, tmp_path)


def test_every_verb_has_a_page() -> None:
    pages = {path.stem for path in (ROOT / "docs" / "verbs").glob("*.md")}
    assert pages == {*VERBS, "data", "gallery", "seal"}


GROUPS = {"data": DATA_VERBS, "gallery": GALLERY_VERBS, "seal": SEAL_VERBS}
GROUPED = [f"{group} {name}" for group, verbs in GROUPS.items() for name in verbs]


@pytest.mark.parametrize("verb", [*VERBS, *GROUPED])
def test_pages_name_flags_that_exist(verb: str) -> None:
    command = command_line()
    for word in verb.split():
        command = command.commands[word]
    known = {word for parameter in command.params for word in parameter.opts}
    for path in TEXTS:
        text = path.read_text(encoding="utf-8")
        for line in re.findall(rf"^discern {verb} (.*)", text, re.MULTILINE):
            used = set(re.findall(r"(--[a-z-]+)", line))
            assert used <= known, f"{name_of(path)}: {line}"


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        file = target.partition("#")[0]
        if "://" in target or not file or file == "docs/report.png":
            continue
        assert (path.parent / file).exists(), f"{name_of(path)}: {target}"


def test_article_names_files_that_exist() -> None:
    text = (ROOT / "docs" / "article.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(row.split("|")[1]) for row in rows] == list(range(1, 19))
    for file in re.findall(r"`((?:discern|tests)/[\w/.]+)`", text):
        assert (ROOT / file).exists(), file


def test_exit_codes_are_the_ones_of_the_tour() -> None:
    from discern import errors
    from discern.cli.faults import EXIT_INTERRUPTED

    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert told == codes | {EXIT_INTERRUPTED, 128 + signal.SIGTERM}
