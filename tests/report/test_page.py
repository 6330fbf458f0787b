"""The page as a whole: what is on it, that it stands alone, and that no name can act in it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from discern.report.page import SECTIONS, write_report

EVIL = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onload='alert(1)",
    "</style><script>alert(2)</script>",
    "a&b",
    "\u202egnp.exe",
    "half \ud800 a letter",
]


class Page(HTMLParser):
    """Collects elements, checks that they nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def ids(self) -> set[str | None]:
        return {attrs["id"] for _, attrs in self.elements if "id" in attrs}


def _page(folder: Path) -> tuple[str, Page]:
    text = write_report(folder).read_text(encoding="utf-8")
    return text, Page(text)


def test_a_whole_run_has_every_section(run: Path) -> None:
    text, page = _page(run)
    assert set(SECTIONS) - {"search", "attack"} <= page.ids()  # of other verbs
    for words in (
        "80.0 %", "75.0 to 84.0", "251 µs", "3 min 20 s", "HOG + RBF SVM", "target reached",
        "20.0 points above training from scratch", "points above the best hand-crafted method",
        "20.0 points below the best hand-crafted method", "within the intervals",
        "backbone.width", "2.13.0", "discern predict &#x27;runs/a run/model&#x27;", "2023-11-14",
    ):  # fmt: skip
        assert words in text, words


def test_it_stands_alone(run: Path) -> None:
    text, page = _page(run)
    for tag, attrs in page.elements:
        assert tag not in ("script", "link", "iframe", "object", "form", "base")
        for name in ("src", "href"):
            value = attrs.get(name)
            assert value is None or value.startswith(("data:image/", "data:video/", "#")), value
        assert not [name for name in attrs if name.startswith("on")]
    policy = [a["content"] for _, a in page.elements if "http-equiv" in a]
    assert policy and (policy[0] or "").startswith("default-src 'none'")
    assert not re.search(r"url\(|@import", text)


def test_it_is_accessible(run: Path) -> None:
    _, page = _page(run)
    for tag, attrs in page.elements:
        if tag == "img":
            assert attrs["alt"]
        if tag == "svg":
            assert attrs.get("aria-label") or attrs.get("aria-hidden") == "true"
        if tag == "html":
            assert attrs["lang"] == "en"
        if tag == "a":
            assert (attrs["href"] or "").removeprefix("#") in page.ids()
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_names_cannot_act(run: Path) -> None:
    rows = {name: {"recall": 0.5, "support": 1, "precision": 1, "f1": 1} for name in EVIL}
    size = len(EVIL)
    flat = {"accuracy": 0.5, "per_class": rows, "samples": size, "verb": EVIL[0], "model": EVIL[2]}
    flat |= {"confusion": [[1] * size for _ in EVIL], "stopped_by": EVIL[1], "target": EVIL[1]}
    flat["knn"] = {EVIL[0]: 0.5}
    flat["images"] = {name: {"accuracy": 0.5} for name in EVIL}
    (run / "results.json").write_text(json.dumps(flat))
    (run / "config.json").write_text(
        json.dumps({"settings": {EVIL[3]: EVIL}, "versions": {EVIL[0]: 1}})
    )
    log = [{"minutes": i, "phase": EVIL[1], EVIL[0]: i, "event": EVIL[3]} for i in range(3)]
    (run / "log.jsonl").write_text("\n".join(map(json.dumps, log)))
    wrong = {"key": EVIL[1], "label": EVIL[0], "predicted": EVIL[2], "probability": 1}
    lines = [json.dumps(wrong | {"thumbnail": "samples/wrong/0001.png"}), json.dumps(wrong)]
    (run / "predictions.jsonl").write_text("\n".join(lines))
    text, page = _page(run)
    assert {"summary", "comparison", "confusion", "wrong", "settings", "learning"} <= page.ids()
    assert "<script" not in text and "\u202e" not in text
    for tag, attrs in page.elements:
        assert tag not in ("script", "b0rk")
        assert not [name for name in attrs if name.startswith("on")]
        assert tag != "img" or (attrs["src"] or "").startswith("data:image/")
    assert len([tag for tag, _ in page.elements if tag == "style"]) == 1


def test_flat_results_and_blocks_of_one_model(run: Path) -> None:
    results = json.loads((run / "results.json").read_text())
    flat: dict[str, Any] = results["images"]["pretrained"]
    (run / "results.json").write_text(json.dumps(flat | {"verb": "train", "seconds": 12}))
    text, page = _page(run)
    assert "comparison" not in page.ids() and "Calibration error" in text
    both = flat | {"images": flat, "clips": results["clips"]["pretrained"]}
    (run / "results.json").write_text(json.dumps(both))
    text, page = _page(run)
    assert "comparison" not in page.ids()
    assert text.count('class="hero"') == 3  # all, images, clips


def test_an_empty_folder_has_a_page(tmp_path: Path) -> None:
    text, page = _page(tmp_path)
    assert "no results yet" in text and not page.ids() & set(SECTIONS)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"images": 3, "accuracy": "x"}',
     b'{"accuracy": NaN, "images": {"a": {"accuracy": Infinity}}, "seconds": 1e999}',
     b'{"accuracy": 1, "confusion": [[1, 2]], "per_class": [], "accuracy_interval": [2]}',
     b'{"accuracy": 7, "accuracy_interval": [-3, 9], "target": 5, "per_class": {"a": 1},'
     b' "confusion": [["x"]], "samples": true, "seconds": -1, "labels": {"1": 1, "2": 2}}'],
)  # fmt: skip
def test_broken_records_do_not_break_the_page(run: Path, content: bytes) -> None:
    for name in ("results.json", "config.json", "log.jsonl", "predictions.jsonl"):
        before = (run / name).read_bytes()
        (run / name).write_bytes(content)
        text, _ = _page(run)
        words = re.sub(r"base64,[^\"]*", "", text)
        if name != "config.json":  # settings are shown as they are
            assert not re.search(r"\b(nan|inf)\b", words, re.IGNORECASE)
        (run / name).write_bytes(before)


def test_thumbnails_never_leave_the_folder(run: Path) -> None:
    secret = run.parent / "secret.png"
    secret.write_bytes((run / "samples" / "generated_images.png").read_bytes())
    (run / "link.png").symlink_to(secret)
    (run / "text.png").write_text("<svg onload=alert(1)>")
    row = {"label": "a", "predicted": "b", "probability": 0.5}
    names = ["../secret.png", str(secret), "link.png", "text.png", "samples", "a\0b", 7, ""]
    lines = [json.dumps(row | {"thumbnail": name}) for name in names]
    (run / "predictions.jsonl").write_text("\n".join(lines))
    text, _ = _page(run)
    assert 'class="card"' not in text
    assert "8 of 8 predictions are wrong" in text


def test_imports_no_torch() -> None:
    code = "import sys, discern.report.page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
