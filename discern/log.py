"""A run's folder: settings and numbers come in, config, log, events and results stay in files."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from discern import config as configuration
from discern.errors import ConfigError, DiscernError, UsageError
from discern.events import EventFile
from discern.files import TEMPORARY, json_text, write_bytes, write_json
from discern.lock import FolderLock
from discern.repro import versions

FORMAT = "discern-run/1"
_log = logging.getLogger("discern")


class Run:
    """A folder in which one verb works, alone.  `Run.open` makes it or finds it again."""

    def __init__(
        self, out: Path, verb: str, settings: Mapping[str, Any], lock: FolderLock, resumed: bool
    ) -> None:
        self.out = out
        self.verb = verb
        self.config = dict(settings)
        self.resumed = resumed
        self.notes: list[str] = []  # what a user should know about this resume
        self._lock = lock
        self._lines = _LineFile(out / "log.jsonl")
        self._events: EventFile | None = None

    @classmethod
    def open(
        cls,
        out: Path | str,
        verb: str,
        config: Mapping[str, Any],
        allow_change: bool = False,
        may_change: Sequence[str] = (),
    ) -> Run:
        """The run in `out`: new, or unfinished with the same settings.

        `may_change` names settings (`a.b`, with all below it) that may differ on resume;
        `allow_change` allows all.  Raises UsageError (folder in use, finished, or not a run) or
        ConfigError (other settings).
        """
        out = Path(out)
        try:
            out.mkdir(parents=True, exist_ok=True)
            _refuse_foreign(
                out
            )  # before the lock file is made: nothing is left in folders of others
            lock = FolderLock(out)
        except OSError as error:
            raise UsageError(f"--out {out}: {error.strerror}: choose another folder") from None
        try:
            return cls._open_locked(out, verb, config, allow_change, may_change, lock)
        except OSError as error:
            lock.close()
            raise UsageError(f"{error.filename or out}: {error.strerror}") from None
        except BaseException:
            lock.close()
            raise

    @classmethod
    def _open_locked(
        cls,
        out: Path,
        verb: str,
        config: Mapping[str, Any],
        allow_change: bool,
        may_change: Sequence[str],
        lock: FolderLock,
    ) -> Run:
        stored = _refuse_foreign(out)
        if (out / "results.json").exists():
            raise UsageError(f"{out} holds a finished run: choose another --out, or delete it")
        settings = json.loads(json_text(config))
        if stored is None:
            write_json(out / "config.json", _header(verb, settings))
            return cls(out, verb, settings, lock, resumed=False)

        if stored.get("verb") != verb:
            raise UsageError(
                f"{out} holds an unfinished `{stored.get('verb')}`, not a `{verb}`: "
                "choose another --out"
            )
        changes = configuration.differences(stored.get("settings", {}), settings)
        refused = [] if allow_change else [line for line in changes if not _named(line, may_change)]
        if refused:
            raise ConfigError(
                f"{out} was started with other settings ({'; '.join(refused)}): "
                "use the same, choose another --out, or add --allow-change"
            )
        run = cls(out, verb, settings, lock, resumed=True)
        run._note_resume(stored, changes)
        return run

    def _note_resume(self, stored: dict[str, Any], changes: list[str]) -> None:
        new_versions = versions()
        moved = configuration.differences(stored.get("versions", {}), new_versions)
        if self._lock.left_by is not None:
            pid = self._lock.left_by.get("pid")
            self.notes.append(f"taken over from process {pid}, which ended without closing the run")
        self.notes += [f"setting {line}" for line in changes]
        self.notes += [f"version of {line}" for line in moved]
        if changes or moved:
            entry = {"time": round(time.time(), 3), "settings": changes, "versions": moved}
            history = [*stored.get("changes", []), entry]
            write_json(
                self.out / "config.json",
                {**stored, "settings": self.config, "versions": new_versions, "changes": history},
            )

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints of this run lie."""
        return self.out / "checkpoints"

    def log(self, *, step: int, **values: Any) -> None:
        """One line in log.jsonl (`step`, `time`, the values); its numbers become events as well.

        A full disk does not end a run: the lines wait in memory for the next call.
        """
        now = time.time()
        self._lines.add(json_text({"step": step, "time": round(now, 3), **values}))
        scalars = dict(_scalars(values))
        if scalars:
            if self._events is None:
                self._events = EventFile(self.out / "events")
            self._events.add(step, now, scalars)

    def rewind(self, step: int) -> None:
        """Forget what was logged after `step`: the run goes on from a checkpoint of that step."""
        self._lines.rewind(step)
        if self._events is None:
            self._events = EventFile(self.out / "events")
        self._events.restart(step + 1)

    def results(self, values: Mapping[str, Any]) -> None:
        """Write results.json, which also marks the run as finished."""
        try:
            write_json(self.out / "results.json", values)
        except OSError as error:
            path = self.out / "results.json"
            raise DiscernError(
                f"{path}: {error.strerror}: make room and run the same command again"
            ) from None

    def close(self) -> None:
        """Close the files and free the lock."""
        self._lines.close()
        if self._events is not None:
            self._events.close()
            self._events = None
        self._lock.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log.jsonl; a last line that was cut off is left out."""
    return [entry for _, entry in _entries(path)]


def _header(verb: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "verb": verb,
        "settings": settings,
        "versions": versions(),
        "started": round(time.time(), 3),
    }


def _refuse_foreign(out: Path) -> dict[str, Any] | None:
    """The stored config of a run, None for a folder that is free; UsageError for anything else."""
    # looked at first: another start may write its config.json between the two
    names = os.listdir(out)
    try:
        stored = json.loads((out / "config.json").read_bytes())
    except FileNotFoundError:
        stored = None
    except ValueError:
        raise UsageError(f"{out / 'config.json'} cannot be read: choose another --out") from None
    if stored is not None:
        if isinstance(stored, dict) and stored.get("format") == FORMAT:
            return stored
        raise UsageError(f"{out} holds a config.json that is not of a run: choose another --out")
    # a run that was killed before its config.json was there leaves these two
    others = [n for n in names if n != FolderLock.NAME and not n.startswith(TEMPORARY)]
    if others:
        raise UsageError(
            f"{out} is not empty and not a run (there is {min(others)}): choose another --out"
        )
    return None


def _named(line: str, names: Sequence[str]) -> bool:
    return any(line.startswith((f"{name}:", f"{name}.")) for name in names)


def _scalars(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{prefix}{name}/")
        elif not isinstance(value, str | bytes | list | tuple) and value is not None:
            try:
                yield f"{prefix}{name}", float(value)
            except (TypeError, ValueError):
                continue


def _entries(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    for line in data.splitlines(keepends=True):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and line.endswith(b"\n"):
            yield line, entry


class _LineFile:
    """Lines appended to a file, each whole; those that a full disk refuses wait."""

    WAITING = 10_000  # lines kept in memory at most

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: list[bytes] = []
        self._told = False
        self._file = -1
        self._size = 0
        self._reopen()

    def _reopen(self) -> None:
        self._file = os.open(
            self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666
        )
        # a kill may have cut off the last line: the next one must not continue it
        self._size = self._path.read_bytes().rfind(b"\n") + 1
        os.ftruncate(self._file, self._size)

    def add(self, line: str) -> None:
        self._waiting.append(line.encode() + b"\n")
        del self._waiting[: -self.WAITING]
        self._write()

    def _write(self) -> None:
        try:
            while self._waiting:
                line = self._waiting[0]
                left = memoryview(line)
                while left:  # a full disk takes a part, and refuses the next
                    left = left[os.write(self._file, left) :]
                self._size += len(line)
                del self._waiting[0]
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)  # no half line
            if not self._told:
                _log.warning("%s: %s: lines wait until there is room", self._path, error.strerror)
            self._told = True

    def rewind(self, step: int) -> None:
        """Keep the lines up to `step`; a line that was cut off goes too."""
        self._write()
        kept = b"".join(line for line, entry in _entries(self._path) if _up_to(entry, step))
        if len(kept) != os.fstat(self._file).st_size:
            os.close(self._file)
            try:
                write_bytes(self._path, kept)
            finally:
                self._reopen()

    def close(self) -> None:
        if self._file < 0:
            return
        self._write()
        if self._waiting:
            _log.warning("%s: %d lines could not be written", self._path, len(self._waiting))
        os.close(self._file)
        self._file = -1


def _up_to(entry: dict[str, Any], step: int) -> bool:
    at = entry.get("step")
    return isinstance(at, int) and at <= step
