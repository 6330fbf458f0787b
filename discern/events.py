"""TensorBoard: numbers of a step come in, an event file goes out.

It uses TensorBoard's own record writer and message types, which need neither torch nor TensorFlow;
its `EventFileWriter` would import TensorFlow wherever that is installed.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_log = logging.getLogger("discern")


class EventFile:
    """An event file in `folder`.  An error of the disk ends it with a warning, not the run."""

    def __init__(self, folder: Path) -> None:
        self._writer: Any = None
        try:
            folder.mkdir(exist_ok=True)
            name = f"events.out.tfevents.{time.time_ns() // 1000}.{os.getpid()}.discern"
            file = open(folder / name, "xb")  # noqa: SIM115 (the writer owns and closes it)
        except OSError as error:
            self._give_up(error)
            return
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._writer = RecordWriter(file)
        self._put(time.time(), file_version="brain.Event:2")

    def add(self, step: int, now: float, scalars: Mapping[str, float]) -> None:
        """One point on the curve of each name."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._put(now, step=step, summary=Summary(value=values))

    def restart(self, step: int) -> None:
        """Tell readers that events from `step` on, written before, count no more."""
        from tensorboard.compat.proto.event_pb2 import SessionLog

        self._put(time.time(), step=step, session_log=SessionLog(status=SessionLog.START))

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            try:
                self._writer.close()
            except OSError as error:
                self._give_up(error)

    def _put(self, now: float, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        if self._writer is None:
            return
        try:
            self._writer.write(Event(wall_time=now, **fields).SerializeToString())
            self._writer.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        # the same numbers stand in log.jsonl: a run does not end for its second copy
        _log.warning("TensorBoard events stop here: %s", error.strerror)
        self._writer = None
