"""Images: every format and mode against Pillow, bombs against the clock, writers."""

from __future__ import annotations

import os
import threading
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from discern.clip import Clip, Kind
from discern.data.images import WRITERS, read_image, write_image
from discern.data.limits import Limits
from discern.data.sampling import Detail
from discern.errors import BadItem, Refused, UsageError
from tests.data.broken import bombs, jpeg_bomb, moving_picture, picture, scene
from tests.data.measured import measured

LIMITS = Limits()


def encoded(image: Image.Image, name: str = "PNG", **settings) -> bytes:
    file = BytesIO()
    image.save(file, format=name, **settings)
    return file.getvalue()


def pixels_of(data: bytes, **settings) -> np.ndarray:
    clip = read_image(data, LIMITS, **settings)
    assert clip.kind is Kind.IMAGE and clip.times.tolist() == [0.0]
    assert clip.frames.flags.writeable and clip.frames.flags.c_contiguous
    return clip.frames[0]


def one_frame(pixels: np.ndarray) -> Clip:
    return Clip(frames=pixels[None], times=np.zeros(1), kind=Kind.IMAGE)


# ---------------------------------------------------------------- formats


@pytest.mark.parametrize("name", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_give_the_very_pixels(name) -> None:
    assert (pixels_of(picture(name, lossless=True)) == scene()).all()


@pytest.mark.parametrize(
    ("name", "settings"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {}), ("GIF", {})],
)
def test_lossy_formats_decode_as_pillow_does(name, settings) -> None:
    data = picture(name, **settings)
    assert (pixels_of(data) == np.asarray(Image.open(BytesIO(data)).convert("RGB"))).all()


def test_formats_outside_the_list_are_not_even_tried() -> None:
    for name in ("PPM", "ICO", "TGA", "PCX", "JPEG2000", "EPS"):
        with pytest.raises(BadItem, match="none of JPEG"):
            read_image(picture(name), LIMITS)


@pytest.mark.parametrize("size", [(1, 1), (1, 30000), (30000, 1), (3, 7)])
def test_odd_sizes(size) -> None:
    wanted = scene(*size)
    assert (pixels_of(picture("PNG", wanted)) == wanted).all()
    assert pixels_of(picture("JPEG", wanted), detail=Detail(16)).shape[1::-1] >= (1, 1)


def test_an_animation_gives_its_first_frame_and_says_so() -> None:
    for name, settings in (("GIF", {}), ("WEBP", {"lossless": True})):
        clip = read_image(moving_picture(name, **settings), LIMITS)
        assert clip.frames.shape == (1, 32, 48, 3)
        assert np.abs(clip.frames[0].astype(int) - scene()).mean() < 12
        assert "first" in clip.notes[0]


# ---------------------------------------------------------------- modes


def test_grey_bilevel_and_palette() -> None:
    grey = Image.fromarray(scene()).convert("L")
    for image in (grey, grey.convert("1"), Image.fromarray(scene()).quantize(16)):
        assert (pixels_of(encoded(image)) == np.asarray(image.convert("RGB"))).all()


def test_sixteen_bits_keep_the_high_ones() -> None:
    values = np.array([[0, 128, 257, 32768, 65535]], np.uint16)
    for name in ("PNG", "TIFF"):
        grey = pixels_of(encoded(Image.fromarray(values), name))[..., 0]
        assert grey.tolist() == [[0, 0, 1, 128, 255]], name


def test_float_and_32_bit_grey() -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None]
    grey = pixels_of(encoded(Image.fromarray(ramp), "TIFF"))[0, :, 0]
    assert grey.tolist() == list(range(256))
    clip = read_image(encoded(Image.fromarray(ramp * 1e6 - 500), "TIFF"), LIMITS)
    assert clip.frames[0, 0, :, 0].tolist() == list(range(256))
    assert "stretched" in clip.notes[0]
    steps = np.array([[-5, 0, 95]], np.int32)
    assert pixels_of(encoded(Image.fromarray(steps), "TIFF"))[0, :, 0].tolist() == [0, 13, 255]
    broken = np.array([[np.nan, np.inf, 1.0, 0.0]], np.float32)
    assert pixels_of(encoded(Image.fromarray(broken), "TIFF"))[0, :, 0].tolist() == [0, 0, 255, 0]


def test_cmyk_jpeg() -> None:
    image = Image.fromarray(scene()).convert("CMYK")
    data = encoded(image, "JPEG", quality=95)
    assert np.abs(pixels_of(data).astype(int) - np.asarray(image.convert("RGB"))).mean() < 6


def test_transparent_pixels_lie_on_white() -> None:
    layers = np.zeros((1, 3, 4), np.uint8)
    layers[0, :, 0] = 200
    layers[0, :, 3] = (0, 128, 255)
    image = Image.fromarray(layers, "RGBA")
    wanted = [[255, 255, 255], [227, 127, 127], [200, 0, 0]]
    for data in (encoded(image), encoded(image, "WEBP", lossless=True, exact=True)):
        assert np.abs(pixels_of(data)[0].astype(int) - wanted).max() <= 1
    grey = pixels_of(encoded(Image.fromarray(layers[..., [0, 3]].copy(), "LA")))
    assert grey[0, :, 0].tolist() == [255, 227, 200]


def test_transparent_palette_and_colour_key() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    for name in ("PNG", "GIF"):
        data = encoded(image, name, transparency=0)
        assert pixels_of(data)[0].tolist() == [[255, 255, 255], [40, 50, 60]], name
    keyed = encoded(Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)), "PNG")
    assert pixels_of(keyed)[0].tolist() == [[1, 2, 3], [4, 5, 6]]
    data = encoded(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert pixels_of(data)[0].tolist() == [[255, 255, 255]]


# ---------------------------------------------------------------- orientation


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(name, orientation) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(scene()), name, exif=exif)
    wanted = ImageOps.exif_transpose(Image.open(BytesIO(data))).convert("RGB")
    assert (pixels_of(data) == np.asarray(wanted)).all()
    assert pixels_of(data).shape == ((32, 48, 3) if orientation < 5 else (48, 32, 3))


def test_damaged_exif_costs_a_note_at_most() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    good = encoded(Image.fromarray(scene()), "JPEG", exif=exif)
    start = good.index(b"Exif\0\0") + 6
    for place in range(start, start + 20):
        data = good[:place] + b"\xff" + good[place + 1 :]
        assert read_image(data, LIMITS).frames.shape[0] == 1


# ---------------------------------------------------------------- scaled decoding


@pytest.mark.parametrize("side", [1, 7, 63, 64, 65, 100, 128, 129, 256, 300, 511, 512, 513, 2000])
@pytest.mark.parametrize("size", [(512, 384), (384, 512), (500, 333), (512, 5)])
def test_draft_is_never_below_the_hint(size, side) -> None:
    height, width = pixels_of(picture("JPEG", scene(*size)), detail=Detail(side)).shape[:2]
    assert max(width, height) >= min(side, max(size))
    assert abs(width / height - size[0] / size[1]) < 0.1 * size[0] / size[1] or min(size) < 9


def test_draft_saves_work_and_keeps_the_picture() -> None:
    data = picture("JPEG", scene(1024, 768), quality=95)
    small = pixels_of(data, detail=Detail(128))
    assert small.shape == (96, 128, 3)
    wanted = Image.fromarray(scene(1024, 768)).resize((128, 96), Image.Resampling.BOX)
    assert np.abs(small.astype(int) - np.asarray(wanted)).mean() < 6


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize(("name", "data"), bombs(), ids=lambda value: str(value)[:24])
def test_bombs_are_refused_in_10_ms_and_10_mb(name, data) -> None:
    def refuse() -> None:
        with pytest.raises(Refused):
            read_image(data, LIMITS)

    seconds, memory = measured(refuse)
    assert seconds < 0.010, name
    assert memory < 10 * 2**20, name


def test_the_jpeg_bomb_is_what_it_says() -> None:
    assert len(jpeg_bomb()) == 691
    with Image.open(BytesIO(_with_limit_off(jpeg_bomb()))) as image:
        assert image.format == "JPEG"


def _with_limit_off(data: bytes) -> bytes:
    """The same JPEG with 8 x 8 pixels again: only the declared size is wrong with it."""
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + b"\0\x08\0\x08" + data[place + 4 :]


def test_own_limits_hold() -> None:
    data = picture("PNG")  # 48 x 32
    assert read_image(data, Limits(pixels=48 * 32)).frames.shape == (1, 32, 48, 3)
    with pytest.raises(Refused, match=r"48 x 32 pixels: over the limit of 1,535 \(pixels\)"):
        read_image(data, Limits(pixels=48 * 32 - 1))
    with pytest.raises(Refused, match="bytes"):
        read_image(data, Limits(bytes=len(data) - 1))


def test_limits_above_pillows_warning_hold_without_a_warning() -> None:
    size = (10_000, 9_000)  # Pillow warns above 89,478,485
    data = encoded(Image.new("1", size))
    with pytest.raises(Refused, match="10000 x 9000"):
        read_image(data, LIMITS)


def test_a_small_tiff_with_a_huge_tile_is_refused() -> None:
    data = bytearray(encoded(Image.fromarray(scene()), "TIFF"))
    place = int.from_bytes(data[4:8], "little")
    # the entries of RowsPerStrip and PlanarConfiguration become TileWidth and TileLength
    count = int.from_bytes(data[place : place + 2], "little")
    for entry in range(place + 2, place + 2 + 12 * count, 12):
        tag = int.from_bytes(data[entry : entry + 2], "little")
        if tag in (278, 284):
            new = 322 if tag == 278 else 323
            data[entry : entry + 12] = (
                new.to_bytes(2, "little") + b"\x04\0\x01\0\0\0" + (60_000).to_bytes(4, "little")
            )
    with pytest.raises(BadItem):
        read_image(bytes(data), LIMITS)


# ---------------------------------------------------------------- warnings


def test_pillows_warnings_stay_inside_and_filters_come_back() -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    good = encoded(Image.fromarray(scene()), "JPEG", exif=exif)
    place = good.index(b"Exif\0\0") + 14
    noisy = good[:place] + b"\xff\xff" + good[place + 2 :]
    before = list(warnings.filters)
    threads = [
        threading.Thread(target=lambda: [read_image(noisy, LIMITS) for _ in range(20)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("suffix", sorted(WRITERS))
def test_round_trip(tmp_path: Path, suffix) -> None:
    path = tmp_path / f"picture{suffix.upper()}"
    write_image(one_frame(scene()), path)
    read = pixels_of(path.read_bytes())
    with Image.open(path) as image:
        assert image.format == WRITERS[suffix][0]
        assert (read == np.asarray(image.convert("RGB"))).all()
    if suffix in (".jpg", ".jpeg", ".gif"):
        assert np.abs(read.astype(int) - scene()).mean() < 6
    else:
        assert (read == scene()).all()
    assert os.listdir(tmp_path) == [path.name]


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.png"
    write_image(one_frame(scene()), path)
    before = path.read_bytes()

    def full(_: object, path: Path, **__: object) -> None:
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(UsageError, match=r"a\.png: cannot be written: No space left on device"):
        write_image(one_frame(scene(8, 8)), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.png"]


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="suffix"):
        write_image(one_frame(scene()), tmp_path / "a.xyz")
    with pytest.raises(UsageError, match="cannot be written: No such file"):
        write_image(one_frame(scene()), tmp_path / "no" / "a.png")
    clip = Clip(frames=np.stack([scene()] * 2), times=np.arange(2.0), kind=Kind.CLIP)
    with pytest.raises(UsageError, match="2 frames do not fit"):
        write_image(clip, tmp_path / "a.png")
