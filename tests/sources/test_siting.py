from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from vsr.config import InputConfig
from vsr.frame import Colour, Matrix, Siting
from vsr.sources import SourceConfig, open_source

VERTICAL = bytes.fromhex("55b881")
"""Matroska's ChromaSitingVert of one byte: 2 is half a line below the first, 1 level with it."""
BT709, BT2020 = Colour(matrix=Matrix.BT709), Colour(matrix=Matrix.BT2020_NCL, primaries=9)


def write(path: Path, codec: str, colour: Colour) -> Path:
    with av.open(path, "w") as container:
        quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        stream: Any = container.add_stream(codec, rate=25, options=quiet)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        context = stream.codec_context
        context.time_base, context.max_b_frames = Fraction(1, 25), 0
        context.colorspace, context.color_primaries = colour.matrix, colour.primaries
        context.chroma_sample_location = colour.siting
        for index in range(2):
            frame = VideoFrame.from_ndarray(np.zeros((96, 64), np.uint8), "yuv420p")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def copied(path: Path, target: Path) -> Path:
    """As FFmpeg copies it, which found the stream to be left."""
    with av.open(path) as source, av.open(target, "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    return target


def moved(path: Path) -> Path:
    """With the container's word that chroma lies top left."""
    data = path.read_bytes()
    assert data.count(VERTICAL + b"\x02") == 1
    path.write_bytes(data.replace(VERTICAL + b"\x02", VERTICAL + b"\x01"))
    return path


def read(path: Path, *, filters: str | None = None, **stated: Any) -> tuple[Siting, list[str]]:
    config = SourceConfig(input=InputConfig(**stated), filters=filters)
    with open_source(path, config) as source:
        next(iter(source))
        return source.info.colour.siting, [note for note in source.notes if "container's" in note]


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_the_containers_siting_counts_where_the_stream_has_none(tmp_path, codec):
    path = copied(write(tmp_path / "a.mkv", codec, BT709), tmp_path / "b.mkv")
    assert read(path) == (Siting.LEFT, [])
    assert read(moved(path)) == (Siting.TOP_LEFT, [])
    assert read(path, siting=Siting.LEFT) == (Siting.LEFT, [])


def test_the_streams_siting_counts_where_it_has_one(tmp_path):
    path = write(tmp_path / "a.mkv", "libx265", Colour(matrix=1, siting=Siting.LEFT))
    siting, notes = read(moved(copied(path, tmp_path / "b.mkv")))
    assert siting == Siting.LEFT
    assert len(notes) == 1


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "ts", "hevc"])
def test_silence_is_left_in_bt2020_too(tmp_path, suffix):
    """So say annex E and ffprobe, though BT.2020 itself wants it top left."""
    silent = write(tmp_path / f"a.{suffix}", "libx265", BT2020)
    assert read(silent) == (Siting.LEFT, [])
    assert read(silent, siting=Siting.TOP_LEFT) == (Siting.TOP_LEFT, [])


@pytest.mark.parametrize(
    ("stated", "found"), [({}, Siting.TOP_LEFT), ({"siting": Siting.LEFT}, Siting.LEFT)]
)
def test_filters_keep_what_was_found(tmp_path, stated, found):
    silent = moved(copied(write(tmp_path / "a.mkv", "libx265", BT2020), tmp_path / "b.mkv"))
    assert read(silent, filters="hflip", **stated) == (found, [])


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_what_is_left_in_bt2020_stays_so(tmp_path, codec):
    left = Colour(matrix=Matrix.BT2020_NCL, primaries=9, siting=Siting.LEFT)
    assert read(write(tmp_path / "a.mkv", codec, left)) == (Siting.LEFT, [])
