"""Which of several video streams is upscaled, and that the others are copied."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from vsr.config import InputConfig
from vsr.errors import ConfigError, SourceError
from vsr.sources import SourceConfig, open_source

Clips = Callable[..., Path]
Command = Callable[..., tuple[int, list[str]]]
SIZES = ((64, 48), (96, 64), (48, 32))


@pytest.fixture
def several(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Three video streams, the second of which FFmpeg takes for the best."""
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as out:
        streams = [
            out.add_stream("libx264", rate=25, width=width, height=height, pix_fmt="yuv420p")
            for width, height in SIZES
        ]
        for stream in streams:
            for pts in range(12):
                shape = (stream.height, stream.width, 3)
                picture = av.VideoFrame.from_ndarray(rng.integers(0, 255, shape, np.uint8))
                picture.pts = pts
                out.mux(stream.encode(picture.reformat(format="yuv420p")))
            out.mux(stream.encode(None))
    return path


def packets(path: Path) -> list[tuple[tuple[int, int], str]]:
    """Of each video stream its size, and the hash of all that was coded."""
    with av.open(str(path)) as file:
        found = {s.index: ((s.width, s.height), hashlib.md5()) for s in file.streams.video}
        for packet in file.demux():
            found[packet.stream_index][1].update(bytes(packet))
    return [(size, digest.hexdigest()) for size, digest in found.values()]


@pytest.mark.parametrize(
    ("number", "part"),
    [(0, ()), (2, ()), (2, ("-ss", "0.12", "--segment-seconds", "0.12"))],
)
def test_the_others_are_copied(
    several: Path, command: Command, tmp_path: Path, number: int, part: tuple[str, ...]
) -> None:
    output = tmp_path / "out.mkv"
    code, lines = command(several, output, "--video-stream", str(number), *part)
    assert code == 0
    assert not any("video streams" in line for line in lines)
    for index, (before, after) in enumerate(zip(packets(several), packets(output), strict=True)):
        assert after[0] == before[0]
        if index == number or not part:
            assert (after[1] == before[1]) == (index != number)


@pytest.mark.parametrize("number", [None, 0, 1, 2])
def test_the_frames_are_those_of_the_stream(several: Path, number: int | None) -> None:
    config = SourceConfig(input=InputConfig(video_stream=number))
    with open_source(several, config) as source, av.open(str(several)) as file:
        best = next(s for s in file.streams.video if s is file.streams.best("video"))
        wanted = best if number is None else file.streams.video[number]
        assert any("video streams" in note for note in source.notes) == (number is None)
        for found, expected in zip(source, file.decode(wanted), strict=True):
            assert np.array_equal(found.planes[0].numpy(), expected.to_ndarray()[: wanted.height])


def test_a_stream_that_is_not_there_is_one_line(
    several: Path, make_clip: Callable[..., Path]
) -> None:
    for path, number, message in (
        (several, 3, "holds 3 video streams, and --video-stream counts from 0"),
        (make_clip("one.mkv"), 1, "holds one video stream, and --video-stream counts from 0"),
    ):
        with pytest.raises(SourceError, match=message):
            open_source(path, SourceConfig(input=InputConfig(video_stream=number)))
    with pytest.raises(ConfigError, match="--video-stream must be 0 or more, not -1"):
        InputConfig(video_stream=-1)


def test_pictures_and_scripts_have_none(several: Path, command: Command, tmp_path: Path) -> None:
    av.VideoFrame(16, 16, "rgb24").to_image().save(tmp_path / "in.png")
    (tmp_path / "in.vpy").write_text("")
    for name in ("in.png", "in.vpy"):
        path = tmp_path / name
        code, lines = command(path, tmp_path / "o.mkv", "--video-stream", "0")
        assert code == 2
        assert lines == [f"vsr-upscale: error: {path}: --video-stream is for media files"]
