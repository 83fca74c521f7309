"""Recordings joined byte by byte: picture and sound stay together, whatever the clocks do."""

import subprocess
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
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


@pytest.mark.parametrize(("suffix", "codec"), [("ts", "libx264"), ("vob", "mpeg2video")])
def test_parts_touch(ffmpeg, command, tmp_path, suffix, codec) -> None:
    """Decoding of the picture begins ahead of the sound; what counts is where each stream ended."""
    one: Path = ffmpeg.make(
        f"touching.{suffix}", "-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=3", "-f", "lavfi",
        "-i", "sine=d=3:r=48000", "-c:v", codec, "-bf", 2, "-c:a", "mp2",
    )  # fmt: skip
    path = joined(tmp_path / f"in.{suffix}", one, one, one)
    code, lines = command(path, tmp_path / "out.mkv")
    assert code == 0
    assert sum("the clock starts again 2 times" in line for line in lines) == 1
    for stream, step, count in (("v", 0.04, 75), ("a", 0.024, len(times(one, "a")))):
        found = times(tmp_path / "out.mkv", stream)
        assert max(b - a for a, b in pairwise(found)) <= step + 0.0021
        assert len(found) == 3 * count


@pytest.mark.parametrize("offset", [33, 500])
def test_sound_that_begins_in_a_later_part_begins_there(ffmpeg, command, tmp_path, offset) -> None:
    """FFmpeg adds a turn of the clock to what lies a minute before the first time."""
    picture = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=4")
    silent = ffmpeg.make(f"silent{offset}.vob", *picture, "-output_ts_offset", offset)
    heard = ffmpeg.make("heard.vob", *picture, "-f", "lavfi", "-i", "sine=d=4", "-c:a", "ac3")
    path = joined(tmp_path / "in.vob", silent, heard)
    assert command(path, tmp_path / "out.mkv")[0] == 0
    video, audio = (times(tmp_path / "out.mkv", stream) for stream in "va")
    assert (video[0], len(video)) == (0, 200)
    assert video[-1] == pytest.approx(8, abs=0.1)
    assert audio[0] == pytest.approx(4, abs=0.1)


def test_a_silent_part_between_two_others_takes_no_longer(ffmpeg, command, tmp_path) -> None:
    picture = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=4")
    coding = ("-f", "lavfi", "-i", "sine=d=4", "-c:v", "mpeg2video", "-c:a", "ac3")
    first = ffmpeg.make("first.ts", *picture, *coding, "-output_ts_offset", 500)
    second = ffmpeg.make("second.ts", *picture, "-c:v", "mpeg2video", "-output_ts_offset", 33)
    third = ffmpeg.make("third.ts", *picture, *coding)
    path = joined(tmp_path / "in.ts", first, second, third)
    assert command(path, tmp_path / "out.mkv")[0] == 0
    video, audio = (times(tmp_path / "out.mkv", stream) for stream in "va")
    assert len(video) == 300
    assert video[-1] == pytest.approx(12, abs=0.15)
    assert max(b - a for a, b in pairwise(audio)) == pytest.approx(4, abs=0.15)


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


@pytest.mark.parametrize("start", [0.5, 2.5, 4.5, 7.5])
@pytest.mark.parametrize("seconds", [0, 1])
def test_a_time_is_that_of_the_first_recording_that_has_it(
    ffmpeg, command, tmp_path, start, seconds
):
    """Though the second is ten times as large, and has all times of the first, too."""
    parts = []
    for colour, noise in (("red", "0"), ("blue", "40")):
        picture = f"color={colour}:s=128x96:r=25:d=4,noise=alls={noise}:allf=t"
        parts.append(ffmpeg.make(
            f"{colour}.ts", "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "sine=d=4",
            "-c:v", "mpeg2video", "-q:v", "2", "-c:a", "mp2",
        ))  # fmt: skip
    path, output = joined(tmp_path / "in.ts", *parts), tmp_path / "out.mkv"
    code, _ = command(path, output, "-ss", start, "--segment-seconds", seconds, "-c:v", "ffv1")
    assert code == 0
    with av.open(str(output)) as container:
        red = [
            frame.to_ndarray(format="rgb24")[..., 0].mean() for frame in container.decode(video=0)
        ]
    count = round((8 - start) * 25)
    assert len(red) == pytest.approx(count, abs=2)
    changes = list(np.flatnonzero(np.abs(np.diff(red)) > 100) + 1)
    assert red[-1] < 50
    assert changes == ([] if start > 4 else [len(red) - 100])
    video, audio = (times(output, stream) for stream in "va")
    assert video[0] == pytest.approx(audio[0], abs=0.05)
    assert video[-1] == pytest.approx(audio[-1], abs=0.1)


def test_a_clock_that_falls_by_minutes_is_no_leap_of_a_day(part, ffmpeg, command, tmp_path):
    """FFmpeg takes times a minute before the first for those behind the clock's 33 bits."""
    early = part(25, 4, 4)
    late = ffmpeg.make("later.ts", "-i", str(early), "-c", "copy", "-output_ts_offset", "1000")
    path = joined(tmp_path / "in.ts", late, early)
    for seconds, start in ((0, 0), (1, 0), (0, 5)):
        output = tmp_path / f"{seconds}-{start}.mkv"
        options = ["--segment-seconds", seconds, *(["-ss", start] if start else [])]
        code, lines = command(path, output, *options)
        assert code == 0
        assert sum("the clock starts again once" in line for line in lines) == 1
        assert not any("leap" in line or "missing" in line for line in lines)
        for stream in "va":
            found = times(output, stream)
            assert found[0] == pytest.approx(0, abs=0.05)
            assert found[-1] == pytest.approx(8 - start, abs=0.1)


@pytest.fixture
def dvd(ffmpeg):
    """Make a program stream of two seconds, with that sound or none."""

    def make(sound: str) -> Path:
        inputs = ["-f", "lavfi", "-i", "testsrc2=s=128x96:r=25:d=2"]
        if sound:
            inputs += ["-f", "lavfi", "-i", "sine=d=2:r=48000", "-c:a", sound]
        path: Path = ffmpeg.make(f"{sound}.vob", *inputs, "-c:v", "mpeg2video", "-f", "dvd")
        return path

    return make


@pytest.mark.parametrize(
    "sounds", [("ac3", "", "ac3"), ("", "ac3"), ("ac3", "mp2"), ("ac3", "mp2", "ac3")]
)
def test_sound_that_not_every_recording_has_stays_with_its_picture(dvd, command, tmp_path, sounds):
    """Of a DVD, whose sound comes ahead of its picture in the file."""
    path, output = joined(tmp_path / "in.vob", *map(dvd, sounds)), tmp_path / "out.mkv"
    code, lines = command(path, output)
    assert code == 0
    assert sum("the clock starts again" in line for line in lines) == 1
    video = times(output, "v")
    assert len(video) == 50 * len(sounds)
    for stream, codec in enumerate(sorted(set(sounds) - {""})):
        expected = [
            video[50 * place] - times(dvd(codec), "v")[0] + time
            for place, sound in enumerate(sounds) if sound == codec
            for time in times(dvd(codec), "a")
        ]  # fmt: skip
        assert times(output, f"a:{stream}") == pytest.approx(expected, abs=0.012)


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
