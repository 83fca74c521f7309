"""A film of tiny frames: memory stays where it is, and nothing is left open."""

import subprocess
import sys

import pytest

FRAMES = 1500


def soak(root, *options):
    """In a process of its own: what other tests have allocated must not count."""
    command = [sys.executable, root / "scripts" / "soak.py", "memory", "--frames", str(FRAMES)]
    return subprocess.run([*command, *options], capture_output=True, text=True, check=False)


def test_memory_threads_and_files_stay(root):
    run = soak(root)
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{FRAMES} frames" in run.stdout
    assert run.stdout.endswith("left: nothing\n")


@pytest.mark.slow
def test_a_leak_would_be_noticed(root):
    run = soak(root, "--leak", "2000")
    assert run.returncode == 1, run.stdout + run.stderr
