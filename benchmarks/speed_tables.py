"""Tables about what is faster by how much, and by how much a limit is missed, for RESULTS.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
HEAD = "| What | Against | Times as fast | 95 % interval | To reach |"


def speeds() -> list[str]:
    """All tables of speed."""
    return [decoding(), feeding(), busy(), stall(), first_answer(), overload()]


def decoding() -> str:
    """Pictures and clips to tensors."""
    found = _read("decoding.json")
    if found is None:
        return ""
    rows = [HEAD, "|---" * 5 + "|"]
    for kind in ("pictures", "clips"):
        for name, block in found[kind].items():
            rows += [claimed(name, peer, claim) for peer, claim in block["claims"].items()]
    differences = [
        value for one in found["pictures"].values() for value in one["mean_difference"].values()
    ]
    off = sum(one["frames_off"] for one in found["clips"].values())
    note = (
        f"One core of {found['hardware']['cpu']}, from memory; pictures cropped to 224 x 224 (at "
        f"most {max(differences):.1f} of 255 apart in the mean), clips of 300 frames of 480p of "
        f"which 16 are kept ({off} wrong ones). `{found['command']}`"
    )
    return "\n".join(["### Decoding, one core", "", *rows, "", note, ""])


def feeding() -> str:
    """What reading data adds to a step."""
    found = _read("feeding.json")
    if found is None:
        return ""
    rows = ["| Data | A step takes so many times as long | 95 % interval |", "|---" * 3 + "|"]
    for name, block in found["times_as_long"].items():
        low, high = block["interval"]
        rows.append(f"| {name} | {block['median']:.2f} | {low:.2f} to {high:.2f} |")
    note = (
        f"Against steps on one batch that is there ({found['batch']} pictures, {_cpu(found)}); "
        f"the limit is {found['limit']}. `{found['command']}`"
    )
    return "\n".join(["### A step with data, against one without reading", "", *rows, "", note, ""])


def busy() -> str:
    """What a training keeps beside a rival."""
    found = _read("busy.json")
    if found is None:
        return ""
    rows = ["| Training | Keeps of its speed alone | 95 % interval |", "|---" * 3 + "|"]
    for name, block in found["kept"].items():
        low, high = block["interval"]
        shown = f"{100 * block['median']:.0f} % | {100 * low:.0f} to {100 * high:.0f} %"
        rows.append(f"| {name.replace('torch,', 'torch as it comes,')} | {shown} |")
    note = (
        f"Beside a program with two threads on {_cpu(found)}; at least "
        f"{100 * found['to_keep']:.0f} % were to be kept. `{found['command']}`"
    )
    return "\n".join(["### A busy machine", "", *rows, "", note, ""])


def stall() -> str:
    """What checkpoints cost."""
    found = _read("stall.json")
    if found is None:
        return ""
    rows = [
        "| Checkpoint | The training waits, ms | On the disk after, ms |",
        "|---" * 3 + "|",
    ]
    for name, block in found["pause_seconds"].items():
        durable = found["durable_seconds"][name]["median"]
        rows.append(f"| {name} | {1e3 * block['median']:.0f} | {1e3 * durable:.0f} |")
    slower = 1 / found["claims"]["on the disk, against safetensors"]["ratio"]["median"]
    note = (
        f"{found['bytes'] / 1e6:.0f} MB, all synced; ours with SHA-256, on the disk after "
        f"{slower:.1f} times what safetensors takes (1.6 were allowed); read back and checked in "
        f"{found['resume_seconds']:.2f} s. `{found['command']}`"
    )
    return "\n".join(["### Checkpoints", "", *rows, "", note, ""])


def first_answer() -> str:
    """A fresh process until it has named a picture."""
    found = _read("first_answer.json")
    if found is None:
        return ""
    rows = ["| Fresh process | Seconds | 95 % interval |", "|---" * 3 + "|"]
    for name, block in found["seconds"].items():
        low, high = block["interval"]
        rows.append(f"| {name} | {block['median']:.2f} | {low:.2f} to {high:.2f} |")
    claim = found["claims"]["transformers pipeline"]["ratio"]["median"]
    note = (
        f"The first answer takes {1 / claim:.2f} of the pipeline's time (0.7 were allowed), and "
        f"imports {found['import_beyond_torch']['median']:.2f} s beyond torch's (1.0 was allowed); "
        f"{_cpu(found)}. `{found['command']}`"
    )
    return "\n".join(["### The first answer", "", *rows, "", note, ""])


def overload() -> str:
    """Servers at twice what they can serve."""
    found = _read("overload.json")
    if found is None:
        return ""
    rows = [
        "| Server | Capacity, answers a second | In time at twice that, a second |",
        "|---" * 3 + "|",
    ]
    for name, capacity in found["capacity"].items():
        rows.append(f"| {name} | {capacity:.0f} | {found['goodput'][name]:.0f} |")
    block = found["times_as_much"]
    low, high = block["interval"]
    crowd = found["crowd"]
    note = (
        f"{block['mean']:.2f} times as much ({low:.2f} to {high:.2f}; 2 were asked for) within "
        f"{found['deadline_seconds']:g} s, one thread each, {_cpu(found)}. At "
        f"{crowd['times']} times the capacity Discern's answers "
        f"{100 * crowd['goodput_of_capacity']['mean']:.0f} % of it in time, and sends 99 % of the "
        f"others away within {1e3 * crowd['refused_p99_seconds']:.0f} ms. "
        f"`{found['command']}`"
    )
    return "\n".join(["### Overload, beside LitServe", "", *rows, "", note, ""])


def claimed(what: str, peer: str, claim: dict[str, Any]) -> str:
    low, high = claim["ratio"]["interval"]
    times = f"{claim['ratio']['median']:.2f} | {low:.2f} to {high:.2f}"
    return f"| {what} | {peer} | {times} | {claim['to_reach']} |"


def _cpu(found: dict[str, Any]) -> str:
    return f"{found['hardware']['cores']} cores of {found['hardware']['cpu']}"


def _read(name: str) -> dict[str, Any] | None:
    path = RESULTS / name
    return json.loads(path.read_text()) if path.exists() else None
