"""Pictures a second from files through tuning steps: ours, timm's training loop, Hugging Face's.

    PYTHON benchmarks/finetune.py [--rounds 5]

PYTHON has torch, torchvision, timm, transformers and accelerate beside what Discern needs.  640
JPEGs of Tiny-ImageNet's vehicles, a ViT-Ti for all, decoding and augmentation included.  timm's
loop is that of its train.py with DeiT's recipe (but for the spread of the magnitude, which newer
Pillows refuse at its end), its loader in a process beside the training.  Hugging Face's is Trainer
with the transforms of its image classification example, as it comes.  Contenders take turns.  bf16
is used by ours and timm's where this processor gains by it.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from discern.threads import choose_threads, prepare_threads, set_threads  # noqa: E402

prepare_threads()

import argparse  # noqa: E402
import contextlib  # noqa: E402
import itertools  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402
from few_labels import HERE, commit, hardware, unpacked  # noqa: E402
from peers import timm_vit, transformers_vit  # noqa: E402
from PIL import Image  # noqa: E402
from rounds import interleaved, summary, times_faster  # noqa: E402

from discern import config as configuration  # noqa: E402
from discern.data.badfiles import BadFiles  # noqa: E402
from discern.data.loader import Loader  # noqa: E402
from discern.data.sources import open_source  # noqa: E402
from discern.heap import keep_freed_memory  # noqa: E402
from discern.recipes.images import sized, supervised  # noqa: E402
from discern.recipes.prepare import load_sets  # noqa: E402
from discern.scale.divided import clip_gradients  # noqa: E402
from discern.scale.precision import autocast, choose_precision  # noqa: E402
from discern.train.build import build_objective  # noqa: E402
from discern.train.ema import update_averages  # noqa: E402
from discern.train.loop import step_rng  # noqa: E402
from discern.train.optim import OptimConfig, build_optimizer  # noqa: E402

SIZE, SIDE, PATCH, BATCH, COUNT = "tiny", 64, 8, 64, 640
CPU = torch.device("cpu")
HALVED = "Hugging Face Trainer, bf16"
TO_REACH = {"timm": 1.0, "Hugging Face Trainer": 1.8, HALVED: 1.1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    args = parser.parse_args()
    import timm
    import transformers

    threads = choose_threads()
    set_threads(threads)
    keep_freed_memory()
    precision = str(choose_precision("auto", CPU))
    whole = unpacked("tiny_imagenet_vehicles", args.out)
    with tempfile.TemporaryDirectory(prefix="discern-finetune-") as home:
        folder = few(whole / "train", Path(home))
        work = {
            "discern": ours(folder, precision),
            "timm": timms(folder, precision),
            "Hugging Face Trainer": hugging_face(folder, Path(home)),
        }
        if precision == "bf16":
            work[HALVED] = hugging_face(folder, Path(home), bf16=True)
        seconds = interleaved(work, args.rounds)
    found = {
        "command": " ".join(["python", "benchmarks/finetune.py", *sys.argv[1:]]).replace(
            str(args.out), "OUT"
        ),
        "commit": commit(),
        "hardware": hardware(),
        "versions": {
            "torch": torch.__version__,
            "timm": timm.__version__,
            "transformers": transformers.__version__,
        },
        "threads": threads,
        "precision": precision,
        "shape": f"`{SIZE}`, {SIDE} pixels, patch {PATCH}, batches of {BATCH}",
        "pictures_per_second": {
            name: summary([COUNT / one for one in values]) for name, values in seconds.items()
        },
        "claims": {
            name: times_faster(seconds, "discern", name, bar)
            for name, bar in TO_REACH.items()
            if name in seconds
        },
    }
    (HERE / "results" / "finetune.json").write_text(json.dumps(found, indent=1) + "\n")
    print({name: one["ratio"]["median"] for name, one in found["claims"].items()})


def few(folder: Path, home: Path) -> Path:
    """As many pictures of each class as COUNT wants, by links."""
    classes = sorted(folder.iterdir())
    taken = itertools.zip_longest(*(sorted(one.iterdir()) for one in classes))
    paths = [path for row in taken for path in row if path is not None][:COUNT]
    for path in paths:
        link = home / "pictures" / path.parent.name / path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve())
    return home / "pictures"


def ours(folder: Path, precision: str) -> Callable[[], None]:
    """`discern train`: what it reads, draws and steps, without its run folder."""
    settings = [f"data.preprocess.height={SIDE}", f"data.preprocess.width={SIDE}"]
    settings += [f"backbone.patch={PATCH}", f"data.loader.batch_size={BATCH}"]
    config = configuration.override(sized(supervised(), SIZE), settings)
    classes = len(list(folder.iterdir()))
    objective = build_objective(config, None, classes).train()
    optim = OptimConfig()
    optimizers = {
        phase: build_optimizer(player, optim) for phase, player in objective.players.items()
    }

    def run() -> None:
        source = open_source([str(folder)])
        chosen = list(range(len(source.items)))
        sets = load_sets(source, chosen, config, BadFiles(None), classes=source.classes)
        batches = Loader(sets, config.data.loader, seed=0).batches()
        for number, (_, batch) in zip(range(COUNT // BATCH), batches, strict=False):
            for phase, player in objective.players.items():
                with autocast(precision, CPU):
                    losses = objective.loss(phase, batch, step_rng(0, number), 0.5)
                losses.total.backward()
                clip_gradients(player.parameters(), optim.clip_norm)
                optimizers[phase].step()
                objective.zero_grad(set_to_none=True)
            update_averages(objective.averages, 0.998, number)

    return run


def timms(folder: Path, precision: str) -> Callable[[], None]:
    """The loop of timm's train.py with DeiT's augmentation, MixUp, clipping and average."""
    from timm.data import Mixup, create_dataset, create_loader
    from timm.loss import SoftTargetCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.utils import ModelEmaV3, dispatch_clip_grad

    classes = len(list(folder.iterdir()))
    model = timm_vit(SIZE, SIDE, PATCH, classes, drop_path_rate=0.1).train()
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)
    average = ModelEmaV3(model, decay=0.998)
    mixed = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=classes)
    criterion = SoftTargetCrossEntropy()

    def run() -> None:
        loader = create_loader(
            create_dataset("", root=str(folder), is_training=True),
            input_size=(3, SIDE, SIDE),
            batch_size=BATCH,
            is_training=True,
            use_prefetcher=False,
            re_prob=0.25,
            re_mode="pixel",
            auto_augment="rand-m9-inc1",
            num_workers=1,
            device=CPU,
        )
        for number, (pictures, labels) in enumerate(loader):
            pictures, target = mixed(pictures, labels)
            with autocast(precision, CPU):
                loss = criterion(model(pictures), target)
            optimizer.zero_grad()
            loss.backward()
            dispatch_clip_grad(model.parameters(), value=1.0)
            optimizer.step()
            average.update(model, step=number)

    return run


def hugging_face(folder: Path, home: Path, *, bf16: bool = False) -> Callable[[], None]:
    """Trainer, as it comes in fp32, with the transforms of the image classification example."""
    import transformers
    from torchvision import datasets
    from torchvision.transforms import v2
    from transformers import Trainer, TrainingArguments

    transformers.utils.logging.set_verbosity_error()
    classes = len(list(folder.iterdir()))
    model = transformers_vit(SIZE, SIDE, PATCH, classes)
    steps = [v2.RandomResizedCrop(SIDE), v2.RandomHorizontalFlip(), v2.PILToTensor()]
    steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)]
    items = datasets.ImageFolder(
        str(folder),
        transform=v2.Compose(steps),
        loader=lambda path: Image.open(path).convert("RGB"),
    )

    def together(rows: list[Any]) -> dict[str, torch.Tensor]:
        return {
            "pixel_values": torch.stack([row[0] for row in rows]),
            "labels": torch.tensor([row[1] for row in rows]),
        }

    def run() -> None:
        settings = TrainingArguments(
            output_dir=str(home / "trainer"),
            per_device_train_batch_size=BATCH,
            num_train_epochs=1,
            use_cpu=True,
            bf16=bf16,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            Trainer(model=model, args=settings, train_dataset=items, data_collator=together).train()

    return run


if __name__ == "__main__":
    main()
