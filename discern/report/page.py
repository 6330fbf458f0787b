"""A run folder goes in; `report.html`, one file that needs no other, comes out."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from discern.files import write_bytes
from discern.report.attack import attacked
from discern.report.certainty import calibration, guard
from discern.report.comparison import comparison, label_counts
from discern.report.markup import Markup, join, tag
from discern.report.pictures import Album
from discern.report.records import Record, read_record
from discern.report.samples import (
    generated,
    reconstructions,
    unsure_predictions,
    wrong_predictions,
)
from discern.report.search import search
from discern.report.sections import (
    classes,
    commands,
    confusion,
    environment,
    learning,
    settings,
    summary,
)
from discern.report.words import duration, name

# nothing may be loaded and nothing may run, whatever a name in a data set says
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"

Section = Callable[[Record, Album], Markup | None]

# id -> title, section; a section that has nothing to show returns None and is left out
SECTIONS: dict[str, tuple[str, Section]] = {
    "summary": ("Summary", lambda record, album: summary(record)),
    "search": ("Search", lambda record, album: search(record)),
    "comparison": ("Comparison", lambda record, album: comparison(record)),
    "labels": ("Number of labels", lambda record, album: label_counts(record)),
    "learning": ("Learning curves", lambda record, album: learning(record)),
    "confusion": ("Confusion", lambda record, album: confusion(record)),
    "calibration": ("How sure", lambda record, album: calibration(record)),
    "guard": ("Unknown items", lambda record, album: guard(record)),
    "attack": ("Under attack", lambda record, album: attacked(record)),
    "classes": ("Classes", lambda record, album: classes(record)),
    "wrong": ("Wrong predictions", wrong_predictions),
    "unsure": ("Least sure", unsure_predictions),
    "generated": ("Generated samples", generated),
    "reconstructions": ("Reconstructions", reconstructions),
    "settings": ("Settings", lambda record, album: settings(record)),
    "environment": ("Environment", lambda record, album: environment(record)),
    "next": ("Next", lambda record, album: commands(record)),
}


def write_report(run_dir: Path | str) -> Path:
    """Write report.html beside the records it is made of, and return its path."""
    folder = Path(run_dir)
    path = folder / "report.html"
    write_bytes(path, report(read_record(folder)).encode())
    return path


def report(record: Record) -> str:
    """The page.  A pure function of the records and of the pictures in the folder."""
    album = Album(record.folder)
    shown = []
    for key, (title, section) in SECTIONS.items():
        content = section(record, album)
        if content is not None:
            shown.append((key, title, content))
    title = f"{name(record.verb)} \N{MIDDLE DOT} {record.folder.resolve().name}"
    skip = tag("a", "Skip to the results", href="#main", class_="skip")
    links = [tag("a", heading, href=f"#{key}") for key, heading, _ in shown]
    body = [
        tag(
            "section",
            tag("h2", heading, id=f"{key}-title"),
            content,
            id=key,
            aria_labelledby=f"{key}-title",
        )
        for key, heading, content in shown
    ]
    if not shown:
        body = [
            tag("section", tag("p", "This run has written no results yet."), class_="empty-page")
        ]
    page = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", f"{title} \N{EN DASH} Discern"),
            tag("style", Markup(_style())),
        ),
        tag(
            "body",
            skip,
            tag("header", _head(record, title), class_="top"),
            tag("nav", links, aria_label="Sections") if len(links) > 2 else None,
            tag("main", body, id="main"),
            tag("footer", _foot(album)),
        ),
        lang="en",
    )
    return f"<!doctype html>\n{page}\n"


def _head(record: Record, title: str) -> Markup:
    facts: list[Any] = []
    started = record.config.get("started")
    if isinstance(started, (int, float)) and 0 < started < 4e9:
        facts.append(time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(started)))
    seconds = duration(record.results.get("seconds"))
    if record.results.get("seconds") is not None:
        facts.append(f"took {seconds}")
    versions = record.config.get("versions")
    if isinstance(versions, dict) and versions.get("discern"):
        facts.append(f"Discern {versions['discern']}")
    return join(
        tag("p", "Discern", class_="brand"),
        tag("h1", title),
        tag("p", " \N{MIDDLE DOT} ".join(str(fact) for fact in facts), class_="facts")
        if facts
        else None,
    )


def _foot(album: Album) -> Markup:
    words = "Intervals are 95 % Wilson intervals over the test items. This page loads nothing."
    if album.skipped:
        words += f" {album.skipped} pictures are too large for this page and lie in the run folder."
    return tag("p", words)


def _style() -> str:
    return resources.files("discern.report").joinpath("style.css").read_text(encoding="utf-8")
