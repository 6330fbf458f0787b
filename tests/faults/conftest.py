"""A disk that fails at the Nth operation: for N = 1, 2, 3... until a task meets no failure."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

OPERATIONS = ("open", "write", "fsync", "rename", "replace", "mkdir")


@dataclass
class FailingDisk:
    """Makes operation number `at` fail, and with `lasting` those of the same name after it too."""

    at: int
    number: int  # errno
    lasting: bool = False
    short: bool = False  # a failing write takes one byte first
    count: int = 0
    failed: str | None = None  # the operation that failed first

    def wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*arguments: Any, **settings: Any) -> Any:
            self.count += 1
            if self.count == self.at:
                self.failed = name
                if name == "write" and self.short:
                    real(arguments[0], bytes(arguments[1][:1]))
                raise OSError(self.number, os.strerror(self.number))
            if self.lasting and self.failed == name:
                raise OSError(self.number, os.strerror(self.number))
            return real(*arguments, **settings)

        return operation


@contextlib.contextmanager
def _failing(disk: FailingDisk) -> Iterator[FailingDisk]:
    with pytest.MonkeyPatch.context() as patch:
        for name in OPERATIONS:
            patch.setattr(os, name, disk.wrap(name, getattr(os, name)))
        yield disk


@pytest.fixture
def each_failure() -> Callable[..., Iterator[contextlib.AbstractContextManager[FailingDisk]]]:
    """`for broken in each_failure(errno): with broken as disk: ...`, once for each operation."""

    def contexts(
        number: int, lasting: bool = False, short: bool = False
    ) -> Iterator[contextlib.AbstractContextManager[FailingDisk]]:
        for at in range(1, 1000):
            disk = FailingDisk(at=at, number=number, lasting=lasting, short=short)
            yield _failing(disk)
            if disk.failed is None:
                assert at > 1, "no operation was counted"
                return
        raise AssertionError("1000 operations and no end")

    return contexts
