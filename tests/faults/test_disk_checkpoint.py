"""Saving on a disk that fails at the Nth operation.

Invariant: a save that returned is there and newest; one that raised left the others as they were.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from discern.train.checkpoint import CheckpointError, CheckpointFull, load_latest, save_checkpoint


def _hashes(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def _save(folder: Path, step: int) -> Path:
    return save_checkpoint(folder, step, {"w": torch.full((9,), float(step))}, {"step": step})


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_each_operation_of_a_save_fails_once_or_for_good(
    tmp_path: Path, each_failure: Callable[..., Any], number: int, lasting: bool, short: bool
) -> None:
    failed: list[str] = []
    for attempt, broken in enumerate(each_failure(number, lasting=lasting, short=short)):
        folder = tmp_path / str(attempt) / "checkpoints"
        for step in (1, 2):
            _save(folder, step)
        before = _hashes(folder)

        error: CheckpointError | None = None
        with broken as disk:
            try:
                _save(folder, 3)
            except CheckpointError as caught:
                error = caught
        after = _hashes(folder)
        found = load_latest(folder)
        assert found is not None and found.state == {"step": found.step}
        assert torch.equal(found.tensors["w"], torch.full((9,), float(found.step)))
        assert found.notes == ()

        if error is None:
            # what fails after the save, in pruning, costs nothing
            assert found.step == 3
        else:
            failed.append(str(disk.failed))
            assert os.strerror(number) in str(error)
            full = number in (errno.ENOSPC, errno.EDQUOT)
            assert isinstance(error, CheckpointFull) == full
            assert before.items() <= after.items()  # the ones before it are as they were
            whole = found.step == 3  # complete, though it was not promised
            assert found.step in (2, 3)
            # a disk that lets nothing be opened lets nothing be removed either
            if not (lasting and disk.failed in ("open", "rename")):
                assert not [n for n in os.listdir(folder) if n.startswith(".tmp-")]
                assert whole or after == before

        # the disk is well again: the next save works, and nothing of the failed one stays
        _save(folder, 4)
        assert len(os.listdir(folder)) == 2
        again = load_latest(folder)
        assert again is not None and again.step == 4
    # each kind of operation had its turn, and three files were written and synced
    assert {"open", "write", "fsync", "rename", "mkdir"} <= set(failed)
    assert failed.count("fsync") >= 5


def test_the_very_first_save_fails_cleanly(
    tmp_path: Path, each_failure: Callable[..., Any]
) -> None:
    for attempt, broken in enumerate(each_failure(errno.ENOSPC)):
        folder = tmp_path / str(attempt) / "checkpoints"
        with broken:
            try:
                _save(folder, 1)
            except CheckpointFull:
                pass
        found = load_latest(folder)
        assert found is None or found.step == 1


def test_a_file_size_limit_is_told_with_the_bytes(tmp_path: Path) -> None:
    import resource
    import signal

    _save(tmp_path, 1)
    before = _hashes(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(CheckpointFull, match=r"needs 10[0-9]{4} bytes and \d+ are free"):
            save_checkpoint(tmp_path, 2, {"w": torch.zeros(9_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert _hashes(tmp_path) == before
