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
