"""SIGKILL at moments that nobody chose, and at those that matter: then --resume."""

import subprocess
import sys

import pytest


def soak(root, *options):
    """A process of its own, since it forks the runs that it kills."""
    command = [sys.executable, root / "scripts" / "soak.py", "kills", *options]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_a_killed_run_goes_on_to_the_same_film(root):
    said = soak(root, "--times", "4", "--seed", "1", "--container", "mp4")
    assert said.endswith("4 runs killed, 4 with the same result\n")


@pytest.mark.parametrize("steps", [4, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_while_it_tidies_up(root, steps):
    """Before each of the last steps: joining, naming, and removing what nobody needs."""
    said = soak(root, "--last", str(steps), "--container", "mkv", "--", "-c:v", "ffv1")
    assert said.endswith(f"{steps} runs killed, {steps} with the same result\n")


def test_another_frame_or_time_would_be_noticed(scripts, tmp_path):
    kills = scripts("soak_kills")
    clip, cut = kills.make_clip(tmp_path / "in.mkv"), tmp_path / "cut.mkv"
    later = tmp_path / "later.mkv"
    copy = ["ffmpeg", "-v", "error", "-i", str(clip), "-c", "copy"]
    subprocess.run([*copy, "-frames:v", "47", str(cut)], check=True)
    subprocess.run([*copy, "-bsf:v", "setts=pts=PTS+1", str(later)], check=True)
    for changed in (cut, later):
        assert kills.packets(changed) != kills.packets(clip)
