"""A GPU at work: a ViT-B beside timm's, trained and asked, both compiled; and what data adds.

    python benchmarks/gpu.py [--rounds 7] [--size base] [--batch 256] [--out FOLDER]

Ours compiles block by block, as `--set loop.compile=true` has it; timm's model is compiled whole,
as its `benchmark.py --torchcompile` does.  Both take the same step: forward pass under autocast to
bf16, cross-entropy, backward pass, fused AdamW, on a batch that lies on the GPU.  Contenders take
turns.  The share of the peak counts 6 operations for each weight of a product and token, and the
products of attention, against the fastest large product of matrices in this run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from few_labels import HERE, commit, hardware, versions
from peers import timm_vit
from rounds import interleaved, repeated, summary, times_faster
from torch.nn import functional as F

from discern.clip import Kind
from discern.data.augment import to_float
from discern.data.loader import Loader, LoaderConfig
from discern.data.preprocess import PreprocessConfig
from discern.models.backbone import SIZES, Backbone, BackboneConfig
from discern.models.classifier import Classifier
from discern.recipes import images
from discern.scale.precision import autocast
from discern.train.ahead import arriving
from discern.train.build import build_objective
from discern.train.loop import step_rng
from discern.train.run import compile_blocks

CLASSES, PATCH, ITEMS = 1000, 16, 2048
STEPS = 8  # of a round
TO_REACH = {"train": 1.1, "train_peak": 0.4, "infer_peak": 0.5, "data": 1.1}
Step = Callable[[], object]


class Network(NamedTuple):
    """Pictures [B, 3, H, W] to logits, and the module that does it."""

    ask: Callable[[torch.Tensor], torch.Tensor]
    module: torch.nn.Module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", default="base", choices=SIZES)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()
    device = torch.device(args.device)
    torch.manual_seed(0)
    found: dict[str, Any] = {
        "command": " ".join(["python", "benchmarks/gpu.py", *sys.argv[1:]]).replace(
            str(args.out), "OUT"
        ),
        "commit": commit(),
        "versions": versions() | {"timm": _version("timm")},
        "hardware": hardware(),
        "size": args.size,
        "batch": args.batch,
        "side": args.side,
    }
    peak = peak_operations(device)
    found["peak_tflops"] = peak / 1e12
    beside_timm(args, device, peak, found)
    found["data"] = with_and_without_data(args, device)
    save(args, found)
    print(json.dumps(found["data"]), flush=True)


def beside_timm(
    args: argparse.Namespace, device: torch.device, peak: float, found: dict[str, Any]
) -> None:
    """Training and inference of both networks, written into `found`."""
    ours, theirs = networks(args, device)
    pair = {
        "ours": Network(lambda clip: ours(clip.unsqueeze(2)), ours),
        "timm": Network(theirs, theirs),
    }
    found["parameters"] = {
        name: sum(one.numel() for one in network.module.parameters())
        for name, network in pair.items()
    }
    shape = (args.batch, 3, args.side, args.side)
    clip = torch.randint(0, 256, shape, device=device).byte()
    label = torch.randint(0, CLASSES, (args.batch,), device=device)
    for name, passes, work in (("train", 3.0, training_step), ("infer", 1.0, answer)):
        steps = {one: work(network, clip, label) for one, network in pair.items()}
        found[name] = compared(steps, args, peak, passes, name)
        found["compiled"] = compiled_facts()
        save(args, found)


def save(args: argparse.Namespace, found: dict[str, Any]) -> None:
    args.out.mkdir(exist_ok=True)
    (args.out / "gpu.json").write_text(json.dumps(found, indent=1) + "\n")


def networks(args: argparse.Namespace, device: torch.device) -> tuple[Classifier, Any]:
    """Ours and timm's, of the same widths and depths, compiled where there is a GPU."""
    shape = SIZES[args.size] | {"patch": PATCH, "stem": "linear"}
    plain = BackboneConfig(**shape, tubelet=1, qk_norm=False, layer_scale=None)
    ours = Classifier(Backbone(plain), CLASSES).to(device)
    theirs = timm_vit(args.size, args.side, PATCH, CLASSES).to(device)
    if device.type == "cuda":
        compile_blocks(ours)
        theirs = torch.compile(theirs)
    return ours, theirs


def training_step(network: Network, clip: torch.Tensor, label: torch.Tensor) -> Step:
    optimizer = torch.optim.AdamW(network.module.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        network.module.train()
        with autocast("bf16", clip.device):
            loss = F.cross_entropy(network.ask(to_float(clip)).float(), label)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def answer(network: Network, clip: torch.Tensor, label: torch.Tensor) -> Step:
    @torch.no_grad()
    def step() -> None:
        network.module.eval()
        with autocast("bf16", clip.device):
            network.ask(to_float(clip))

    return step


def per_step(steps: dict[str, Step], rounds: int) -> dict[str, list[float]]:
    """Seconds of a step in each round."""

    def waited(step: Step) -> Step:
        many = repeated(step, STEPS)

        def run() -> None:
            many()
            if torch.cuda.is_available():
                torch.cuda.synchronize()

        return run

    seconds = interleaved({one: waited(step) for one, step in steps.items()}, rounds)
    return {one: [value / STEPS for value in values] for one, values in seconds.items()}


def milliseconds(seconds: dict[str, list[float]]) -> dict[str, Any]:
    return {one: summary([1e3 * value for value in values]) for one, values in seconds.items()}


def compared(
    steps: dict[str, Step], args: argparse.Namespace, peak: float, passes: float, name: str
) -> dict[str, Any]:
    """Milliseconds of a step, the share of the peak, and how many times faster ours is."""
    seconds = per_step(steps, args.rounds)
    operations = passes * forward_operations(args) * args.batch
    block: dict[str, Any] = {
        "milliseconds": milliseconds(seconds),
        "share_of_peak": {
            one: summary([operations / value / peak for value in values])
            for one, values in seconds.items()
        },
        "peak_to_reach": TO_REACH[f"{name}_peak"],
        "claim": times_faster(seconds, "ours", "timm", TO_REACH.get(name, 1.0)),
    }
    print(name, block["milliseconds"], block["claim"]["ratio"]["median"], flush=True)
    return block


def forward_operations(args: argparse.Namespace) -> float:
    """Of one picture, as one weight and token: a product and a sum."""
    shape, tokens = SIZES[args.size], (args.side // PATCH) ** 2
    width, depth = shape["width"], shape["depth"]
    blocks = depth * (12 * width**2 * tokens + 2 * tokens**2 * width)
    return 2.0 * (blocks + tokens * 3 * PATCH**2 * width)


def with_and_without_data(args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """The whole step of `discern train`, its batches from memory, against one batch that stays."""
    size = PreprocessConfig(height=args.side, width=args.side)
    config = images.sized(images.supervised(), args.size)
    config = replace(
        config,
        backbone=replace(config.backbone, patch=PATCH),
        data=replace(config.data, preprocess=size),
    )
    objective = build_objective(config, None, CLASSES).to(device).train()
    if device.type == "cuda":
        compile_blocks(objective)
    (player,) = objective.players.values()
    optimizer = torch.optim.AdamW(player.parameters(), lr=1e-4, fused=True)
    loader = Loader(
        {Kind.IMAGE: _pictures(args, size)}, LoaderConfig(batch_size=args.batch), seed=0
    )
    batches = arriving(loader.batches(), device)
    number = iter(range(10**9))
    stays = next(batches)[1]

    def step(fresh: bool) -> None:
        batch = next(batches)[1] if fresh else stays
        rng = step_rng(0, next(number), device)
        with autocast("bf16", device):
            losses = objective.loss("classifier", batch, rng, 0.5)
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(player.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    steps: dict[str, Step] = {"with": lambda: step(True), "without": lambda: step(False)}
    seconds = per_step(steps, args.rounds)
    batches.close()  # type: ignore[attr-defined]
    ratios = [one / other for one, other in zip(seconds["with"], seconds["without"], strict=True)]
    return {
        "milliseconds": milliseconds(seconds),
        "ratio": summary(ratios),
        "to_reach": TO_REACH["data"],
    }


def _pictures(args: argparse.Namespace, size: PreprocessConfig) -> Any:
    """Made-up pictures in memory: time does not hang on what they show."""
    from tests.tiny import random_sets

    chosen = random_sets(images=ITEMS, side=8)[Kind.IMAGE]
    chosen.preprocess = size
    drawn = np.random.default_rng(0).integers(0, 256, (ITEMS, 1, args.side, args.side, 3))
    chosen.memory = drawn.astype(np.uint8)
    return chosen


def peak_operations(device: torch.device, side: int = 8192, rounds: int = 10) -> float:
    """Operations a second of the fastest large bf16 product of matrices."""
    side = side if device.type == "cuda" else 512
    one, other = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(rounds):  # the best one: the first calls warm up
        started = time.perf_counter()
        for _ in range(5):
            one @ other
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - started) / 5)
    return 2.0 * side**3 / best


def compiled_facts() -> dict[str, int]:
    """Breaks of graphs and compilations anew, so far."""
    from torch._dynamo.utils import counters

    return {
        "graph_breaks": sum(counters["graph_break"].values()),
        "graphs": counters["stats"]["unique_graphs"],
    }


def _version(name: str) -> str:
    from importlib.metadata import version

    return version(name)


if __name__ == "__main__":
    main()
