"""What a verb prints: a result comes in; lines for a person or JSON for a machine go out."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from discern.errors import EXIT_DATA, EXIT_DONE
from discern.files import json_text, write_bytes

# results shown to a person, in this order, where a verb has them
_SHOWN = (
    "verdict",
    "label",
    "name",
    "same",
    "score",
    "threshold",
    "false_match",
    "true_match",
    "impostor_pairs",
    "added",
    "removed",
    "names",
    "key_id",
    "probability",
    "method",
    "deletion",
    "insertion",
    "stopped_by",
    "target",
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "micro_f1",
    "mean_average_precision",
    "ece",
    "temperature",
    "classes",
    "samples",
    "steps",
    "seconds",
    "model",
    "report",
    "out",
)
_SHARES = frozenset(
    {
        *("false_match", "true_match", "target", "accuracy", "balanced_accuracy", "macro_f1"),
        *("micro_f1", "mean_average_precision"),
    }
)


@contextlib.contextmanager
def one_answer(as_json: bool) -> Iterator[None]:
    """With `--json`, what is printed on the way goes to stderr: stdout holds the answer alone."""
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield


def finish(result: Mapping[str, Any], as_json: bool, then: str | None = None) -> int:
    """Prints the result and the next command to type; the exit code is the result's own."""
    code = int(result.get("exit_code", EXIT_DONE))
    if as_json:
        say_json({**result, "next": then} if then else result)
        return code
    for line in summary(result):
        print(line)
    if then:
        print(f"next: {then}")
    return code


def finish_predictions(found: Sequence[Mapping[str, Any]], as_json: bool) -> int:
    """One line per file: its classes, the likeliest first; files that cannot be read say why."""
    broken = sum("error" in entry for entry in found)
    if as_json:
        say_json(list(found))
    else:
        rows = []
        for entry in found:
            chosen = entry.get("top", [])
            text = "  ".join(f"{one['label']} {one['probability']:.1%}" for one in chosen)
            if "labels" in entry:
                text = f"{';'.join(entry['labels']) or 'no label'}  ({text})"
            if entry.get("unknown"):
                text = f"unknown  (nearest: {text})"
            rows.append((str(entry["file"]), entry.get("error") or text))
        print("\n".join(columns(rows)))
    return EXIT_DATA if broken else EXIT_DONE


def save_predictions(found: Sequence[Mapping[str, Any]], path: Path) -> None:
    """One row per file, in the form that the suffix names.

    `.jsonl` has all, `.csv` and `.parquet` the likeliest class and what the guard says, `.json` is
    FiftyOne's image classification (classes, and by file's stem label and confidence).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        write_bytes(path, "".join(json_text(entry) + "\n" for entry in found).encode())
    elif suffix == ".json":
        write_bytes(path, json_text(_fiftyone(found), indent=1).encode())
    elif suffix == ".parquet":
        from discern.data.parquet import write_parquet

        rows = [{**entry, "key": entry["file"]} for entry in found]
        write_parquet(path, rows)
    else:
        write_bytes(path, _csv(found).encode())


def _csv(found: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    heads = ("file", "kind", "label", "probability", "unknown", "error")
    writer.writerow(heads)
    rows = (
        {**entry, "label": ";".join(entry["labels"])} if "labels" in entry else entry
        for entry in found
    )
    writer.writerows([row.get(name, "") for name in heads] for row in rows)
    return text.getvalue()


def _fiftyone(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    named = [entry for entry in found if "label" in entry]
    return {
        "classes": sorted({entry["label"] for entry in named}),
        "labels": {
            Path(entry["file"]).stem: {
                "label": entry["label"],
                "confidence": entry["probability"],
            }
            for entry in named
        },
    }


def finish_names(found: Sequence[Mapping[str, Any]], as_json: bool) -> int:
    """One line per file: who it is, or `not enrolled`; files that cannot be read say why."""
    if as_json:
        say_json(list(found))
    else:
        rows = []
        for entry in found:
            ranked = "  ".join(f"{one['name']} {one['score']:.2f}" for one in entry.get("top", []))
            text = ranked if entry.get("enrolled") else f"not enrolled  (nearest: {ranked})"
            rows.append((str(entry["file"]), entry.get("error") or text))
        print("\n".join(columns(rows)))
        if any(entry.get("calibrated") is False for entry in found):
            print("not calibrated: `discern gallery calibrate` settles the threshold")
    return EXIT_DATA if any("error" in entry for entry in found) else EXIT_DONE


def finish_check(found: Mapping[str, Any], as_json: bool, then: str) -> int:
    """Counts and findings about data, one a line; lists are counted, with their first entries."""
    if as_json:
        say_json(found)
        return EXIT_DONE
    for name, value in found.items():
        print(f"{name.replace('_', ' '):>18}  {_short(value)}")
    print(f"next: {then}")
    return EXIT_DONE


def say_json(value: Any) -> None:
    """One line of strict JSON on stdout."""
    print(json_text(value))


def summary(result: Mapping[str, Any]) -> list[str]:
    """One line per result; blocks such as `images.pretrained` become rows of a table."""
    lines = [
        f"{name.replace('_', ' '):>18}  {_value(name, result)}"
        for name in _SHOWN
        if isinstance(result.get(name), str | int | float | Path)
    ]
    for kind, methods in result.items():
        if isinstance(methods, Mapping):
            rows = [
                f"{kind:>10}  {method:<22} {_value('accuracy', block)}"
                for method, block in methods.items()
                if isinstance(block, Mapping) and isinstance(block.get("accuracy"), float | int)
            ]
            lines += rows
    return lines


def command(*words: object) -> str:
    """A command line to paste into a shell; words in capitals are for the user to fill."""
    return " ".join(shlex.quote(str(word)) for word in words if word is not None)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of equal length as aligned lines."""
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(widths[i]) for i, cell in enumerate(row)).rstrip() for row in rows]


def _value(name: str, result: Mapping[str, Any]) -> str:
    value = result[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if name in _SHARES and math.isfinite(value):
        interval = result.get(f"{name}_interval")
        between = f"  (95 %: {interval[0]:.1%} to {interval[1]:.1%})" if interval else ""
        return f"{value:.1%}{between}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _short(value: Any) -> str:
    """A finding on one line: `cat 31, dog 31`, or `2: cat/a.png: not an image, ...`."""
    if isinstance(value, Mapping):
        parts = [f"{key} {_part(item)}" for key, item in value.items()]
        return _first(parts) if parts else "none"
    if isinstance(value, list | tuple):
        return f"{len(value)}: {_first([_entry(item) for item in value])}" if value else "none"
    return str(value)


def _entry(value: Any) -> str:
    return ": ".join(map(_part, value.values())) if isinstance(value, Mapping) else _part(value)


def _part(value: Any) -> str:
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{key} {_part(item)}" for key, item in value.items()) + ")"
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return str(value)


def _first(parts: Sequence[str], most: int = 12) -> str:
    more = f", and {len(parts) - most} more (--json lists all)" if len(parts) > most else ""
    return ", ".join(parts[:most]) + more
