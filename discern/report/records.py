"""A run folder goes in, what its files say comes out; a broken file counts as missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from discern.report.words import interval_of, number

KINDS = ("images", "clips")
MAX_BYTES = 256 * 2**20  # of one record file; more would be no record of a run


@dataclass(frozen=True, kw_only=True)
class Block:
    """The results of one method on one kind of input."""

    kind: str  # "images", "clips", "" = all together
    method: str  # "pretrained", "hog_svm" ...; "model" = the one model of the run
    values: dict[str, Any]

    @property
    def accuracy(self) -> float | None:
        """Share of right answers."""
        return number(self.values.get("accuracy"))

    @property
    def interval(self) -> tuple[float, float] | None:
        """Its 95 % interval."""
        return interval_of(self.values.get("accuracy_interval"))


@dataclass(frozen=True, kw_only=True)
class Record:
    """All that the files of a run say."""

    folder: Path
    results: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)
    predictions: list[dict[str, Any]] = field(default_factory=list)

    @property
    def verb(self) -> str:
        """The verb that made the run."""
        return str(self.results.get("verb") or self.config.get("verb") or "run")

    @property
    def settings(self) -> dict[str, Any]:
        """The resolved settings."""
        settings = self.config.get("settings", self.config)
        return settings if isinstance(settings, dict) else {}

    @property
    def blocks(self) -> list[Block]:
        """Results by kind and method, the model of the run first."""
        return blocks_of(self.results)


def read_record(folder: Path) -> Record:
    """Read what there is.  A broken file counts as missing: a report is made of the rest."""
    return Record(
        folder=folder,
        results=read_object(folder / "results.json"),
        config=read_object(folder / "config.json"),
        log=list(_lines(folder / "log.jsonl")),
        predictions=list(_lines(folder / "predictions.jsonl")),
    )


def blocks_of(results: dict[str, Any]) -> list[Block]:
    """Flat results, blocks by kind, or blocks by kind and method."""
    found = []
    if _is_block(results):
        found.append(Block(kind="", method="model", values=results))
    for kind in KINDS:
        inner = results.get(kind)
        if not isinstance(inner, dict):
            continue
        if _is_block(inner):
            found.append(Block(kind=kind, method="model", values=inner))
            continue
        found += [
            Block(kind=kind, method=str(method), values=values)
            for method, values in inner.items()
            if isinstance(values, dict) and _is_block(values)
        ]
    return found


def _is_block(values: dict[str, Any]) -> bool:
    return number(values.get("accuracy")) is not None


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one where there is none."""
    try:
        value = json.loads(_text(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file; a line that was cut off by a kill is passed over."""
    try:
        yield from objects(_text(path))
    except (OSError, ValueError):
        return


def objects(text: str) -> Iterator[dict[str, Any]]:
    """The objects of JSON lines; what is none is passed over."""
    for line in text.split("\n"):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value


def _text(path: Path) -> str:
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path}: too large")
    return path.read_text(encoding="utf-8", errors="replace")
