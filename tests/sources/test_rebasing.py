"""Times from the start of a part, by clocks too coarse for where it begins."""

import shutil
import subprocess
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import pytest

from vsr.config import EncoderConfig, UpscaleConfig
from vsr.ffmpeg import known_fraction
from vsr.pipeline import upscale
from vsr.rationals import LARGEST
from vsr.sources import SourceConfig, VideoSource
from vsr.sources.rebasing import Rebasing

FFMPEG = shutil.which("ffmpeg")


@pytest.mark.parametrize(
    ("base", "origin", "expected"),
    [
        (Fraction(1, 25), Fraction(2), Fraction(1, 25)),
        (Fraction(1, 25), Fraction("3.34"), Fraction(1, 50)),
        (Fraction(1001, 24000), Fraction("3.337"), Fraction(1, 24000)),
        (Fraction(1, 90000), Fraction("1.000003"), Fraction(1, 9000000)),
        (Fraction(1, 25), Fraction("-0.01"), Fraction(1, 100)),
    ],
)
def test_units_fit_both(base: Fraction, origin: Fraction, expected: Fraction) -> None:
    clock = Rebasing(base, origin)
    assert clock.time_base == expected
    for pts in (0, 7, 1000):
        assert clock.time(pts) * clock.time_base == pts * base - origin
        assert clock.duration(pts) * clock.time_base == pts * base
        assert clock.back(clock.time(pts)) == pts


def test_what_ffmpeg_has_rounded_is_no_moment_of_its_own() -> None:
    """Where a program stream begins, in microseconds; its clock has 90000 units a second."""
    begin = Fraction(48003, 90000)
    clock = Rebasing(Fraction(1, 90000), Fraction(round(begin * 10**6), 10**6))
    assert clock.time_base == Fraction(1, 90000)
    assert clock.time(48003) == 0


def test_units_that_ffmpeg_cannot_hold_are_not_taken() -> None:
    base, origin = Fraction(1, 90000), Fraction("1.000000123")
    clock = Rebasing(base, origin)
    assert clock.time_base == base
    assert abs(clock.time(0) * base + origin) <= base / 2
    assert Rebasing(Fraction(1, LARGEST), Fraction(1, 2)).time_base == Fraction(1, LARGEST)


@pytest.mark.skipif(FFMPEG is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize("start", ["0.32", "0.33", "0.34", "0.355"])
def test_picture_and_sound_of_a_part_stay_together(tmp_path: Path, start: str) -> None:
    """Whose clock counts frames, as that of AVI: each time is by exactly the start earlier."""
    path = tmp_path / "a.avi"
    inputs = ["-f", "lavfi", "-i", "testsrc2=s=32x32:r=25:d=1"]
    command = ["ffmpeg", "-v", "error", *inputs, "-c:v", "huffyuv", str(path)]
    subprocess.run(command, check=True, timeout=60)
    begin = Fraction(start)
    with VideoSource(path, SourceConfig(start=begin)) as source:
        assert source.start_time == begin
        frames = list(source)
    times = [frame.pts * frame.time_base for frame in frames]
    whole = [Fraction(number, 25) for number in range(25)]
    assert times == [time - begin for time in whole if time >= begin]
    assert {frame.duration * frame.time_base for frame in frames} == {Fraction(1, 25)}
    # a run that goes on finds the frame that it means
    with VideoSource(path, SourceConfig(start=begin)) as source:
        frame = next(islice(source, 5, None))
        timing = source.timing
        assert timing is not None
    with VideoSource(path, SourceConfig(start=begin)) as source:
        assert source.skip(5, frame.pts, timing, lambda found: found.pts == frame.pts)
        assert next(iter(source)).pts == frame.pts


@pytest.mark.skipif(FFMPEG is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize(
    ("rate", "start", "end", "frames"),
    [
        ("60000/1001", "0", "0.1", 6), ("60000/1001", "0.0167", "0.1", 5),
        ("30000/1001", "0.0667", "0.2336", 5), ("30000/1001", "0.0401", None, 8),
    ],
)  # fmt: skip
def test_a_part_of_matroska_keeps_its_rate(
    tmp_path: Path, rate: str, start: str, end: str | None, frames: int
) -> None:
    """Whose times are milliseconds, wherever it begins: 16 and 17 in turn, and 16 for the last."""
    path, out = tmp_path / "a.mkv", tmp_path / "b.mov"
    inputs = ["-f", "lavfi", "-i", f"testsrc2=s=16x16:r={rate}"]
    coding = ["-frames:v", "10", "-c:v", "mpeg4", str(path)]
    subprocess.run(["ffmpeg", "-v", "error", *inputs, *coding], check=True, timeout=60)
    upscale(
        UpscaleConfig(
            input=path, output=out, model="identity", device="cpu", start=Fraction(start),
            end=None if end is None else Fraction(end), encoder=EncoderConfig(codec="mjpeg"),
        )
    )  # fmt: skip
    with av.open(out) as container:
        stream = container.streams.video[0]
        assert (stream.frames, known_fraction(stream.base_rate)) == (frames, Fraction(rate))
        assert stream.duration is not None
        assert stream.time_base is not None
        length = stream.duration * Fraction(stream.time_base.num, stream.time_base.den)
    assert length == frames / Fraction(rate)
