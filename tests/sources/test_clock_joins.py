"""Recordings joined byte by byte: picture and sound stay together, whatever the clocks do."""

import subprocess
from itertools import pairwise
from pathlib import Path

import av
import pytest

from vsr.sources import SourceConfig, open_source


@pytest.fixture
def part(ffmpeg):
    """Make a transport stream: of ``rate``, ``picture`` and ``sound`` seconds long."""

    def make(rate: int, picture: float, sound: float) -> Path:
        path: Path = ffmpeg.make(
            f"{rate}-{picture}-{sound}.ts", "-f", "lavfi", "-i",
            f"testsrc2=s=64x48:r={rate}:d={picture}", "-f", "lavfi", "-i", f"sine=d={sound}",
            "-c:v", "mpeg2video", "-c:a", "mp2",
        )  # fmt: skip
        return path

    return make


def joined(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def times(path: Path, stream: str) -> list[float]:
    """When packets are shown, in seconds, in order."""
    line = ["ffprobe", "-v", "error", "-select_streams", stream, "-show_entries",
            "packet=pts_time", "-of", "csv=p=0", str(path)]  # fmt: skip
    text = subprocess.run(line, capture_output=True, check=True, text=True).stdout
    return sorted(float(word.strip(",")) for word in text.split())


@pytest.mark.parametrize(
    ("lengths", "seconds"),
    [
        ([(25, 4, 4), (50, 4, 4)], 0),  # the second with twice as many frames a second
        ([(25, 4, 4), (50, 4, 4)], 3),  # in segments, whose sound is read again
        ([(25, 2, 3), (25, 3, 3), (25, 3, 3)], 0),  # the first with sound for longer
        ([(25, 4, 2), (25, 3, 3)], 0),  # with picture for longer
    ],
)
def test_each_part_keeps_its_sync(part, command, tmp_path, lengths, seconds) -> None:
    parts = [part(*one) for one in lengths]
    path = joined(tmp_path / "in.ts", *parts)
    code, lines = command(path, tmp_path / "out.mkv", "--segment-seconds", seconds)
    assert code == 0
    assert sum("the clock starts again" in line for line in lines) == 1
    video, audio = (times(tmp_path / "out.mkv", stream) for stream in "va")
    assert len(video) == sum(round(rate * picture) for rate, picture, _ in lengths)
    for one, (rate, picture, _) in zip(parts, lengths, strict=True):
        count, sounds = round(rate * picture), len(times(one, "a"))
        before = times(one, "v")[0] - times(one, "a")[0]
        spread = times(one, "v")[-1] - times(one, "v")[0]
        assert video[count - 1] - video[0] == pytest.approx(spread, abs=0.002)
        assert video[0] - audio[0] == pytest.approx(before, abs=0.003)
        video, audio = video[count:], audio[sounds:]


def test_a_start_behind_a_join_is_found(part, command, tmp_path) -> None:
    path = joined(tmp_path / "in.ts", part(25, 4, 4), part(25, 4, 4))
    for name, seconds in (("one.mkv", 0), ("many.mkv", 1)):
        code, _ = command(path, tmp_path / name, "-ss", 5, "--segment-seconds", seconds)
        assert code == 0
    assert len(times(tmp_path / "one.mkv", "v")) in range(74, 78)
    for stream in "va":
        found = times(tmp_path / "many.mkv", stream)
        assert found == times(tmp_path / "one.mkv", stream)
        assert found[-1] == pytest.approx(3, abs=0.1)


def test_one_wrong_time_is_no_join(part, tmp_path) -> None:
    path = tmp_path / "glitch.ts"
    with av.open(str(part(25, 4, 4))) as before, av.open(str(path), "w") as after:
        streams = [after.add_stream_from_template(stream) for stream in before.streams]
        for number, packet in enumerate(p for p in before.demux() if p.size):
            if packet.stream.type == "video" and 100 < number < 103:
                assert packet.pts is not None
                packet.pts += 180_000
            packet.stream = streams[packet.stream.index]
            after.mux(packet)
    with open_source(path, SourceConfig()) as source:
        found = [float(frame.pts * frame.time_base) for frame in source]
        assert source.joins == 0
        assert source.report.repaired_pts == 1
    steps = [b - a for a, b in pairwise(found)]
    assert max(steps) == pytest.approx(0.04, abs=0.001)
