"""Markup, words, curves and plots one by one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from discern.report.comparison import verdict
from discern.report.curves import curves_by_phase, is_share
from discern.report.markup import Markup, join, tag
from discern.report.pictures import Album, media_type
from discern.report.plots import POINTS, Bar, Curve, bars, curve, heat_map
from discern.report.records import Block, blocks_of, read_record
from discern.report.tables import comparison_table, confused_pairs, flatten
from discern.report.words import duration, interval, microseconds, percent, short


def test_markup_escapes_all_but_markup() -> None:
    made = tag(
        "p", "<b>", Markup("<i></i>"), None, ["&", 3], class_="a'b\"", data_x=1.50, open=True
    )
    assert made == ('<p class="a&#x27;b&quot;" data-x="1.5" open>&lt;b&gt;<i></i>&amp;3</p>')
    assert join("a", None, "\x00\u202e") == "a\ufffd\ufffd"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.42 s"), (12, "12 s"), (59.7, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min"),
     (None, "–"), (float("nan"), "–"), (True, "–")],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_numbers() -> None:
    assert percent(0.5384) == "53.8 %" and percent("x") == "–"
    assert interval([0.507, 0.568]) == "50.7 to 56.8" and interval([0.6, 0.5]) == "–"
    assert microseconds(251.4) == "251 µs" and microseconds(7498) == "7.5 ms"
    assert short(0.00012) == "1.2e-4" and short(1234.5) == "1,234" and short(0) == "0"


def test_curves_are_every_number_by_phase() -> None:
    log = [
        {"step": 1, "minutes": 0.1, "epoch": 0, "phase": "pretrain", "rec": 3.0, "knn": 0.2},
        {"step": 2, "minutes": 0.2, "epoch": 0, "phase": "pretrain", "rec": float("nan")},
        {"step": 3, "minutes": 0.3, "epoch": 1, "phase": "pretrain", "rec": 1.0, "ok": True},
        {"step": 1, "verb": "train", "accuracy": 0.5, "note": "text"},
    ]
    found = curves_by_phase(log)
    assert list(found["pretrain"]) == ["knn", "rec"]
    assert found["pretrain"]["rec"].x == [0.1, 0.3] and found["pretrain"]["rec"].y == [3.0, 1.0]
    assert found["train"]["accuracy"].unit == "steps"
    assert is_share("accuracy", [0.5]) and not is_share("rec", [0.5])


def test_a_long_curve_is_thinned_and_keeps_its_end() -> None:
    drawn = curve(Curve(label="loss", x=range(10_000), y=[float(i) for i in range(10_000)]))
    assert drawn.split('points="')[1].split('"')[0].count(",") == POINTS + 1
    assert "9,999" in drawn  # said in words


@pytest.mark.parametrize("y", [[1.0], [2.0, 2.0], [0.0, 1e-300], [-1e29, 1e29], [-5.0, 3.0]])
def test_axes_of_odd_values(y: list[float]) -> None:
    drawn = curve(Curve(label="x", x=list(range(len(y))), y=y))
    assert "nan" not in drawn and "inf" not in drawn


def test_bars_say_their_values() -> None:
    drawn = bars([Bar(label="ours", value=0.8, interval=(0.7, 0.9))], "Accuracy", target=0.95)
    assert "ours 80.0 %" in drawn and drawn.count('class="whisker"') == 3
    assert drawn.count('class="target"') == 1


def test_the_line_of_the_target_is_under_the_values() -> None:
    drawn = bars(
        [Bar(label=str(value), value=value) for value in (0.5, 0.9)], "Accuracy", target=0.95
    )
    assert drawn.count('class="target"') == 1 and drawn.count('class="value"') == 2
    assert drawn.rindex('class="bar') < drawn.index('class="target"') < drawn.index('class="value"')


def test_heat_map_and_pairs() -> None:
    counts = [[5, 0, 1], [3, 7, 0], [0, 0, 0]]
    drawn = heat_map(counts, ["a", "b", "c"], "t")
    assert drawn.count("<rect") == 9 + 4
    assert "b, predicted a: 3 of 10" in drawn
    assert confused_pairs(counts, ["a", "b", "c"]) == [("b", "a", 3, 10), ("a", "c", 1, 6)]


def test_settings_are_flattened() -> None:
    assert flatten({"a": {"b": 1, "c": [1, 2]}, "d": None, "e": True, "f": {}}) == [
        ("a.b", "1"), ("a.c", "1, 2"), ("d", "none"), ("e", "true"), ("f", "none"),
    ]  # fmt: skip


def test_blocks() -> None:
    one, two = {"accuracy": 0.5}, {"accuracy": 0.6}
    found = blocks_of({**one, "images": one, "clips": {"motion": two, "odd": 3}})
    assert [(b.kind, b.method) for b in found] == [
        ("", "model"), ("images", "model"), ("clips", "motion"),
    ]  # fmt: skip


def test_the_verdict_claims_no_more_than_the_intervals_allow() -> None:
    def of(method: str, accuracy: float, half: float) -> Block:
        values = {"accuracy": accuracy, "accuracy_interval": [accuracy - half, accuracy + half]}
        return Block(kind="images", method=method, values=values)

    ours, scratch = of("pretrained", 0.8, 0.05), of("scratch", 0.6, 0.05)
    assert verdict([ours, scratch]) == (
        "Pre-trained: 80.0 %; 20.0 points above training from scratch."
    )
    assert verdict([ours, of("hog_svm", 0.82, 0.05), of("hog_linear", 0.5, 0.05)]) == (
        "Pre-trained: 80.0 %; 2.0 points below the best hand-crafted method (HOG + RBF SVM), "
        "within the intervals."
    )
    assert verdict([scratch, of("hog_svm", 0.7, 0.1)]).startswith("HOG + RBF SVM is the most")


def test_minutes_of_pre_training_stand_beside_those_of_tuning() -> None:
    values = {"accuracy": 0.8, "train_seconds": 60.0}
    known = Block(kind="images", method="pretrained", values=values | {"pretrain_seconds": 180.0})
    scratch = Block(kind="images", method="scratch", values=values | {"train_seconds": 240.0})
    table = comparison_table([known, scratch], "methods")
    assert ">3 min + 1 min<" in table and ">4 min<" in table
    assert "the same as training from scratch in as many minutes" in verdict([known, scratch])


def test_records_skip_broken_lines(run: Path) -> None:
    record = read_record(run)
    assert len(record.log) == 21 and record.verb == "compare"
    assert json.dumps(record.settings["backbone"]) == '{"width": 192}'


def test_album_is_full_at_some_point(run: Path) -> None:
    album = Album(run, left=10)
    assert album.picture("samples/generated_images.png", "x") is None and album.skipped == 1
    shown = Album(run).picture("samples/generated_images.png", "x", width=100)
    assert shown is not None and 'width="96" height="32" class="crisp"' in shown


def test_media_types() -> None:
    assert media_type(b"\0\0\0\x20ftypisom") == "video/mp4"
    assert media_type(b"RIFF\0\0\0\0WEBPVP8 ") == "image/webp"
    assert media_type(b"<svg onload=alert(1)>") is None
