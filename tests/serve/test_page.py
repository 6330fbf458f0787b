"""The page in a real browser: a picture, a clip, a bomb and a text, and what a person then sees."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.serve.test_app import model as model  # the fixture
from tests.serve.test_app import png
from tests.serve.test_process import server as server  # the fixture
from tests.test_docs import write_clip

pytest.importorskip("playwright", reason="playwright is missing, which drives the browser")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine"),
]


@pytest.fixture
def page(server: Any) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        one = browser.new_page(viewport={"width": 390, "height": 800})  # a phone
        one.goto(f"http://127.0.0.1:{server[1]}/")
        one.get_by_text("3 classes").wait_for()
        yield one
        browser.close()


def _send(page: Any, path: Path) -> None:
    page.set_input_files("#file", str(path))


def test_a_picture_and_a_clip_are_named_and_explained(page: Any, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png())
    write_clip(tmp_path / "x.mp4", np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)))
    for name, why in (("x.png", "#why img"), ("x.mp4", "#why video")):
        _send(page, tmp_path / name)
        page.wait_for_selector(why, timeout=60_000)
        assert page.inner_text("#classes .answer") in ("a", "b", "c", "unknown")
        assert page.locator("#classes li").count() == 3 and "%" in page.inner_text("#classes")
        assert page.inner_text("#said") == ""
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_bomb_and_a_text_are_told_apart(page: Any, tmp_path: Path) -> None:
    bomb = io.BytesIO()
    Image.new("1", (30_000, 20_000)).save(bomb, "PNG")
    (tmp_path / "bomb.png").write_bytes(bomb.getvalue())
    (tmp_path / "note.txt").write_text("hello")
    for name, told in (("bomb.png", "more pixels"), ("note.txt", "no picture or clip")):
        _send(page, tmp_path / name)
        page.get_by_text(told).wait_for(timeout=30_000)
        assert not page.is_visible("#result")


def test_it_works_by_keyboard(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    with page.expect_file_chooser(timeout=5_000):
        page.keyboard.press("Enter")
