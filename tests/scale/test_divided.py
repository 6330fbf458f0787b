"""Blocks divided over ranks: the weights of one process, resumed by another number of ranks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from discern.errors import IntegrityError
from discern.files import write_new
from discern.scale.divided import by_kind, clip_gradients, is_divided, own_part, whole
from discern.scale.ranks import ALONE
from discern.train.checkpoint import load_latest
from discern.train.manifest import MANIFEST, entry_of, manifest
from discern.train.parts import FORMAT, STATE, read_parts, write_parts
from tests.scale.divided_rank import STEPS

TOP = Path(__file__).parents[2]


def run(count: int, out: Path, name: str, **settings: Any) -> list[dict[str, Any]]:
    """What each rank says of a training with so many of them."""
    out.mkdir(exist_ok=True)
    start = [sys.executable, "-m"]
    if count > 1:
        start += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "-m"]
    done = subprocess.run(
        [*start, "tests.scale.divided_rank", str(out), name, json.dumps(settings)],
        capture_output=True,
        text=True,
        cwd=TOP,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((out / f"rank-{rank}.json").read_text()) for rank in range(count)]


def after(out: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(out / "after.safetensors")


def same(found: Path, wanted: Path) -> None:
    mine, other = after(found), after(wanted)
    assert mine.keys() == other.keys()
    for name, value in mine.items():
        if not name.endswith("k_norm.bias"):  # softmax does not see it: its gradient is rounding
            torch.testing.assert_close(value, other[name], rtol=0, atol=1e-6, msg=name)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("more", [2, 4], ids=["two ranks", "four ranks"])
def test_another_number_of_ranks_goes_on_with_the_parts(tmp_path: Path, more: int) -> None:
    run(1, tmp_path / "whole", "supervised")
    out = tmp_path / "parts"
    first, second = run(2, out, "supervised", divide=True, stop=5)
    assert first["own"] + second["own"] == first["all"] and first["own"] < 0.6 * first["all"]
    assert (first["step"], first["stopped_by"]) == (5, "signal")
    assert len(list(out.glob("checkpoints/step-00000005/shard-*"))) == 2
    run(1, out, "supervised", stop=4)  # from the parts of two, and written by one
    assert not list(out.glob("checkpoints/step-00000009/shard-*"))
    said = run(more, out, "supervised", divide=True)  # from the file of one
    assert {one["step"] for one in said} == {STEPS}
    assert sum(one["own"] for one in said) == said[0]["all"]
    same(out, tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_four_ranks_go_on_with_the_parts_of_two(tmp_path: Path) -> None:
    run(1, tmp_path / "whole", "supervised")
    run(2, tmp_path / "parts", "supervised", divide=True, stop=7)
    run(4, tmp_path / "parts", "supervised", divide=True)
    same(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_both_players_divided_are_both_players(tmp_path: Path) -> None:
    """Their gradients, that is: Adam makes a rounding error as large as any other step."""
    run(2, tmp_path / "whole", "masked_gan", micro_batches=2, stop=1)
    run(2, tmp_path / "parts", "masked_gan", micro_batches=2, stop=1, divide=True, recompute=True)
    wanted, found = (load_latest(tmp_path / name / "checkpoints") for name in ("whole", "parts"))
    assert wanted is not None and found is not None and wanted.step == found.step == 1
    assert wanted.tensors.keys() == found.tensors.keys()
    moments = [name for name in wanted.tensors if name.endswith("exp_avg")]
    assert len(moments) > 40 and any("/1.blocks." in name for name in moments)
    for name in moments:
        own, other = found.tensors[name], wanted.tensors[name]
        torch.testing.assert_close(
            own, other, rtol=0, atol=1e-6 * other.abs().max() + 1e-9, msg=name
        )


def test_what_goes_wrong_on_one_rank_is_told_on_all(tmp_path: Path) -> None:
    first, second = run(2, tmp_path, "break")
    saved, nan, warned, full, loaded = first
    assert saved == warned == "" and loaded == "1"
    assert nan.startswith("NotFinite: step 2 is not saved: NaN or infinity in objective/")
    assert full.startswith("CheckpointFull: ") and "No space left" in full
    assert second[:3] == first[:3] and second[4] == "1"
    assert second[3].startswith("CheckpointError: ") and "No space left" in second[3]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]


def parts_of(folder: Path, step: int, **tensors: torch.Tensor) -> Path:
    """A checkpoint in parts, as one rank writes it."""
    path = folder / f"step-{step:08d}"
    path.mkdir(parents=True)
    entries = write_parts(path, tensors, ALONE)
    state = json.dumps({"step": step}).encode()
    write_new(path / STATE, state)
    head = {"format": FORMAT, "step": step}
    write_new(path / MANIFEST, manifest(head, {**entries, STATE: entry_of(state)}))
    return path


def test_parts_come_back_bit_by_bit(tmp_path: Path) -> None:
    tensors = {
        "matrix": torch.randn(5, 3),
        "number": torch.tensor(3.0),
        "half": torch.randn(4).bfloat16(),
        "flags": torch.tensor([True, False]),
    }
    found = read_parts(parts_of(tmp_path, 3, **tensors))
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value), name


@pytest.mark.parametrize("damage", ["flipped", "short", "gone", "strange", "state", "manifest"])
def test_damaged_parts_are_passed_over(tmp_path: Path, damage: str) -> None:
    parts_of(tmp_path, 3, weight=torch.zeros(4))
    newer = parts_of(tmp_path, 6, weight=torch.ones(400))
    shard = next(newer.glob("shard-*"))
    name = {"state": STATE, "manifest": MANIFEST}.get(damage, shard.name)
    data = bytearray((newer / name).read_bytes())
    data[-5] ^= 1
    if damage == "gone":  # another file of its kind is still there
        shard.rename(newer / "shard-00001-renamed.safetensors")
    elif damage == "strange":  # as another training might have left it
        (newer / "shard-00002-more.safetensors").write_bytes(shard.read_bytes())
    else:
        (newer / name).write_bytes(data[:-9] if damage == "short" else data)
    found = load_latest(tmp_path)
    assert found is not None and found.step == 3 and "step-00000006" in found.notes[0]
    assert torch.equal(found.tensors["weight"], torch.zeros(4))
    bare = load_latest(tmp_path, tensors=False)
    assert bare is not None and bare.state == {"step": 3} and bare.tensors == {}


def test_parts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = parts_of(tmp_path, 3, weight=torch.zeros(4))
    with pytest.raises(IntegrityError, match="parts"):
        read_parts(path, lambda name: {}[name])


def test_alone_nothing_is_divided() -> None:
    layer = nn.Linear(3, 2)
    layer(torch.ones(1, 3)).sum().backward()
    wanted = torch.stack([one.grad.norm() for one in layer.parameters()]).norm()  # type: ignore[union-attr]
    assert own_part(layer.weight) is layer.weight and whole(layer.weight) is layer.weight
    assert by_kind(layer.parameters()) == [list(layer.parameters())]
    assert not is_divided(layer.weight)
    assert clip_gradients(layer.parameters(), 0.5) == pytest.approx(wanted.item())
    assert torch.stack([one.grad.norm() for one in layer.parameters()]).norm() < 0.501  # type: ignore[union-attr]
