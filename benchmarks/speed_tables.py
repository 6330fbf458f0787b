"""Tables about what is faster by how much, and by how much a limit is missed, for RESULTS.md."""

from __future__ import annotations

from typing import Any

from tables import HANDCRAFTED, SETS, mean, median, points, read, section

WHERE = {
    "torch": "torch",
    "onnx": "ONNX",
    "openvino": "OpenVINO",
    "openvino in bf16": "OpenVINO in bf16",
}
PLAYED_AGAINST = ("plain GAN", "MAE of transformers")
KEPT = {"seconds": ".2f", "megabytes": ".0f", "peak_megabytes": ".0f"}
WAITED = ("pause_seconds", "durable_seconds")


def speeds() -> list[str]:
    """All tables of speed."""
    return [
        decoding(),
        pretrain_step(),
        finetune(),
        inference(),
        item_time(),
        feeding(),
        busy(),
        divided(),
        stall(),
        first_answer(),
        overload(),
        gpu(),
    ]


def decoding() -> str:
    """Pictures and clips to tensors."""
    found = read("decoding.json")
    if found is None:
        return ""
    blocks = found["pictures"] | found["clips"]
    rows = [
        (name, peer, *median(claim["ratio"]), claim["to_reach"])
        for name, block in blocks.items()
        for peer, claim in block["claims"].items()
    ]
    differences = [
        value for one in found["pictures"].values() for value in one["mean_difference"].values()
    ]
    off = sum(one["frames_off"] for one in found["clips"].values())
    note = (
        f"One core of {found['hardware']['cpu']}, from memory; pictures cropped to 224 x 224 (at "
        f"most {max(differences):.1f} of 255 apart in the mean), clips of 300 frames of 480p of "
        f"which 16 are kept ({off} wrong ones). `{found['command']}`"
    )
    head = ("What", "Against", "Times as fast", "95 % interval", "To reach")
    return section("Decoding, one core", head, rows, note)


def pretrain_step() -> str:
    """Ours beside a plain GAN and an MAE."""
    found = read("pretrain_step.json")
    if found is None:
        return ""
    rows = []
    for name, block in found["pictures_per_second"].items():
        ratios = [_against(found["claims"].get(name, {}).get(peer)) for peer in PLAYED_AGAINST]
        played = found["played"].get(name)
        share = "" if played is None else f"{100 * played:.0f} %"
        rows.append((name, f"{block['median']:.1f}", share, *ratios))
    note = (
        f"{found['shape']}, random pictures, {found['precision']}, {found['threads']} threads, "
        f"{_cpu(found)}. 2.5 times the plain GAN and 0.6 of the MAE were asked for. "
        f"`{found['command']}`"
    )
    head = ("Step", "Pictures a second", "Steps with both players", "Times the plain GAN")
    return section("A pre-training step", (*head, "Times the MAE"), rows, note)


def finetune() -> str:
    """Tuning from files, beside timm's and Hugging Face's loops."""
    found = read("finetune.json")
    if found is None:
        return ""
    rows = [
        (name, *median(block), _against(found["claims"].get(name), bar=True))
        for name, block in found["pictures_per_second"].items()
    ]
    binds = (
        "What binds: in 32 bits all do the same matrix products; ours does a stem of convolutions, "
        "strong augmentation, mixed items and an average of the weights beside them, as it comes. "
        if found["precision"] == "fp32"
        else "Hugging Face's Trainer as it comes is in fp32. "
    )
    note = (
        f"{found['shape']}, {found['precision']}, {found['threads']} threads, {_cpu(found)}. "
        f"{binds}`{found['command']}`"
    )
    head = ("Loop", "Pictures a second", "95 % interval", "Ours is so many times as fast")
    return section("Tuning, from JPEGs to steps", head, rows, note)


def inference() -> str:
    """Plain torch, beside timm."""
    found = read("inference.json")
    if found is None:
        return ""
    rows = [
        (
            name,
            kinds,
            f"{_milliseconds(block, 'ours', kinds.split()[0]):.1f}",
            f"{_milliseconds(block, 'timm', kinds.split()[-1]):.1f}",
            _against(claim, bar=True),
        )
        for name, block in found["rows"].items()
        for kinds, claim in block["claims"].items()
    ]
    slow = "" if "bf16" in found["precisions"] else ", and this processor has no faster ones in 16"
    alone, together = (found["rows"][f"nano, 32 pixels, {count} at once"] for count in (1, 64))
    least = found["precisions"][-1]
    calls = 64 * _milliseconds(alone, "ours", least) / _milliseconds(together, "ours", least)
    note = (
        f"One core of {found['hardware']['cpu']}, ours from bytes of pixels, as `discern predict "
        f"--precision P` computes. What binds: ours has a stem of convolutions and normalised "
        f"queries and keys more; in 32 bits both do the same matrix products{slow}; one item of "
        f"`nano` takes {calls:.1f} times its share of 64 at once. "
        f"{_moved(found['moved'])}`{found['command']}`"
    )
    head = ("What", "Ours against timm", "Ours, ms", "timm, ms", "Ours is so many times as fast")
    return section("Answers in plain torch, beside timm's ViT", head, rows, note)


def _moved(found: dict[str, Any] | None) -> str:
    """How far bf16 moves answers."""
    if found is None:
        return ""
    right, apart = found["right"], found["apart"]
    return (
        f"On {found['items']:,} CIFAR-10 test images a model is right in "
        f"{100 * right['fp32']:.2f} % in fp32 and in {100 * right['bf16']:.2f} % in bf16, with the "
        f"same label for "
        f"{100 * found['same_label']:.1f} %; the class whose probability moves most moves by "
        f"{100 * apart['50']:.1f} points for half of the images, {100 * apart['99']:.1f} for 99 % "
        f"and {100 * apart['100']:.1f} at most. "
    )


def _milliseconds(block: dict[str, Any], who: str, precision: str) -> float:
    return float(block["milliseconds"][f"{who}, {precision}"]["median"])


def item_time() -> str:
    """Our smallest size beside hand-crafted features."""
    found = read("item_time.json")
    if found is None or not all(block["against"] for block in found["sets"].values()):
        return ""  # not yet filled
    rows: list[tuple[str, ...]] = []
    for name, block in found["sets"].items():
        for where, one in block["ours"].items():
            cost = f"{one['microseconds_per_item']['mean']:.0f}"
            rows.append((SETS[name], f"**{WHERE[where]}**", mean(one["accuracy"]), cost, "", ""))
        hand = found["cells"][f"{name}/handcrafted"]
        for method, one in hand["methods"].items():
            against = block["against"][method]
            rows.append(
                (
                    SETS[name],
                    HANDCRAFTED[method],
                    points(one["accuracy"]),
                    f"{one['microseconds_per_item']:.0f}",
                    f"{100 * against['points']['mean']:+.1f}",
                    f"{against['times_as_cheap']:.2f}",
                )
            )
        if hand["scikit_image_hog"]:
            cost = f"{hand['scikit_image_hog']:.0f}"
            rows.append((SETS[name], "HOG of scikit-image, without a classifier", "", cost, "", ""))
    note = (
        f"`hybrid_pico`, {found['minutes']:g} minutes of training on one thread; processor time on "
        f"one core of {found['hardware']['cpu']}, from the same frames in memory to probabilities. "
        f"{_not_beaten(found['sets'])}Mean over seeds, half of the 95 % interval; hand-crafted "
        f"methods have no seed. `{found['command']}`"
    )
    head = ("Data", "Method", "Test accuracy", "Microseconds", "Ours, points", "times as cheap")
    return section("An item of our smallest size, beside hand-crafted features", head, rows, note)


def _not_beaten(sets: dict[str, Any]) -> str:
    """Where our cheapest answer is cheaper and more often right, and than what it is not."""
    said = []
    for name, block in sets.items():
        (by,) = {one["by"] for one in block["against"].values()}
        others = [
            HANDCRAFTED[method]
            for method, one in block["against"].items()
            if one["times_as_cheap"] < 1 or one["points"].get("interval", [0.0])[0] <= 0
        ]
        but = f", except: {', '.join(others)}" if others else ""
        said.append(
            f"On {SETS[name]} ours in {WHERE[by]} is cheaper than every hand-crafted method and, "
            f"beyond the interval, more often right{but}. "
        )
    return "".join(said)


def divided() -> str:
    """Blocks divided over two ranks."""
    found = read("divided.json")
    if found is None:
        return ""
    rows = [
        (f"`{size}`, {name}", *(f"{block[key]['median']:{form}}" for key, form in KEPT.items()))
        for size, both in found["sizes"].items()
        for name, block in both.items()
    ]
    note = (
        f"Two ranks of one thread, {found['batch']} pictures a step, gloo, {_cpu(found)}; weights, "
        f"gradients, moments and averages of one rank. `{found['command']}`"
    )
    head = ("Pre-training", "A step, s", "Kept by a rank, MB", "Peak of a rank, MB")
    return section("Blocks divided over ranks", head, rows, note)


def feeding() -> str:
    """What reading data adds to a step."""
    found = read("feeding.json")
    if found is None:
        return ""
    rows = [(name, *median(block)) for name, block in found["times_as_long"].items()]
    note = (
        f"Against steps on one batch that is there ({found['batch']} pictures, {_cpu(found)}); "
        f"the limit is {found['limit']}. `{found['command']}`"
    )
    head = ("Data", "A step takes so many times as long", "95 % interval")
    return section("A step with data, against one without reading", head, rows, note)


def busy() -> str:
    """What a training keeps beside a rival."""
    found = read("busy.json")
    if found is None:
        return ""
    rows = [
        (name.replace("torch,", "torch as it comes,"), *median(block))
        for name, block in found["kept"].items()
    ]
    note = (
        f"Beside a program with two threads on {_cpu(found)}; at least {found['to_keep']:g} was to "
        f"be kept. `{found['command']}`"
    )
    return section(
        "A busy machine", ("Training", "Keeps of its speed alone", "95 % interval"), rows, note
    )


def stall() -> str:
    """What checkpoints cost."""
    found = read("stall.json")
    if found is None:
        return ""
    rows = [
        (name, *(f"{1e3 * found[part][name]['median']:.0f}" for part in WAITED))
        for name in found["pause_seconds"]
    ]
    slower = 1 / found["claims"]["on the disk, against safetensors"]["ratio"]["median"]
    note = (
        f"{found['bytes'] / 1e6:.0f} MB, all synced; ours with SHA-256, on the disk after "
        f"{slower:.1f} times what safetensors takes (1.6 were allowed); read back and checked in "
        f"{found['resume_seconds']:.2f} s. `{found['command']}`"
    )
    head = ("Checkpoint", "The training waits, ms", "On the disk after, ms")
    return section("Checkpoints", head, rows, note)


def first_answer() -> str:
    """A fresh process until it has named a picture."""
    found = read("first_answer.json")
    if found is None:
        return ""
    rows = [(name, *median(block)) for name, block in found["seconds"].items()]
    claim = found["claims"]["transformers pipeline"]["ratio"]["median"]
    note = (
        f"The first answer takes {1 / claim:.2f} of the pipeline's time (0.7 were allowed), and "
        f"imports {found['import_beyond_torch']['median']:.2f} s beyond torch's (1.0 was allowed); "
        f"{_cpu(found)}. `{found['command']}`"
    )
    return section("The first answer", ("Fresh process", "Seconds", "95 % interval"), rows, note)


def overload() -> str:
    """Servers at twice what they can serve."""
    found = read("overload.json")
    if found is None:
        return ""
    rows = [
        (
            name,
            f"{capacity:.0f}",
            f"{found['goodput'][name]:.0f}",
            f"{1e3 * found['medians'][name]['half_p99_seconds']:.0f}",
            f"{found['medians'][name]['first_answer_seconds']:.1f}",
            f"{found['medians'][name]['megabytes']:.0f}",
        )
        for name, capacity in found["capacity"].items()
    ]
    block, crowd = found["times_as_much"], found["crowd"]
    low, high = block["interval"]
    note = (
        f"{block['median']:.2f} times as much ({low:.2f} to {high:.2f}, the median of "
        f"{len(block['rounds'])} rounds; 2 were asked for) within "
        f"{found['deadline_seconds']:g} s, one thread each, {_cpu(found)}. At "
        f"{crowd['times']} times the capacity Discern's answers "
        f"{100 * crowd['goodput_of_capacity']['mean']:.0f} % of it in time, and sends 99 % of the "
        f"others away within {1e3 * crowd['refused_p99_seconds']:.0f} ms. Without a server an "
        f"answer takes {1e3 * found['bare_seconds']:.0f} ms. `{found['command']}`"
    )
    head = (
        *("Server", "Capacity, answers a second", "In time at twice that, a second"),
        *("99 % within, at half of it, ms", "First answer after, s", "Memory of its own, MB"),
    )
    return section("Overload, beside LitServe", head, rows, note)


def gpu() -> str:
    """A GPU at work, beside timm."""
    found = read("gpu.json")
    if found is None:
        return ""
    rows = []
    for name, what in (("train", "A step of training"), ("infer", "Answers")):
        block = found[name]
        times = [f"{block['milliseconds'][who]['median']:.1f}" for who in ("ours", "timm")]
        shares = [
            f"{100 * block['share_of_peak'][who]['median']:.0f} %" for who in ("ours", "timm")
        ]
        rows.append((what, *times, _against(block["claim"], bar=True), *shares))
    value, spread = median(found["data"]["ratio"])
    reach = (
        f"{100 * found['train']['peak_to_reach']:g} and {100 * found['infer']['peak_to_reach']:g}"
    )
    note = (
        f"ViT of size {found['size']}, {found['batch']} pictures of {found['side']} x "
        f"{found['side']}, bf16, {found['hardware']['gpu']}, whose fastest large product of "
        f"matrices ran at {found['peak_tflops']:.0f} TFLOP/s; {reach} % of it were asked for. "
        f"{found['compiled']['graph_breaks']} graph breaks. The whole step of `discern train` "
        f"takes {value} times as long with its batches from memory as with one that stays "
        f"({spread}; {found['data']['to_reach']:g} allowed). `{found['command']}`"
    )
    head = ("What", "Ours, ms", "timm, ms", "Ours is so many times as fast", "Ours, of the peak")
    return section("A GPU at work, both compiled", (*head, "timm, of the peak"), rows, note)


def _against(claim: dict[str, Any] | None, *, bar: bool = False) -> str:
    """A ratio with its interval, and what was asked for."""
    if claim is None:
        return ""
    value, spread = median(claim["ratio"])
    return f"{value} ({spread}" + (f"; {claim['to_reach']:g} asked for)" if bar else ")")


def _cpu(found: dict[str, Any]) -> str:
    return f"{found['hardware']['cores']} cores of {found['hardware']['cpu']}"
