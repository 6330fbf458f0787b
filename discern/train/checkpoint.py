"""Checkpoints: tensors and a state come in, a folder that survives a crash stays; both come back.

    checkpoints/step-00001200/tensors.safetensors  state.json  manifest.json

Invariant: a save that returned survives; one that did not is absent or complete.  A checkpoint is
written into a temporary folder, each file synced, renamed, and the parent synced.  The manifest
holds size and SHA-256 of each file and of itself; a reader trusts only the bytes that it hashed.
What several ranks wrote in `parts` is read here too, once each of its files is the manifest's.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from discern.errors import DiscernError, IntegrityError
from discern.files import TEMPORARY, sync_folder, write_new
from discern.repro import versions
from discern.train import parts
from discern.train.manifest import MANIFEST, Entry, entry_of, manifest, read_sealed
from discern.train.pieces import tensors_in_pieces

FORMAT = "discern-checkpoint/2"  # an optimizer's moments go by the names of parameters
FILES = ("tensors.safetensors", "state.json")
SLACK = 64 * 1024  # bytes for folders, the manifest and the ends of blocks

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NAME = re.compile(r"step-(\d{8,})(?:\.(\d+))?")
_log = logging.getLogger("discern")


class CheckpointError(DiscernError):
    """A checkpoint could not be written.  The ones before it are as they were."""


class CheckpointFull(CheckpointError):
    """There is no room for a checkpoint."""

    def __init__(self, folder: Path, needed: int, free: int, reason: str) -> None:
        self.needed, self.free = needed, free
        super().__init__(
            f"{folder}: {reason}: a checkpoint needs {needed} bytes and {free} are free: "
            "make room, or choose an --out on another disk"
        )


class NotFinite(CheckpointError):
    """NaN or infinity among the values: such a checkpoint would poison every resume."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What `load_latest` found."""

    path: Path
    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    notes: tuple[str, ...] = ()  # newer checkpoints that were skipped, and why


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], keep: int = 2
) -> Path:
    """Write a checkpoint; when this returns it is on the disk, and older ones are pruned to `keep`.

    Raises NotFinite, CheckpointFull or CheckpointError; the checkpoints before it are then intact.
    `state` holds JSON values only (a tuple comes back as a list).
    """
    _refuse_nonfinite(step, tensors)
    return write_checkpoint(folder, step, tensors, encode_state(step, state), keep)


def write_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensor], state: bytes, keep: int
) -> Path:
    """`save_checkpoint` of what is known to be finite, and of a state that is encoded already."""
    assert step >= 0 and keep >= 1
    files = dict(zip(FILES, (tensors_in_pieces(tensors), [memoryview(state)]), strict=True))
    needed = sum(len(piece) for pieces in files.values() for piece in pieces) + SLACK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise CheckpointFull(folder, needed, free, os.strerror(errno.ENOSPC))
        path = _write(folder, step, files)
    except OSError as error:
        raise translate(error, folder, needed) from error
    prune(folder, path, keep)
    return path


def load_latest(folder: Path, *, tensors: bool = True) -> Checkpoint | None:
    """The newest checkpoint that verifies; None where there is none.

    Without its `tensors` where those are not wanted.  Raises IntegrityError where there are some
    and none verifies.
    """
    notes: list[str] = []
    for path in reversed(_checkpoints(folder)):
        try:
            step, found, state = read(path, tensors=tensors)
        except (IntegrityError, OSError) as error:
            notes.append(f"skipped {path.name}: {error}")
            continue
        return Checkpoint(path=path, step=step, tensors=found, state=state, notes=tuple(notes))
    if notes:
        raise IntegrityError(
            f"{folder}: no checkpoint is whole ({'; '.join(notes)}): "
            "delete this folder to start from the beginning"
        )
    return None


def check_space(folder: Path, tensors: Mapping[str, Tensor], copies: int = 1) -> None:
    """Raise CheckpointFull when `copies` checkpoints of these tensors would not fit."""
    each = sum(t.numel() * t.element_size() for t in tensors.values()) + SLACK
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < each * copies:
        raise CheckpointFull(folder, each * copies, free, os.strerror(errno.ENOSPC))


class Patience:
    """Saves that fail one after the other: a warning each, and the error of the last allowed."""

    def __init__(self, allowed: int) -> None:
        self._allowed, self._failed = allowed, 0

    def of(self, step: int, save: Callable[[], Path]) -> Path | None:
        """What a save brings, or None where it failed and that is borne.  Raises as it does."""
        try:
            path = save()
        except NotFinite:  # no later try would be better
            raise
        except CheckpointError as error:
            self._failed += 1
            if self._failed >= self._allowed:
                raise
            _log.warning(
                "not saved at step %d (%d of %d): %s", step, self._failed, self._allowed, error
            )
            return None
        self._failed = 0
        return path


class Saver:
    """Saves now and then: a failed save is tried again at the next occasion, a few times.

    In the `background` a save only copies, and a thread brings the copy to the disk; whether that
    went well is known at the next save, load or `wait`.
    """

    def __init__(
        self, folder: Path, *, keep: int = 2, failures: int = 3, background: bool = False
    ) -> None:
        self.folder = folder
        self._background = background
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: tuple[int, Future[Path]] | None = None
        self.last: Path | None = None  # the newest checkpoint of this process
        self._keep = keep
        self._patience = Patience(failures)

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Save, or warn; raises at the last of several failures in a row, and at once for NaN."""
        self.wait()
        _refuse_nonfinite(step, tensors)
        if self._background:  # what the next steps will change
            tensors = {name: t.detach().to("cpu", copy=True) for name, t in tensors.items()}
        text = encode_state(step, state)
        written = self._thread.submit(
            write_checkpoint, self.folder, step, tensors, text, self._keep
        )
        self._writing = step, written
        if not self._background:
            self.wait()

    def wait(self) -> None:
        """Until the last save is on the disk; raises as `save` does."""
        if self._writing is None:
            return
        (step, written), self._writing = self._writing, None
        self.last = self._patience.of(step, written.result) or self.last

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and state of the newest checkpoint that verifies; a skipped one is a warning."""
        self.wait()
        found = load_latest(self.folder)
        if found is None:
            return None
        for note in found.notes:
            _log.warning("%s", note)
        return found.tensors, found.state


def _write(folder: Path, step: int, files: Mapping[str, Sequence[memoryview]]) -> Path:
    temporary = hidden(folder)
    try:
        os.mkdir(temporary)
        for name, pieces in files.items():
            write_new(temporary / name, *pieces)
        entries = {name: entry_of(*pieces) for name, pieces in files.items()}
        path = seal(temporary, FORMAT, step, entries)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_up(path)
    return path


def hidden(folder: Path) -> Path:
    """Where something stays until it is whole, or while it goes."""
    return folder / f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}"


def seal(temporary: Path, kind: str, step: int, entries: Mapping[str, Entry]) -> Path:
    """Manifest and name of a checkpoint of which all files are on the disk."""
    head = {"format": kind, "step": step, "versions": versions()}
    write_new(temporary / MANIFEST, manifest(head, entries))
    sync_folder(temporary)
    path = _free_name(temporary.parent, step)
    os.rename(temporary, path)
    return path


def sync_up(path: Path) -> None:
    """The name of a checkpoint survives from here on.

    Should this fail, a complete checkpoint stays that nobody was promised.
    """
    sync_folder(path.parent)
    sync_folder(path.parent.parent)


def _free_name(folder: Path, step: int) -> Path:
    """A name that is not taken: the first one of this step may be damaged, or abandoned."""
    path = folder / f"step-{step:08d}"
    revision = 1
    while path.exists():
        revision += 1
        path = folder / f"step-{step:08d}.{revision}"
    return path


def _checkpoints(folder: Path) -> list[Path]:
    """All checkpoint folders, oldest first."""
    found = []
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        names = []
    for name in names:
        match = _NAME.fullmatch(name)
        if match is not None:
            found.append((int(match[1]), int(match[2] or 1), folder / name))
    return [path for _, _, path in sorted(found)]


def prune(folder: Path, newest: Path, keep: int) -> None:
    """Keep the newest and the steps right before it.

    Another one of the same step was damaged, and later steps belong to a past that was abandoned.
    """
    paths = _checkpoints(folder)
    before = [path for path in paths if _step(path) < _step(newest)]
    kept = {newest, *before[len(before) - keep + 1 :]}
    for path in paths:
        if path not in kept:
            _remove(path)


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1])


def _remove(path: Path) -> None:
    # under another name first: a reader never sees half of it.  What fails here fails again later,
    # as a full disk; the new checkpoint is safe.
    going = hidden(path.parent)
    with contextlib.suppress(OSError):
        os.rename(path, going)
        shutil.rmtree(going, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed save left.  The lock of the run keeps other writers away."""
    for name in os.listdir(folder):
        if name.startswith(TEMPORARY):
            shutil.rmtree(folder / name, ignore_errors=True)


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of tensors that hold NaN or infinity."""
    return [name for name, tensor in tensors.items() if not _is_finite(tensor)]


def _refuse_nonfinite(step: int, tensors: Mapping[str, Tensor]) -> None:
    bad = not_finite(tensors)
    if bad:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise NotFinite(f"step {step} is not saved: NaN or infinity in {', '.join(bad[:3])}{more}")


def _is_finite(tensor: Tensor) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    tensor = tensor.detach()
    total = tensor.sum(dtype=torch.promote_types(tensor.dtype, torch.float32))
    # the sum is quick, and finite only where all is; it may overflow where all is finite
    return bool(total.isfinite()) or bool(tensor.isfinite().all())


def encode_state(step: int, state: Mapping[str, Any]) -> bytes:
    """A state as JSON.  Raises NotFinite."""
    _assert_text_keys(state)
    try:
        return json.dumps(state, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        raise NotFinite(f"step {step} is not saved: NaN or infinity in the state") from None


def _assert_text_keys(value: Any) -> None:
    # JSON would turn other keys into text without a word
    if isinstance(value, Mapping):
        assert all(isinstance(key, str) for key in value), f"keys must be text: {list(value)[:5]}"
        for part in value.values():
            _assert_text_keys(part)
    elif isinstance(value, list | tuple):
        for part in value:
            _assert_text_keys(part)


def read(path: Path, *, tensors: bool = True) -> tuple[int, dict[str, Tensor], dict[str, Any]]:
    """Step, tensors (whole ones) and state of a checkpoint, whoever wrote it.

    Raises IntegrityError or OSError.
    """
    step = _step(path)
    if parts.in_parts(path):
        state = parts.read_state(path, step)
        return step, parts.read_parts(path) if tensors else {}, state
    data = read_sealed(path, {"format": FORMAT, "step": step}, FILES)
    # the very bytes that were hashed are parsed: the files are not opened a second time
    try:
        return (
            step,
            safetensors.torch.load(data["tensors.safetensors"]),
            json.loads(data["state.json"]),
        )
    except (safetensors.SafetensorError, ValueError) as error:
        raise IntegrityError(f"cannot be parsed ({error})") from None


def translate(error: OSError, folder: Path, needed: int) -> CheckpointError:
    """What an error of the disk means, and the way out."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in _FULL:
        free = 0
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(folder).free
        return CheckpointFull(folder, needed, free, reason)
    way_out = "choose an --out that can be written"
    if error.errno == errno.EIO:
        way_out = "the disk reports errors: look at it, and choose an --out on another one"
    return CheckpointError(f"{folder}: no checkpoint could be written ({reason}): {way_out}")
