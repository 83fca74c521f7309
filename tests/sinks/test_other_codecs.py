"""Sound of transport streams whose codec changes: FFmpeg goes on with the first one's name."""

import subprocess
from pathlib import Path

import pytest

from vsr.config import UpscaleConfig
from vsr.pipeline import upscale


def recording(path: Path, codec: str, *, offset: int = 0) -> bytes:
    command = [
        "ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=1", "-f", "lavfi",
        "-i", "sine=r=48000:d=1", "-c:v", "mpeg2video", "-c:a", codec, "-output_ts_offset",
        str(10 + offset), str(path),
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=60)
    return path.read_bytes()


def notes_of(path: Path) -> list[str]:
    config = UpscaleConfig(input=path, output=path.with_suffix(".mkv"), model="identity")
    return [note for note in upscale(config).notes if "another codec" in note]


@pytest.mark.parametrize(("first", "second"), [("mp2", "ac3"), ("ac3", "mp2")])
def test_a_codec_that_changes_is_said(tmp_path: Path, first: str, second: str) -> None:
    path = tmp_path / "in.ts"
    parts = [recording(tmp_path / "a.ts", first), recording(tmp_path / "b.ts", second, offset=1)]
    path.write_bytes(b"".join(parts))
    (note,) = notes_of(path)
    assert note.startswith("audio stream 1 (")


@pytest.mark.parametrize("codec", ["mp2", "ac3", "eac3", "libmp3lame"])
def test_one_that_does_not_is_not(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "in.ts"
    recording(path, codec)
    assert notes_of(path) == []
