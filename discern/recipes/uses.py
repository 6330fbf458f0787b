"""What people use it for: a configuration in, the same fitted to objects, faces, vehicles or videos
out.

`discern pretrain FOLDER --recipe faces --out runs/p`, then
`discern train FOLDER --recipe faces --from runs/p --out runs/t`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from discern.train.run import RunConfig


def objects(config: RunConfig) -> RunConfig:
    """Objects of any kind: the defaults.

    `discern train FOLDER --recipe objects --out DIR --minutes 5`; what to expect on CIFAR-10
    stands in benchmarks/RESULTS.md.
    """
    return config


def faces(config: RunConfig) -> RunConfig:
    """Faces: what makes a person must survive augmentation, and light must not matter.

    Frames are freed of uneven light before anything sees them (Tan & Triggs 2010), which leaves no
    colour to go by; crops keep the whole face.  `discern train FOLDER --recipe faces --out DIR
    --minutes 5`; what to expect on Extended Yale B stands in benchmarks/RESULTS.md.
    """
    strong = replace(config.strong, scale=(0.7, 1.0), grey=0.0, solarize=0.0, posterize=0.0)
    strong = replace(strong, rotate=10.0, shear=0.1, translate=0.08, erase=0.1)
    view = replace(config.view, scale=(0.5, 1.0), grey=0.0)
    preprocess = replace(config.data.preprocess, even_light=True)
    return replace(
        config,
        view=view,
        strong=strong,
        weak=replace(config.weak, scale=(0.9, 1.0)),
        supervised=replace(config.supervised, mix_chance=0.2),
        data=replace(config.data, preprocess=preprocess),
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

    `discern train FOLDER --recipe videos --out DIR --minutes 5`; what to expect on J-HMDB stands
    in benchmarks/RESULTS.md.
    """
    preprocess = replace(config.data.preprocess, stored_frames=24)
    loader = replace(config.data.loader, clip_share=0.5)
    return replace(config, data=replace(config.data, preprocess=preprocess, loader=loader))


USES: dict[str, Callable[[RunConfig], RunConfig]] = {
    "objects": objects,
    "faces": faces,
    "vehicles": vehicles,
    "videos": videos,
}
