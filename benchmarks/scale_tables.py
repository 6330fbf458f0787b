"""Tables of growth: what minutes and sizes buy, what many machines would take and how surely."""

from __future__ import annotations

from typing import Any

from tables import points, read, section


def forecasts() -> list[str]:
    """All tables of `simulate.py`."""
    found = read("simulate.json")
    if found is None:
        return []
    return [pipeline(found), exchange(found), plans(found)]


def curves() -> str:
    """Accuracy against minutes, sizes and images."""
    found = read("scaling.json")
    if found is None:
        return ""
    order = sorted(found["cells"].values(), key=lambda one: (one["images"], one["minutes"]))
    rows = [
        (
            f"`{one['size']}`",
            f"{one['minutes']:g}",
            f"{one['images']:,}",
            f"{one['pretrain_steps']:,}",
            points(one["knn"]),
            points(one["accuracy"]),
            f"{one['test_items']:,}",
        )
        for one in order
    ]
    note = (
        "CIFAR-10, one seed; k-NN of the pre-trained encoder on training items, test accuracy "
        f"after {found['minutes']:g} minutes of tuning on {found['labels']} labels a class. "
        f"One thread, {found['hardware']['cpu']}. `{found['command']}`"
    )
    head = ("Size", "Minutes of pre-training", "Images", "Steps", "k-NN", "Tuned", "Test items")
    return section("How accuracy grows", head, rows, note)


def pipeline(found: dict[str, Any]) -> str:
    """Steps with decoders beside them."""
    block = found["pipeline"]
    usual = block["decode_seconds_per_batch"]
    rows = [
        (
            case["workers"],
            f"{case['wait'] / usual:.1f}",
            f"{1e3 * case['measured']:.0f}",
            f"{1e3 * case['foretold']:.0f}",
            f"{100 * case['error']:+.1f} %",
        )
        for case in block["cases"]
    ]
    note = (
        f"Batches of {block['batch']} pictures that take {1e3 * usual:.0f} ms to decode, "
        f"{found['hardware']['cpu']}; the training waits as long as a step would take. "
        f"`{found['command']}`"
    )
    head = ("Decoders", "A step, in times of decoding", "Measured, ms", "Foretold, ms", "Error")
    return section("A step with decoders beside it, foretold", head, rows, note)


def exchange(found: dict[str, Any]) -> str:
    """Gradients between ranks."""
    rows = [
        (
            f"{ranks} ranks, {case['bytes'] / 2**20:.2f} MB"
            + ("" if case["fitted"] else ", asked"),
            f"{1e3 * case['measured']:.2f}",
            f"{1e3 * case['foretold']:.2f}",
            f"{100 * case['error']:+.1f} %",
        )
        for ranks, block in found["exchange"].items()
        for case in block["cases"]
    ]
    both = found["ranks"]
    rows.append(
        (
            "a step of two ranks, with its exchange",
            f"{1e3 * both['seconds_two_ranks']:.0f}",
            f"{1e3 * both['two_ranks_foretold']:.0f}",
            f"{100 * both['error']:+.1f} %",
        )
    )
    note = (
        f"gloo on one machine of {found['hardware']['cores']} cores, so four ranks share them; "
        "the link is fitted to the sizes that are not marked. Two ranks of one thread do the "
        "default pre-training "
        f"{both['times_as_fast']:.2f} times as fast as one; one rank of two threads "
        f"{both['seconds_one_thread'] / both['seconds_two_threads']:.2f} times."
    )
    head = ("All-reduce", "Measured, ms", "Foretold, ms", "Error")
    return section("Gradients between ranks, foretold", head, rows, note)


def plans(found: dict[str, Any]) -> str:
    """A billion images, a hundred million clips."""
    rows = [
        (
            f"{row['items']:.0e} {row['kind']}, `{row['encoder']}`, {row['devices']} devices",
            f"{row['gigaflops']:.0f}",
            f"{points(row['compute_share'])} / {points(row['reading_share'])} / "
            f"{points(row['exchange_share'])}",
            f"{row['hours']:,.0f}",
            f"{row['dollars']:,.0f}",
            f"{row['gigabytes_a_second']:.1f}",
            f"{row['terabytes']:,.0f}",
        )
        for row in ({**row, "gigaflops": row["flops"] / 1e9} for row in found["plans"])
    ]
    assumed = found["assumed"]
    link = assumed["link"]
    note = (
        f"A forecast, not a measurement: {found['plans'][0]['epochs']:g} epochs at 224 pixels, "
        "operations counted here, decoding as timed above on one core, and assumptions that stand "
        f"in `benchmarks/forecast.py`: devices that do {assumed['flops'] / 1e12:.0f} TFLOPS of "
        f"ours, {assumed['cores']} cores each, links of {1e-9 / link['per_byte']:.0f} GB/s and "
        f"{1e6 * link['latency']:.0f} microseconds, {assumed['device_hour']:g} dollars for a "
        "device and hour."
    )
    head = ("What", "GFLOP an item", "Devices / decoding / exchange, % of a step", "Hours")
    head += ("Dollars", "Read, GB/s", "Stored, TB")
    return section("A billion images, a hundred million clips", head, rows, note)
