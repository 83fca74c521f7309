"""The command as a process of its own, to which things happen."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import av
import pytest

COMMAND = [sys.executable, "-m", "vsr"]
PATIENCE = 60


class Run:
    """A run that reports its progress; what it has said is in :attr:`text`."""

    def __init__(self, source: Path, target: Path, *arguments: object, **options: object) -> None:
        command = [*COMMAND, str(source), str(target), "--progress", "json", "--device", "cpu"]
        self.process: subprocess.Popen[str] = subprocess.Popen(  # type: ignore[call-overload]
            [*command, *map(str, arguments)],
            **{"stderr": subprocess.PIPE, "text": True, "start_new_session": True, **options},
        )
        self.text = ""

    def wait_for(self, frames: int) -> "Run":
        """Until so many frames are done."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.text += line
            if line.startswith("{") and json.loads(line)["frames"] >= frames:
                return self
        raise AssertionError(f"ended before frame {frames}: {self.text}")

    def send(self, number: int) -> "Run":
        """Send a signal."""
        self.process.send_signal(number)
        return self

    def end(self) -> int:
        """The exit code; nothing of the run may be left in the system."""
        text = self.process.communicate(timeout=PATIENCE)[1]
        self.text += text or ""
        deadline = time.monotonic() + 5
        while _is_alive(self.process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not _is_alive(self.process.pid), "left a process behind"
        return self.process.returncode

    @property
    def said(self) -> list[str]:
        """Lines that are no progress."""
        return [line for line in self.text.splitlines() if line and not line.startswith("{")]

    def check_words(self) -> None:
        """What is said is meant for a person."""
        assert "Traceback" not in self.text, self.text
        assert "internal error" not in self.text, self.text


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def start() -> Iterator[Callable[..., Run]]:
    """Start the command; what still runs at the end of the test is killed."""
    runs: list[Run] = []

    def start(*arguments: object, **options: object) -> Run:
        runs.append(Run(*arguments, **options))  # type: ignore[arg-type]
        return runs[-1]

    yield start
    for run in runs:
        if run.process.poll() is None:
            run.process.send_signal(signal.SIGKILL)
            run.process.wait()
        if run.process.stderr is not None:
            run.process.stderr.close()


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory) -> Path:
    """Enough frames for something to happen on the way, with sound: 240 at 24 a second."""
    path: Path = tmp_path_factory.mktemp("clips") / "long.mkv"
    picture, sound = "testsrc2=s=160x120:r=24:d=10", "sine=d=10"
    inputs = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound]
    coding = ["-c:v", "mpeg4", "-q:v", "2", "-bf", "2", "-c:a", "aac"]
    subprocess.run(["ffmpeg", "-v", "error", *inputs, *coding, str(path)], check=True)
    return path


def count(path: Path) -> int:
    """Frames that FFmpeg decodes."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def tell_all(folder: Path, text: str, *known: str) -> list[str]:
    """What is left in ``folder``: nothing hidden, and but for ``known`` all was told of."""
    left = sorted(path.name for path in folder.iterdir())
    assert not [name for name in left if name.startswith(".")], left
    assert not [name for name in left if name not in text and name not in known], (left, text)
    return left


@pytest.fixture
def tools() -> SimpleNamespace:
    """What tests of this folder share."""
    return SimpleNamespace(count=count, tell_all=tell_all, command=COMMAND)
