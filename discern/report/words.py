"""Numbers and names as a reader wants them: JSON values go in, short texts come out."""

from __future__ import annotations

import math
from typing import Any

NAMES = {
    "pretrained": "Pre-trained",
    "scratch": "From scratch",
    "color_histogram": "Colour histogram",
    "hog_linear": "HOG + linear SVM",
    "hog_svm": "HOG + RBF SVM",
    "motion": "All motion features",
    "motion_hog": "HOG over time",
    "motion_difference": "Frame-difference HOG",
    "motion_flow": "Optical-flow histogram",
    "images": "Images",
    "clips": "Clips",
    "knn": "k-NN probe",
    "frechet_images": "Fr\N{LATIN SMALL LETTER E WITH ACUTE}chet distance, images",
    "frechet_clips": "Fr\N{LATIN SMALL LETTER E WITH ACUTE}chet distance, clips",
    "frechet_of_real_images": "Fr\N{LATIN SMALL LETTER E WITH ACUTE}chet, real images",
    "frechet_of_real_clips": "Fr\N{LATIN SMALL LETTER E WITH ACUTE}chet, real clips",
    "kernel_images": "Kernel distance, images",
    "kernel_clips": "Kernel distance, clips",
    "kernel_of_real_images": "Kernel, real images",
    "kernel_of_real_clips": "Kernel, real clips",
    "max_softmax": "Maximum softmax",
    "stopped_by": "Stopped by",
    "ece": "Calibration error (ECE)",
    "macro_f1": "Macro F1",
}
OURS = ("pretrained", "scratch", "model")
STOPPED = {
    "target": "target reached",
    "minutes": "time was up",
    "steps": "steps were done",
    "patience": "no more progress",
    "signal": "stopped by a signal",
    "diverged": "training diverged",
}
NONE = "\N{EN DASH}"


def name(key: str) -> str:
    """A method, a kind or a key of results.json as a title."""
    return NAMES.get(key) or key.replace("_", " ").strip().capitalize() or key


def number(value: Any) -> float | None:
    """A finite number, or None for all else; true and false are no numbers."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer beyond any float
        return None


def percent(value: Any, digits: int = 1) -> str:
    """0.538 -> 53.8 %"""
    share = number(value)
    return NONE if share is None else f"{100 * share:.{digits}f} %"


def interval_of(value: Any) -> tuple[float, float] | None:
    """Two finite numbers in order, or None."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return None
    low, high = number(value[0]), number(value[1])
    return None if low is None or high is None or low > high else (low, high)


def interval(value: Any) -> str:
    """[0.507, 0.568] -> 50.7 to 56.8"""
    bounds = interval_of(value)
    return NONE if bounds is None else f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}"


def count(value: Any) -> str:
    """12345 -> 12,345"""
    whole = number(value)
    return NONE if whole is None else f"{whole:,.0f}"


def duration(value: Any) -> str:
    """Seconds: 0.42 s, 12 s, 3 min 20 s, 2 h 5 min"""
    seconds = number(value)
    if seconds is None or seconds < 0:
        return NONE
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds >= 0.001 else "under 1 ms"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        rest = f" {whole % 60} s" if whole % 60 else ""
        return f"{whole // 60} min{rest}"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def microseconds(value: Any) -> str:
    """251 -> 251 µs, 7498 -> 7.50 ms"""
    time = number(value)
    if time is None:
        return NONE
    if time < 1000:
        return f"{time:.0f} \N{MICRO SIGN}s"
    return f"{time / 1000:.3g} ms" if time < 1e6 else f"{time / 1e6:,.3g} s"


def short(value: float) -> str:
    """A number on an axis: at most three digits that matter."""
    if value == 0:
        return "0"
    if abs(value) >= 1e5 or abs(value) < 1e-3:
        return f"{value:.1e}".replace("e+0", "e").replace("e-0", "e-")
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
