"""Tables about attacks and hardening, for RESULTS.md."""

from __future__ import annotations

from tables import points, read, section

NAMES = {
    "plain": "as usual",
    "hardened": "`--harden linf:8/255`, `harden.method=worst`",
    "without": "hardened, 100 labels a class",
    "drawn": "the same, a quarter of each batch drawn",
}


def hardened() -> str:
    """What hardening holds and costs."""
    found = read("harden.json")
    if found is None:
        return ""
    rows = []
    for name, cell in found["cells"].items():
        kind, seed = name.rsplit("-", 1)
        attack = cell["attack"]
        between = " to ".join(map(points, attack["worst_case_interval"]))
        held = (
            f"{cell['suite']}, {cell['attacked']} images",
            points(attack["worst_case"]),
            between,
        )
        rows.append((NAMES[kind], f"{cell['minutes']:g}", seed, points(cell["accuracy"]), *held))
    some = next(iter(found["cells"].values()))
    flags = {flag for cell in found["cells"].values() for flag in cell["attack"]["flags"]}
    commands = dict.fromkeys(cell["command"] for cell in found["cells"].values())
    made = " ".join(f"`{command}`." for command in commands)
    note = (
        f"CIFAR-10 test images, L-inf, 8/255; a training uses "
        f"{some['hardware']['cores']} cores of {some['hardware']['cpu']} at most. Red flags: "
        f"{'; '.join(sorted(flags)) or 'none'}. {made}"
    )
    adds = found["summary"].get("drawn_adds")
    if adds and "interval" in adds:
        low, high = adds["interval"]
        note += (
            f" Drawn images add {100 * adds['mean']:+.1f} points ({100 * low:+.1f} to "
            f"{100 * high:+.1f}, {adds['seeds']} seeds) to what stays right."
        )
    head = ("Trained", "Minutes", "Seed", "Accuracy", "Suite", "Right after it", "95 % interval")
    return section("Hardening", head, rows, note)


def attacks() -> str:
    """Ours beside ART's."""
    found = read("attacks.json")
    if found is None:
        return ""
    rows = [
        (
            f"`{row['attack']}`",
            found["steps"][row["attack"]],
            points(row["ours"]),
            points(row["art"]),
            f"{row['ours_seconds']:.0f}",
            f"{row['art_seconds']:.0f}",
        )
        for row in found["rows"]
    ]
    version = found["versions"]["adversarial-robustness-toolbox"]
    note = (
        f"The same model ({points(found['accuracy'])} % right before), {found['items']} items, "
        f"L-inf, 8/255, ART {version}. `{found['command']}`"
    )
    head = ("Attack", "Steps", "Right after ours", "after ART's", "Ours, s", "ART's, s")
    return section("Attacks, beside ART's", head, rows, note)
