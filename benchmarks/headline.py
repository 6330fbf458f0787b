"""The README's one table: each of its lines from the JSON of a benchmark, won or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tables import HANDCRAFTED, SETS, mean, points, read

Row = tuple[str, str, str]  # what, ours, what stands beside it
LIT = ("to 77", "beyond 77")  # degrees of light, after training on angles up to 12
CLAIM = 3  # seeds
BATCHED = ("read, against batches", "read and parse, against batched parse_example")


def headline() -> str:
    """Accuracies of three seeds and more, speeds of interleaved rounds, and faults."""
    rows = [("What", "Discern", "Beside it"), *accuracies(), *cheapest(), *speeds(), *faults()]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|---|---|---|")
    note = (
        "Accuracies on test items: mean over three seeds, half of the 95 % interval. Speeds: "
        "rounds in turn with the peer in the same run, above 1 where Discern is the faster. How, "
        "on which machine, and what was missed: [RESULTS.md](benchmarks/RESULTS.md)."
    )
    return "\n".join([*lines, "", note, ""])


def accuracies() -> Iterator[Row]:
    """Ours, and the best of the others."""
    found = read("pretraining_cifar10_hybrid_15+5.json")
    said = {} if found is None else found["summary"].get("100", {})
    if found is not None and _is_claim(said.get("all")):
        minutes = found["minutes"]
        yield (
            f"CIFAR-10, 100 labels a class, {minutes['pretrain']:g} minutes of pre-training and "
            f"{minutes['tune']:g} of tuning, one core",
            mean(said["all"]),
            "from scratch for all minutes, from unlabelled items too "
            f"{_seeded(said.get('scratch_semi'))}, on the labels alone "
            f"{_seeded(said.get('scratch'))}, {_best(said)}",
        )
    found = read("few_labels_cifar10_15+5.json")
    if found is not None and _is_claim(found["summary"].get("pretrained")):
        said = found["summary"]
        yield (
            "The same with size `nano`, 2 cores",
            mean(said["pretrained"]),
            f"from scratch for 20 minutes {_seeded(said.get('scratch_long'))}, " + _best(said),
        )
    found = read("pretraining_cifar10_3.5+1.2.json")
    said = {} if found is None else found["summary"].get("400", {})
    if found is not None and all(_is_claim(said.get(one)) for one in ("all", "view", "scratch")):
        minutes = found["minutes"]
        yield (
            f"CIFAR-10, 400 labels a class, {minutes['pretrain']:g} and {minutes['tune']:g} "
            f"minutes of an {found['hardware']['gpu']} that several trainings share",
            mean(said["all"]),
            f"views alone {mean(said['view'])}, from scratch for all minutes "
            + mean(said["scratch"]),
        )
    ours, before = (read(f"pretraining_cifar10_{table}.json") for table in ("hybrid", "eased"))
    if ours is not None and before is not None:
        both = [found["summary"]["all"]["scratch"] for found in (ours, before)]
        alike = ours["minutes"] == before["minutes"] and ours["threads"] == before["threads"] == 1
        if all(map(_is_claim, both)) and alike:
            yield (
                f"CIFAR-10, all labels, {ours['minutes']['tune']:g} minutes on one core, "
                "from scratch",
                mean(both[0]),
                f"size `nano` {mean(both[1])}",
            )
    yield from _used(
        "actions.json", "Actions: J-HMDB clips, {minutes:g} minutes on one core, from scratch"
    )
    found = read("few_labels_jhmdb_15+5.json")
    if found is not None and _is_claim(found["summary"].get("pretrained")):
        said = found["summary"]
        yield (
            "The same with size `nano`, pre-trained for 15 minutes and tuned for 5, 2 cores",
            mean(said["pretrained"]),
            f"from scratch {mean(said.get('scratch'))}, {_best(said)}",
        )
    yield from _used(
        "vehicles.json",
        "Vehicles of Tiny-ImageNet, {minutes:g} minutes from the weights that ship",
    )
    found = read("faces.json")
    if found is not None and _is_claim(found["summary"]["light"]["discern"]["accuracy"]):
        light, strange = found["summary"]["light"], found["summary"]["open"]
        yield (
            f"Faces lit from 50 to 77 degrees and beyond, {found['minutes']:g} minutes",
            _pair(light["discern"]),
            f"HOG + linear SVM {_pair(light['hog'])}, local binary patterns {_pair(light['lbp'])}",
        )
        yield (
            "Strangers enrolled in a gallery from 5 pictures each, named right",
            mean(strange["discern"]["strangers_rank_1"]),
            f"eigenfaces {mean(strange['eigenfaces']['strangers_rank_1'])}, local binary patterns "
            + mean(strange["lbp"]["strangers_rank_1"]),
        )


def _used(table: str, what: str) -> Iterator[Row]:
    """A recipe of a use, beside the best hand-crafted method."""
    found = read(table)
    if found is not None and _is_claim(found["summary"]["discern"]["accuracy"]):
        said = {method: block["accuracy"] for method, block in found["summary"].items()}
        yield what.format(**found), mean(said["discern"]), _best(said)


def cheapest() -> Iterator[Row]:
    """An item of our smallest size, and of the hand-crafted method that is right most often."""
    found = read("item_time.json")
    for name, block in ({} if found is None else found["sets"]).items():
        if not block["against"]:
            continue
        ours = block["ours"][next(iter(block["against"].values()))["by"]]
        if not _is_claim(ours["accuracy"]):
            continue
        hand = found["cells"][f"{name}/handcrafted"]["methods"]
        best = max(hand, key=lambda one: hand[one]["accuracy"])
        yield (
            f"{SETS[name]}, size `hybrid_pico`, {found['minutes']:g} minutes: right in %, and the "
            "time of an item on one core",
            f"{mean(ours['accuracy'])} in {_brief(ours['microseconds_per_item']['mean'])}",
            f"{HANDCRAFTED[best]} {points(hand[best]['accuracy'])} in "
            + _brief(hand[best]["microseconds_per_item"]),
        )


def _brief(microseconds: float) -> str:
    return f"{microseconds:.0f} \u00b5s" if microseconds < 1000 else f"{microseconds / 1000:.1f} ms"


def _seeded(block: dict[str, Any] | None) -> str:
    """A mean, and of how many seeds where it is not of as many as a claim needs."""
    if block is None or _is_claim(block):
        return mean(block)
    few = {1: "one seed", 2: "two seeds"}[block["seeds"]]
    return f"{mean(block)} ({few})"


def speeds() -> Iterator[Row]:
    """How many times as fast as a peer, from the slowest to the fastest of a table's lines."""
    found = read("decoding.json")
    if found is not None:
        peers = ("torchvision", "timm")
        yield _raced("JPEG to tensor, 0.2 to 12 Mpx", found["pictures"].values(), peers)
        yield _raced(
            "16 frames of a clip, 3 codecs", found["clips"].values(), ("torchcodec", "pyav")
        )
    found = read("tfrecord.json")
    if found is not None:
        ratios = [
            block["claims"][name]["ratio"]["median"]
            for block in found["results"].values()
            for name in BATCHED
        ]
        yield "TFRecord, without TensorFlow", f"{_span(ratios)} times", "tf.data in batches"
    found = read("pretrain_step.json")
    if found is not None:
        claims = found["claims"]["masked GAN, both players now and then"]
        what = f"Pre-training step, both players now and then, {found['precision']}"
        yield _claimed(what, claims)
    found = read("finetune.json")
    if found is not None:
        yield _claimed(f"Tuning from JPEGs, {found['precision']}", found["claims"])
    found = read("gpu.json")
    if found is not None:
        ratios = [found[one]["claim"]["ratio"]["median"] for one in ("train", "infer")]
        what = f"ViT-B on an {found['hardware']['gpu']}, a step and answers, both compiled"
        yield what, " and ".join(f"{one:.2f}" for one in ratios) + " times", "timm"
    found = read("export.json")
    if found is not None:
        halved = any("bf16" in row["fastest"] for row in found["rows"])
        for precision, ratios in (
            ("bf16" if halved else "fp32", "times_as_fast_as"),
            ("int8", "int8_times_as_fast_as"),
        ):
            spans = [
                _span(
                    [
                        row[ratios]["timm, torch fp32"]["mean"]
                        for row in found["rows"]
                        if row["batch"] == batch
                    ]
                )
                for batch in (1, 8)
            ]
            what = f"Exported model, 1 and 8 items at once, {precision}"
            yield what, f"{spans[0]} and {spans[1]} times", "timm's ViT in torch, fp32"
    found = read("first_answer.json")
    if found is not None:
        ratio = found["claims"]["transformers pipeline"]["ratio"]["median"]
        yield "First answer of a fresh process", f"{ratio:.2f} times", "transformers' pipeline"
    found = read("overload.json")
    if found is not None:
        ratio = found["times_as_much"]["median"]
        what = "Answers in time at twice the capacity"
        yield what, f"{ratio:.2f} times as many", "LitServe"


def faults() -> Iterator[Row]:
    """What was done to it, and what was lost."""
    found = read("faults.json")
    if found is not None and "kills" in found["parts"]:
        one = found["parts"]["kills"]
        lost = f"{one['checkpoints_lost']} checkpoints lost"
        yield f"`kill -9`, {one['kills']} times", lost, ""


def _is_claim(block: dict[str, Any] | None) -> bool:
    """Whether our own method was run with seeds enough; fewer are a trial, for RESULTS.md alone."""
    return block is not None and block["seeds"] >= CLAIM


def _best(said: dict[str, Any]) -> str:
    """The hand-crafted method that is right most often."""
    best = max((name for name in said if name in HANDCRAFTED), key=lambda one: said[one]["mean"])
    return f"{HANDCRAFTED[best]} {mean(said[best])}"


def _pair(angles: dict[str, Any]) -> str:
    return " and ".join(mean(angles[angle]) for angle in LIT)


def _claimed(what: str, claims: dict[str, Any]) -> Row:
    ours = " and ".join(f"{one['ratio']['median']:.2f}" for one in claims.values())
    return what, f"{ours} times", " and ".join(claims)


def _raced(what: str, blocks: Any, peers: tuple[str, ...]) -> Row:
    spans = [_span([one["claims"][peer]["ratio"]["median"] for one in blocks]) for peer in peers]
    return what, f"{' and '.join(spans)} times", " and ".join(peers)


def _span(ratios: list[float]) -> str:
    low, high = min(ratios), max(ratios)
    return f"{low:.2f} to {high:.2f}" if f"{low:.2f}" != f"{high:.2f}" else f"{low:.2f}"
