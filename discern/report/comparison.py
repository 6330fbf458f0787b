"""Sections that set methods side by side: a record goes in, markup comes out, None without any."""

from __future__ import annotations

from collections.abc import Sequence

from discern.report.markup import Markup, join, tag
from discern.report.plots import Bar, bars
from discern.report.records import KINDS, Block, Record
from discern.report.tables import comparison_table, labels_table
from discern.report.words import OURS, name, number, percent


def comparison(record: Record) -> Markup | None:
    """Accuracy and time of all methods, by kind of input."""
    parts = []
    for kind in KINDS:
        blocks = [block for block in record.blocks if block.kind == kind]
        if len(blocks) < 2:
            continue
        drawn = [
            Bar(
                label=name(b.method),
                value=b.accuracy or 0.0,
                interval=b.interval,
                tone=_tone(b.method),
            )
            for b in blocks
        ]
        target = number(blocks[0].values.get("target"))
        title = f"Accuracy on {kind}"
        parts.append(
            tag(
                "div",
                tag("h3", name(kind)),
                tag("p", verdict(blocks), class_="lead"),
                tag("div", bars(drawn, title, target), class_="plot"),
                _legend({bar.tone for bar in drawn}, target),
                comparison_table(blocks, f"Methods on {kind}"),
                class_="part",
            )
        )
    return join(parts) if parts else None


def verdict(blocks: Sequence[Block]) -> str:
    """What may be said about the pre-trained model beside the others, and no more."""
    known = {block.method: block for block in blocks}
    ours = known.get("pretrained")
    peers = [block for block in blocks if block.method not in OURS]
    if ours is None:
        best = max(blocks, key=lambda block: block.accuracy or 0.0)
        return f"{name(best.method)} is the most accurate here, at {percent(best.accuracy)}."
    sentences = []
    if "scratch" in known:
        shared = " in as many minutes" if ours.values.get("pretrain_seconds") else ""
        sentences.append(_beside(ours, known["scratch"], f"training from scratch{shared}"))
    if peers:
        best = max(peers, key=lambda block: block.accuracy or 0.0)
        words = f"the best hand-crafted method ({name(best.method)})"
        sentences.append(_beside(ours, best, words))
    return f"Pre-trained: {percent(ours.accuracy)}" + "".join(f"; {s}" for s in sentences) + "."


def label_counts(record: Record) -> Markup | None:
    """Accuracy for each number of labels, where several were compared."""
    by_count = record.results.get("labels")
    if not isinstance(by_count, dict) or len(by_count) < 2:
        return None
    parts = []
    for kind in KINDS:
        shown = labels_table(by_count, kind, f"Accuracy on {kind} by number of labels per class")
        if shown is not None:
            parts += [tag("h3", name(kind)), shown]
    lead = tag("p", "Accuracy on the same test items, by labels per class.", class_="lead")
    return join(lead, parts) if parts else None


def _beside(ours: Block, other: Block, words: str) -> str:
    gap = 100 * ((ours.accuracy or 0.0) - (other.accuracy or 0.0))
    if abs(gap) < 0.05:
        return f"the same as {words}"
    text = f"{abs(gap):.1f} points {'above' if gap > 0 else 'below'} {words}"
    if ours.interval is None or other.interval is None:
        return text
    apart = ours.interval[0] > other.interval[1] or other.interval[0] > ours.interval[1]
    return text if apart else f"{text}, within the intervals"


def _legend(tones: set[str], target: float | None) -> Markup:
    words = {"ours": "pre-trained", "control": "from scratch", "peer": "hand-crafted"}
    marks = [
        tag("span", tag("i", class_=f"swatch {tone}"), text)
        for tone, text in words.items()
        if tone in tones
    ]
    marks.append(tag("span", tag("i", class_="swatch whisk"), "95 % interval"))
    if target is not None:
        marks.append(tag("span", tag("i", class_="swatch goal"), f"target {percent(target, 0)}"))
    return tag("p", marks, class_="legend")


def _tone(method: str) -> str:
    return {"pretrained": "ours", "model": "ours", "scratch": "control"}.get(method, "peer")
