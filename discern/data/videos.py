"""Video files: encoded bytes or a path to a `Clip`, and back to MP4 or GIF.

The header is judged first, then the list of packets, and only then are the frames that are asked
for decoded, on one thread.  Frames are chosen by their time stamps, never by number times rate.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from discern.clip import Clip, Kind
from discern.data.animations import write_gif
from discern.data.images import one_line, writing
from discern.data.limits import Limits
from discern.data.packets import Run, needed, runs_for, timeline
from discern.data.sampling import Detail, displayed, repeat_last
from discern.errors import BadItem, Refused, UsageError

# containers only: play lists (HLS, DASH, concat) would make FFmpeg open other files and addresses
CONTAINERS = (
    "mov,mp4,matroska,webm,avi,flv,live_flv,mpegts,mpeg,mpegvideo,m4v,h264,hevc,asf,ogg,ivf,nut,rm,mxf,"
    "gif,mjpeg,yuv4mpegpipe,dv,wtv,swf,h261,h263,vc1,obu,av1"
)

# containers whose header declares the duration; FFmpeg derives that of others from what it finds
DECLARING = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "flv", "asf"}
COUNTING = {"mov,mp4,m4a,3gp,3g2,mj2", "avi"}  # and those that count the frames there

SHORT, CUT = 0.05, 0.5  # share that may be missing before it is noted, before the item is bad

# x264's macroblock tree makes the file depend on where in memory the frames lie
ENCODER: dict[str, object] = {"crf": "16", "mbtree": "0"}

RATE = 25  # frames a second where neither packets nor header say


def read_video(
    data: bytes | Path, limits: Limits, frames: int | None = None, detail: Detail | None = None
) -> Clip:
    """The pictures of a video.  -> frames [T, H, W, 3], turned upright

    `frames` = n: those on screen at n evenly spaced moments, the last one repeated where the file
    has fewer; else all.  With `detail` they are shrunk to it.  The times are those
    of the file.
    """
    assert frames is None or frames > 0
    with _opened(data, limits) as container:
        return _Reader(container, limits, detail).read(frames)


def write_video(clip: Clip, path: Path, fps: float = 8.0) -> None:
    """Write an MP4 (H.264, sides padded to even numbers) or a GIF; whole or not at all."""
    path = Path(path)
    assert len(clip.frames) > 0 and fps > 0
    if path.suffix.lower() == ".gif":
        write_gif(clip, path, fps)
    elif path.suffix.lower() == ".mp4":
        _write_mp4(clip, path, fps)
    else:
        raise UsageError(f"{path}: not a video suffix that is known: use .mp4 or .gif")


class _Reader:
    """One open video file, its limits, and what had to be mended."""

    def __init__(self, container: InputContainer, limits: Limits, detail: Detail | None) -> None:
        self.container = container
        self.limits = limits
        self.detail = detail
        self.notes: list[str] = []
        self.stream = _video_stream(container)
        self.tick = float(self.stream.time_base or Fraction(1, RATE))  # seconds
        self.frame_seconds = float(1 / (self.stream.guessed_rate or RATE))
        self.sent = self.damaged = 0  # packets
        self.size: tuple[int, int] | None = None  # of the frames that go out, before turning
        self.source_size = (0, 0)  # of the first frame that was kept
        self.quarters = 0  # turns of 90 degrees against the clock
        self._reformatter = VideoReformatter()
        self._check_header()

    def read(self, frames: int | None) -> Clip:
        packets = self._demux()
        known = timeline(packets)
        if known is None:  # frames are numbered as they come out of the decoder
            stamps, end = np.arange(len(packets)), len(packets)
            self.tick = self.frame_seconds
        else:
            stamps, end = known
        self.limits.check_length(len(stamps), float(end - stamps[0]) * self.tick)
        times = stamps * self.tick
        if frames is None:
            wanted = None
            runs: list[Run] = [(0, len(packets))]
        else:
            wanted = stamps[displayed(times, end * self.tick, frames)].tolist()
            packets = needed(packets, wanted) if known else packets
            runs = runs_for(packets, wanted) if known else [(0, len(packets))]
        decoded = self._decode(packets, runs, counted=known is None)
        kept, moments = self._collect(decoded, wanted, len(stamps) if frames is None else frames)
        if self.damaged > self.sent * CUT:
            raise BadItem(f"{self.damaged} of {self.sent} packets are damaged")
        if self.damaged:
            self.notes.append(f"{self.damaged} of {self.sent} packets are damaged, passed over")
        if frames is not None and len(kept) < frames:
            self.notes.append(f"{len(kept)} frames only, the last is repeated to make {frames}")
            kept, moments = repeat_last(kept, moments, frames)
        seconds = (moments - moments[0]) * self.tick
        return Clip(frames=kept, times=seconds, kind=Kind.CLIP, notes=tuple(self.notes))

    def _check_header(self) -> None:
        stream, context = self.stream, self.stream.codec_context
        if context is None:
            raise BadItem("its codec is not known here: convert it to H.264")
        if context.width and context.height:
            self.limits.check_size(context.width, context.height)
        declared = (self.container.duration or 0) / av.time_base
        self.limits.check_length(stream.frames, max(declared, (stream.duration or 0) * self.tick))
        # the decoder itself refuses a size that only comes later; it counts whole blocks of pixels
        context.options = {"max_pixels": str(self.limits.pixels + 2**20)}
        context.thread_count = 1
        stream.thread_type = "NONE"

    def _demux(self) -> list[Packet[VideoStream]]:
        """The stream's packets, not decoded.  Compares their time with what the header declares."""
        packets: list[Packet[VideoStream]] = []
        end = 0.0  # of all streams: sound may go on longer than the pictures
        ticks = [float(each.time_base or 0) for each in self.container.streams]  # seconds
        broken = ""
        try:
            for packet in self.container.demux():
                if not packet.size:
                    continue
                if packet.pts is not None:
                    shown_until = packet.pts + (packet.duration or 0)
                    end = max(end, shown_until * ticks[packet.stream_index])
                if packet.stream_index == self.stream.index:
                    packets.append(packet)  # type: ignore[arg-type]
                    self.limits.check_length(len(packets), 0)
        except av.FFmpegError as error:
            broken = f" ({error.strerror})"
        if not packets:
            raise BadItem(f"no frame in it{broken}: it is cut off or empty")
        self._compare_length(len(packets), end, broken)
        return packets

    def _compare_length(self, packets: int, end: float, broken: str) -> None:
        declared = (self.container.duration or 0) / av.time_base
        missing = 0.0
        if self.container.format.name in DECLARING and declared > 0:
            found = end - min(0, self.container.start_time or 0) / av.time_base
            missing = 1 - found / declared
        if self.container.format.name in COUNTING and self.stream.frames > 0:
            missing = max(missing, 1 - packets / self.stream.frames)
        text = f"cut off: only {1 - missing:.0%} of what its header declares is there{broken}"
        if missing > CUT:
            raise BadItem(text)
        if missing > SHORT:
            self.notes.append(text)
        elif broken:
            self.notes.append(f"the file ends in damage{broken}")

    def _decode(
        self, packets: list[Packet[VideoStream]], runs: list[Run], counted: bool
    ) -> Iterator[tuple[int, VideoFrame]]:
        """Frames with their time stamps, or numbers when `counted`.  Skips what is damaged."""
        context = self.stream.codec_context
        last = -1
        for run, (start, stop) in enumerate(runs):
            if run:
                context.flush_buffers()
            for packet in [*packets[start:stop], None]:  # None: give out what is left
                self.sent += 1
                try:
                    frames = context.decode(packet)
                except av.EOFError:
                    continue
                except av.FFmpegError:
                    self.damaged += 1
                    continue
                for frame in frames:
                    last = last + 1 if counted or frame.pts is None else frame.pts
                    self.limits.check_size(frame.width, frame.height)
                    yield last, frame

    def _collect(
        self, decoded: Iterator[tuple[int, VideoFrame]], wanted: list[int] | None, expected: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Convert the frames that are wanted, no others.  -> [T, H, W, 3] and their stamps [T]"""
        kept: list[np.ndarray] = []
        stamps: list[int] = []
        for stamp, frame in decoded:
            if wanted is None:
                times = 1
            else:
                # each moment gets the first frame that is not before it: a damaged one is replaced
                times = sum(1 for each in wanted[len(kept) :] if each <= stamp)
            if times:
                kept += [self._converted(frame, expected)] * times
                stamps += [stamp] * times
            if wanted is not None and len(kept) == len(wanted):
                break
        if wanted is not None and len(kept) * 2 < len(wanted):
            raise BadItem(f"only {len(kept)} of {len(wanted)} frames can be decoded")
        if not kept:
            raise BadItem("no frame of it can be decoded")
        return np.stack(kept), np.array(stamps, dtype=np.float64)

    def _converted(self, frame: VideoFrame, count: int) -> np.ndarray:
        """RGB, scaled in the same pass, upright.  -> uint8 [H, W, 3]"""
        if self.size is None:
            self.size = (frame.width, frame.height)
            if self.detail is not None:
                self.size = self.detail.size(*self.size)
            self.limits.check_memory(count, *self.size)
            self.source_size = (frame.width, frame.height)
            self.quarters = round(frame.rotation / 90)  # FFmpeg and numpy count alike
        elif (frame.width, frame.height) != self.source_size:
            note = "the size of the frames changes: all are brought to the first one's"
            if note not in self.notes:
                self.notes.append(note)
        width, height = self.size
        picture = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", threads=1
        )
        return np.rot90(picture.to_ndarray(), self.quarters)


@contextmanager
def _opened(data: bytes | Path, limits: Limits) -> Iterator[InputContainer]:
    """The container with its header read; closed at the end; any failure becomes BadItem."""
    file: BinaryIO
    try:
        # a file object, not a name: FFmpeg reads names such as "concat:a|b" as commands
        file = data.open("rb") if isinstance(data, Path) else BytesIO(data)
    except OSError as error:
        raise BadItem(f"cannot be opened ({error.strerror})") from None
    with file:
        limits.check_bytes(file.seek(0, 2))
        file.seek(0)
        try:
            with av.open(
                file,
                mode="r",
                options={"max_pixels": str(limits.pixels + 2**20)},
                container_options={"format_whitelist": CONTAINERS},
                metadata_errors="replace",
            ) as container:
                yield container
        except BadItem:
            raise
        except MemoryError:
            raise Refused("the memory does not suffice to decode it: shrink the video") from None
        except av.FFmpegError as error:
            raise BadItem(f"not a video that can be read, or cut off ({error.strerror})") from None
        except Exception as error:  # whatever else broken input provokes in the bindings
            raise BadItem(f"not a video that can be read ({one_line(error)})") from None


def _video_stream(container: InputContainer) -> VideoStream:
    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic  # the cover of a music file
    ]
    if not streams:
        others = sorted({stream.type for stream in container.streams})
        raise BadItem(f"no video stream in it (it has: {', '.join(others) or 'no stream'})")
    best = container.streams.best("video")
    return best if isinstance(best, VideoStream) and best in streams else streams[0]


def _write_mp4(clip: Clip, path: Path, fps: float) -> None:
    height, width = clip.frames.shape[1:3]
    # 4:2:0 keeps one colour for 2 x 2 pixels
    frames = np.pad(clip.frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    rate = Fraction(fps).limit_denominator(1001)
    reformatter = VideoReformatter()
    with writing(path) as temporary:
        # "file:", or a colon in the name makes FFmpeg look for a protocol
        name, options = f"file:{temporary}", {"movflags": "+faststart"}
        with av.open(name, mode="w", format="mp4", options=options) as container:
            stream = container.add_stream("libx264", rate=rate)
            stream.width, stream.height = frames.shape[2], frames.shape[1]
            stream.pix_fmt = "yuv420p"
            stream.options = ENCODER
            stream.codec_context.thread_count = 1
            for number, pixels in enumerate(frames):
                frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                frame = reformatter.reformat(frame, format="yuv420p", threads=1)
                frame.pts, frame.time_base = number, 1 / rate
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
