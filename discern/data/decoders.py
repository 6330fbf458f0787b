"""Requests in, decoded frames out, in order, by processes that are replaced when they are lost.

A batch travels in memory that both sides share, and the pipes carry a few bytes only: a process
that is killed or stopped in the middle of its work leaves nobody waiting for the rest of a message.
"""

from __future__ import annotations

import math
import mmap
import multiprocessing
import signal
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Generic, TypeVar

import numpy as np

from discern.errors import DataError

HANG_SECONDS = 60.0  # without an answer, a process is given up
REPLACEMENTS = 3  # for one request
AHEAD = 2  # requests that each process has at a time
LONGEST = 2000  # characters of an error: what fits into a pipe at once

Request = TypeVar("Request")
Fetch = Callable[[Request], np.ndarray]  # -> uint8 of any shape


class Decoders(Generic[Request]):
    """`count` processes that call `fetch`; frames of one request take at most `most_bytes`.

    They are forked, so that what `fetch` holds is theirs as well.  Call `close` at the end.
    """

    def __init__(self, fetch: Fetch[Request], count: int, most_bytes: int) -> None:
        assert count > 0
        self.members = [_Member(fetch, most_bytes) for _ in range(count)]

    def frames(self, requests: Sequence[Request]) -> Iterator[np.ndarray]:
        """The frames of each request, in order.

        Raises DataError as `fetch` does, or where processes are lost over and over.
        """
        count = len(self.members)
        assert not any(member.asked for member in self.members), "one sequence after the other"
        for number in range(min(len(requests), count * AHEAD)):
            self.members[number % count].ask(requests[number])
        for number in range(len(requests)):
            member = self.members[number % count]
            frames = member.answer()
            if number + count * AHEAD < len(requests):
                member.ask(requests[number + count * AHEAD])
            yield frames

    def close(self) -> None:
        for member in self.members:
            member.end()


class _Member(Generic[Request]):
    """One process, what it was asked, and the memory in which it answers."""

    def __init__(self, fetch: Fetch[Request], most_bytes: int) -> None:
        self.fetch = fetch
        self.memory = [mmap.mmap(-1, max(1, most_bytes)) for _ in range(AHEAD)]
        self.asked: deque[tuple[int, Request]] = deque()  # place in the memory, request
        self.turn = 0
        self.found: tuple[int, ...] | Exception = ()
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(self.fetch, self.pipe, theirs, self.memory), daemon=True
        )
        self.process.start()
        theirs.close()

    def ask(self, request: Request) -> None:
        self.asked.append((self.turn, request))
        self._send(self.asked[-1])
        self.turn = (self.turn + 1) % AHEAD

    def answer(self) -> np.ndarray:
        """The frames of the oldest request that has no answer yet."""
        for lost in range(REPLACEMENTS + 1):
            reason = self._waited()
            if reason is None:
                break
            if lost == REPLACEMENTS:
                raise DataError(
                    f"decoder processes were lost {lost + 1} times in a row ({reason}): the memory "
                    "may be too small for so many, try --set data.loader.workers=0"
                )
            warnings.warn(f"replaced a decoder process: {reason}", stacklevel=2)
            self.end()
            self._start()
            for each in self.asked:
                self._send(each)
        place, _ = self.asked.popleft()
        if isinstance(self.found, Exception):
            raise self.found
        size = math.prod(self.found)
        return np.frombuffer(self.memory[place], np.uint8, size).reshape(self.found).copy()

    def _waited(self) -> str | None:
        """Wait for an answer; why there is none."""
        ready = wait([self.pipe, self.process.sentinel], HANG_SECONDS)
        if not ready:
            return f"no answer for {HANG_SECONDS:g} s"
        try:
            self.found = self.pipe.recv()
        except (EOFError, OSError):
            return "it died, perhaps for want of memory"
        return None

    def _send(self, asked: tuple[int, Request]) -> None:
        try:
            self.pipe.send(asked)
        except OSError:
            pass  # it is dead, and `answer` will notice

    def end(self) -> None:
        self.process.kill()  # a stopped one would not hear anything gentler
        self.process.join()
        self.pipe.close()


def _serve(
    fetch: Fetch[Request], theirs: Connection, pipe: Connection, memory: Sequence[mmap.mmap]
) -> None:
    """Answer until the other side is gone."""
    theirs.close()  # it came along with the fork, and would keep the pipe open for ever
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the training decides when it ends
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while True:
        try:
            place, request = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            frames = np.ascontiguousarray(fetch(request))
            memory[place][: frames.nbytes] = frames.tobytes()
            pipe.send(frames.shape)
        except DataError as error:
            pipe.send(DataError(str(error)[:LONGEST]))
        except Exception:
            pipe.send(RuntimeError(traceback.format_exc()[-LONGEST:]))
