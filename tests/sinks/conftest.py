"""Clips with many streams, a stand-in for a source, and ffprobe's view of a file."""

import json
import subprocess
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition

from vsr.config import EncoderConfig
from vsr.encoding import choose_encoding
from vsr.encoding.streams import Timecode
from vsr.frame import Colour, Frame, Range, Siting, VideoInfo, pixel_format
from vsr.sinks import MediaSink

MEDIA = Path(__file__).parents[3] / "shared" / "media"

TAGS = Colour(matrix=6, range=Range.LIMITED, primaries=6, transfer=6, siting=Siting.LEFT)
ASS_HEADER = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, Bold, Alignment
Style: Default,Arial,16,0,2

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


@pytest.fixture(scope="session")
def media() -> Callable[[str], Path]:
    """A real file, or a skip if the media are not beside the checkout."""

    def find(name: str) -> Path:
        if not (MEDIA / name).exists():
            pytest.skip(f"shared/media/{name} is not beside the checkout")
        return MEDIA / name

    return find


def make_info(pix_fmt="yuv420p", *, width=64, height=48, **changes) -> VideoInfo:
    info = VideoInfo(
        width=width,
        height=height,
        format=pixel_format(pix_fmt),
        colour=TAGS,
        time_base=Fraction(1, 1000),
        rate=Fraction(25),
    )
    return replace(info, **changes)


def make_planes(info: VideoInfo, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Noise over the whole range of codes, in FFmpeg's order of planes."""
    generator = torch.Generator().manual_seed(seed)
    form = info.format
    components = []
    for index in range(len(form.components)):
        size = form.component_shape(index, info.width, info.height)
        values = torch.randint(0, 1 << form.depth, size, generator=generator)
        components.append(values.to(form.dtype))
    return form.planes(tuple(components))


def make_frame(info: VideoInfo, pts: int, duration: int = 40, seed: int = 0) -> Frame:
    return Frame(
        planes=make_planes(info, seed),
        format=info.format,
        width=info.width,
        height=info.height,
        colour=info.colour,
        pts=pts,
        time_base=info.time_base,
        duration=duration,
    )


@dataclass
class StandIn:
    """Small flat frames at the times of a real video stream, and the packets of its company."""

    path: Path
    start_time: Any = None  # a Fraction; None takes the container's
    cut_short: bool = False
    timecode: Timecode | None = None
    relay: set[int] = field(default_factory=set)
    packets: deque[Any] = field(default_factory=deque)
    alter: Callable[[Any], None] = lambda packet: None

    def __post_init__(self) -> None:
        self.container = av.open(str(self.path))
        self.stream = next(
            s for s in self.container.streams.video if not s.disposition & Disposition.attached_pic
        )
        if self.start_time is None:
            self.start_time = Fraction(self.container.start_time or 0, av.time_base)
        base = self.stream.time_base
        assert base is not None
        self.info = make_info(time_base=Fraction(base.numerator, base.denominator))
        with av.open(str(self.path)) as again:
            packets = again.demux(again.streams[self.stream.index])
            self._pts = sorted({p.pts for p in packets if p.pts is not None})

    def __iter__(self) -> Iterator[Frame]:
        offset = round(self.start_time / self.info.time_base)
        steps = np.diff(self._pts)
        step = int(np.median(steps)) if len(steps) else 40
        waiting = deque(zip(self._pts, [*map(int, steps), step], strict=True))
        for packet in self.container.demux():
            if packet.stream.index == self.stream.index and waiting and packet.size:
                pts, duration = waiting.popleft()
                if pts >= offset:
                    yield make_frame(self.info, pts - offset, duration)
            elif packet.stream.index in self.relay:
                if packet.size:
                    self.alter(packet)
                self.packets.append(packet)

    def close(self) -> None:
        self.container.close()


@pytest.fixture
def remux() -> Iterator[Callable[..., MediaSink]]:
    """Encode a file's video anew, copy the rest; returns the sink."""
    opened = []

    def run(path: Path, output: Path, *, config: EncoderConfig | None = None, **kw) -> MediaSink:
        source = StandIn(path, **kw)
        opened.append(source)
        quick = EncoderConfig(preset=None if output.suffix == ".webm" else "ultrafast")
        config = config or quick
        encoding = choose_encoding(output, source.info, 64, 48, config)
        info = replace(source.info, format=encoding.format, colour=encoding.colour)
        with MediaSink(output, encoding, info, source=source, overwrite=True) as sink:
            for frame in source:
                sink.write(frame)
        return sink

    yield run
    for source in opened:
        source.close()


def probe(path: Path) -> SimpleNamespace:
    """Everything ffprobe knows, packets grouped by stream."""
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", "-show_format"]
    command += ["-show_chapters", "-show_packets", "-show_data_hash", "sha256", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(result.stdout)
    for stream in found["streams"]:
        mine = [p for p in found["packets"] if p["stream_index"] == stream["index"]]
        stream["packets"] = mine
        stream["hashes"] = [p.get("data_hash") for p in mine]
        stream["pts"] = sorted(float(p["pts_time"]) for p in mine if "pts_time" in p)
        stream.setdefault("tags", {})
        stream["shown"] = {key for key, value in stream["disposition"].items() if value}
    of_type = {
        kind: [s for s in found["streams"] if s["codec_type"] == kind]
        for kind in ("video", "audio", "subtitle", "attachment", "data")
    }
    tags = {key.lower(): value for key, value in found["format"].get("tags", {}).items()}
    return SimpleNamespace(
        **of_type,
        streams=found["streams"],
        chapters=found["chapters"],
        duration=float(found["format"].get("duration", "nan")),  # a pipe does not say
        tags=tags,
    )


QUICK = {"libx264": "ultrafast", "libx265": "ultrafast", "libsvtav1": "12"}


def open_sink(path, info, *, codec=None, source=None, overwrite=False, **config) -> MediaSink:
    if codec in QUICK:
        config.setdefault("preset", QUICK[codec])
    encoding = choose_encoding(
        path, info, info.width, info.height, EncoderConfig(codec=codec, **config)
    )
    info = replace(info, format=encoding.format, colour=encoding.colour)
    return MediaSink(path, encoding, info, source=source, overwrite=overwrite)


def write(path, info, times, **kw) -> MediaSink:
    """Write a frame for every (pts, duration)."""
    with open_sink(path, info, **kw) as sink:
        shown = replace(info, format=sink._encoding.format)
        for index, (pts, duration) in enumerate(times):
            sink.write(make_frame(shown, pts, duration, seed=index % 3))
    return sink


def schedule(durations, start=0) -> list[tuple[int, int]]:
    times = []
    for duration in durations:
        times.append((start, duration))
        start += duration
    return times


def milliseconds(seconds) -> int:
    return round(float(seconds) * 1000)


@pytest.fixture(scope="session")
def tools() -> SimpleNamespace:
    """The helpers above, which test modules cannot import."""
    return SimpleNamespace(
        info=make_info,
        frame=make_frame,
        planes=make_planes,
        probe=probe,
        stand_in=StandIn,
        open=open_sink,
        write=write,
        schedule=schedule,
        milliseconds=milliseconds,
    )


@pytest.fixture(scope="session")
def rich(tmp_path_factory) -> Path:
    """Matroska with two sound tracks, two kinds of subtitles, a font, a cover and chapters."""
    path: Path = tmp_path_factory.mktemp("rich") / "rich.mkv"
    with av.open(str(path), "w") as out:
        audio = [out.add_stream("aac", rate=48000), out.add_stream("flac", rate=48000)]
        video = out.add_stream("mpeg4", rate=25, width=64, height=48, pix_fmt="yuv420p")
        srt = out.add_mux_stream("subrip", time_base=Fraction(1, 1000))
        ass = out.add_stream("ass")
        ass.codec_context.subtitle_header = ASS_HEADER
        _describe(audio, video, srt, ass)
        out.add_attachment("font.ttf", "application/x-truetype-font", b"\0\1\0\0" + bytes(200))
        out.add_attachment("cover.png", "image/png", _png())
        out.metadata.update(title="Global", ARTIST="Somebody")
        out.set_chapters([_chapter(0, 0, 400, "One"), _chapter(1, 400, 1000, "Zwei")])
        _fill(out, audio, video, srt, ass)
    return path


def _describe(audio, video, srt, ass) -> None:
    audio[0].metadata.update(language="eng", title="Stereo")
    audio[1].metadata["language"] = "fra"
    audio[0].disposition = Disposition.default
    audio[1].disposition = Disposition.comment
    srt.metadata["language"], ass.metadata["language"] = "eng", "ger"
    srt.disposition, ass.disposition = Disposition.hearing_impaired, Disposition.forced
    ass.time_base = Fraction(1, 1000)
    video.metadata["title"] = "Main"


def _fill(out, audio, video, srt, ass) -> None:
    out.start_encoding()
    for stream, text in ((srt, b"Hello <i>world</i>"), (ass, b"0,0,Default,,0,0,0,,Hallo")):
        for start in (200, 600):
            packet = av.Packet(text)
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = start
            packet.duration = 300
            out.mux(packet)
    for index in range(25):
        picture = av.VideoFrame(64, 48, "yuv420p")
        picture.pts, picture.time_base = index, Fraction(1, 25)
        out.mux(video.encode(picture))
    out.mux(video.encode(None))
    noise = np.random.default_rng(1)
    for stream in audio:
        form = stream.codec_context.format.name
        for start in range(0, 48000, 1024):
            kind = np.float32 if form == "fltp" else np.int16
            shape = (2, 1024) if form == "fltp" else (1, 2048)
            sound: Any = noise.integers(-99, 99, shape).astype(kind)
            frame = av.AudioFrame.from_ndarray(sound, form, "stereo")
            frame.sample_rate, frame.pts = 48000, start
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def _chapter(number: int, start: int, end: int, title: str) -> Any:
    base = Fraction(1, 1000)
    return {
        "id": number,
        "start": start,
        "end": end,
        "time_base": base,
        "metadata": {"title": title},
    }


def _png() -> bytes:
    codec = av.CodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt = 16, 16, "rgb24"
    codec.time_base = Fraction(1, 1)
    packets = [*codec.encode(av.VideoFrame(16, 16, "rgb24")), *codec.encode(None)]
    return b"".join(map(bytes, packets))
