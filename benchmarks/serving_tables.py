"""Tables about exports, what is served, and the watch over a training, for RESULTS.md."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from tables import read, section

SERVED = {
    "timm, torch fp32": "timm, fp32",
    "timm, torch bf16": "timm, bf16",
    "ours, onnx": "Ours, ONNX",
    "ours, openvino": "Ours, OpenVINO",
    "ours, openvino in bf16": "Ours, OpenVINO in bf16",
    "ours, onnx in int8": "Ours, ONNX in int8",
    "ours, openvino in int8": "Ours, OpenVINO in int8",
}
PEERS = ("fp32", "bf16")
ASKED = {"fp32": 3.5, "bf16": 1.6}
# processors with bf16, with a matrix unit as well, and with neither
EXPORTS = ("export.json", "export_amx.json", "export_avx2.json")


def exports() -> str:
    """Answers of exported models, beside timm in torch, on each kind of processor."""
    return "\n".join(exports_of(found) for name in EXPORTS if (found := read(name)) is not None)


def exports_of(found: dict[str, Any]) -> str:
    """The table of one machine."""
    heads = [head for name, head in SERVED.items() if name in found["rows"][0]["milliseconds"]]
    heads += ["Ours against fp32", "against bf16", "in int8 against fp32", "against bf16"]
    rows = [f"| Size | Items at once | {' | '.join(heads)} |"]
    rows.append("|---" * (len(heads) + 2) + "|")
    for row in found["rows"]:
        times = row["milliseconds"]
        shown = [f"{times[name]:.1f}" for name in SERVED if name in times]
        ratios = [
            _times(row[against][f"timm, torch {peer}"])
            for against in ("times_as_fast_as", "int8_times_as_fast_as")
            for peer in PEERS
        ]
        size = f"`{row['size']}`, {row['side']} pixels"
        rows.append(f"| {size} | {row['batch']} | {' | '.join([*shown, *ratios])} |")
    note = (
        f"Milliseconds of a batch on one thread of {found['hardware']['cpu']}, medians of "
        f"{found['rounds']} rounds, other load {found['load_before']:.1f}; ours from bytes to "
        f"calibrated probabilities. 3.5 times fp32 were asked for, 1.6 times bf16"
        f"{_reached(found)}. {_binds(found)}{_most(found)}{_parity(found)}{_cost(found)}"
        f"`{found['command']}`"
    )
    title = f"### Exported models, beside timm's ViT in torch, on {found['hardware']['cpu']}"
    if "ours, openvino in bf16" not in found["rows"][0]["milliseconds"]:
        title += " without bf16"
    return "\n".join([title, "", *rows, "", note, ""])


def requests() -> str:
    """What odd requests did to the server."""
    found = read("odd_requests.json")
    if found is None:
        return ""
    text = (
        f"{found['requests']:,} odd requests: {found['faults']} answers of 500 and above that are "
        f"not a full queue's, {found['leaks']} with a path or a trace; the server "
        f"{'lives' if found['alive'] else 'is dead'}, holds {found['files_grown']} files more and "
        f"{found['memory_grown_bytes'] / 2**20:.0f} MB more than after the first "
        f"3,000{_lately(found['memory_megabytes'])}. "
        f"`{found['command']}`"
    )
    return "\n".join(["### Requests of strangers", "", text, ""])


def _lately(looks: list[float]) -> str:
    """What memory does once it has grown to what it needs; nothing of a short run."""
    if len(looks) < 8:
        return ""
    third, last = (looks[part * len(looks) // 4 :][: len(looks) // 4] for part in (2, 3))
    return (
        f"; from the third quarter to the last it changed by {fmean(last) - fmean(third):+.1f} MB"
    )


def wheel() -> str:
    """From the wheel to the page, as README has it."""
    found = read("wheel.json")
    if found is None:
        return ""
    rows = [(what, f"{seconds:.0f}") for what, seconds in found["seconds"].items()]
    rows.append(("**all of it**", f"**{found['total_seconds']:.0f}**"))
    size, torch = found["megabytes"], found["installed"]["torch"]
    note = (
        f"{found['to_reach']:.0f} seconds were allowed. The page has {found['page_bytes']:,} "
        f"bytes, and a picture was named. The wheel has {size['whole']:.1f} MB, "
        f"{size['code']:.1f} of them without the weights. torch {torch}, "
        f"{found['hardware']['cores']} cores of {found['hardware']['cpu']}; how long pip takes is "
        "a matter of the line. "
        f"`{found['command']}`"
    )
    return section("From the wheel to an answer on the page", ("What", "Seconds"), rows, note)


def soak() -> str:
    """What an hour does to a server."""
    found = read("soak.json")
    if found is None:
        return ""
    low, high = found["files"]
    least, most = found["interval"]
    text = (
        f"{found['minutes']:g} minutes, {found['requests']:,} requests: memory grows by "
        f"{found['megabytes_per_hour']:.1f} MB an hour (95 % interval {least:.1f} to {most:.1f}; "
        f"less than {found['limit']:g} was asked for), {low} to {high} files are open; the server "
        f"{'lives' if found['alive'] else 'is dead'}. `{found['command']}`"
    )
    return "\n".join(["### An hour of requests", "", text, ""])


def watch() -> str:
    """How soon a training that goes wrong is told."""
    found = read("watch.json")
    if found is None:
        return ""
    rows = ["| Fault | Steps until it was told |", "|---|---|"]
    for name, one in found["forced"].items():
        after = one["seen_after"]
        rows.append(f"| {name} | {'not within 500' if after is None else after} |")
    note = (
        f"{found['seen']} of {found['forced_runs']} faults told within 500 steps, "
        f"{found['false_alarms']} false alarms in {found['healthy_runs']} healthy runs. "
        f"`{found['command']}`"
    )
    return "\n".join(["### The watch over a training", "", *rows, "", note, ""])


def _reached(found: dict[str, Any]) -> str:
    """Where both were reached by the faster one of whole and fewer bits; nothing where nowhere."""
    cases = [
        f"{row['batch']} of `{row['size']}`"
        for row in found["rows"]
        if any(
            all(row[of][f"timm, torch {peer}"]["mean"] >= ASKED[peer] for peer in PEERS)
            for of in ("times_as_fast_as", "int8_times_as_fast_as")
        )
    ]
    if len(cases) == len(found["rows"]):
        return ", and reached in all of them"
    return f", and both reached with {', '.join(cases)} at once" if cases else ""


def _binds(found: dict[str, Any]) -> str:
    """What keeps the ratios down: no products in 16 bits, or what the peer gains by a batch."""
    times = [row["milliseconds"] for row in found["rows"]]
    if any(one["timm, torch bf16"] < one["timm, torch fp32"] for one in times):
        alone, eight = times[:2]  # of the same network
        shares = [
            f"{eight[name] / (8 * alone[name]):.2f}"
            for name in ("timm, torch bf16", found["rows"][0]["fastest"])
        ]
        return (
            f"What binds: of eight items at once each takes timm {shares[0]} of the time that it "
            f"takes alone, and ours {shares[1]}, which has less around its products to share. "
        )
    return (
        "What binds: this processor has no matrix products in 16 bits (timm's own are slower than "
        "in 32), and in 32 bits both do nearly the same ones. "
    )


def _most(found: dict[str, Any]) -> str:
    """How far ahead of timm its products alone would be, in 32 or 16 bits; nothing of older tables.

    That is at the rate of one large product, and with nothing around them.
    """
    said = []
    for row in found["rows"]:
        if "least_milliseconds" not in row:
            return ""
        least = min(row["least_milliseconds"].values())
        ahead = [
            f"{row['milliseconds'][f'timm, torch {peer}'] / least:.2f} times its {peer}"
            for peer in PEERS
        ]
        said.append(f"{row['batch']} of `{row['size']}` {' and '.join(ahead)}")
    best = max(found["rates"], key=found["rates"].__getitem__)
    return (
        f"The products of the network alone, at the {found['rates'][best] / 1e9:.0f} GFLOP/s of "
        f"one large product in {best}, would be ahead of timm by: {'; '.join(said)}. More "
        "would need faster products, fewer operations or fewer bits. "
    )


def _parity(found: dict[str, Any]) -> str:
    """How far exports are from torch on real items."""
    checks = [
        kind
        for formats in found.get("parity", {}).values()
        for kinds in formats.values()
        for kind in kinds.values()
    ]
    if not checks:
        return ""
    furthest = max(max(one["largest_difference"].values()) for one in checks)
    counts = sorted({one["items"] for one in checks}, reverse=True)
    batches = ", ".join(checks[0]["largest_difference"])
    return (
        f"In fp32 probabilities are at most {furthest:.0e} from torch's, on "
        f"{' images and '.join(f'{count:,}' for count in counts)} clips of the data sets, in "
        f"batches of {batches} (`--parity cifar10 jhmdb`). "
    )


def _cost(found: dict[str, Any]) -> str:
    """What fewer bits cost a trained model, or that it was refused."""
    said = [
        f"{name} {one['image']['accuracy']:.1%} of {one['image']['items']:,} images are right and "
        f"{one['image']['accuracy_fp32']:.1%} in fp32"
        for name, one in found.get("cost", {}).items()
        if "refused" not in one
    ]
    said += [
        f"{name} is refused" for name, one in found.get("cost", {}).items() if "refused" in one
    ]
    if not said:
        return ""
    return f"A trained model: in {'; in '.join(said)} (`--model RUN --source FOLDER`). "


def _times(block: dict[str, Any]) -> str:
    low, high = block["interval"]
    return f"{block['mean']:.2f} ({low:.2f} to {high:.2f})"
