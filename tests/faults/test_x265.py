"""What x265 does to memory with narrow pictures, and that the command lets it come to nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vsr.cli import main

CHECKER = "libc_malloc_debug.so.0"  # glibc's: looks at each block that is freed
ENCODE = """
import av, sys
from fractions import Fraction
width, height = map(int, sys.argv[1:])
context = av.CodecContext.create("libx265", "w")
context.width, context.height, context.pix_fmt = width, height, "yuv420p"
context.time_base = Fraction(1, 25)
context.options = {"x265-params": "log-level=none", "preset": "veryfast"}
for number in range(30):
    frame = av.VideoFrame(width, height, "yuv420p")
    frame.pts = number
    context.encode(frame)
context.encode(None)
"""


def encode(width: int, height: int) -> int:
    """The exit code of a process that has coded such pictures, each block of memory checked."""
    environment = {**os.environ, "LD_PRELOAD": CHECKER, "MALLOC_CHECK_": "3"}
    command = [sys.executable, "-c", ENCODE, str(width), str(height)]
    return subprocess.run(
        command, env=environment, capture_output=True, check=False, timeout=60
    ).returncode


@pytest.mark.skipif(
    not any(list(Path(place).rglob(CHECKER)) for place in ("/usr/lib", "/usr/lib64", "/lib64")),
    reason="needs glibc's checker of memory",
)
def test_what_is_not_refused_is_sound():
    assert encode(50, 32) == 0


@pytest.mark.parametrize("width", [16, 48])
def test_narrow_pictures_are_refused(make_clip, tmp_path, capsys, width):
    clip = make_clip("in.mkv", size=(width, 32), frames=3, audio=False)
    target = tmp_path / "out.mkv"
    assert main([str(clip), str(target), "--model", "identity", "-c:v", "libx265"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    assert f"libx265 cannot code {width}x32 safely" in err
    assert "-c:v libx264 or ffv1" in err
    assert not target.exists()
    options = ["--model", "identity", "--size", "50x32", "-c:v", "libx265", "--preset", "ultrafast"]
    assert main([str(clip), str(target), *options]) == 0
