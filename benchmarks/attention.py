"""Plain and fused attention on this CPU: milliseconds of forward and backward for short sequences.

    python benchmarks/attention.py

Interleaved, medians of several rounds; writes results/attention.json.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

SHAPES = ((512, 32), (256, 64), (64, 128), (64, 256))  # batch, tokens; 4 heads of 32
ROUNDS = 7


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(dim=-1) @ v


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def milliseconds(attend: Callable[..., Tensor], qkv: Tensor) -> float:
    started = time.perf_counter()
    attend(*qkv).float().sum().backward()
    return 1e3 * (time.perf_counter() - started)


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for batch, tokens in SHAPES:
        for dtype in (torch.bfloat16, torch.float32):
            qkv = torch.randn(3, batch, 4, tokens, 32, dtype=dtype).requires_grad_()
            times: dict[str, list[float]] = {"plain": [], "fused": []}
            for _ in range(ROUNDS + 1):
                for name, attend in (("plain", plain), ("fused", fused)):
                    times[name].append(milliseconds(attend, qkv))
            row = {name: statistics.median(found[1:]) for name, found in times.items()}
            row |= {"ratio": row["fused"] / row["plain"]}
            rows.append({"batch": batch, "tokens": tokens, "dtype": str(dtype)[6:], **row})
            print(rows[-1])
    out = Path(__file__).parent / "results" / "attention.json"
    about = {"command": " ".join(sys.argv), "torch": torch.__version__, "cores": os.cpu_count()}
    out.write_text(json.dumps({**about, "load": os.getloadavg(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
