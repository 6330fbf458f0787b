"""The gallery's file: round trips, several writers, kills, altered bytes."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from discern.errors import IntegrityError, UsageError
from discern.gallery.store import Gallery, editing, read, write

ROOT = Path(__file__).parent.parent.parent


def _filled(names: int = 3, each: int = 2, width: int = 4) -> Gallery:
    gallery = Gallery.empty("a" * 64, width)
    random_numbers = np.random.default_rng(0)
    for number in range(names):
        gallery.add(f"name {number}", random_numbers.normal(size=(each, width)))
    return gallery


def test_what_is_written_is_read(tmp_path: Path) -> None:
    gallery = _filled()
    gallery.threshold, gallery.centre = 0.4, np.arange(4, dtype=np.float32)
    gallery.calibration = {"false_match": 0.01}
    write(tmp_path / "g", gallery)
    again = read(tmp_path / "g")
    assert np.array_equal(again.vectors, gallery.vectors)
    assert np.array_equal(again.owners, [0, 0, 1, 1, 2, 2])
    assert again.names == gallery.names and again.threshold == 0.4
    assert again.centre is not None and np.array_equal(again.centre, np.arange(4))
    assert again.calibration == {"false_match": 0.01}


def test_more_of_a_name_lie_beside_the_first_and_go_together(tmp_path: Path) -> None:
    gallery = _filled()
    mark = np.full((1, 4), 7.0)
    gallery.add("name 0", mark)
    assert gallery.owners.tolist() == [0, 0, 0, 1, 1, 2, 2] and len(gallery) == 3
    assert (gallery.vectors[2] == 7).all()
    assert gallery.remove("name 1") == 2
    assert gallery.names == ["name 0", "name 2"] and gallery.owners.tolist() == [0, 0, 0, 1, 1]
    with pytest.raises(UsageError, match="not enrolled"):
        gallery.remove("name 1")
    for name in ("", "  ", "a\nb", "x" * 500):
        with pytest.raises(UsageError, match="printable"):
            gallery.add(name, mark)


def test_altered_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "g"
    write(path, _filled())
    data, drawn = path.read_bytes(), random.Random(0)
    for _ in range(500):
        altered = bytearray(data)
        altered[drawn.randrange(len(data))] ^= 1 << drawn.randrange(8)
        if drawn.random() < 0.3:
            altered = altered[: drawn.randrange(len(data))]
        path.write_bytes(altered)
        with pytest.raises(IntegrityError):
            read(path)
    with pytest.raises(UsageError, match="no gallery"):
        read(tmp_path / "missing")


def _enrol_many(path: Path, who: int) -> None:
    for number in range(20):
        with editing(path, Gallery.empty("a" * 64, 4)) as gallery:
            gallery.add(f"{who}-{number}", np.full((1, 4), who))


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "g"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_enrol_many, args=(path, who)) for who in range(4)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
        assert one.exitcode == 0
    gallery = read(path)
    assert len(gallery) == 80 and len(gallery.vectors) == 80
    for name in gallery.names:
        kept = gallery.vectors[gallery.owners == gallery.number(name)]
        assert (kept == int(name[0])).all()


def test_a_kill_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "g"
    code = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from discern.gallery.store import Gallery, editing\n"
        "n = int(sys.argv[2])\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    with editing(Path(sys.argv[1]), Gallery.empty('a' * 64, 64)) as gallery:\n"
        "        gallery.add(f'name {n}', np.full((50, 64), n))\n"
        "    n += 1\n"
    )
    drawn, names = random.Random(0), 0
    for _ in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(path), str(names)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(0.02 + 0.1 * drawn.random())
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        if path.exists():
            gallery = read(path)  # whole, whenever the kill came
            assert len(gallery) >= names and len(gallery.vectors) == 50 * len(gallery)
            names = len(gallery)
    assert names > 0


def test_a_writer_waits_for_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from discern.gallery import store

    monkeypatch.setattr(store, "WAIT", 0.05)
    path = tmp_path / "g"
    write(path, _filled())
    with editing(path), pytest.raises(UsageError, match="another writer"), editing(path):
        raise AssertionError("two writers at once")


def test_an_error_inside_leaves_it_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "g"
    write(path, _filled())
    before = path.read_bytes()
    with pytest.raises(RuntimeError), editing(path) as gallery:
        gallery.remove("name 0")
        raise RuntimeError
    assert path.read_bytes() == before
