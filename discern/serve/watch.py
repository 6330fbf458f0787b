"""A run folder, looked at from outside while it is written: curves and sample sheets out.

Reads only; a line that is not whole yet is left for the next look.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from discern.errors import UsageError
from discern.report.curves import MACHINERY, curves_by_phase
from discern.report.records import objects, read_object

TAIL = 8 * 2**20  # bytes of the log that are read
MOST_POINTS = 200  # of a curve
MOST_CURVES = 16
MOST_PICTURE = 32 * 2**20  # bytes
KINDS = {".png": "image/png", ".gif": "image/gif", ".webp": "image/webp", ".mp4": "video/mp4"}


class Watched:
    """A run that a server shows."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "config.json").is_file():
            raise UsageError(f"{folder}: no run: name the --out of pretrain or train")
        self.folder = folder

    def state(self) -> dict[str, Any]:
        """How far it is: verb, last line, curves by name, sample sheets, results if there are."""
        lines = self._lines()
        results = read_object(self.folder / "results.json")
        told = [line for line in lines if "progress" in line]
        last: dict[str, Any] = told[-1] if told else {}
        return {
            "name": self.folder.resolve().name,
            "verb": str(read_object(self.folder / "config.json").get("verb", "run")),
            "finished": bool(results),
            "stopped_by": results.get("stopped_by"),
            "accuracy": results.get("accuracy"),
            "progress": 1.0 if results else last.get("progress", 0.0),
            "minutes": last.get("minutes"),
            "step": last.get("step"),
            "events": [str(line["event"])[:300] for line in lines if "event" in line][-5:],
            "curves": curves(lines),
            "samples": [path.stem.replace("_", " ") for path in self._pictures()],
        }

    def picture(self, number: int) -> tuple[bytes, str] | None:
        """A sample sheet and its media type; None where there is no such one."""
        pictures = self._pictures()
        if not 0 <= number < len(pictures):
            return None
        path = pictures[number]
        try:
            with open(path, "rb") as file:
                data = file.read(MOST_PICTURE + 1)
        except OSError:
            return None
        return (data, KINDS[path.suffix]) if len(data) <= MOST_PICTURE else None

    def _pictures(self) -> list[Path]:
        try:
            found = sorted((self.folder / "samples").iterdir())
        except OSError:
            return []
        return [one for one in found if one.suffix in KINDS and one.is_file()]

    def _lines(self) -> list[dict[str, Any]]:
        try:
            with open(self.folder / "log.jsonl", "rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(max(0, size - TAIL))
                data = file.read(TAIL)
        except OSError:
            return []
        # lines that are cut off at either end are passed over
        return list(objects(data.decode("utf-8", "replace")))


def curves(lines: list[dict[str, Any]]) -> dict[str, list[list[float]]]:
    """name -> [minutes, value], thinned out, what a person looks for first."""
    found = {
        name: [[x, y] for x, y in zip(curve.x, curve.y, strict=True)]
        for phase in curves_by_phase(lines).values()
        for name, curve in phase.items()
        if name not in MACHINERY
    }
    return {name: _thinned(found[name]) for name in [*found][:MOST_CURVES]}


def _thinned(points: list[list[float]]) -> list[list[float]]:
    if len(points) <= MOST_POINTS:
        return points
    step = (len(points) - 1) / (MOST_POINTS - 1)
    return [points[round(place * step)] for place in range(MOST_POINTS)]
