"""Requests to batches: prepared items come in one by one, answers go out, no more than fit wait.

One thread runs the model.  What is full says so at once, so that the client can come again.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np


class Busy(Exception):
    """There is no room to wait in."""


@dataclass
class Job:
    """An item that waits for its answer."""

    frames: np.ndarray  # uint8 [T, h, w, 3]
    answer: Future[Any] = field(default_factory=Future)


Answer = Callable[[np.ndarray], Sequence[Any]]  # uint8 [B, T, h, w, 3] -> an answer each


class Batcher:
    """Items of one shape are answered together.

    Who waits already joins the batch.  For more it waits at most `wait` seconds, and only until
    there are as many as in the last one: those who were answered together tend to come again
    together, and one who comes alone has nobody to wait for.
    """

    def __init__(self, answer: Answer, *, most: int, batch: int, wait: float) -> None:
        self.answer, self.batch, self.wait = answer, batch, wait
        self.jobs: queue.Queue[Job | None] = queue.Queue(maxsize=most)
        self.batches = self.items = 0
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def ask(self, frames: np.ndarray) -> Future[Any]:
        """The answer to come.  Raises Busy."""
        job = Job(frames)
        try:
            self.jobs.put_nowait(job)
        except queue.Full:
            raise Busy from None
        return job.answer

    @property
    def waiting(self) -> int:
        """How many items wait."""
        return self.jobs.qsize()

    @property
    def alive(self) -> bool:
        """Whether the model's thread runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Answer what waits, and stop."""
        self.jobs.put(None)
        self._thread.join(timeout=30)

    def _work(self) -> None:
        left: Job | None = None
        company = 1
        while True:
            first = left or self.jobs.get()
            left = None
            if first is None:
                return
            jobs, ends = [first], False
            end = time.monotonic() + self.wait
            while len(jobs) < self.batch:
                waits = len(jobs) < company
                try:
                    job = self.jobs.get(timeout=max(0.0, end - time.monotonic()) if waits else 0.0)
                except queue.Empty:
                    break
                if job is None:
                    ends = True
                    break
                if job.frames.shape != first.frames.shape:
                    left = job
                    break
                jobs.append(job)
            company = len(jobs)
            self._answer([job for job in jobs if job.answer.set_running_or_notify_cancel()])
            if ends:
                if left is not None:
                    self._answer([left])
                return

    def _answer(self, jobs: list[Job]) -> None:
        if not jobs:
            return
        try:
            answers = self.answer(np.stack([job.frames for job in jobs]))
        except Exception as error:  # the thread must live on, and each client be told
            for job in jobs:
                job.answer.set_exception(error)
        else:
            for job, one in zip(jobs, answers, strict=True):
                job.answer.set_result(one)
        self.batches, self.items = self.batches + 1, self.items + len(jobs)
