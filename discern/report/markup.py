"""HTML and SVG by functions: names, attributes and children go in, escaped markup comes out."""

from __future__ import annotations

import html

VOID = {"img", "meta", "br", "source", "link"}


class Markup(str):
    """Text that is markup already.  Any other text is escaped when it becomes part of a page."""

    __slots__ = ()


def tag(element: str, /, *children: object, **attributes: object) -> Markup:
    """One element.  `class_` is class, `_` is `-`; None and False leave an attribute out."""
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if element in VOID:
        return Markup(f"<{element}{written}>")
    return Markup(f"<{element}{written}>{join(*children)}</{element}>")


def join(*children: object) -> Markup:
    """Children in a row: markup as it is, lists flattened, None left out, all else escaped."""
    parts = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Markup):
            parts.append(str(child))
        elif isinstance(child, (list, tuple)):
            parts.append(str(join(*child)))
        else:
            parts.append(html.escape(_clean(str(child)), quote=True))
    return Markup("".join(parts))


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    key = key.rstrip("_").replace("_", "-")
    if key == "viewbox":  # SVG's one name with a capital letter
        key = "viewBox"
    if value is True:
        return f" {key}"
    if isinstance(value, float):
        value = f"{value:.2f}".rstrip("0").rstrip(".")
    return f' {key}="{html.escape(_clean(str(value)), quote=True)}"'


def _clean(text: str) -> str:
    """Without control characters, half characters, and marks that turn the text around."""
    text = text.encode("utf-8", "replace").decode()
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
