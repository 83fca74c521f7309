"""SIGKILL at moments that nobody chose, and at those that matter: then --resume."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("seed", "container", "options"),
    [
        (1, "mkv", ["-c:v", "libx264", "--preset", "ultrafast"]),
        (2, "mp4", ["-c:v", "libx264", "--preset", "ultrafast"]),
    ],
)
def test_a_killed_run_goes_on_to_the_same_film(root, seed, container, options):
    """A process of its own, since it forks the runs that it kills."""
    script, trials = root / "scripts" / "soak.py", ["--times", "4", "--seed", str(seed)]
    command = [sys.executable, script, "kills", *trials, "--container", container, "--", *options]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.endswith("4 runs killed, 4 with the same result\n")


def test_another_frame_or_time_would_be_noticed(scripts, tmp_path):
    kills = scripts("soak_kills")
    clip, cut = kills.make_clip(tmp_path / "in.mkv"), tmp_path / "cut.mkv"
    later = tmp_path / "later.mkv"
    copy = ["ffmpeg", "-v", "error", "-i", str(clip), "-c", "copy"]
    subprocess.run([*copy, "-frames:v", "47", str(cut)], check=True)
    subprocess.run([*copy, "-bsf:v", "setts=pts=PTS+1", str(later)], check=True)
    for changed in (cut, later):
        assert kills.packets(changed) != kills.packets(clip)
