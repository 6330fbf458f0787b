"""What people use it for: a configuration in, the same fitted to objects, faces, vehicles or videos
out.

`discern pretrain FOLDER --recipe faces --out runs/p`, then
`discern train FOLDER --recipe faces --from runs/p --out runs/t`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from discern.data.augment import AugmentConfig
from discern.models.backbone import SIZES
from discern.train.settings import RunConfig

LIGHT = 3.0  # in powers of e: the dark side of a face keeps a few parts of a thousand
MOVED = 0.04  # share of the side: how well faces are cut alike
MARGIN = 0.5  # radians, ArcFace's
NOISE = 0.01  # of pixels in [0, 1]: what a camera adds in the dark


def objects(config: RunConfig) -> RunConfig:
    """Objects of any kind: the defaults.

    `discern train FOLDER --recipe objects --out DIR --minutes 5`; what to expect on CIFAR-10
    stands in benchmarks/RESULTS.md.
    """
    return config


def faces(config: RunConfig) -> RunConfig:
    """Faces that are all cut alike: light must not matter, and what stands where must.

    The encoder sees edges, whichever side of them is the lighter one, and the classifier knows of
    places.  Training items are lit from a side, moved a little and covered in part.  The size is
    `nano`, for which all this was found: it tells more places apart than `hybrid`.
    `discern train FOLDER --recipe faces --out DIR --minutes 5`; what to expect on Extended Yale B
    stands in benchmarks/RESULTS.md.
    """
    lit = AugmentConfig(flip=0.0, light=LIGHT, gaussian_noise=NOISE, erase=0.5)
    strong = replace(lit, translate=MOVED, rotate=3.0)
    return replace(
        config,
        backbone=replace(config.backbone, **SIZES["nano"], sees="edges"),
        view=replace(lit, scale=(0.5, 1.0)),
        strong=strong,
        weak=AugmentConfig(flip=0.0, translate=MOVED),
        supervised=replace(config.supervised, mix_chance=0.0, places=True, margin=MARGIN),
    )


def vehicles(config: RunConfig) -> RunConfig:
    """Vehicles: make and type are shape, seen from both sides, in any paint.

    Colours are turned further than by default, mirror images count as the same, and crops keep
    most of the body.  `discern train FOLDER --recipe vehicles --out DIR --minutes 5`; what to
    expect on vehicles of Tiny-ImageNet stands in benchmarks/RESULTS.md.
    """
    strong = replace(config.strong, hue=0.3, saturation=0.8, grey=0.15, rotate=10.0)
    return replace(config, strong=strong, view=replace(config.view, hue=0.3))


def videos(config: RunConfig) -> RunConfig:
    """Actions in clips: motion before looks, more frames kept to draw from.

    An encoder that starts from nothing is given the optical flow; one that was trained without it
    goes on without.
    `discern train FOLDER --recipe videos --out DIR --minutes 5`; what to expect on J-HMDB stands
    in benchmarks/RESULTS.md.
    """
    preprocess = replace(config.data.preprocess, stored_frames=24)
    loader = replace(config.data.loader, clip_share=0.5)
    return replace(
        config,
        data=replace(config.data, preprocess=preprocess, loader=loader),
        backbone=replace(config.backbone, flow=True),
    )


USES: dict[str, Callable[[RunConfig], RunConfig]] = {
    "objects": objects,
    "faces": faces,
    "vehicles": vehicles,
    "videos": videos,
}
