"""The weights that ship with the package: made from data whose terms allow it, and what they give.

    python benchmarks/shipped.py make --minutes 12
    python benchmarks/shipped.py transfer --minutes 0.5 --seeds 0 1 2

`make` pre-trains on the training images of CIFAR-10, then on these and made-up clips, and packs the
encoder, generator and discriminator as half-precision numbers.  `transfer` tunes them on data that
they never saw, at several numbers of labels, against the same minutes from scratch; the two take
turns on one machine, and the test split is read once per cell.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import few_labels
import numpy as np
import torch
from few_labels import HERE, commit, discern, hardware, interval, unpacked, versions
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from discern.clip import Clip, Kind
from discern.data.videos import write_video

SHIPPED = HERE.parent / "discern" / "weights" / "nano"
SIDE, FRAMES, FPS = 32, 16, 12.0
CLIPS = 6000
FIRST = 15.0  # minutes on images alone
SCHEDULE = ["--size", "nano", "--seed", "0"]
# data set -> settings, labels per class (`all`: no limit)
SETS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "tiny_imagenet_vehicles": ([], ("10", "100", "all")),
    "extended_yaleb": ([], ("3", "all")),
    "jhmdb": (["data.group_by={film}"], ("10", "all")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["clips", "make", "transfer"])
    parser.add_argument("--minutes", type=float, default=1.0, help="of joint training, of tuning")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    args = parser.parse_args()
    {"clips": made_up, "make": make, "transfer": transfer}[args.what](args)


def made_up(args: argparse.Namespace) -> Path:
    """Write the made-up clips, once."""
    folder: Path = args.out / "data" / "made-up"
    if folder.with_suffix(".done").exists():
        return folder
    pictures = sorted((unpacked("cifar10", args.out) / "train").glob("*/*.png"))
    folder.mkdir(parents=True, exist_ok=True)
    rng = torch.Generator().manual_seed(0)
    order = torch.randperm(len(pictures), generator=rng)[: 2 * CLIPS].view(CLIPS, 2)
    for number, pair in enumerate(order.tolist()):
        ground, thing = (_picture(pictures[one]) for one in pair)
        frames = moving(ground, thing, rng)
        clip = Clip(frames=frames, times=np.arange(FRAMES) / FPS, kind=Kind.CLIP)
        write_video(clip, folder / f"{number:05d}.gif", FPS)
    folder.with_suffix(".done").touch()
    return folder


def moving(ground: Tensor, thing: Tensor, rng: torch.Generator) -> np.ndarray:
    """An elliptic piece of one picture moves, turns and grows before another one, which pans.

    float [3, S, S] twice -> uint8 [FRAMES, S, S, 3]
    """

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=rng))

    t = torch.linspace(-1, 1, FRAMES)
    # coordinates in [-1, 1]; a path is a line with a bend, and one in six things stands still
    still = float(uniform(0, 1) > 1 / 6)
    angle, length, bend = uniform(0, 2 * np.pi), uniform(0.15, 0.8) * still, uniform(-0.4, 0.4)
    way = torch.tensor([np.cos(angle), np.sin(angle)], dtype=torch.float32)
    across = torch.stack([-way[1], way[0]])
    centre = torch.tensor([uniform(-0.3, 0.3), uniform(-0.3, 0.3)])
    path = centre + length * (t[:, None] * way + still * bend * (t**2 - 0.5)[:, None] * across)
    turn = uniform(-np.pi, np.pi) + uniform(-1.2, 1.2) * still * t
    size = uniform(0.4, 0.8) * torch.exp(uniform(-0.4, 0.4) * still * t)
    long, wide = uniform(0.8, 1.3), uniform(0.8, 1.3)

    theta = torch.zeros(FRAMES, 2, 3)  # from a place in the frame to one in the thing
    cos, sin = turn.cos() / size, turn.sin() / size
    theta[:, 0, 0], theta[:, 0, 1], theta[:, 1, 0], theta[:, 1, 1] = cos, sin, -sin, cos
    theta[:, :, 2] = -(theta[:, :, :2] @ path[:, :, None])[:, :, 0]
    shape = [FRAMES, 3, SIDE, SIDE]
    places = F.affine_grid(theta, shape, align_corners=False)
    drawn = F.grid_sample(
        thing.expand(FRAMES, -1, -1, -1), places * 0.7, padding_mode="border", align_corners=False
    )
    distance = (places[..., 0] / long).square() + (places[..., 1] / wide).square()
    cover = ((1.0 - distance) * 6 + 0.5).clamp(0, 1)[:, None]  # about a pixel of soft edge

    pan = torch.zeros(FRAMES, 2, 3)
    zoom = uniform(0.75, 0.9)
    pan[:, 0, 0] = pan[:, 1, 1] = zoom
    drift = torch.tensor([uniform(-1, 1), uniform(-1, 1)]) * (1 - zoom)
    pan[:, :, 2] = t[:, None] * drift
    moved = F.affine_grid(pan, shape, align_corners=False)
    behind = F.grid_sample(ground.expand(FRAMES, -1, -1, -1), moved, align_corners=False)
    frames = behind.lerp(drawn, cover).clamp(0, 1)
    return (frames * 255).round().byte().permute(0, 2, 3, 1).numpy()


def make(args: argparse.Namespace) -> None:
    """Pre-train on images, then on images and clips together; pack, and write down how."""
    pictures, clips = unpacked("cifar10", args.out), made_up(args)
    first, run = args.out / "shipped-images", args.out / f"shipped_{args.minutes:g}"
    stages = {
        first: [str(pictures), *SCHEDULE, "--minutes", f"{FIRST:g}"],
        run: [str(pictures), str(clips), "--from", str(first), "--minutes", f"{args.minutes:g}"],
    }
    for out, words in stages.items():
        if not (out / "results.json").exists():
            command = [sys.executable, "-m", "discern", "pretrain", *words, "--out", str(out)]
            subprocess.run(command, check=True)
    pack(run / "model")
    ends = [json.loads((out / "results.json").read_text()) for out in stages]
    names = ("knn", "samples", "kinds", "sample_quality")
    table = HERE / "results" / "shipped.json"
    done = json.loads(table.read_text()) if table.exists() else {}
    done["command"] = "python benchmarks/shipped.py make; python benchmarks/shipped.py transfer"
    done["made"] = {name: ends[-1].get(name) for name in names} | {
        "command": f"python benchmarks/shipped.py make --minutes {args.minutes:g}",
        "minutes": {"images": FIRST, "images and clips": args.minutes},
        "steps": sum(end["steps"] for end in ends),
        "bytes": sum(path.stat().st_size for path in SHIPPED.iterdir()),
        "hardware": hardware(),
        "commit": commit(),
        "versions": versions(),
    }
    write(table, done)
    print(json.dumps(done["made"], indent=1))


def pack(folder: Path) -> None:
    """The bundle with weights in half precision, except the moments of the codes."""
    from discern.models.weights import load_bundle, save_bundle

    bundle = load_bundle(folder)
    for name, part in bundle.model.named_children():
        part.to(torch.float32 if name == "coder" else torch.float16)
    made = {name: value for name, value in bundle.made.items() if name != "source"}
    shutil.rmtree(SHIPPED, ignore_errors=True)
    save_bundle(SHIPPED, bundle.model, labels=[], preprocess=bundle.preprocess, made=made)


def cells(args: argparse.Namespace) -> Iterator[tuple[str, str, int, str]]:
    for data in args.data:
        for labels in SETS[data][1]:
            for seed in args.seeds:
                for method in ("shipped", "scratch"):
                    yield data, labels, seed, method


def transfer(args: argparse.Namespace) -> None:
    """Tuned from the shipped weights and from scratch, in equal minutes, on unseen data."""
    table = HERE / "results" / "shipped.json"
    done = json.loads(table.read_text()) if table.exists() else {}
    done.setdefault("transfer", {"cells": {}})
    found = done["transfer"]
    found |= {"minutes": args.minutes, "hardware": hardware(), "versions": versions()}
    found["command"] = f"python benchmarks/shipped.py transfer --minutes {args.minutes:g}"
    for data, labels, seed, method in cells(args):
        name = f"{data}/{labels}/{seed}/{method}"
        if name in found["cells"]:
            continue
        settings, _ = SETS[data]
        few_labels.SETS[data] = {"labels": None, "settings": settings}
        folder = unpacked(data, args.out)
        work = args.out / "transfer" / name
        more = [] if labels == "all" else ["--labels", labels]
        if method == "shipped":
            more += ["--from", "discern-nano"]
        load, started = os.getloadavg()[0], time.time()
        of = argparse.Namespace(**vars(args) | {"data": data})
        one = discern("train", folder, of, work, seed, args.minutes, *more)
        names = ("accuracy", "accuracy_interval", "validation_accuracy", "steps", "samples")
        found["cells"][name] = {k: one.get(k) for k in (*names, "labels_used")} | {
            "wall_minutes": (time.time() - started) / 60,
            "load_before": load,
            "commit": commit(),
        }
        shutil.rmtree(work / "checkpoints", ignore_errors=True)
        found["gains"] = gains(found["cells"])
        write(table, done)
        print(name, one["accuracy"], one["steps"], flush=True)
    print(json.dumps(found["gains"], indent=1))


def gains(found: dict[str, Any]) -> dict[str, Any]:
    """data/labels -> both means and the gain, paired by seed, with its interval."""
    rows: dict[str, dict[int, dict[str, float]]] = {}
    for name, cell in found.items():
        data, labels, seed, method = name.split("/")
        rows.setdefault(f"{data}/{labels}", {}).setdefault(int(seed), {})[method] = cell["accuracy"]
    blocks = {}
    for name, seeds in rows.items():
        both = [one for one in seeds.values() if len(one) == 2]
        if both:
            blocks[name] = {
                "shipped": interval([one["shipped"] for one in both]),
                "scratch": interval([one["scratch"] for one in both]),
                "gain": interval([one["shipped"] - one["scratch"] for one in both]),
            }
    return blocks


def write(table: Path, done: dict[str, Any]) -> None:
    table.parent.mkdir(exist_ok=True)
    draft = table.with_suffix(".tmp")
    draft.write_text(json.dumps(done, indent=1) + "\n")
    draft.replace(table)


def _picture(path: Path) -> Tensor:
    """-> float [3, S, S] in [0, 1]"""
    pixels = np.array(Image.open(path).convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)


if __name__ == "__main__":
    main()
