"""What several tests of runs that are gone on with work on."""

import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """26 frames whose pictures are each shown twice, but for some that are not."""
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    held = "testsrc2=size=48x32:rate=25,setpts=PTS-STARTPTS,fps=14,fps=25"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", held, "-frames:v", "26"]
    subprocess.run([*command, "-c:v", "ffv1", "-g", "1", str(path)], check=True)
    return path
