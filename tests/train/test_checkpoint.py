"""Checkpoints: all that goes in comes back, nothing damaged is believed, nothing good is lost."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
from collections import namedtuple
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch

from discern.errors import IntegrityError
from discern.train import checkpoint
from discern.train.checkpoint import (
    CheckpointError,
    CheckpointFull,
    NotFinite,
    Saver,
    check_space,
    load_latest,
    save_checkpoint,
)


def _tensors() -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return {
        "weight": torch.randn(3, 4, generator=rng),
        "half": torch.randn(5, generator=rng).to(torch.bfloat16),
        "count": torch.tensor(2**62 + 1),
        "bytes": torch.arange(7, dtype=torch.uint8),
        "mask": torch.tensor([True, False]),
        "nothing": torch.empty(0, 3),
    }


def _names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    state = {"epoch": 3, "loss": 0.1 + 0.2, "best": None, "random": {"words": [1, 2**32 - 1]}}
    path = save_checkpoint(tmp_path / "checkpoints", 1200, _tensors(), state)
    assert path == tmp_path / "checkpoints" / "step-00001200"
    assert _names(path) == ["manifest.json", "state.json", "tensors.safetensors"]
    found = load_latest(tmp_path / "checkpoints")
    assert found is not None and (found.step, found.state, found.notes) == (1200, state, ())
    assert found.tensors.keys() == _tensors().keys()
    for name, tensor in _tensors().items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor), name
    found.tensors["weight"].add_(1)  # what comes back can be trained


def test_shared_strided_and_differentiable_tensors(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "all": base,
        "same": base,
        "row": base[1],
        "transposed": base.T,
        "parameter": torch.nn.Parameter(base[:, 1]),
        "wide": torch.tensor([1.0]).expand(5),
    }
    save_checkpoint(tmp_path, 0, tensors, {})
    found = load_latest(tmp_path)
    assert found is not None
    for name, tensor in tensors.items():
        assert torch.equal(found.tensors[name], tensor), name


def test_no_tensors_and_no_checkpoint(tmp_path: Path) -> None:
    assert load_latest(tmp_path / "none") is None
    assert load_latest(tmp_path) is None
    save_checkpoint(tmp_path, 1, {}, {})
    found = load_latest(tmp_path)
    assert found is not None and found.tensors == {}


def test_an_optimizer_goes_on_as_if_nothing_happened(tmp_path: Path) -> None:
    def make() -> tuple[torch.nn.Linear, torch.optim.AdamW]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(4, 4)
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.1)

    def step(layer: torch.nn.Linear, optimizer: torch.optim.AdamW) -> None:
        optimizer.zero_grad()
        layer(torch.ones(2, 4)).square().sum().backward()
        optimizer.step()

    layer, optimizer = make()
    step(layer, optimizer)
    moments = optimizer.state_dict()["state"]
    tensors = {f"model.{k}": v for k, v in layer.state_dict().items()}
    tensors |= {f"moment.{i}.{k}": v for i, part in moments.items() for k, v in part.items()}
    save_checkpoint(tmp_path, 1, tensors, {"step": 1})
    step(layer, optimizer)

    other, other_optimizer = make()
    found = load_latest(tmp_path)
    assert found is not None
    other.load_state_dict({k: found.tensors[f"model.{k}"] for k in other.state_dict()})
    restored = {i: {k: found.tensors[f"moment.{i}.{k}"] for k in moments[i]} for i in moments}
    other_optimizer.load_state_dict({**other_optimizer.state_dict(), "state": restored})
    step(other, other_optimizer)
    assert torch.equal(layer.weight, other.weight)


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        save_checkpoint(tmp_path, step, _tensors(), {}, keep=2)
    assert _names(tmp_path) == ["step-00000003", "step-00000004"]
    save_checkpoint(tmp_path, 5, _tensors(), {}, keep=1)
    assert _names(tmp_path) == ["step-00000005"]


def test_going_back_abandons_what_came_later(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save_checkpoint(tmp_path, step, {}, {}, keep=3)
    save_checkpoint(tmp_path, 15, {}, {"again": True}, keep=3)
    assert _names(tmp_path) == ["step-00000010", "step-00000015"]
    found = load_latest(tmp_path)
    assert found is not None and found.step == 15


def test_the_same_step_twice(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, step, _tensors(), {})
    _flip(tmp_path / "step-00000002" / "state.json", 0)
    path = save_checkpoint(tmp_path, 2, _tensors(), {"second": True})
    found = load_latest(tmp_path)
    assert found is not None and found.state == {"second": True} and found.notes == ()
    assert _names(tmp_path) == ["step-00000001", path.name]


def test_a_damaged_one_is_skipped_and_named(tmp_path: Path) -> None:
    damages = {
        "tensors.safetensors": "was altered",
        "state.json": "was altered",
        "manifest.json": "manifest.json",
    }
    for number, (name, reason) in enumerate(damages.items()):
        folder = tmp_path / str(number)
        for step in (1, 2):
            save_checkpoint(folder, step, _tensors(), {"step": step})
        _flip(folder / "step-00000002" / name, 100 if name != "state.json" else 9)
        found = load_latest(folder)
        assert found is not None and found.step == 1
        assert len(found.notes) == 1
        assert "step-00000002" in found.notes[0] and reason in found.notes[0]


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "manifest.json"])
def test_truncated_empty_and_missing_files_are_skipped(tmp_path: Path, name: str) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, step, _tensors(), {})
    file = tmp_path / "step-00000002" / name
    data = file.read_bytes()
    for damaged in (data[:-1], b"", data + b" ", data[: len(data) // 2]):
        file.write_bytes(damaged)
        found = load_latest(tmp_path)
        assert found is not None and found.step == 1
    file.unlink()
    found = load_latest(tmp_path)
    assert found is not None and found.step == 1 and "is missing" in found.notes[0]


def test_files_of_another_checkpoint_are_not_believed(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, step, _tensors(), {})
    shutil.rmtree(tmp_path / "step-00000002")
    shutil.copytree(tmp_path / "step-00000001", tmp_path / "step-00000002")
    found = load_latest(tmp_path)
    assert found is not None and found.step == 1 and "says step 1" in found.notes[0]


def test_nothing_whole_is_an_error_not_a_new_start(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, _tensors(), {})
    _flip(tmp_path / "step-00000001" / "tensors.safetensors", 50)
    with pytest.raises(IntegrityError, match="no checkpoint is whole"):
        load_latest(tmp_path)


def test_each_of_10000_single_bit_flips_is_found(tmp_path: Path) -> None:
    tensors = {"w": torch.arange(40.0), "n": torch.tensor(3)}
    path = save_checkpoint(tmp_path, 7, tensors, {"epoch": 1, "words": list(range(20))})
    files = {name: (path / name).read_bytes() for name in _names(path)}
    places = [(name, bit) for name, data in files.items() for bit in range(8 * len(data))]
    assert len(places) <= 10_000
    # every bit once, then some again
    random.Random(0).shuffle(places)
    open_files = {name: os.open(path / name, os.O_RDWR) for name in files}
    for name, bit in (places * 2)[:10_000]:
        byte = files[name][bit // 8]
        os.pwrite(open_files[name], bytes([byte ^ 1 << bit % 8]), bit // 8)
        with pytest.raises(IntegrityError):
            load_latest(tmp_path)
        os.pwrite(open_files[name], bytes([byte]), bit // 8)
    for file in open_files.values():
        os.close(file)
    assert load_latest(tmp_path) is not None


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_is_never_saved(tmp_path: Path, bad: float) -> None:
    save_checkpoint(tmp_path, 1, _tensors(), {})
    for tensors, state in (
        ({"w": torch.tensor([1.0, bad])}, {}),
        ({"w": torch.tensor([1.0, bad], dtype=torch.bfloat16)}, {}),
        ({}, {"parts": {"loss": [bad]}}),
    ):
        with pytest.raises(NotFinite, match="step 2 is not saved"):
            save_checkpoint(tmp_path, 2, tensors, state)
    assert _names(tmp_path) == ["step-00000001"]


def test_the_message_names_the_tensor(tmp_path: Path) -> None:
    with pytest.raises(NotFinite, match=r"in blocks\.0\.weight"):
        save_checkpoint(tmp_path, 2, {"blocks.0.weight": torch.tensor(torch.nan)}, {})


def test_keys_that_json_would_change_are_our_mistake(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="keys must be text"):
        save_checkpoint(tmp_path, 1, {}, {"optimizer": [{0: 1}]})


def test_too_little_room_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    save_checkpoint(tmp_path, 1, _tensors(), {})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(CheckpointFull, match="needs [0-9]{6} bytes and 1000 are free") as caught:
        save_checkpoint(tmp_path, 2, {"w": torch.zeros(100_000)}, {})
    assert caught.value.free == 1000 and caught.value.needed >= 400_000
    assert _names(tmp_path) == ["step-00000001"]
    with pytest.raises(CheckpointFull):
        check_space(tmp_path, {"w": torch.zeros(1000)}, copies=3)
    monkeypatch.undo()
    check_space(tmp_path / "new", {"w": torch.zeros(1000)}, copies=3)


def test_leftovers_of_a_killed_save_go_with_the_next_one(tmp_path: Path) -> None:
    (tmp_path / ".tmp-123-abcd").mkdir()
    (tmp_path / ".tmp-123-abcd" / "tensors.safetensors").write_bytes(b"part")
    assert load_latest(tmp_path) is None
    save_checkpoint(tmp_path, 1, {}, {})
    assert _names(tmp_path) == ["step-00000001"]


def test_large_values_whose_sum_overflows_are_saved(tmp_path: Path) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        large = torch.full((4,), torch.finfo(dtype).max, dtype=dtype)
        save_checkpoint(tmp_path, 1, {"w": large}, {})
        for bad in (torch.nan, torch.inf, -torch.inf):
            with pytest.raises(NotFinite):
                save_checkpoint(tmp_path, 2, {"w": torch.tensor([0, bad, -bad], dtype=dtype)}, {})


def test_the_saver_tries_again_and_gives_up_at_the_third(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    saver = Saver(tmp_path)
    assert saver.load() is None
    saver.save(1, _tensors(), {"step": 1})

    def full(file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    for first_failure in (2, 12):
        with monkeypatch.context() as broken, caplog.at_level(logging.WARNING, "discern"):
            broken.setattr(os, "write", full)
            for step in (first_failure, first_failure + 1):
                saver.save(step, _tensors(), {})
                assert f"not saved at step {step}" in caplog.text
                assert "No space left on device: a checkpoint needs" in caplog.text
            if first_failure == 12:
                with pytest.raises(CheckpointFull):
                    saver.save(14, _tensors(), {})
        if first_failure == 2:
            saver.save(10, _tensors(), {"step": 10})  # room again: the count starts anew
    found = saver.load()
    assert found is not None and found[1] == {"step": 10}
    assert saver.last == tmp_path / "step-00000010"
    with pytest.raises(NotFinite):
        saver.save(15, {"w": torch.tensor(torch.nan)}, {})


def test_a_save_in_the_background_is_of_its_moment_and_its_failure_is_told_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    saver, tensors, go = Saver(tmp_path, background=True), {"w": torch.zeros(5)}, Event()
    plain = checkpoint.write_new

    def slow(*given: Any) -> None:
        assert go.wait(30)
        plain(*given)

    monkeypatch.setattr(checkpoint, "write_new", slow)
    saver.save(1, tensors, {})
    tensors["w"].fill_(7.0)  # the training goes on
    assert saver.last is None and load_latest(tmp_path) is None
    go.set()
    saver.wait()
    found = load_latest(tmp_path)
    assert found is not None and saver.last == found.path
    assert torch.equal(found.tensors["w"], torch.zeros(5))

    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_new", full)
    for step in (2, 3, 4):
        saver.save(step, tensors, {})  # says what became of the one before
    assert "not saved at step 3 (2 of 3)" in caplog.text
    with pytest.raises(CheckpointFull):
        saver.wait()
    saver.wait()  # said once
    with pytest.raises(NotFinite):  # at once
        saver.save(5, {"w": torch.tensor(torch.nan)}, {})


def test_the_saver_says_what_it_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    saver = Saver(tmp_path)
    saver.save(1, {}, {})
    saver.save(2, {}, {})
    _flip(tmp_path / "step-00000002" / "state.json", 0)
    with caplog.at_level(logging.WARNING, "discern"):
        assert saver.load() == ({}, {})
    assert "skipped step-00000002: state.json was altered" in caplog.text


@pytest.mark.parametrize(
    ("number", "words"), [(5, "reports errors"), (30, "can be written"), (122, "needs")]
)
def test_errors_of_the_disk_become_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def fail(file: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CheckpointError, match=words) as caught:
        save_checkpoint(tmp_path, 1, _tensors(), {})
    assert os.strerror(number) in str(caught.value) and "\n" not in str(caught.value)
    assert _names(tmp_path) == []


def test_the_manifest_names_versions(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, {}, {})
    content = json.loads((path / "manifest.json").read_bytes())
    assert {"python", "torch"} <= content["versions"].keys()


def _flip(file: Path, place: int) -> None:
    data = bytearray(file.read_bytes())
    data[min(place, len(data) - 1)] ^= 1
    file.write_bytes(data)
