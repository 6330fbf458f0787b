"""Same numbers again: seeds go in; random states, versions and thread counts come out as JSON."""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import random
import sys
from pathlib import Path
from typing import Any

from discern.threads import choose_threads, free_cores, prepare_threads, set_threads

__all__ = [
    "choose_threads",
    "derive_seed",
    "free_cores",
    "generator_state",
    "make_deterministic",
    "prepare_threads",
    "random_state",
    "restore_generator",
    "restore_random_state",
    "seed_all",
    "set_threads",
    "versions",
]


def derive_seed(seed: int, *names: str | int) -> int:
    """A seed for one use, as in `derive_seed(seed, "loader", epoch)`; the same everywhere."""
    text = "\0".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seed_all(seed: int) -> None:
    """Seed the generators that libraries share: Python's, numpy's, torch's (all devices)."""
    import numpy as np
    import torch

    random.seed(derive_seed(seed, "python"))
    np.random.seed(derive_seed(seed, "numpy") % 2**32)
    torch.manual_seed(derive_seed(seed, "torch"))


def random_state() -> dict[str, Any]:
    """The state of the shared generators, as JSON values for `restore_random_state`."""
    import numpy as np
    import torch

    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # type: ignore[misc]
    state: dict[str, Any] = {
        "python": [version, list(words), gauss],
        "numpy": [
            kind,
            _encode(np.asarray(keys, dtype="<u4").tobytes()),
            position,
            has_gauss,
            cached,
        ],
        "torch": _encode(torch.get_rng_state().numpy().tobytes()),
    }
    if torch.cuda.is_available():
        state["cuda"] = [_encode(each.numpy().tobytes()) for each in torch.cuda.get_rng_state_all()]
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Set the shared generators to where `random_state` found them."""
    import numpy as np
    import torch

    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    numbers = np.frombuffer(base64.b64decode(keys), dtype="<u4")
    np.random.set_state((kind, numbers, position, has_gauss, cached))
    torch.set_rng_state(_bytes_tensor(state["torch"]))
    # a run may go on with fewer devices than it had
    devices = min(torch.cuda.device_count(), len(state.get("cuda", [])))
    for device in range(devices):
        torch.cuda.set_rng_state(_bytes_tensor(state["cuda"][device]), device)


def generator_state(generator: Any) -> str:
    """The state of a torch.Generator as text."""
    return _encode(generator.get_state().numpy().tobytes())


def restore_generator(generator: Any, state: str) -> None:
    """Set a torch.Generator to where `generator_state` found it."""
    generator.set_state(_bytes_tensor(state))


def make_deterministic() -> None:
    """Ask torch for operations that give the same bits each time, where it has them."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # costs time, changes no result
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def versions() -> dict[str, str]:
    """What the numbers depend on.  torch, numpy and Discern are named when they are loaded."""
    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
    }
    for name in ("discern", "numpy", "torch"):
        module = sys.modules.get(name)
        if module is not None:
            found[name] = str(getattr(module, "__version__", "unknown"))
    return found


def _cpu_name() -> str:
    try:
        with Path("/proc/cpuinfo").open() as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes_tensor(text: str) -> Any:
    import torch

    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
