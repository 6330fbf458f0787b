"""Videos: frames by time against PyAV, rotation, damage, limits, and files of our own."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest

from discern.clip import Clip, Kind
from discern.data import videos
from discern.data.limits import Limits
from discern.data.sampling import Detail
from discern.data.videos import read_video, write_video
from discern.errors import BadItem, Refused, UsageError
from tests.data.broken import (
    lying_headers,
    mkv_with_flips,
    packed_jpegs,
    picture,
    scene,
    sound_only,
    video,
    video_bombs,
)
from tests.data.measured import measured

LIMITS = Limits()

CONTAINERS = [
    ("mp4", "libx264"),
    ("mov", "libx264"),
    ("matroska", "libx264"),
    ("webm", "libvpx-vp9"),
    ("avi", "mpeg4"),
    ("avi", "mjpeg"),
    ("mpegts", "libx264"),
    ("flv", "libx264"),
    ("asf", "mpeg4"),
    ("mpeg", "mpeg2video"),
    ("ivf", "libvpx-vp9"),
    ("nut", "ffv1"),
    ("h264", "libx264"),
]


def pyav_frames(data: bytes) -> np.ndarray:
    with av.open(BytesIO(data)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def numbered(count: int, width: int = 64, height: int = 48) -> list[np.ndarray]:
    """Frames whose brightness is their number times four."""
    return [np.full((height, width, 3), number * 4, np.uint8) for number in range(count)]


def numbers(clip: Clip) -> list[int]:
    return np.rint(clip.frames.mean((1, 2, 3)) / 4).astype(int).tolist()


# ---------------------------------------------------------------- frames


@pytest.mark.parametrize(("container", "codec"), CONTAINERS)
def test_all_frames_as_pyav_decodes_them(container, codec) -> None:
    rate = 25  # the least that MPEG-2 knows
    data = video(container, codec, rate=rate)
    clip = read_video(data, LIMITS)
    assert clip.kind is Kind.CLIP and clip.notes == ()
    assert (clip.frames == pyav_frames(data)).all()
    assert clip.times == pytest.approx(np.arange(20) / rate, abs=1e-3)


@pytest.mark.parametrize(("container", "codec"), CONTAINERS)
def test_some_frames_at_even_times(container, codec) -> None:
    data = video(container, codec, rate=25, g="6")
    everything = pyav_frames(data)
    for count, wanted in ((4, [2, 7, 12, 17]), (1, [10]), (20, list(range(20)))):
        clip = read_video(data, LIMITS, frames=count)
        assert (clip.frames == everything[wanted]).all(), count
        assert clip.times == pytest.approx((np.array(wanted) - wanted[0]) / 25, abs=1e-3)


def test_from_a_path(tmp_path: Path) -> None:
    path = tmp_path / "concat:a|b.mp4"  # a name that FFmpeg would take for a command
    path.write_bytes(video())
    assert (read_video(path, LIMITS).frames == read_video(video(), LIMITS).frames).all()
    with pytest.raises(BadItem, match="No such file"):
        read_video(tmp_path / "missing.mp4", LIMITS)
    with pytest.raises(BadItem, match="directory"):
        read_video(tmp_path, LIMITS)


def test_too_few_frames_repeat_the_last() -> None:
    clip = read_video(video(frames=numbered(3)), LIMITS, frames=5)
    assert numbers(clip) == [0, 1, 2, 2, 2]
    assert clip.times == pytest.approx([0, 0.1, 0.2, 0.2, 0.2])
    assert clip.notes == ("3 frames only, the last is repeated to make 5",)


def test_one_frame() -> None:
    clip = read_video(video(frames=numbered(1)), LIMITS)
    assert clip.frames.shape == (1, 48, 64, 3) and clip.kind is Kind.CLIP


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_variable_frame_rate_is_sampled_by_time(container) -> None:
    # 30 frames in the first second, then 30 seconds with one frame each
    stamps = [*range(30), *range(30, 930, 30)]
    data = video(container, frames=numbered(60), stamps=stamps, rate=30)
    clip = read_video(data, LIMITS, frames=31)  # the middle of each second
    # how long the last frame is shown is not in every file
    assert np.abs(np.array(numbers(clip)) - [15, *range(30, 60)]).max() <= 1
    # the same film at a constant rate: each frame is repeated while it is on screen
    shown = [max(n for n in range(60) if stamps[n] <= tick) for tick in range(0, 930, 3)]
    steady = video(container, frames=[numbered(60)[n] for n in shown], rate=10)
    other = read_video(steady, LIMITS, frames=31)
    assert np.abs(np.array(numbers(clip)) - numbers(other)).max() <= 1


def test_b_frames_and_open_groups_are_exact() -> None:
    frames = numbered(60)
    for options in (
        {"g": "12", "bf": "3", "x264-params": "open-gop=1:b-adapt=0:scenecut=0"},
        {"g": "7", "bf": "2"},
        {"g": "250"},
    ):
        for container in ("mp4", "matroska", "mpegts"):
            data = video(container, frames=frames, rate=25, crf="4", **options)
            everything = pyav_frames(data)
            for count in (3, 5, 8):
                wanted = [int((k + 0.5) * 60 / count) for k in range(count)]
                clip = read_video(data, LIMITS, frames=count)
                assert (clip.frames == everything[wanted]).all(), (options, container, count)


def test_few_frames_of_many_decode_little(monkeypatch) -> None:
    data = video("matroska", frames=numbered(60), rate=25, g="5")
    decoded = []
    convert = videos._Reader._decode

    def counting(self, packets, runs, counted):
        for stamp, frame in convert(self, packets, runs, counted):
            decoded.append(stamp)
            yield stamp, frame

    monkeypatch.setattr(videos._Reader, "_decode", counting)
    read_video(data, LIMITS, frames=2)
    assert len(decoded) < 15


def test_scaled_while_converting() -> None:
    data = video(frames=[scene(160, 120)] * 4, crf="4")
    clip = read_video(data, LIMITS, frames=2, detail=Detail(40))
    assert clip.frames.shape == (2, 30, 40, 3)
    full = read_video(data, LIMITS).frames[0].astype(float)
    boxes = full.reshape(30, 4, 40, 4, 3).mean((1, 3))
    assert np.abs(clip.frames[0] - boxes).mean() < 6
    assert read_video(data, LIMITS, detail=Detail(1000)).frames.shape == (4, 120, 160, 3)
    assert read_video(data, LIMITS, detail=Detail(1)).frames.shape == (4, 1, 1, 3)


@pytest.mark.parametrize(("degrees", "quarters"), [(90, 1), (-90, -1), (180, 2), (0, 0)])
def test_rotation_is_applied(degrees, quarters) -> None:
    data = video(rotation=degrees)
    clip = read_video(data, LIMITS)
    assert (clip.frames == np.rot90(pyav_frames(data), quarters, (1, 2))).all()
    small = read_video(data, LIMITS, frames=2, detail=Detail(32)).frames
    assert small.shape == ((2, 32, 24, 3) if quarters % 2 else (2, 24, 32, 3))


def test_size_changes_in_mid_stream() -> None:
    jpegs = [picture("JPEG", scene(64, 48))] * 3 + [picture("JPEG", scene(128, 96))] * 3
    clip = read_video(packed_jpegs(jpegs, 64, 48), LIMITS)
    assert clip.frames.shape == (6, 48, 64, 3)
    difference = clip.frames[0].astype(int) - clip.frames[5]
    assert np.abs(difference[..., :2]).mean() < 12  # the two colours that are gradients
    assert any("size" in note for note in clip.notes)


# ---------------------------------------------------------------- damage


def test_no_video_stream() -> None:
    for container in ("mp4", "matroska"):
        with pytest.raises(BadItem, match=r"no video stream in it \(it has: audio\)"):
            read_video(sound_only(container), LIMITS)


def test_the_cover_of_a_song_is_no_video() -> None:
    with pytest.raises(BadItem, match="no video stream"):
        read_video(sound_only(cover=picture("JPEG", scene())), LIMITS)


def test_tags_that_are_not_text() -> None:
    data = video("matroska")
    assert data.count(b"DURATION") == 1
    assert read_video(data.replace(b"DURATION", b"DURAT\xffON"), LIMITS).notes == ()


def test_sound_beside_the_pictures_does_not_matter() -> None:
    data = video(sound=True)
    assert read_video(data, LIMITS, frames=4).notes == ()


@pytest.mark.parametrize("container", ["matroska", "webm", "avi", "mp4"])
def test_truncation_is_noted_or_bad(container) -> None:
    codec = {"webm": "libvpx-vp9", "avi": "mpeg4"}.get(container, "libx264")
    noise = np.random.default_rng(0).integers(0, 256, (60, 48, 64, 3), dtype=np.uint8)
    first = container == "mp4"
    data = video(container, codec, frames=noise, rate=25, g="10", header_first=first)
    outcomes = []
    for percent in range(30, 100, 3):
        try:
            clip = read_video(data[: len(data) * percent // 100], LIMITS)
        except BadItem as error:
            outcomes.append((0.0, str(error)))
        else:
            share = len(clip.frames) / 60
            outcomes.append((share, "".join(clip.notes)))
            assert share > 0.94 or "cut off" in clip.notes[0], (percent, share)
            assert share > 0.45
    shares = [share for share, _ in outcomes]
    assert shares[0] == 0.0 and shares[-1] > 0.8
    assert any("cut off" in text for share, text in outcomes if 0 < share < 0.9)


def test_a_cut_video_still_gives_the_frames_that_are_asked_for() -> None:
    data = video("matroska", frames=numbered(60), rate=25, g="10")
    clip = read_video(data[: len(data) * 85 // 100], LIMITS, frames=8)
    assert len(clip.frames) == 8 and "cut off" in clip.notes[0]


def test_flipped_bytes_never_crash() -> None:
    outcomes = set()
    for seed in range(25):
        try:
            clip = read_video(mkv_with_flips(seed), LIMITS, frames=8)
            outcomes.add("noted" if clip.notes else "silent")
        except BadItem as error:
            outcomes.add("bad")
            assert "\n" not in str(error)
    assert "noted" in outcomes or "bad" in outcomes


def test_damaged_packets_are_counted() -> None:
    good = picture("JPEG", scene(64, 48))
    some = packed_jpegs([good, b"\0" * 50, good, good, good], 64, 48)
    assert "1 of 6 packets are damaged" in read_video(some, LIMITS).notes[0]
    most = packed_jpegs([good, *[b"\0" * 50] * 4], 64, 48)
    with pytest.raises(BadItem, match="4 of 6 packets are damaged"):
        read_video(most, LIMITS)


def test_only_videos_are_opened(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_bytes(video("mpegts"))
    lists = [
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{tmp_path}/a.ts\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{tmp_path}/a.ts'\n",
    ]
    for data in (*map(str.encode, lists), picture("PNG"), b"P5 4 4 255\n" + bytes(16)):
        with pytest.raises(BadItem):
            read_video(data, LIMITS)


def test_nothing_is_printed(capfd) -> None:
    for seed in range(5):
        try:
            read_video(mkv_with_flips(seed), LIMITS)
        except BadItem:
            pass
    for data in (b"", b"garbage" * 100, video()[:2000], sound_only()):
        with pytest.raises(BadItem):
            read_video(data, LIMITS)
    assert capfd.readouterr() == ("", "")


def test_files_are_closed(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.mp4", tmp_path / "bad.mp4"
    good.write_bytes(video())
    bad.write_bytes(video()[:1500])
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        read_video(good, LIMITS, frames=2)
        with pytest.raises(BadItem):
            read_video(bad, LIMITS)
        with pytest.raises(Refused):
            read_video(good, Limits(pixels=10))
    assert len(os.listdir("/proc/self/fd")) == before


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (Limits(bytes=1000), "bytes"),
        (Limits(pixels=3000), "pixels"),
        (Limits(frames=19), "frames"),
        (Limits(seconds=1.9), "seconds"),
        (Limits(memory=100_000), "memory"),
    ],
)
def test_limits(container, limits, name) -> None:
    data = video(container)  # 20 frames of 64 x 48 in 2 seconds
    with pytest.raises(Refused, match=rf"\({name}\)"):
        read_video(data, limits)


@pytest.mark.parametrize(
    ("container", "limits"),
    [
        ("mp4", Limits(pixels=3000)),
        ("mp4", Limits(frames=19)),
        ("mp4", Limits(seconds=1.9)),
        ("matroska", Limits(pixels=3000)),
        ("matroska", Limits(seconds=1.9)),
    ],
)
def test_the_header_is_judged_before_any_packet(container, limits, monkeypatch) -> None:
    monkeypatch.setattr(videos._Reader, "_demux", lambda _: pytest.fail("packets were read"))
    with pytest.raises(Refused):
        read_video(video(container), limits)


def test_packets_are_counted_while_they_are_read(monkeypatch) -> None:
    monkeypatch.setattr(videos, "timeline", lambda _: pytest.fail("all packets were read"))
    with pytest.raises(Refused, match="frames"):
        read_video(video("matroska"), Limits(frames=10))


def test_a_file_that_does_not_say_how_long_it_is() -> None:
    data = video("h264", rate=25)  # 0.8 seconds
    assert len(read_video(data, Limits(seconds=0.8)).frames) == 20
    with pytest.raises(Refused, match="seconds"):
        read_video(data, Limits(seconds=0.7))


def test_at_the_limits_it_is_read() -> None:
    limits = Limits(pixels=64 * 48, frames=20, seconds=2.0, memory=64 * 48 * 60)
    assert len(read_video(video(), limits).frames) == 20


def test_memory_counts_only_what_is_kept() -> None:
    assert len(read_video(video(), Limits(memory=20_000), frames=2).frames) == 2


def test_size_that_grows_over_the_limit_is_refused() -> None:
    jpegs = [picture("JPEG", scene(64, 48))] * 3 + [picture("JPEG", scene(128, 96))] * 3
    with pytest.raises(Refused, match="128 x 96"):
        read_video(packed_jpegs(jpegs, 64, 48), Limits(pixels=64 * 48))


def test_the_decoder_itself_refuses_a_size_far_over_the_limit() -> None:
    small, large = (picture("JPEG", scene(*size)) for size in ((64, 48), (1600, 1200)))
    with pytest.raises(BadItem, match="4 of 6 packets are damaged"):
        read_video(packed_jpegs([small, *[large] * 4], 64, 48), Limits(pixels=64 * 48))


@pytest.mark.parametrize(("name", "data"), video_bombs(), ids=lambda value: str(value)[:20])
def test_bombs_take_no_time_and_no_memory(name, data) -> None:
    def refuse() -> None:
        with pytest.raises(BadItem):
            read_video(data, LIMITS)

    seconds, memory = measured(refuse)
    assert seconds < 0.010 and memory < 10 * 2**20


@pytest.mark.parametrize(("name", "data"), lying_headers(), ids=lambda value: str(value)[:20])
def test_a_header_that_lies_costs_nothing(name, data) -> None:
    seconds, memory = measured(lambda: read_video(data, LIMITS, frames=1))
    assert memory < 20 * 2**20 and seconds < 0.5


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("size", [(64, 48), (63, 47), (1, 1), (17, 90)])
def test_mp4_round_trip(tmp_path: Path, size) -> None:
    width, height = size
    frames = np.stack([scene(width, height, step) for step in range(7)])
    path = tmp_path / "clip.mp4"
    write_video(Clip(frames=frames, times=np.arange(7) / 8, kind=Kind.CLIP), path)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # a browser can begin to play at once
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width % 2, stream.height % 2, stream.frames) == (0, 0, 7)
        assert stream.average_rate == 8
    read = read_video(path.read_bytes(), LIMITS)
    assert read.notes == ()
    assert read.times == pytest.approx(np.arange(7) / 8)
    assert read.frames.shape == (7, height + height % 2, width + width % 2, 3)
    assert np.abs(read.frames[:, :height, :width].astype(int) - frames).mean() < 12
    assert os.listdir(tmp_path) == ["clip.mp4"]


def test_the_same_clip_makes_the_same_file(tmp_path: Path) -> None:
    files = set()
    keep = []
    for number in range(20):
        frames = np.stack([scene(64, 48, step) for step in range(20)])
        keep.append(frames)  # so that the next one lies elsewhere in memory
        clip = Clip(frames=frames, times=np.arange(20) / 8, kind=Kind.CLIP)
        write_video(clip, tmp_path / "clip.mp4")
        files.add((tmp_path / "clip.mp4").read_bytes())
        keep.append(np.empty(number * 13 + 1, np.uint8))
    assert len(files) == 1


def test_colours_survive(tmp_path: Path) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128), (0, 0, 0), (255, 255, 255)]
    frames = np.stack([np.full((32, 32, 3), colour, np.uint8) for colour in colours])
    path = tmp_path / "clip.mp4"
    write_video(Clip(frames=frames, times=np.arange(6.0), kind=Kind.CLIP), path, fps=29.97)
    read = read_video(path, LIMITS)
    assert np.abs(read.frames.astype(int) - frames).max() <= 6
    assert read.times == pytest.approx(np.arange(6) / 29.97, abs=1e-4)


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path, monkeypatch) -> None:
    clip = read_video(video(), LIMITS, frames=2)
    path = tmp_path / "clip.mp4"
    write_video(clip, path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(5, "broken disk")))
    with pytest.raises(UsageError, match=r"clip\.mp4: cannot be written: broken disk"):
        write_video(clip, path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["clip.mp4"]
    with pytest.raises(UsageError, match="suffix"):
        write_video(clip, tmp_path / "clip.wmv")
