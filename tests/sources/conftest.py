"""Real ffmpeg on the other side: clips made by it, and what it makes of them."""

import json
import subprocess
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vsr.cli import main
from vsr.frame import Frame
from vsr.sources import VideoSource


class Ffmpeg:
    """FFmpeg's own tools.

    Args:
        folder: where clips go.
        film: a real film in 960x540 at 30000/1001, 150 frames.
    """

    def __init__(self, folder: Path, film: Path) -> None:
        self.folder, self.film = folder, film
        self._made: dict[str, list[str]] = {}

    def run(self, *arguments: object, stdin: bytes | None = None) -> bytes:
        """What ``ffmpeg arguments`` writes to its standard output."""
        line = ["ffmpeg", "-v", "error", "-y", *map(str, arguments)]
        done = subprocess.run(line, input=stdin, capture_output=True, cwd=self.folder, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def make(self, name: str, *arguments: object) -> Path:
        """The clip ``name``, made by ``ffmpeg arguments name`` unless it is there already."""
        path, line = self.folder / name, [str(argument) for argument in arguments]
        if not path.exists():
            self.run(*line, name)
        assert self._made.setdefault(name, line) == line, f"another {name}"
        return path

    def from_film(
        self, name: str, vf: str, *arguments: object, rate: object = "30000/1001", count: int = 30
    ) -> Path:
        """``count`` frames of the film as if it had ``rate``, through the filters ``vf``."""
        head = ("-r", rate, "-i", self.film, "-an", "-map_metadata", -1)
        picture = ("-vf", f"trim=end_frame={count},{vf}", *arguments)
        return self.make(name, *head, *picture)

    def frames(
        self, path: Path, pix_fmt: str, size: tuple[int, int], *arguments: object
    ) -> list[bytes]:
        """Decoded frames, none repeated or dropped, after the options ``arguments``."""
        raw = self.run(
            "-i", path, *arguments, "-map", "0:v:0", "-vsync", "passthrough",
            "-pix_fmt", pix_fmt, "-f", "rawvideo", "-",
        )  # fmt: skip
        return split(raw, pix_fmt, size)

    def probe(self, path: Path, entries: str, *arguments: object) -> Any:
        """What ffprobe says of the first video stream, by ``-show_entries``."""
        line = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-of", "json", *arguments]
        text = subprocess.run(
            [*map(str, line), "-show_entries", entries, str(path)],
            capture_output=True, check=True, cwd=self.folder,
        ).stdout  # fmt: skip
        return json.loads(text)

    def stream(self, path: Path) -> dict[str, Any]:
        """What ffprobe says of the first video stream."""
        found: dict[str, Any] = self.probe(path, "stream")["streams"][0]
        return found

    def times(self, path: Path) -> list[Fraction]:
        """Seconds at which the frames are shown."""
        base = Fraction(self.stream(path)["time_base"])
        frames = self.probe(path, "frame=best_effort_timestamp")["frames"]
        return [int(frame["best_effort_timestamp"]) * base for frame in frames]


_SAMPLES = {"yuv420p": 1.5, "yuv422p": 2, "yuv444p": 3, "gray": 1}


def split(raw: bytes, pix_fmt: str, size: tuple[int, int]) -> list[bytes]:
    """Raw video as frames."""
    samples = _SAMPLES[pix_fmt.removesuffix("10le")] * (2 if pix_fmt.endswith("10le") else 1)
    step = round(size[0] * size[1] * samples)
    assert len(raw) % step == 0
    return [raw[at : at + step] for at in range(0, len(raw), step)]


def samples_of(frame: Frame) -> bytes:
    """A frame as FFmpeg's rawvideo stores it."""
    return b"".join(c.contiguous().numpy().tobytes() for c in frame.components)


def read(source: VideoSource) -> tuple[list[bytes], list[Fraction]]:
    """All frames of a source, and when they are shown."""
    with source:
        both = [(samples_of(frame), frame.pts * frame.time_base) for frame in source]
    return [samples for samples, _ in both], [time for _, time in both]


def psnr(one: bytes, other: bytes) -> float:
    """Peak signal-to-noise ratio of two 8-bit pictures, in dB."""
    a, b = (np.frombuffer(data, np.uint8).astype(np.float32) for data in (one, other))
    error = float(np.mean((a - b) ** 2))
    return 99.0 if error == 0 else 10 * float(np.log10(255**2 / error))


@pytest.fixture(scope="session")
def ffmpeg(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Ffmpeg:
    """FFmpeg's tools, and a folder of clips that is kept for the session."""
    return Ffmpeg(tmp_path_factory.mktemp("ffmpeg"), shared / "media/mdn/flower.mp4")


def even(times: Iterable[Fraction], step: Fraction) -> bool:
    """Whether ``times`` are exactly ``step`` apart."""
    times = list(times)
    return times == [times[0] + index * step for index in range(len(times))]


@pytest.fixture(scope="session")
def tools() -> SimpleNamespace:
    """Functions that several files use."""
    return SimpleNamespace(read=read, psnr=psnr, even=even, split=split)


Command = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run vsr-upscale, enlarging nothing; returns the exit code and the lines on stderr."""

    def run(*arguments: object) -> tuple[int, list[str]]:
        code = main([*map(str, arguments), "--model", "identity"])
        out, err = capsys.readouterr()
        assert out == ""
        assert "Traceback" not in err
        return code, err.splitlines()

    return run
