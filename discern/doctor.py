"""What this machine has: nothing comes in, findings go out, each problem with its remedy.

Nothing is changed and nothing is fetched.  A missing or broken package is a finding, not an error.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import metadata, util
from pathlib import Path
from typing import Any

from discern._version import __version__

# extra -> the packages it brings, by the name that is imported
EXTRAS: dict[str, tuple[str, ...]] = {
    "export": ("onnx", "onnxruntime", "onnxscript", "openvino"),
    "hub": ("huggingface_hub",),
    "serve": ("fastapi", "multipart", "uvicorn"),
    "tune": ("optuna",),
    "scale": ("ray",),
    "bench": ("cv2", "psutil", "timm"),
    "dev": ("hypothesis", "importlinter", "mkdocs", "mypy", "psutil", "pytest", "ruff"),
}
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "bf16", "sve")
VIDEO_CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg2video")
NEEDED_DISK = 2 * 2**30  # checkpoints, records and a report of an ordinary run


def examine() -> dict[str, Any]:
    """All that a bug report needs; `problems` lists what is wrong and what to do."""
    found: dict[str, Any] = {
        "discern": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "memory": _memory(),
        "disk": _disk(Path.cwd()),
        "torch": _guarded(_torch),
        "torchvision": _torchvision(),
        "video": _guarded(_video),
        "extras": _extras(),
    }
    found["problems"] = _problems(found)
    return found


def extra_of(package: str) -> str | None:
    """The extra that brings a package, if one does."""
    return next((extra for extra, packages in EXTRAS.items() if package in packages), None)


def lines(found: Mapping[str, Any]) -> list[str]:
    """The findings for a person, one a line."""
    cpu, disk, torch, video = (found[key] for key in ("cpu", "disk", "torch", "video"))
    rows = [
        ("discern", found["discern"]),
        ("python", f"{found['python']} on {found['platform']}"),
        ("cpu", f"{cpu['name']}, {cpu['cores']} cores"),
        ("cpu cores", f"{cpu['usable']:g} for this process, {cpu['free']:.1f} idle just now"),
        ("cpu flags", ", ".join(cpu["flags"]) or "none of those that help"),
        (
            "memory",
            f"{_gib(found['memory']['available'])} free of {_gib(found['memory']['total'])}",
        ),
        ("disk", f"{_gib(disk['free'])} free in {disk['folder']}"),
    ]
    if "error" in torch:
        rows.append(("torch", torch["error"]))
    else:
        rows.append(("torch", f"{torch['version']}, {torch['threads']} threads"))
        rows.append(("precision", _precision(torch)))
        rows += [("gpu", f"{gpu['name']}, {_gib(gpu['memory'])}") for gpu in torch["gpus"]]
        rows += [("gpu", "none; the CPU does it all")] if not torch["gpus"] else []
    if found["torchvision"]["installed"]:
        rows.append(
            ("torchvision", f"{found['torchvision']['version']} (Discern does not need it)")
        )
    if "error" in video:
        rows.append(("video", video["error"]))
    else:
        rows.append(("video", f"PyAV {video['pyav']}, reads {', '.join(video['reads'])}"))
        rows.append(
            ("mp4 output", "h264 works" if video["h264_roundtrip"] else "h264 does not work")
        )
    for extra, missing in found["extras"].items():
        if missing:
            way = f"pip install 'discern[{extra}]'"
            rows.append((f"extra {extra}", f"not installed: {', '.join(missing)}; {way}"))
        else:
            rows.append((f"extra {extra}", "installed"))
    text = [f"{name:>14}  {value}" for name, value in rows]
    for problem in found["problems"]:
        text.append(f"{'problem':>14}  {problem['what']}; {problem['fix']}")
    return text if found["problems"] else [*text, f"{'':>14}  no problems found"]


def _guarded(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return look()
    except Exception as error:  # a broken install may raise anything at import
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}


def _cpu() -> dict[str, Any]:
    from discern.threads import free_cores

    name, flags = platform.processor() or platform.machine(), set()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() in ("flags", "Features"):
                flags.update(value.split())
    return {
        "name": name,
        "cores": os.cpu_count() or 1,
        "usable": _usable_cores(),
        "free": round(free_cores(), 2),
        "flags": [flag for flag in CPU_FLAGS if flag in flags],
    }


def _usable_cores() -> float:
    """Cores this process may use: the smaller of its affinity and its container's quota."""
    from discern.threads import cpu_quota

    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(float(cores), cpu_quota())


def _memory() -> dict[str, int]:
    found = {"total": 0, "available": 0}
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key in ("MemTotal", "MemAvailable"):
                found[key.removeprefix("Mem").lower()] = int(value.split()[0]) * 1024
    with contextlib.suppress(OSError, ValueError):
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        if limit != "max":
            found["total"] = min(found["total"], int(limit))
            found["available"] = max(0, min(found["available"], int(limit) - used))
    return found


def _disk(folder: Path) -> dict[str, Any]:
    usage = shutil.disk_usage(folder)
    return {"folder": str(folder), "free": usage.free, "total": usage.total}


def _torch() -> dict[str, Any]:
    import torch

    from discern.scale.precision import probe_precision

    gpus = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(index)
            gpus.append({"name": gpu.name, "memory": gpu.total_memory})
    probe = probe_precision("cuda" if gpus else "cpu")  # the one that a run chooses by
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "precision": str(probe.precision),
        "bf16_ms": probe.bf16_ms,
        "fp32_ms": probe.fp32_ms,
        "gpus": gpus,
    }


def _precision(torch: Mapping[str, Any]) -> str:
    if torch["bf16_ms"] is None:
        return "fp32; bf16 is not possible here"
    times = f"a small training step takes {torch['bf16_ms']:.2f} ms in bf16"
    return f"{torch['precision']}: {times}, {torch['fp32_ms']:.2f} ms in fp32"


def _torchvision() -> dict[str, Any]:
    """Whether torchvision, if it is there, fits this torch: tried in a process of its own."""
    try:
        version = metadata.version("torchvision")
    except metadata.PackageNotFoundError:
        return {"installed": False}
    try:
        trial = subprocess.run(
            [sys.executable, "-c", "import torchvision"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        error = trial.stderr.strip().splitlines()[-1] if trial.returncode else None
    except (OSError, subprocess.TimeoutExpired, IndexError) as fault:
        error = str(fault) or type(fault).__name__
    return {"installed": True, "version": version, "error": error}


def _video() -> dict[str, Any]:
    import av

    def can(name: str, mode: str) -> bool:
        try:
            return av.Codec(name, mode) is not None  # type: ignore[arg-type]
        except (av.FFmpegError, ValueError):
            return False

    return {
        "pyav": av.__version__,
        "reads": [name for name in VIDEO_CODECS if can(name, "r")],
        "writes": [name for name in VIDEO_CODECS if can(name, "w")],
        "h264_roundtrip": _h264_roundtrip(),
    }


def _h264_roundtrip() -> bool:
    """Whether four small frames survive being written as MP4 and read again."""
    import io

    import av
    import numpy as np

    try:
        memory = io.BytesIO()
        with av.open(memory, "w", format="mp4") as container:
            stream = container.add_stream("h264", rate=8)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
            for grey in (40, 90, 140, 190):
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), grey, np.uint8))
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        memory.seek(0)
        with av.open(memory, "r") as container:
            return len(list(container.decode(video=0))) == 4
    except (av.FFmpegError, ValueError, OSError):
        return False


def _extras() -> dict[str, list[str]]:
    return {
        extra: [package for package in packages if util.find_spec(package) is None]
        for extra, packages in EXTRAS.items()
    }


def _problems(found: Mapping[str, Any]) -> list[dict[str, str]]:
    problems = []

    def add(what: str, fix: str) -> None:
        problems.append({"what": what, "fix": fix})

    if "error" in found["torch"]:
        add(f"torch does not work ({found['torch']['error']})", "pip install 'torch>=2.11'")
    if found["torchvision"].get("error"):
        add(
            f"torchvision does not fit this torch ({found['torchvision']['error']})",
            "pip uninstall torchvision, or install it from the index that torch came from",
        )
    if "error" in found["video"]:
        add(f"PyAV does not work ({found['video']['error']})", "pip install --force-reinstall av")
    elif not found["video"]["h264_roundtrip"]:
        add(
            "this PyAV cannot write h264, so no MP4",
            "pip install --force-reinstall av, or use .gif",
        )
    if found["disk"]["free"] < NEEDED_DISK:
        add(
            f"only {_gib(found['disk']['free'])} of disk are free here",
            "make room or use another disk",
        )
    if found["cpu"]["usable"] < 1:
        add("less than one CPU core is granted", "give the container more CPU")
    return problems


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
