"""Bit rate and quality of MPEG-1, -2 and -4 and their kin, which have no crf."""

import subprocess
from pathlib import Path

import pytest

from vsr.config import EncoderConfig, UpscaleConfig
from vsr.errors import ConfigError
from vsr.pipeline import upscale


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of moving noise, whose clock ticks much faster than its frames come."""
    path = tmp_path_factory.mktemp("rates") / "in.mp4"
    command = [
        "ffmpeg", "-v", "error", "-f", "lavfi", "-i",
        "testsrc2=s=160x128:r=25:d=4,noise=alls=24:allf=t", "-c:v", "libx264", "-preset",
        "ultrafast", "-qp", "8", "-video_track_timescale", "90000", str(path),
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=60)
    return path


def bits_a_second(clip: Path, out: Path, codec: str, **options: str) -> float:
    encoder = EncoderConfig(codec=codec, options=options)
    upscale(
        UpscaleConfig(input=clip, output=out, model="identity", overwrite=True, encoder=encoder)
    )
    return out.stat().st_size * 8 / 4


@pytest.mark.parametrize("codec", ["mpeg4", "msmpeg4", "mpeg2video", "mpeg1video"])
def test_a_bit_rate_is_met(tmp_path: Path, clip: Path, codec: str) -> None:
    out = tmp_path / "out.mkv"
    assert bits_a_second(clip, out, codec, b="400k") == pytest.approx(400_000, rel=0.35)
    assert bits_a_second(clip, out, codec, b="1M") == pytest.approx(1_000_000, rel=0.35)


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg2video", "mpeg1video", "mjpeg"])
def test_a_quality_is_that_of_ffmpegs_command(tmp_path: Path, clip: Path, codec: str) -> None:
    theirs = tmp_path / "theirs.mkv"
    command = ["ffmpeg", "-v", "error", "-i", clip, "-c:v", codec, "-q:v", "6", theirs]
    subprocess.run(list(map(str, command)), check=True, timeout=60)
    ours = bits_a_second(clip, tmp_path / "ours.mkv", codec, global_quality=str(6 * 118))
    assert ours == pytest.approx(theirs.stat().st_size * 8 / 4, rel=0.1)
    assert bits_a_second(clip, tmp_path / "best.mkv", codec) > 1.5 * ours


@pytest.mark.parametrize("quality", ["inf", "nan"])
def test_a_quality_that_is_no_number_is_refused(clip, tmp_path, quality):
    with pytest.raises(ConfigError, match="global_quality"):
        bits_a_second(clip, tmp_path / "a.mkv", "mpeg4", global_quality=quality)
