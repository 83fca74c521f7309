"""Recordings that were joined by their bytes: the clock leaps from one to the next."""

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest

from vsr.config import InputConfig, UpscaleConfig
from vsr.pipeline import upscale
from vsr.sources import open_source

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def record(path: Path, offset: int, *more: str) -> Path:
    """Two seconds of picture that begin at ``offset``."""
    picture = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=2")
    coding = ("-c:v", "mpeg2video", "-output_ts_offset", str(offset), *more)
    command = ["ffmpeg", "-v", "error", "-y", *picture, *coding, str(path)]
    subprocess.run(command, check=True)
    return path


@pytest.mark.parametrize(("offset", "leaps"), [(0, 0), (9, 0), (15, 1), (500, 1)])
def test_leaps_of_a_transport_stream_are_said(tmp_path: Path, offset: int, leaps: int) -> None:
    first, then = record(tmp_path / "1.ts", 0), record(tmp_path / "2.ts", offset)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + (then.read_bytes() if offset else b""))
    with open_source(joined) as source:
        times = [frame.pts * frame.time_base for frame in source]
    assert len(times) == (100 if offset else 50)
    assert source.report.jumps == leaps
    said = [line for line in source.report.lines() if "clock leaps ahead" in line]
    assert len(said) == leaps
    if leaps:
        assert source.report.longest_jump == times[50] - times[49]
        assert f"1 time, by up to {float(times[50] - times[49]):.0f} s" in said[0]


def test_what_is_advised_closes_the_gap(tmp_path: Path) -> None:
    first, then = record(tmp_path / "1.ts", 0), record(tmp_path / "2.ts", 500)
    joined, closed = tmp_path / "joined.ts", tmp_path / "closed.ts"
    joined.write_bytes(then.read_bytes() + first.read_bytes())
    command = ["ffmpeg", "-v", "error", "-i", str(joined), "-map", "0", "-c", "copy", str(closed)]
    subprocess.run(command, check=True)
    with open_source(closed) as source:
        assert len(list(source)) == 100
    assert source.report.jumps == 0


def test_a_pause_in_a_file_with_a_clock_of_its_own_is_none(tmp_path: Path) -> None:
    slow = tmp_path / "slow.mkv"
    picture = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=1/20:d=60")
    subprocess.run(["ffmpeg", "-v", "error", *picture, slow], check=True)
    with open_source(slow) as source:
        assert len(list(source)) == 3
    assert source.report.lines() == []


def test_sound_that_does_not_follow_the_rate_is_said(tmp_path: Path) -> None:
    for sound, said in ((True, 1), (False, 0)):
        clip = tmp_path / f"{sound}.mkv"
        inputs = ["-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=1"]
        inputs += ["-f", "lavfi", "-i", "sine=d=1"] if sound else []
        subprocess.run(["ffmpeg", "-v", "error", *inputs, clip], check=True)
        with open_source(clip) as source:
            assert not [note for note in source.notes if "sound keeps" in note]
        report = upscale(config_for(clip))
        assert sum("sound keeps the input's" in note for note in report.notes) == said


def config_for(clip: Path) -> UpscaleConfig:
    """At twice its rate, thrown away."""
    return UpscaleConfig(
        input=clip, output=None, model="identity", source=InputConfig(rate=Fraction(50))
    )
