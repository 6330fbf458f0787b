"""SimCLR of the library lightly on the encoder of ours: images in, a run folder for `--from` out.

    PYTHON benchmarks/lightly_peer.py FOLDER --out DIR --minutes 15 [--size pico] [--seed 0]

PYTHON has torch, torchvision and lightly beside what Discern needs; `pretraining.py --peers PYTHON`
calls this for its method `lightly`.  Transform, head and loss are lightly's, as its page on SimCLR
says for small images (half the colour jitter, no blur); batches of 256, and the optimizer and its
schedule are ours, for its SGD is set for ResNets.  That page advises against SimCLR for
Transformers; it is the method of the library that costs the least a step.  Reading the data is not
counted, for ours neither; the transforms are.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from discern.threads import choose_threads, prepare_threads, set_threads  # noqa: E402

prepare_threads()

import argparse  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from discern import config as configuration  # noqa: E402
from discern.clip import Kind  # noqa: E402
from discern.data.badfiles import BadFiles  # noqa: E402
from discern.files import write_json  # noqa: E402
from discern.models.weights import save_bundle  # noqa: E402
from discern.recipes import images  # noqa: E402
from discern.recipes.prepare import divide, load_sets, open_checked, shaped_for  # noqa: E402
from discern.scale.precision import autocast, choose_precision  # noqa: E402
from discern.train.build import build_objective, pretrained_model  # noqa: E402
from discern.train.optim import build_optimizer, set_rate  # noqa: E402
from discern.train.run import choose_device  # noqa: E402

BATCH, PROJECTED = 256, 128
SMALL = {"cj_strength": 0.5, "gaussian_blur": 0.0}  # lightly's advice for small images
OURS = {"mean": [0.5] * 3, "std": [0.5] * 3}  # pixels as our encoder sees them: -1 to 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--size", default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    set_threads(choose_threads(args.threads))
    source = open_checked([args.folder])
    config = shaped_for(images.sized(images.masked_gan(), args.size), source)
    args.out.mkdir(parents=True, exist_ok=True)
    parts = divide(source, config.data, args.out)
    every = [*parts.labelled, *parts.val, *parts.rest]
    sets = load_sets(source, every, config, BadFiles(None), classes=parts.classes)
    if set(sets) != {Kind.IMAGE}:
        parser.error(f"{args.folder}: images only: lightly's transforms know no clips")
    items = sets[Kind.IMAGE]
    objective = build_objective(config)  # for its encoder, and the place where it is kept
    encoder: nn.Module = objective.discriminator.backbone  # type: ignore[assignment, union-attr]
    frames = items.take_even()[:, 0]
    steps, seconds = trained(encoder, frames, config, args)
    averaged = objective.average[0].backbone  # type: ignore[index, union-attr]
    averaged.load_state_dict(encoder.state_dict())
    save_bundle(
        args.out / "model",
        pretrained_model(objective.cpu()),
        labels=[],
        preprocess=configuration.to_dict(config.data.preprocess),
        made={"verb": "pretrain", "source": source.spec, "with": "lightly", "seed": args.seed},
    )
    found = {"verb": "pretrain", "steps": steps, "train_seconds": seconds, "samples": len(items)}
    write_json(args.out / "results.json", found | {"lightly": version()})
    print(f"{steps} steps in {seconds:.0f} s")


def trained(
    encoder: nn.Module, frames: np.ndarray, config: Any, args: argparse.Namespace
) -> tuple[int, float]:
    """Train the encoder on frames [N, h, w, 3].  -> steps, seconds"""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead

    device = choose_device(args.device)
    precision = choose_precision("auto", device)
    width = config.backbone.width
    head = SimCLRProjectionHead(width, width, PROJECTED)
    both = nn.ModuleList([encoder, head]).to(device).train()
    optimizer = build_optimizer(both, config.optim)
    loss_of, steps, budget = NTXentLoss(), 0, 60 * args.minutes
    started = time.monotonic()
    for one, other in batches(frames, args.seed):
        progress = (time.monotonic() - started) / budget
        if progress >= 1:
            break
        set_rate(optimizer, config.optim, progress)
        with autocast(precision, device):
            seen = torch.cat([one, other]).unsqueeze(2).to(device)  # [2 B, 3, 1, h, w]
            projected = head(encoder(seen).pooled).float()
        loss = loss_of(*projected.chunk(2))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(both.parameters(), config.optim.clip_norm)
        optimizer.step()
        steps += 1
        if steps % 50 == 0:
            print(f"step {steps}, {progress:.0%}, loss {loss.item():.3f}", flush=True)
    return steps, time.monotonic() - started


def batches(frames: np.ndarray, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Two views of each item, without end.  [N, h, w, 3] -> float [B, 3, h, w] twice"""
    from lightly.transforms import SimCLRTransform
    from PIL import Image

    transform = SimCLRTransform(input_size=tuple(frames.shape[1:3]), normalize=OURS, **SMALL)
    torch.manual_seed(seed)
    drawn = np.random.default_rng(seed)
    while True:
        order = drawn.permutation(len(frames))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            views = [transform(Image.fromarray(frames[item])) for item in chosen]
            yield torch.stack([one for one, _ in views]), torch.stack([two for _, two in views])


def version() -> str:
    import lightly

    return str(lightly.__version__)


if __name__ == "__main__":
    main()
