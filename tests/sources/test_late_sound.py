"""Sound that begins long after the picture: what FFmpeg did not see, nobody can copy."""

import subprocess
from pathlib import Path

import pytest

LATE = 8


def late(ffmpeg, name: str) -> Path:
    path: Path = ffmpeg.make(
        name, "-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=10", "-itsoffset",
        LATE, "-f", "lavfi", "-i", "sine=d=2", "-map", 0, "-map", 1, "-c:v", "mpeg2video",
        "-c:a", "mp2",
    )  # fmt: skip
    return path


@pytest.mark.parametrize("name", ["late.ts", "late.vob"])
def test_it_is_copied_to_its_place(ffmpeg, command, tmp_path, name) -> None:
    code, lines = command(late(ffmpeg, name), tmp_path / "out.mkv")
    assert code == 0
    assert not any("dropped" in line for line in lines)
    line = ["ffprobe", "-v", "error", "-select_streams", "a", "-show_entries", "packet=pts_time",
            "-of", "csv=p=0", str(tmp_path / "out.mkv")]  # fmt: skip
    times = subprocess.run(line, capture_output=True, check=True, text=True).stdout.split()
    assert len(times) > 70
    assert float(times[0].strip(",")) == pytest.approx(LATE, abs=0.05)


def test_of_a_pipe_it_is_said(ffmpeg, command, tmp_path, monkeypatch) -> None:
    """A transport stream announces it; of a program stream in a pipe PyAV tells nothing."""
    with late(ffmpeg, "late.ts").open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        code, lines = command("-", tmp_path / "out.mkv")
    assert code == 0
    assert sum("none of it was found where the input begins" in line for line in lines) == 1
