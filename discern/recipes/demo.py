"""`discern demo`: the whole pipeline on embedded real data, on a CPU, without a download.

Writes the digits and the moving digits, pre-trains one model on both, tunes it with 10 labels per
class to a target, compares it with the same encoder from scratch and with hand-crafted features,
draws samples, reconstructs one image and one clip, and writes the report.  About three minutes on
two cores, up to twice as long on slow ones.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from discern import config as configuration
from discern.clip import Kind
from discern.data.synthetic import write_digits
from discern.log import Run
from discern.recipes import images
from discern.recipes.compare import compare_at, finished
from discern.recipes.fit import seconds_per_step
from discern.recipes.generate import generate, reconstruct
from discern.recipes.pretrain import pretrain
from discern.report.page import write_report
from discern.report.records import read_object

MINUTES = 2.5  # of training; reading, fitting and reporting come on top
QUICK = 0.055  # seconds of a tuning step for which these minutes are enough
MOST_MINUTES = 5.0  # on a slow machine
CANVAS = ["data.preprocess.height=32", "data.preprocess.width=32"]
# from scratch gets as much as these two together
PRETRAIN_SHARE, TUNE_SHARE = 1 / 3, 1 / 6
LABELS = 10  # per class
SIZE = "hybrid_pico"  # whose steps are so cheap that a minute holds hundreds
TARGET = 0.95

# digits and directions have a left and a right
SETTINGS = [
    "view.flip=0",
    "masked.flip=0",
    "strong.flip=0",
    "view.hue=0",
    "view.saturation=0",
    "view.grey=0",
    "view.scale=[0.6,1.0]",
    # which digit moves is a part of the class, and no room is behind it
    "view.backdrop=0",
    "strong.backdrop=0",
    "data.preprocess.stored_frames=12",
]
PRETRAIN_SETTINGS = [
    # the generator has few steps: twice the rate, but for the encoder's matrices
    "optim.rate=0.004",
    "optim.matrix_factor=25",
    "loop.evaluations=3",
    "data.loader.batch_size=32",
    "data.loader.clip_share=0.5",
    "masked.scale=[1.0,1.0]",
    # a minute holds few steps: two views each, and every term in all of them
    "masked_gan.views=2",
    "masked_gan.adversary_chance=1.0",
    "masked_gan.code_chance=1.0",
    "masked_gan.code_share=1.0",
    "masked_gan.code=4.0",
    "masked_gan.opening=0.0",
    "masked_gan.adversary_start=0.75",
    "masked_gan.adversary_share=0.25",
    "masked_gan.mask_ratio=0.5",
    "masked_gan.noise_share=0.5",
]
TUNE_SETTINGS = [
    "strong.rotate=10",
    "strong.scale=[0.7,1.0]",
    "data.val=0.25",
    "data.loader.batch_size=64",
]


def run(out: Path | str, minutes: float | None = None) -> dict[str, Any]:
    """The demo in `out`; an unfinished one is continued.

    Raises UsageError when the folder is in use.
    """
    started = time.monotonic()
    minutes = minutes or _fair_minutes(Path(out))
    with Run.open(Path(out), "demo", {"minutes": minutes}) as run:
        data = run.out / "data"
        if not (data / "complete").exists():
            shutil.rmtree(data, ignore_errors=True)
            write_digits(data)
            (data / "complete").touch()
        base = run.out / "pretrained"
        if finished(base) is None:
            pretrain(
                [str(data)],
                base,
                size=SIZE,
                minutes=PRETRAIN_SHARE * minutes,
                overrides=[*SETTINGS, *PRETRAIN_SETTINGS],
            )
        results: dict[str, Any] = compare_at(
            [str(data)],
            run.out,
            LABELS,
            minutes=TUNE_SHARE * minutes,
            base=base,
            pretrain_minutes=PRETRAIN_SHARE * minutes,
            overrides=[*SETTINGS, *TUNE_SETTINGS],
            target=TARGET,
        )
        tuned = run.out / f"pretrained-{LABELS}"
        _show(run.out, tuned, base, data)
        tuning = finished(tuned) or {}
        results |= {
            name: tuning.get(name) for name in ("stopped_by", "target", "validation_accuracy")
        }
        results |= {"verb": "demo", "labels_per_class": LABELS, "model": str(tuned / "model")}
        results["seconds"] = time.monotonic() - started
        run.results(results)
        results["report"] = str(write_report(run.out))
    return results


def _fair_minutes(out: Path) -> float:
    """The usual minutes, more of them on a slow or busy machine; those of an unfinished demo."""
    settings = read_object(out / "config.json").get("settings")
    if isinstance(settings, dict) and "minutes" in settings:
        return float(settings["minutes"])
    config = images.sized(images.supervised(), SIZE)
    config = configuration.override(config, [*SETTINGS, *TUNE_SETTINGS, *CANVAS])
    seconds = seconds_per_step(config, Kind.IMAGE)
    minutes = min(MOST_MINUTES, MINUTES * max(1.0, seconds / QUICK))
    if minutes > MINUTES:
        print(f"a slow or busy machine: {minutes:.1f} minutes of training, not {MINUTES:g}")
    return minutes


def _show(out: Path, tuned: Path, base: Path, data: Path) -> None:
    """What the report shows beside numbers: samples, reconstructions, curves, wrong predictions."""
    samples = out / "samples"
    samples.mkdir(exist_ok=True)
    for name in ("predictions.jsonl", "samples/wrong", "samples/unsure"):
        if (tuned / name).is_dir():
            shutil.copytree(tuned / name, out / name, dirs_exist_ok=True)
        elif (tuned / name).exists():
            shutil.copy(tuned / name, out / name)
    for picture in (base / "samples").iterdir():
        if picture.is_file():
            shutil.copy(picture, samples / picture.name)
    generate(tuned, 16, out / "generated.png", None, 0)
    generate(tuned, 9, out / "generated.mp4", None, 0)
    image, clip = next(data.glob("test/*/*.png")), next(data.glob("test/*/*.mp4"))
    reconstruct(tuned, image, out / "reconstruction.png", 0.6, 0)
    reconstruct(tuned, clip, out / "reconstruction.mp4", 0.6, 0)
    lines = []
    for folder, phase in ((base, "pretrain"), (tuned, "tune")):
        for line in (folder / "log.jsonl").read_text().splitlines():
            lines.append(line.rstrip()[:-1] + f', "phase": "{phase}"}}')
    (out / "log.jsonl").write_text("\n".join(lines) + "\n")
