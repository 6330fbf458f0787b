"""A pre-training step beside those of a plain GAN of Transformers and of transformers' MAE.

    PYTHON benchmarks/pretrain_step.py [--rounds 5]

PYTHON has torch and transformers beside what Discern needs.  Random pictures, an encoder of ViT-Ti
for all, AdamW; what counts is pictures a second.  Ours hides three quarters of the tokens from both
players, once with the adversary in every step and once in as many as by default; `pretrain` as it
comes also sees each picture in four views, through a stem of convolutions.  The plain GAN has the
same discriminator and a generator of its size, and steps one after the other, each with its own
forward passes (Goodfellow et al. 2014).  The MAE has the decoder that our generator is.  bf16 is
used where this processor gains by it.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from discern.threads import choose_threads, prepare_threads, set_threads  # noqa: E402

prepare_threads()

import argparse  # noqa: E402
import itertools  # noqa: E402
import json  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import replace  # noqa: E402

import torch  # noqa: E402
from few_labels import HERE, commit, hardware  # noqa: E402
from rounds import interleaved, summary, times_faster  # noqa: E402

from discern import config as configuration  # noqa: E402
from discern.clip import Batch  # noqa: E402
from discern.heap import keep_freed_memory  # noqa: E402
from discern.recipes.images import gan, masked_gan, sized  # noqa: E402
from discern.scale.precision import autocast, choose_precision  # noqa: E402
from discern.train.build import build_objective  # noqa: E402
from discern.train.loop import step_rng  # noqa: E402
from discern.train.optim import OptimConfig, build_optimizer  # noqa: E402
from discern.train.settings import RunConfig  # noqa: E402

SIZE, SIDE, PATCH, COUNT = "tiny", 64, 8, 32
STEPS, PROGRESS = 4, 0.7  # of a round; the adversary is on, and the end has not begun
CPU = torch.device("cpu")
OFTEN, SELDOM = "masked GAN, both players in every step", "masked GAN, both players now and then"
DEFAULT, PLAIN_GAN, MAE = "pretrain as it comes", "plain GAN", "MAE of transformers"
TO_REACH = {PLAIN_GAN: 2.5, MAE: 0.6}
# both players on a quarter of the tokens, no views
MASKED = (
    *("view=0", "mask_ratio=0.75", "block_chance=0", "reconstruction=1", "reconstruction_share=1"),
    *("adversary_share=1", "adversary_keep=0.25", "code=0", "penalty=0", "noise_share=0"),
)
PLAIN = ("gan.view=0", "gan.penalty=0", "gan.feature_matching=0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    import transformers

    threads = choose_threads()
    set_threads(threads)
    keep_freed_memory()
    precision = str(choose_precision("auto", CPU))
    shape = (f"data.preprocess.height={SIDE}", f"data.preprocess.width={SIDE}")
    shape += (f"backbone.patch={PATCH}",)
    default = configuration.override(sized(masked_gan(), SIZE), shape)
    patches = [*shape, "backbone.stem=linear"]
    masked = [*patches, *(f"masked_gan.{one}" for one in MASKED)]
    seldom = configuration.override(sized(masked_gan(), SIZE), masked)
    often = configuration.override(seldom, ["masked_gan.adversary_chance=1"])
    encoder = default.backbone
    same_size = {"width": encoder.width, "depth": encoder.depth, "heads": encoder.heads}
    plain = configuration.override(sized(gan(), SIZE), [*patches, *PLAIN])
    plain = replace(plain, generator=replace(plain.generator, **same_size))
    played: dict[str, list[bool]] = {}
    work = {
        name: ours(config, precision, played.setdefault(name, []))
        for name, config in (
            (OFTEN, often),
            (SELDOM, seldom),
            (DEFAULT, default),
            (PLAIN_GAN, plain),
        )
    }
    seconds = interleaved(work | {MAE: peer(default, precision)}, args.rounds)
    found = {
        "command": " ".join(["python", "benchmarks/pretrain_step.py", *sys.argv[1:]]),
        "commit": commit(),
        "hardware": hardware(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "threads": threads,
        "precision": precision,
        "shape": f"`{SIZE}`, {SIDE} pixels, patch {PATCH}, {COUNT} pictures",
        "pictures_per_second": {
            name: summary([STEPS * COUNT / one for one in values])
            for name, values in seconds.items()
        },
        "played": {name: sum(steps) / len(steps) for name, steps in played.items()},
        "claims": {
            name: {
                other: times_faster(seconds, name, other, bar) for other, bar in TO_REACH.items()
            }
            for name in (OFTEN, SELDOM, DEFAULT)
        },
    }
    (HERE / "results" / "pretrain_step.json").write_text(json.dumps(found, indent=1) + "\n")
    for name, claims in found["claims"].items():
        print(name, {other: claim["ratio"]["median"] for other, claim in claims.items()})


def ours(config: RunConfig, precision: str, played: list[bool]) -> Callable[[], None]:
    """Steps of an objective, each phase with its own optimizer; in which of them did both play?"""
    objective = build_objective(config).train()
    optimizers = {
        phase: build_optimizer(player, OptimConfig()) for phase, player in objective.players.items()
    }
    clip = torch.randint(0, 256, (COUNT, 3, 1, SIDE, SIDE), dtype=torch.uint8)

    def step(number: int) -> bool:
        both = False
        for phase, optimizer in optimizers.items():
            with autocast(precision, CPU):
                losses = objective.loss(phase, Batch(clip=clip), step_rng(0, number), PROGRESS)
            losses.total.backward()
            optimizer.step()
            objective.zero_grad(set_to_none=True)
            both = both or "d_accuracy" in losses.parts
        return both

    # where an adversary plays now and then, as often as its chance says
    wanted = 1.0
    if config.objective == "masked_gan":
        wanted = config.masked_gan.adversary_chance
    of_both = round(wanted * STEPS)
    numbers: dict[bool, list[int]] = {True: [], False: []}
    for number in itertools.count():
        kind = step(number)
        if len(numbers[kind]) < (of_both if kind else STEPS - of_both):
            numbers[kind].append(number)
        if sum(map(len, numbers.values())) == STEPS:
            break

    def run() -> None:
        for number in sorted(numbers[True] + numbers[False]):
            played.append(step(number))

    return run


def peer(config: RunConfig, precision: str) -> Callable[[], None]:
    """Steps of transformers' MAE."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    encoder, decoder = config.backbone, config.generator
    model = ViTMAEForPreTraining(
        ViTMAEConfig(
            hidden_size=encoder.width,
            num_hidden_layers=encoder.depth,
            num_attention_heads=encoder.heads,
            intermediate_size=4 * encoder.width,
            image_size=SIDE,
            patch_size=PATCH,
            decoder_hidden_size=decoder.width,
            decoder_num_hidden_layers=decoder.depth,
            decoder_num_attention_heads=decoder.heads,
            decoder_intermediate_size=4 * decoder.width,
            mask_ratio=0.75,
        )
    ).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    floats = torch.randn(COUNT, 3, SIDE, SIDE)

    def run() -> None:
        for _ in range(STEPS):
            with autocast(precision, CPU):
                loss = model(floats).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return run


if __name__ == "__main__":
    main()
