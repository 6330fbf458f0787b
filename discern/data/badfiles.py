"""Items that cannot be read: counted, listed in `bad_files.jsonl`; too many stop the run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from threading import Lock

from discern.errors import DataError


class BadFiles:
    """The list of broken items of a run.  A run that is resumed goes on with the list it had."""

    def __init__(
        self, path: Path | str | None, allowed: float = 0.01, strict: bool = False
    ) -> None:
        self.path = None if path is None else Path(path)
        self.allowed = allowed  # share of all items
        self.strict = strict
        self.reasons: dict[str, str] = {} if self.path is None else _read(self.path)
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.reasons)

    def add(self, key: str, reason: object) -> None:
        """List an item, once.  Raises DataError at the first when strict."""
        with self._lock:
            if key not in self.reasons:
                self.reasons[key] = str(reason)
                self._write(key, str(reason))
        if self.strict:
            raise DataError(f"{key}: {reason}: mend or remove it, or leave out --strict")

    def check(self, total: int) -> None:
        """Raises DataError when more than the allowed share of `total` items is broken."""
        count = len(self.reasons)
        if count <= self.allowed * total:
            return
        key, reason = next(iter(self.reasons.items()))
        listed = f", the others are in {self.path}" if self.path and count > 1 else ""
        raise DataError(
            f"{count} of {total} items cannot be read, more than {self.allowed:.0%}:"
            f" {key}: {reason}{listed}: mend or remove them"
        )

    def _write(self, key: str, reason: str) -> None:
        if self.path is None:
            return
        line = json.dumps({"path": key, "reason": reason}) + "\n"
        # one write in append mode: lines of several processes do not mix
        with open(self.path, "ab", buffering=0) as file:
            file.write(line.encode())


def _read(path: Path) -> dict[str, str]:
    """The list as far as it is whole; a line cut off by a crash is taken off the file."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return {}
    reasons: dict[str, str] = {}
    whole = 0
    for line in lines:
        try:
            row = json.loads(line)
            reasons[str(row["path"])] = str(row["reason"])
        except (ValueError, KeyError, TypeError):
            break
        whole += len(line)
    os.truncate(path, whole)
    return reasons
