"""The page in a real browser: a picture, a clip, a bomb and a text, and what a person then sees."""

from __future__ import annotations

import io
import json
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
from tests.serve.test_process import serving
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


@pytest.fixture
def full(model: Path, tmp_path: Path) -> Iterator[Any]:
    """A page with all tabs: a gallery that may be written, and a run."""
    from playwright.sync_api import sync_playwright

    run = tmp_path / "run"
    (run / "samples").mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"verb": "pretrain"}))
    rows = [{"step": i, "minutes": i / 9, "progress": i / 90, "view": 5 / i} for i in range(1, 61)]
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Image.new("RGB", (64, 32), (200, 90, 40)).save(run / "samples" / "generated_images.png")
    more = ("--gallery", str(tmp_path / "g"), "--may-enroll", "--watch", str(run))
    with serving(model, *more) as (_, port), sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        one = browser.new_page(viewport={"width": 390, "height": 800})
        one.goto(f"http://127.0.0.1:{port}/")
        one.get_by_role("tab", name="Gallery").wait_for()
        yield one
        browser.close()


def test_people_are_enrolled_and_forgotten_on_the_page(full: Any, tmp_path: Path) -> None:
    for seed in (1, 2):
        (tmp_path / f"{seed}.png").write_bytes(png(seed))
    (tmp_path / "note.txt").write_text("hello")
    full.get_by_role("tab", name="Gallery").click()
    full.get_by_text("Nobody yet").wait_for()
    full.fill("#name", "Ann <b>B</b>")  # a name is a text, and nothing else
    full.set_input_files("#pictures", [str(tmp_path / n) for n in ("1.png", "2.png", "note.txt")])
    full.get_by_role("button", name="Enrol").click()
    full.get_by_text("2 of 3 enrolled as Ann <b>B</b>.").wait_for()
    full.get_by_text("note.txt: no picture or clip").wait_for()
    full.locator("#people li", has_text="2 pictures").wait_for()
    full.screenshot(path=str(tmp_path / "gallery.png"))
    full.get_by_role("tab", name="Ask").click()
    _send(full, tmp_path / "2.png")
    full.locator("#who .answer", has_text="Ann <b>B</b>").wait_for(timeout=30_000)
    full.get_by_role("tab", name="Gallery").click()
    full.get_by_role("button", name="Remove Ann <b>B</b>").click()
    full.get_by_text("is forgotten").wait_for()
    assert full.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_run_is_seen_as_it_trains(full: Any, tmp_path: Path) -> None:
    full.get_by_role("tab", name="Ask").focus()
    for _ in range(2):  # by the arrows
        full.keyboard.press("ArrowRight")
    assert full.locator("#panel-training").is_visible()
    full.get_by_text("step 60").wait_for()
    assert full.locator("#bar").get_attribute("aria-valuenow") == "67"
    full.get_by_role("img", name="view, from 5.00 to 0.0833").wait_for()
    full.get_by_alt_text("generated images").wait_for()
    line = {"step": 61, "minutes": 7.0, "progress": 0.8, "view": 0.05}
    with open(tmp_path / "run" / "log.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")
    full.get_by_text("step 61").wait_for(timeout=10_000)  # by itself
    full.screenshot(path=str(tmp_path / "training.png"))
    (tmp_path / "run" / "results.json").write_text(json.dumps({"stopped_by": "minutes"}))
    full.get_by_text("finished, by minutes").wait_for(timeout=10_000)
    assert full.evaluate("document.documentElement.scrollWidth <= innerWidth")
