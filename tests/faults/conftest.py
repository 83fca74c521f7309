"""The command as a process of its own, to which things happen."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest

from vsr.cli import main
from vsr.engine import Engine, PendingFrame
from vsr.frame import Frame
from vsr.sources import VideoSource

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

    def wait_for_words(self, words: str) -> "Run":
        """Until a line with these words is said."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.text += line
            if words in line:
                return self
        raise AssertionError(f"ended before it said {words!r}: {self.text}")

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


# Faults inside the process that runs the command.


class Film:
    """A film of 60 frames and what the command makes of it, here and now, in half-second segments.

    Args:
        source: the film.
        whole: hashes of the frames of an output that nothing has disturbed.
        folder: where the output goes, empty.
        capsys: pytest's.
    """

    frames = 60

    def __init__(
        self, source: Path, whole: str, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.source, self.target = source, folder / "out.mkv"
        self.work = folder / "out.mkv.parts"
        self._whole, self._capsys = whole, capsys

    def run(self, *options: object, target: object = None) -> tuple[int, str]:
        """Exit code and what was said; no thread may be left."""
        before = set(threading.enumerate())
        plain = ["--model", "identity", "--device", "cpu", "--segment-seconds", 0.5, "-c:v", "ffv1"]
        code = main([*map(str, (self.source, target or self.target, *plain, *options))])
        out, err = self._capsys.readouterr()
        assert out == ""
        new = set(threading.enumerate()) - before
        assert not [thread.name for thread in new if thread.name.startswith("vsr-")]
        return code, err

    def fail(
        self, *words: str, target: Path | str | None = None, options: Sequence[object] = (),
        code: int | None = None, keeps: Path | None, may_keep: Path | None = None,
    ) -> str:  # fmt: skip
        """Run, which must fail with one error of these words, and leave ``keeps`` alone."""
        found, text = self.run(*options, target=target)
        blamed = [line for line in text.splitlines() if ": error: " in line]
        assert len(blamed) == 1, text
        assert "Traceback" not in text
        assert found == code if code else found in (1, 2), text
        assert not [word for word in words if word not in blamed[0]], blamed[0]
        if self.target.parent.exists():
            left = list(self.target.parent.iterdir())
            assert left in ([keeps] if keeps else [], [may_keep]), left
        return text

    def go_on(self) -> None:
        """Finish with --resume; the film must be what it would have been."""
        code, text = self.run("--resume")
        assert code == 0, text
        assert self.is_whole()
        assert list(self.target.parent.iterdir()) == [self.target]

    def is_whole(self) -> bool:
        """Whether the output has all frames, each as it must be, at its time."""
        return hashes(self.target) == self._whole

    @staticmethod
    def count(path: Path) -> int:
        """Frames that FFmpeg decodes."""
        return count(path)


def hashes(path: Path) -> str:
    """Times and hashes of all frames."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:v", "-f", "framemd5", "-"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def short_clip(tmp_path_factory) -> tuple[Path, str]:
    """60 small frames with sound, 24 a second, and what an undisturbed run makes of them."""
    folder: Path = tmp_path_factory.mktemp("short")
    path, whole = folder / "in.mkv", folder / "whole.mkv"
    inputs = ["-f", "lavfi", "-i", "testsrc2=s=64x48:r=24:d=2.5", "-f", "lavfi", "-i", "sine=d=2.5"]
    coding = ["-c:v", "mpeg4", "-bf", "2", "-c:a", "flac"]
    subprocess.run(["ffmpeg", "-v", "error", *inputs, *coding, str(path)], check=True)
    plain = ["--model", "identity", "--device", "cpu", "--segment-seconds", "0.5", "-c:v", "ffv1"]
    assert main([str(path), str(whole), *plain]) == 0
    return path, hashes(whole)


@pytest.fixture
def film(short_clip, tmp_path, capsys) -> Film:
    """A film whose run can be disturbed."""
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    outputs.mkdir()
    source = Path(shutil.copy(short_clip[0], inputs))
    capsys.readouterr()
    return Film(source, short_clip[1], outputs, capsys)


@pytest.fixture
def at_source(monkeypatch) -> Callable[[int, Callable[[], object]], None]:
    """Do something when so many frames have come out of the source, and few more are read."""

    def arrange(number: int, action: Callable[[], object]) -> None:
        iterate = VideoSource.__iter__

        def iterating(self: VideoSource) -> Iterator[Frame]:
            for count, frame in enumerate(iterate(self), start=1):
                if count == number:
                    action()
                yield frame

        monkeypatch.setattr(VideoSource, "__iter__", iterating)

    return arrange


@pytest.fixture
def at_frame(monkeypatch) -> Callable[[int, Callable[[], object]], None]:
    """Do something when so many frames have come out of the network."""

    def arrange(number: int, action: Callable[[], object]) -> None:
        collect, calls = Engine.collect, iter(range(1, 10_000))

        def collecting(self: Engine, pending: PendingFrame, **named: Any) -> Frame:
            frame = collect(self, pending, **named)
            if next(calls) == number:
                action()
            return frame

        monkeypatch.setattr(Engine, "collect", collecting)

    return arrange
