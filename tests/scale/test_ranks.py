"""Several processes train one model: the same weights as one, resumed by another number of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from discern.data.loader import Loader, LoaderConfig
from discern.data.mixing import MixedLoader
from discern.errors import ConfigError
from discern.scale.ranks import ALONE, current
from tests.faults.killing import write_pictures
from tests.tiny import random_sets

# nothing is drawn for an item: what several draw is not what one draws
PLAIN = (
    *("backbone.width=32", "backbone.depth=1", "backbone.heads=2", "backbone.drop_path=0"),
    "backbone.stem=conv",
    *("precision=fp32", "threads=1", "data.loader.batch_size=8", "loop.log_seconds=0"),
    *("supervised.mix_chance=0", "strong.scale=[1,1]", "strong.flip=0", "strong.rotate=0"),
    *("strong.shear=0", "strong.translate=0", "strong.brightness=0", "strong.contrast=0"),
    *("strong.saturation=0", "strong.hue=0", "strong.solarize=0", "strong.posterize=0"),
    *("strong.erase=0", "strong.grey=0", "guard.false_alarms=0"),
)


def words(data: Path, out: Path, steps: int, *more: str) -> list[str]:
    settings = [word for setting in (*PLAIN, *more) for word in ("--set", setting)]
    return ["train", str(data), "--out", str(out), "--steps", str(steps), *settings]


def launch(count: int, line: list[str], module: str = "discern") -> subprocess.Popen[str]:
    """One process, or several by torchrun."""
    start = [sys.executable, "-m"]
    if count > 1:
        start += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "-m"]
    return subprocess.Popen(
        [*start, module, *line],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def finished(child: subprocess.Popen[str]) -> str:
    out, err = child.communicate(timeout=250)
    assert child.returncode == 0, err[-2000:]
    return out


def weights(run: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures") / "data", 48, 16)


@pytest.fixture(scope="module")
def one(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of it."""
    out = tmp_path_factory.mktemp("one") / "run"
    finished(launch(1, words(data, out, 12)))
    return out


def same(found: Path, wanted: Path, atol: float = 1e-6) -> None:
    mine, other = weights(found), weights(wanted)
    assert mine.keys() == other.keys()
    for name, value in mine.items():
        if name.endswith("k_norm.bias"):
            continue  # softmax does not see it: its gradient is rounding, which Adam makes large
        torch.testing.assert_close(value, other[name], rtol=0, atol=atol, msg=name)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("count", "more"),
    [
        (2, ()),
        pytest.param(4, (), marks=pytest.mark.slow),
        pytest.param(2, ("loop.divide=true",), marks=pytest.mark.slow),
    ],
)
def test_several_processes_make_the_weights_of_one(
    data: Path, one: Path, tmp_path: Path, count: int, more: tuple[str, ...]
) -> None:
    out = tmp_path / "run"
    said = finished(launch(count, words(data, out, 12, *more)))
    same(out, one)
    assert said.count("next: discern evaluate") == 1  # the leader alone speaks
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "progress" in line] == list(range(1, 13))
    losses = [line["cross_entropy"] for line in lines if "progress" in line]
    alone = [json.loads(line) for line in (one / "log.jsonl").read_text().splitlines()]
    wanted = [line["cross_entropy"] for line in alone if "progress" in line]
    assert losses == pytest.approx(wanted, abs=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("divide", [(), ("loop.divide=true",)], ids=["whole", "divided"])
def test_a_killed_rank_ends_the_others_and_another_number_goes_on(
    data: Path, tmp_path: Path, divide: tuple[str, ...]
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "run"
    steps, more = 400, ("loop.saves=40",)
    finished(launch(1, words(data, whole, steps, *more)))
    child = launch(2, words(data, out, steps, *more, *divide))
    wait_for(lambda: (out / "checkpoints").exists() and len(list(out.glob("checkpoints/*"))) > 1)
    victim = next(pid for pid, rank in ranks_of(child.pid) if rank == "1")
    started = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    _, err = child.communicate(timeout=100)
    assert child.returncode != 0 and time.monotonic() - started < 60
    assert not (out / "results.json").exists()
    finished(launch(1, words(data, out, steps, *more)))
    same(out, whole)


def ranks_of(launcher: int) -> list[tuple[int, str]]:
    """Processes that a launcher has started, with their ranks."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
                told = dict(
                    pair.split("=", 1)
                    for pair in (folder / "environ").read_text().split("\0")
                    if "=" in pair
                )
            except (OSError, ValueError, IndexError):
                continue
            if parent == launcher and "RANK" in told:
                found.append((int(folder.name), told["RANK"]))
    return found


def wait_for(seen: Callable[[], bool], seconds: float = 100) -> None:
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_parts_of_a_batch_are_the_batch() -> None:
    sets = random_sets(images=40)
    config = LoaderConfig(batch_size=8)
    whole = Loader(sets, config, seed=3).batches()
    parts = [Loader(sets, config, seed=3, part=(rank, 4)).batches() for rank in range(4)]
    for _ in range(12):
        position, batch = next(whole)
        mine = [next(part) for part in parts]
        assert [place for place, _ in mine] == [position] * 4
        assert all(len(one.clip) == 2 for _, one in mine)
        together = np.concatenate([np.asarray(one.index) for _, one in mine])
        assert sorted(together) == np.asarray(batch.index).tolist()


def test_a_batch_without_equal_parts_is_refused() -> None:
    sets = random_sets(images=40)
    with pytest.raises(ConfigError, match="no 3 equal parts"):
        next(Loader(sets, LoaderConfig(batch_size=8), seed=0, part=(0, 3)).batches())
    mixed = MixedLoader(
        sets, sets, LoaderConfig(batch_size=12), ratio=1.0, seed=0, part=(1, 2)
    ).batches()
    _, batch = next(mixed)
    assert batch.label is not None
    assert len(batch.clip) == 6 and int((batch.label < 0).sum()) == 3


def test_alone_nothing_is_exchanged() -> None:
    assert current() is ALONE and ALONE.leads
    parameter = torch.nn.Parameter(torch.ones(2))
    ALONE.average_gradients([parameter])
    assert parameter.grad is None
    assert ALONE.means({"a": 1.5}) == {"a": 1.5}
    assert ALONE.decided(2.0, True) == (2.0, True)
    assert ALONE.saved_from_leader(None) is None


@pytest.mark.timeout(300)
def test_several_processes_share_the_statistics_of_a_deep_stem(data: Path, tmp_path: Path) -> None:
    for count in (1, 2):
        line = words(data, tmp_path / f"{count}", 8, "backbone.stem=deep")
        finished(launch(count, line))
    # sums over parts are rounded otherwise, which Adam makes larger where a slope is near 0, and
    # each step what the ones before it did: on some processors twelve are too many for this bound;
    # statistics of each rank's own part would be tenths away
    same(tmp_path / "2", tmp_path / "1", atol=1e-4)


def norm_of(count: int, out: Path) -> list[dict[str, torch.Tensor]]:
    """What each rank's batch normalisation says."""
    finished(launch(count, [str(out)], "tests.scale.norm_rank"))
    return [
        safetensors.torch.load_file(out / f"norm-{count}-{rank}.safetensors")
        for rank in range(count)
    ]


@pytest.mark.timeout(200)
def test_a_batch_is_normalised_as_a_whole_whatever_part_of_it_a_rank_has(tmp_path: Path) -> None:
    (whole,) = norm_of(1, tmp_path)
    parts = norm_of(2, tmp_path)
    for name in ("found", "slope"):
        together = torch.cat([part[name] for part in parts])
        torch.testing.assert_close(together, whole[name], rtol=0, atol=1e-4)
    for part in parts:
        for name in ("mean", "var", "learned"):
            torch.testing.assert_close(part[name], whole[name], rtol=1e-5, atol=1e-5)
    assert whole["slope"].abs().max() > 0.1
