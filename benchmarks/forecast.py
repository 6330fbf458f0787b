"""What a step will take: an input pipeline and an exchange of gradients in numbers, no machine.

The pipeline is simulated with the rules of `discern.data.decoders`; the exchange is a ring.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from discern.data.decoders import AHEAD


def paced(step: float, decode: Sequence[float], workers: int, batches: int = 400) -> float:
    """Seconds a step where `workers` processes decode batches beside the training.

    `decode` are measured seconds of one batch, drawn from at random.  Request k goes to process
    k mod workers, is made when the batch of `workers * AHEAD` requests before was taken, and
    batches are taken in order.  Without workers the training decodes for itself.
    """
    draw = random.Random(0)
    if not workers:
        return step + sum(draw.choices(decode, k=batches)) / batches
    depth = workers * AHEAD
    finished, taken = [0.0] * batches, [0.0] * batches
    for k in range(batches):
        asked = taken[k - depth] if k >= depth else 0.0
        free = finished[k - workers] if k >= workers else 0.0
        finished[k] = max(asked, free) + draw.choice(decode)
        ready = taken[k - 1] + step if k else 0.0
        taken[k] = max(finished[k], ready)
    half = batches // 2  # the first ones fill the queue
    return (taken[-1] - taken[half]) / (batches - 1 - half)


@dataclass(frozen=True)
class Link:
    """What it takes to send: seconds a message, and seconds a byte."""

    latency: float
    per_byte: float

    def all_reduce(self, size: float, ranks: int) -> float:
        """A ring all-reduce of `size` bytes (Patarasu & Yuan 2009, section 3)."""
        if ranks == 1:
            return 0.0
        rounds = 2 * (ranks - 1)
        return rounds * self.latency + rounds / ranks * size * self.per_byte


def fitted(sizes: Sequence[float], seconds: Sequence[float], ranks: int) -> Link:
    """The link that explains measured all-reduces best, by relative error, both parts above 0."""
    rounds = 2 * (ranks - 1)
    columns = np.array([[rounds, rounds / ranks * size] for size in sizes])
    weight = 1 / np.array(seconds)
    found, _ = nnls(columns * weight[:, None] * [1.0, 1e-9], np.ones(len(sizes)))
    return Link(float(found[0]), float(found[1] * 1e-9))


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Machines to rent; every number is an assumption to be replaced by one's own."""

    devices: int
    flops: float = 989e12 * 0.4  # of one device: H100 in bf16, and the share that is aimed at
    cores: int = 16  # processor cores for each device
    link: Link = Link(latency=15e-6, per_byte=1 / 40e9)  # a 400 Gb/s port, most of it used
    device_hour: float = 3.0  # dollars, cores included
    stored_month: float = 0.02  # dollars for a gigabyte


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is to be learned from, and by what."""

    items: float
    epochs: float
    flops: float  # of a step for one item, measured
    decode: float  # core seconds for one item, measured
    size: float  # bytes of one item as stored
    parameters: float
    batch: int  # of all devices together


def plan(work: Work, cluster: Cluster) -> dict[str, float]:
    """Hours, dollars, and what binds: the devices, the decoding cores or the exchange."""
    share = work.batch / cluster.devices
    compute = share * work.flops / cluster.flops
    reading = share * work.decode / cluster.cores
    # after the backward pass, as `Ranks.average_gradients` does it, in 32 bits
    exchange = cluster.link.all_reduce(4 * work.parameters, cluster.devices)
    step = max(compute, reading) + exchange
    hours = work.items * work.epochs / work.batch * step / 3600
    return {
        "devices": cluster.devices,
        "step_ms": 1e3 * step,
        "compute_share": compute / step,
        "reading_share": reading / step,
        "exchange_share": exchange / step,
        "hours": hours,
        "dollars": hours * cluster.devices * cluster.device_hour,
        "terabytes": work.items * work.size / 1e12,
        "dollars_a_month_stored": work.items * work.size / 1e9 * cluster.stored_month,
        "gigabytes_a_second": share * cluster.devices * work.size / step / 1e9,
    }
