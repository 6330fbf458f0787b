"""`discern generate` and `discern reconstruct`: a model and noise or a file in, pictures out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from discern.clip import Clip, Kind
from discern.data.images import write_image
from discern.data.layout import Sample, sample_to_record
from discern.data.limits import Limits
from discern.data.tfrecord import write_records
from discern.data.videos import write_video
from discern.errors import BadItem, DataError, UsageError
from discern.models.weights import Bundle, load_bundle
from discern.predict import model_frames, preprocessing, read_file
from discern.recipes.samples import CLIP_FPS, as_clip, draw, paint, sheet, walk

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
CLIPS = (".mp4", ".gif")
RECORDS = (".tfrecord", ".tfrecords")
COUNT_MOST = 10_000


def generate(
    model: Path | str,
    count: int,
    out: Path | str,
    label: str | None = None,
    seed: int = 0,
    *,
    between: bool = False,
) -> dict[str, Any]:
    """Draw `count` samples from noise: one sheet, or single files for a folder.

    With `between` they lie on the way from one sample to another, and a video shows an image that
    turns into another one.  An image or video file name is a sheet; a `.tfrecord` file holds them
    as Examples.  Raises UsageError for a model without a generator or an odd name.
    """
    bundle, out = _with_generator(model), Path(out)
    if count > COUNT_MOST:
        raise UsageError(f"--count {count}: at most {COUNT_MOST} at a time")
    suffix = out.suffix.lower()
    if suffix not in (*IMAGES, *CLIPS, *RECORDS, ""):
        raise UsageError(
            f"--out {out}: write a .png, .jpg, .webp, .mp4, .gif, .tfrecord or a folder"
        )
    preprocess = preprocessing(bundle)
    if between and count < 2:
        raise UsageError(f"--walk: a way has two ends at least, not --count {count}")
    frames = preprocess.frames if suffix in CLIPS and not between else 1
    shape = (frames, preprocess.height, preprocess.width)
    number = _class_number(bundle, label)
    make = walk if between else draw
    drawn = make(bundle.model, count, shape, seed, number)  # [N, T, H, W, 3]
    out.parent.mkdir(parents=True, exist_ok=True)
    if suffix in RECORDS:
        write_records(out, (_record(clip, label, place) for place, clip in enumerate(drawn)))
    elif suffix == "":
        out.mkdir(parents=True, exist_ok=True)
        for place, clip in enumerate(drawn):
            write_image(as_clip(clip), out / f"{place:05d}.png")
    elif between and suffix in CLIPS:
        write_picture(as_clip(drawn[:, 0]), out)
    else:
        write_picture(as_clip(sheet(drawn)), out)
    return {"verb": "generate", "count": count, "out": str(out), "seed": seed, "label": label}


def reconstruct(
    model: Path | str, file: Path | str, out: Path | str, mask: float = 0.75, seed: int = 0
) -> dict[str, Any]:
    """Hide `mask` of the patches, paint them anew; write original, seen and painted in a row.

    Raises UsageError, DataError (the file cannot be read).
    """
    bundle, out = _with_generator(model), Path(out)
    preprocess = preprocessing(bundle)
    try:
        clip = read_file(Path(file), preprocess, Limits())
    except BadItem as error:
        raise DataError(f"{file}: {error}") from None
    if out.suffix.lower() not in (*IMAGES, *CLIPS):
        raise UsageError(f"--out {out}: write a .png, .jpg, .webp, .mp4 or .gif")
    frames = model_frames(clip, preprocess)[None]  # [1, T, h, w, 3]
    seen, painted = paint(bundle.model, frames, mask, seed)
    row = sheet(np.concatenate([frames, seen, painted]), columns=3)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_picture(as_clip(row), out)
    apart = float(np.square((painted.astype(np.float64) - frames) / 255).mean())
    return {"verb": "reconstruct", "out": str(out), "mask": mask, "mean_squared_error": apart}


def _with_generator(model: Path | str) -> Bundle:
    bundle = load_bundle(model)
    if bundle.model.generator is None:
        raise UsageError(
            f"{bundle.path}: trained from scratch, it has no generator: "
            "use a model of `discern pretrain`, "
            "or one tuned with --from"
        )
    return bundle


def _class_number(bundle: Bundle, label: str | None) -> int | None:
    if label is None:
        return None
    if bundle.model.coder is None or not bundle.model.coder.classes:
        raise UsageError(
            "--label: this model knows no classes: use one of `discern train --from` a model of "
            "`discern pretrain`, or leave the flag out"
        )
    if label not in bundle.labels:
        raise UsageError(f"--label {label}: there are {', '.join(bundle.labels[:10])}")
    return bundle.labels.index(label)


def write_picture(clip: Clip, path: Path) -> None:
    """Write by suffix: a still picture of a clip is its middle frame."""
    if path.suffix.lower() in CLIPS:
        write_video(clip, path, CLIP_FPS)
    else:
        middle = clip.frames[len(clip.frames) // 2][None]
        write_image(Clip(frames=middle, times=np.zeros(1), kind=Kind.IMAGE), path)


def _record(frames: np.ndarray, label: str | None, place: int) -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(frames[0]).save(buffer, "PNG")
    labels = () if label is None else (label,)
    sample = Sample(
        encoded=buffer.getvalue(), kind=Kind.IMAGE, labels=labels, key=f"generated-{place:05d}"
    )
    return sample_to_record(sample)
