"""Tables about attacks and hardening, for RESULTS.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
NAMES = {
    "plain": "as usual",
    "hardened": "`--harden linf:8/255`, `harden.method=worst`",
    "without": "hardened, 100 labels a class",
    "drawn": "the same, a quarter of each batch drawn",
}


def hardened() -> str:
    """What hardening holds and costs."""
    found = _read("harden.json")
    if found is None:
        return ""
    rows = [
        "| Trained | Minutes | Seed | Accuracy | Right after the standard suite | 95 % interval |",
        "|---" * 6 + "|",
    ]
    for name, cell in found["cells"].items():
        kind, seed = name.rsplit("-", 1)
        low, high = cell["attack"]["worst_case_interval"]
        held = f"{_points(cell['attack']['worst_case'])} | {_points(low)} to {_points(high)}"
        trained = f"{NAMES[kind]} | {cell['minutes']:g} | {seed} | {_points(cell['accuracy'])}"
        rows.append(f"| {trained} | {held} |")
    some = next(iter(found["cells"].values()))
    flags = [flag for cell in found["cells"].values() for flag in cell["attack"]["flags"]]
    note = (
        f"CIFAR-10, L-inf, 8/255, {some['attacked']} test images; a training uses "
        f"{some['hardware']['cores']} cores of {some['hardware']['cpu']} at most. Red flags: "
        f"{'; '.join(sorted(set(flags))) or 'none'}. `{found['command']}`"
    )
    adds = found["summary"].get("drawn_adds")
    if adds and "interval" in adds:
        low, high = adds["interval"]
        note += (
            f" Drawn images add {100 * adds['mean']:+.1f} points ({100 * low:+.1f} to "
            f"{100 * high:+.1f}, {adds['seeds']} seeds) after the suite."
        )
    return "\n".join(["### Hardening, the standard suite", "", *rows, "", note, ""])


def attacks() -> str:
    """Ours beside ART's."""
    found = _read("attacks.json")
    if found is None:
        return ""
    rows = ["| Attack | Steps | Right after ours | after ART's | Ours, s | ART's, s |"]
    rows.append("|---" * 6 + "|")
    for row in found["rows"]:
        left = f"{_points(row['ours'])} | {_points(row['art'])}"
        seconds = f"{row['ours_seconds']:.0f} | {row['art_seconds']:.0f}"
        name = f"`{row['attack']}` | {found['steps'][row['attack']]}"
        rows.append(f"| {name} | {left} | {seconds} |")
    version = found["versions"]["adversarial-robustness-toolbox"]
    note = (
        f"The same model ({_points(found['accuracy'])} % right before), {found['items']} items, "
        f"L-inf, 8/255, ART {version}. `{found['command']}`"
    )
    return "\n".join(["### Attacks, beside ART's", "", *rows, "", note, ""])


def _points(share: float) -> str:
    return f"{100 * share:.1f}"


def _read(name: str) -> dict[str, Any] | None:
    path = RESULTS / name
    return json.loads(path.read_text()) if path.exists() else None
