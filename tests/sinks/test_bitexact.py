"""The same bytes each time, in every container, and what is patched into them stays."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from vsr.config import BITEXACT, EncoderConfig, UpscaleConfig
from vsr.pipeline import upscale


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov", "nut", "avi", "ts", "webm"])
def test_the_same_bytes_each_time(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / "in.mkv"
    inputs = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.4,setsar=16/15", "-f", "lavfi", "-i",
              "sine=d=0.4")  # fmt: skip
    codecs = ("-c:v", "ffv1", "-c:a", "libopus" if suffix == "webm" else "ac3")
    command = ["ffmpeg", "-v", "error", *inputs, *codecs, str(source)]
    subprocess.run(command, check=True, timeout=60)
    encoder = EncoderConfig(
        muxer_options={"fflags": BITEXACT}, preset=None if suffix == "webm" else "ultrafast"
    )
    hashes = set()
    for name in ("a", "b"):
        output = tmp_path / f"{name}.{suffix}"
        upscale(UpscaleConfig(input=source, output=output, model="identity", encoder=encoder))
        hashes.add(hashlib.sha256(output.read_bytes()).hexdigest())
    assert len(hashes) == 1
    command = ["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries",
               "stream=sample_aspect_ratio", "-of", "csv=p=0", str(output)]  # fmt: skip
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert told.split()[0] == "16:15"


@pytest.mark.parametrize(
    ("name", "codec"),
    [("out.avi", "mpeg4"), ("out.avi", "mjpeg"), ("out.mkv", "mpeg4"), ("out.ts", "mpeg2video"),
     ("%d.tiff", None), ("%d.dpx", None)],
)  # fmt: skip
@pytest.mark.parametrize("bitexact", [True, False])
def test_encoders_leave_their_version_out(
    tmp_path: Path, name: str, codec: str | None, bitexact: bool
) -> None:
    """Those of sound, too: what MPEG-TS cannot hold becomes AAC."""
    source = tmp_path / "in.mkv"
    inputs = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.2", "-f", "lavfi", "-i", "sine=d=0.2")
    codecs = ("-c:v", "ffv1", "-c:a", "pcm_s16le", "-metadata:s:a", "encoder=Somebody")
    command = ["ffmpeg", "-v", "error", *inputs, *codecs, str(source)]
    subprocess.run(command, check=True, timeout=60)
    flags = {"fflags": BITEXACT} if bitexact else {}
    encoder = EncoderConfig(codec=codec, muxer_options=flags)
    output = tmp_path / "made" / name
    output.parent.mkdir()
    upscale(UpscaleConfig(input=source, output=output, model="identity", encoder=encoder))
    made = [path.read_bytes() for path in output.parent.iterdir()]
    assert any(b"Lavc" in data for data in made) != bitexact
