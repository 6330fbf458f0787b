"""One writer per run folder: a lock file that names its holder and that its death frees."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from discern.errors import UsageError

_held: set[int] = set()  # open lock files; a forked child closes its copies


class FolderLock:
    """An exclusive lock on `folder/run.lock`, held until `close` or the end of the process.

    Raises UsageError with the holder's process id when another process holds it.
    """

    NAME = "run.lock"

    def __init__(self, folder: Path) -> None:
        self.left_by: dict[str, Any] | None = None  # a holder that died without closing
        path = folder / self.NAME
        self._file: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _patient_read(path)
            os.close(self._file)
            raise UsageError(
                f"{folder} is in use by {_describe(holder)}: {_way_out(holder)}"
            ) from None
        except BaseException:
            os.close(self._file)
            raise
        _held.add(self._file)
        self.left_by = _read(path)
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": round(time.time(), 3)}
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, (json.dumps(holder) + "\n").encode(), 0)

    def close(self) -> None:
        """Free the lock.  The file stays: if it went, two processes could lock two of its name."""
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, 0)
        _held.discard(self._file)
        os.close(self._file)
        self._file = None

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _patient_read(path: Path) -> dict[str, Any] | None:
    """The holder's entry, which appears a moment after its lock."""
    for _ in range(20):
        holder = _read(path)
        if holder is not None:
            return holder
        time.sleep(0.025)
    return None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _describe(holder: dict[str, Any] | None) -> str:
    if holder is None:
        return "another process"
    return f"process {holder.get('pid')} on {holder.get('host')}"


def _way_out(holder: dict[str, Any] | None) -> str:
    if holder is not None and holder.get("host") == socket.gethostname():
        return f"wait for it, stop it with `kill {holder.get('pid')}`, or choose another --out"
    return "wait for it, or choose another --out"


def _forget_in_child() -> None:
    # a flock belongs to all copies of the open file: a worker that outlives its parent must not
    # keep it
    for file in _held:
        with contextlib.suppress(OSError):
            os.close(file)
    _held.clear()


os.register_at_fork(after_in_child=_forget_in_child)
