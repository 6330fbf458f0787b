"""Sections with pictures: a record and an album go in, markup comes out, None where none is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from discern.report.markup import Markup, join, tag
from discern.report.pictures import Album
from discern.report.records import Record
from discern.report.tables import fold, table
from discern.report.words import count, number, percent

SHOWN_WRONG = 48
LISTED_WRONG = 20
HEAT = " In colours: where the answer comes from, the brightest most."
SUFFIXES = (".png", ".gif", ".webp", ".jpg", ".mp4")


def wrong_predictions(record: Record, album: Album) -> Markup | None:
    """The surest mistakes, with their pictures."""
    rows = [row for row in record.predictions if "label" in row and "predicted" in row]
    wrong = [row for row in rows if row["label"] != row["predicted"]]
    if not rows:
        return None
    if not wrong:
        return tag("p", f"None: all {count(len(rows))} predictions are right.", class_="lead")
    wrong.sort(key=lambda row: -(number(row.get("probability")) or 0.0))
    cards: list[Markup] = []
    listed: list[list[object]] = []
    for row in wrong:
        picture = None
        if row.get("thumbnail") and len(cards) < SHOWN_WRONG:
            alt = f"{row.get('key', 'item')}: {row['label']}, predicted {row['predicted']}"
            picture = album.picture(row["thumbnail"], alt, width=132)
        if picture is not None:
            cards.append(_card(row, picture))
        elif len(listed) < LISTED_WRONG:
            listed.append(_line(row))
    lead = f"{count(len(wrong))} of {count(len(rows))} predictions are wrong; the surest first."
    if cards:
        lead += HEAT
    head = ["Item", "True", "Predicted", "Probability"]
    rest = table(head, listed, "Wrong predictions", numeric=3) if listed else None
    if rest is not None and cards:
        rest = fold("More, without pictures", rest)
    return join(
        tag("p", lead, class_="lead"), tag("div", cards, class_="gallery") if cards else None, rest
    )


def unsure_predictions(record: Record, album: Album) -> Markup | None:
    """Right answers that were nearly wrong, with their pictures."""
    right = [row for row in record.predictions if row.get("label") == row.get("predicted")]
    right = [row for row in right if row.get("thumbnail")]
    right.sort(key=lambda row: number(row.get("probability")) or 0.0)
    cards = []
    for row in right[:SHOWN_WRONG]:
        alt = f"{row.get('key', 'item')}: {row['label']}, barely"
        picture = album.picture(row["thumbnail"], alt, width=132)
        if picture is not None:
            cards.append(_card(row, picture))
    if not cards:
        return None
    lead = "Right, and nearly not: what the model was least sure of."
    return join(tag("p", lead + HEAT, class_="lead"), tag("div", cards, class_="gallery"))


def generated(record: Record, album: Album) -> Markup | None:
    """Sheets of what the generator makes from noise."""
    found = []
    for stem, title in (("images", "Images"), ("clips", "Clips")):
        names = [f"samples/generated_{stem}{suffix}" for suffix in SUFFIXES]
        found += _first(album, names, title, f"Generated {stem}, a sheet of samples")
    if not found:
        return None
    lead = "Made by the generator from noise alone; no picture here is from the data."
    return join(tag("p", lead, class_="lead"), tag("div", found, class_="sheets"))


def reconstructions(record: Record, album: Album) -> Markup | None:
    """What the generator paints into hidden patches."""
    try:
        paths = sorted((record.folder / "samples").glob("reconstruction_*"))
    except OSError:
        return None
    found = []
    for path in paths:
        if path.suffix not in SUFFIXES:
            continue
        title = path.stem.removeprefix("reconstruction_").replace("_", " ").capitalize()
        alt = f"Reconstructions, {title}: original, masked, reconstruction"
        picture = album.picture(Path("samples") / path.name, alt, width=400)
        if picture is not None:
            columns = tag(
                "div",
                [tag("span", x) for x in ("original", "masked", "reconstruction")],
                class_="thirds",
            )
            found.append(
                tag(
                    "figure",
                    tag("div", columns, picture, class_="triple"),
                    tag("figcaption", title),
                )
            )
    if not found:
        return None
    lead = (
        "Left the original, in the middle what the encoder saw, right what the generator painted."
    )
    return join(tag("p", lead, class_="lead"), tag("div", found, class_="sheets"))


def _first(album: Album, names: Sequence[str], title: str, alt: str) -> list[Markup]:
    for one in names:
        picture = album.picture(one, alt, width=520)
        if picture is not None:
            return [tag("figure", picture, tag("figcaption", title))]
    return []


def _card(row: dict[str, Any], picture: Markup) -> Markup:
    sure, right = number(row.get("probability")), row["label"] == row["predicted"]
    return tag(
        "figure",
        tag("div", picture, class_="frame"),
        tag(
            "figcaption",
            tag("span", row["predicted"], class_="label" if right else "predicted"),
            tag("span", percent(sure, 0), class_="sure") if sure is not None else None,
            None if right else tag("span", "is ", tag("b", row["label"]), class_="truth"),
            tag("span", row.get("key", ""), class_="key"),
        ),
        class_="card",
    )


def _line(row: dict[str, Any]) -> list[object]:
    return [row.get("key", ""), row["label"], row["predicted"], percent(row.get("probability"))]
