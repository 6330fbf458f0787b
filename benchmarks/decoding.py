"""Pictures and clips from bytes to what a network takes, on one core, against three peers.

    PYTHON benchmarks/decoding.py [--rounds 9]

PYTHON has torch, torchvision, torchcodec and timm beside what Discern needs (they have a virtual
environment of their own, for a torchvision asks for its own torch); discern is found beside this
folder.  Everything is decoded from memory.  Pictures: mosaics of photographs, cropped to 224 x 224
as floats.  Clips: 300 frames of 480p that pan over one, of which 16 evenly spread are kept; whole,
and scaled to 224.  Contenders take turns, and ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import av  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from few_labels import commit, hardware, unpacked  # noqa: E402
from PIL import Image  # noqa: E402
from rounds import interleaved, one_core, repeated, summary, times_faster  # noqa: E402

from discern.data.decode import decode  # noqa: E402
from discern.data.limits import Limits  # noqa: E402
from discern.data.preprocess import PreprocessConfig, prepare  # noqa: E402
from discern.data.sampling import Detail  # noqa: E402
from discern.data.videos import read_video  # noqa: E402

SIDE, FRAMES = 224, 16
# square, so that all crop alike; torchvision, timm: what Discern should be ahead by
PICTURES = {
    "0.2 Mpx": (448, 1.0, 1.0),
    "1 Mpx": (1024, 1.15, 2.0),
    "2 Mpx": (1440, 1.8, 1.8),
    "12 Mpx": (3456, 2.5, 2.5),
}
CODECS = {"h264": "libx264", "hevc": "libx265", "mpeg4": "mpeg4"}
GROUPS = (12, 30, 250)  # frames from one key frame to the next
LENGTH, WIDTH, HEIGHT, RATE = 300, 854, 480, 30
MEAN, DEVIATION = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)  # to [-1, 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    args = parser.parse_args()
    import timm
    import torchcodec
    import torchvision

    load = os.getloadavg()[0]
    torch.set_num_threads(1)
    photographs = mosaic(args.out)
    coded = {
        (name, group): clip(photographs, codec, group, args.out)
        for name, codec in CODECS.items()
        for group in GROUPS
    }
    one_core()
    pictures = {name: of_picture(photographs, name, args.rounds) for name in PICTURES}
    clips = {
        f"{name}, a key frame in {group}": of_clip(data, args.rounds)
        for (name, group), data in coded.items()
    }
    libraries = (torch, torchvision, torchcodec, timm, av, np)
    found = {
        "command": " ".join(["python", "benchmarks/decoding.py", *sys.argv[1:]]).replace(
            str(args.out), "OUT"
        ),
        "commit": commit(),
        "hardware": hardware(),
        "versions": {one.__name__: one.__version__ for one in libraries}
        | {"pillow": Image.__version__},
        "load_before": load,
        "pictures": pictures,
        "clips": clips,
    }
    (ROOT / "benchmarks/results/decoding.json").write_text(json.dumps(found, indent=1) + "\n")
    for name, block in (pictures | clips).items():
        ratios = {peer: claim["ratio"]["median"] for peer, claim in block["claims"].items()}
        print(name, ratios, block.get("mean_difference", block.get("frames_off")))


def mosaic(out: Path) -> np.ndarray:
    """Photographs of vehicles side by side, each four times as large.  uint8 [H, W, 3]"""
    folder = unpacked("tiny_imagenet_vehicles", out) / "test"
    files = sorted(folder.rglob("*.*"))
    across, down, tile = 16, 14, 256
    draw = np.random.default_rng(0)
    rows = []
    for _ in range(down):
        row = []
        for place in draw.integers(len(files), size=across):
            with Image.open(files[place]) as image:
                row.append(np.asarray(image.convert("RGB").resize((tile, tile))))
        rows.append(np.concatenate(row, axis=1))
    return np.concatenate(rows)


def of_picture(photographs: np.ndarray, name: str, rounds: int) -> dict[str, Any]:
    from timm.data import create_transform
    from torchvision.io import decode_jpeg
    from torchvision.transforms import v2

    side, *bars = PICTURES[name]
    buffer = io.BytesIO()
    Image.fromarray(photographs[:side, :side]).save(buffer, "JPEG", quality=90)
    data = buffer.getvalue()
    config = PreprocessConfig(height=SIDE, width=SIDE, fit="crop")
    theirs = v2.Compose(
        [
            v2.Resize(SIDE, v2.InterpolationMode.BICUBIC, antialias=True),
            v2.CenterCrop(SIDE),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, DEVIATION),
        ]
    )
    tensor = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    timms = create_transform(
        SIDE, is_training=False, interpolation="bicubic", mean=MEAN, std=DEVIATION, crop_pct=1.0
    )
    times = max(1, round(4e6 / side**2))  # as many as make a round long enough

    def discern() -> torch.Tensor:
        frames = prepare(decode(data, Limits(), detail=config.detail), config)
        return torch.from_numpy(frames[0]).permute(2, 0, 1).float().div_(127.5).sub_(1)

    def torchvision() -> torch.Tensor:
        return theirs(decode_jpeg(tensor))

    def timm() -> torch.Tensor:
        return timms(Image.open(io.BytesIO(data)).convert("RGB"))

    makers: dict[str, Callable[[], torch.Tensor]] = {
        "discern": discern,
        "torchvision": torchvision,
        "timm": timm,
    }
    seconds = interleaved({name: repeated(make, times) for name, make in makers.items()}, rounds)
    ours = discern()
    return {
        "milliseconds": {
            name: summary([value * 1e3 / times for value in values])
            for name, values in seconds.items()
        },
        "mean_difference": {
            name: float((make() - ours).abs().mean()) * 127.5  # of 255
            for name, make in makers.items()
            if name != "discern"
        },
        "claims": {
            peer: times_faster(seconds, "discern", peer, bar)
            for peer, bar in zip(("torchvision", "timm"), bars, strict=True)
        },
    }


def clip(photographs: np.ndarray, codec: str, group: int, out: Path) -> bytes:
    """An MP4 that pans over the photographs; one that is there is taken."""
    path = out / "decoding" / f"{codec}-{group}.mp4"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(photographs, codec, group))
    return path.read_bytes()


def encoded(photographs: np.ndarray, codec: str, group: int) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        options = {"preset": "veryfast"} if codec.startswith("libx") else {}
        stream = container.add_stream(codec, rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.gop_size, stream.bit_rate = group, 4_000_000
        for number in range(LENGTH):
            left, top = 4 * number, 2 * number
            view = np.ascontiguousarray(photographs[top : top + HEIGHT, left : left + WIDTH])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view)))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def of_clip(data: bytes, rounds: int) -> dict[str, Any]:
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import Resize

    places = ((np.arange(FRAMES) + 0.5) * LENGTH / FRAMES).astype(int).tolist()
    scaled = (round(HEIGHT * SIDE / WIDTH), SIDE)

    def discern(detail: Detail | None = None) -> np.ndarray:
        return read_video(data, Limits(), frames=FRAMES, detail=detail).frames

    def torchcodec(small: bool = False) -> torch.Tensor:
        transforms = [Resize(scaled)] if small else []
        decoder = VideoDecoder(data, seek_mode="approximate", transforms=transforms)
        return decoder.get_frames_at(places).data

    def pyav() -> np.ndarray:
        with av.open(io.BytesIO(data)) as container:
            container.streams.video[0].thread_type = "NONE"
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return np.stack([frames[place] for place in places])

    seconds = interleaved(
        {
            "discern": discern,
            "torchcodec": torchcodec,
            "pyav": pyav,
            "discern, scaled": lambda: discern(Detail(SIDE)),
            "torchcodec, scaled": lambda: torchcodec(small=True),
        },
        rounds,
    )
    whole = pyav()
    off = np.abs(discern().astype(int) - whole).mean(axis=(1, 2, 3))
    return {
        "milliseconds": {name: summary([v * 1e3 for v in one]) for name, one in seconds.items()},
        "frames_off": int((off > 2).sum()),
        "claims": {
            "torchcodec": times_faster(seconds, "discern", "torchcodec", 1.3),
            "torchcodec, scaled": times_faster(
                seconds, "discern, scaled", "torchcodec, scaled", 1.3
            ),
            "pyav": times_faster(seconds, "discern", "pyav", 2.0),
        },
    }


if __name__ == "__main__":
    main()
