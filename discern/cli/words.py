"""What the user typed, checked before any slow import: names of files, models, shares, lists."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from discern.errors import DataError, UsageError
from discern.shipped import SHIPPED

Word = TypeVar("Word", bound=str)

_IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_CLIPS = (".mp4", ".m4v", ".mkv", ".avi", ".mov", ".webm", ".mpg", ".mpeg")


def existing(name: str | Path, what: str) -> Path:
    """The path, or a UsageError that names the nearest thing that does exist."""
    path = Path(name).expanduser()
    if path.exists():
        return path
    raise UsageError(f"{what} {name}: no such file or folder{_nearest(path)}")


def sources(names: Sequence[str]) -> list[str]:
    """Sources as typed; plain local names must exist, URLs and globs are left to the reader."""
    for name in names:
        if "://" not in name and not any(sign in name for sign in "*?["):
            existing(name, "source")
    return list(names)


def media(names: Sequence[str | Path]) -> list[Path]:
    """Images and clips as typed; of a folder all that lie in it, by their suffix."""
    found: list[Path] = []
    for name in names:
        path = existing(name, "file")
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(one for one in path.rglob("*") if one.suffix.lower() in (*_IMAGES, *_CLIPS))
        if not inside:
            raise DataError(f"{path}: no image or clip in it")
        found += inside
    return found


def model(name: str | Path) -> Path:
    """A run folder, a model folder or the name of weights that ship with the package.

    A picture in its place means that the order was wrong.
    """
    if not Path(name).exists() and str(name) in SHIPPED:
        return Path(name)
    path = existing(name, "model")
    if path.suffix.lower() in (*_IMAGES, *_CLIPS):
        raise UsageError(f"{path} is no model: the model comes first, then the files")
    return path


def start(name: str) -> str:
    """A model of ours or a public encoder to start from, as typed."""
    if not name.startswith(("timm:", "hf:")):
        model(name)
    return name


def share(value: float | None, flag: str) -> float | None:
    """A number in (0, 1]; 95 is a frequent slip for 0.95."""
    if value is None or 0 < value <= 1:
        return value
    hint = f"write {value / 100:g} for {value:g} %" if 1 < value <= 100 else "write 0.9 for 90 %"
    raise UsageError(f"{flag} {value:g}: it is a share between 0 and 1; {hint}")


def positive(value: float | None, flag: str) -> float | None:
    """A number above 0."""
    if value is None or 0 < value < float("inf"):
        return value
    raise UsageError(f"{flag} {value:g}: it must be more than 0, for example {flag} 5")


def size(text: str, flag: str) -> float:
    """A size such as 8/255 or 0.5."""
    top, _, bottom = text.partition("/")
    try:
        value = float(top) / float(bottom or 1)
    except (ValueError, ZeroDivisionError):
        value = 0.0
    if not 0 < value < float("inf"):
        raise UsageError(f"{flag} {text}: write 8/255 or 0.5, of pixels in [0, 1]")
    return value


def harden(text: str) -> list[str]:
    """`linf:8/255` or `l2:0.5` as settings of `train`."""
    norm, _, eps = text.partition(":")
    if norm not in ("linf", "l2"):
        raise UsageError(f"--harden {text}: write linf:8/255 or l2:0.5, of pixels in [0, 1]")
    return ["objective=hardened", f"harden.norm={norm}", f"harden.eps={size(eps, '--harden')!r}"]


def label_counts(text: str) -> list[int | str]:
    """`10,100,all` as numbers of labels per class; `all` stays a word."""
    counts: list[int | str] = []
    for part in (piece.strip() for piece in text.split(",")):
        if part == "all":
            counts.append(part)
        elif part.isdecimal() and int(part) > 0:
            counts.append(int(part))
        else:
            raise UsageError(f"--labels {text}: write numbers and `all`, for example 10,100,all")
    return counts


def one_of(word: str, choices: Sequence[Word], flag: str) -> Word:
    """One of a few words."""
    for choice in choices:
        if word == choice:
            return choice
    near = difflib.get_close_matches(word, choices, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(choices)}"
    raise UsageError(f"{flag} {word}: {hint}")


def _nearest(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f" (there is no folder {folder})"
    near = difflib.get_close_matches(path.name, sorted(p.name for p in folder.iterdir()), n=1)
    return f"; did you mean {folder / near[0]}?" if near else f" in {folder.resolve()}"
