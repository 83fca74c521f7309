"""Runs that are killed and gone on with: the result must be that of one that was left alone.

Every run is a forked process that does nothing but the command, so SIGKILL finds it as it finds any
other. Half of the kills fall at a random time, the others right before or right after the film is
flushed, renamed or removed somewhere: moments that a clock would seldom hit, joining among them.
"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsr.cli import main

__all__ = ["Kill", "Outcome", "make_clip", "packets", "survive_end", "survive_kills"]

_STEPS = ("replace", "fsync", "unlink", "rmdir", "ftruncate", "mkdir")
_SEGMENT = 0.25  # seconds of film
_AGAIN = 0.3  # how often a run that goes on is killed as well
_LATE = 0.4  # share of the steps that count as the end, when segments are joined and renamed


@dataclass(frozen=True, slots=True)
class Kill:
    """When a run is killed: so many seconds after it began, or at the n-th step on the disk."""

    seconds: float | None = None
    step: int | None = None
    after: bool = False

    def __str__(self) -> str:
        if self.seconds is not None:
            return f"after {self.seconds:.3f} s"
        return f"{'after' if self.after else 'before'} step {self.step}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a run that was killed, and gone on with until it was done."""

    kills: tuple[Kill, ...]
    problem: str | None
    """How the film differs; None if it is the same, to the packet."""
    left: tuple[str, ...]
    """What lies beside it, which must be nothing."""

    @property
    def survived(self) -> bool:
        """Whether the film is there, the same, and nothing else."""
        return self.problem is None and not self.left


def make_clip(path: Path, frames: int = 48) -> Path:
    """A small film with sound and a chapter's worth of B-frames, 24 frames a second."""
    seconds = frames / 24
    inputs = ["-f", "lavfi", "-i", f"testsrc2=s=64x48:r=24:d={seconds}", "-f", "lavfi", "-i"]
    coding = ["-c:v", "mpeg4", "-bf", "2", "-c:a", "aac", str(path)]
    command = ["ffmpeg", "-v", "error", *inputs, f"sine=d={seconds}", *coding]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


def packets(path: Path) -> str:
    """Time, length and hash of every packet of every stream, and of every decoded frame."""
    told = ""
    for how in (("-map", "0", "-c", "copy"), ("-map", "0:v")):
        command = ["ffmpeg", "-v", "error", "-i", str(path), *how, "-f", "framemd5", "-"]
        told += subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return told


def survive_kills(
    times: int, seed: int, folder: Path, name: str = "out.mkv", *options: str
) -> Iterator[Outcome]:
    """Kill ``times`` runs, go on with each, and compare.

    Args:
        times: How many.
        seed: Where the moments come from.
        folder: An empty one to work in.
        name: The output's; its extension chooses the container.
        options: More of the command, such as the encoder.
    """
    rng, film = random.Random(seed), _Film(folder, name, options)
    for _ in range(times):
        kills = [_choose(rng, film.steps, film.length)]
        while rng.random() < _AGAIN:
            kills.append(_choose(rng, film.steps, film.length))
        yield film.survive(kills)


def survive_end(last: int, folder: Path, name: str = "out.mkv", *options: str) -> Iterator[Outcome]:
    """Kill a run before each of its ``last`` steps, go on with each, and compare.

    Args:
        last: How many: joining, naming and tidying up are among them.
        folder: An empty one to work in.
        name: The output's; its extension chooses the container.
        options: More of the command, such as the encoder.
    """
    film = _Film(folder, name, options)
    for step in range(max(1, film.steps - last + 1), film.steps + 1):
        yield film.survive([Kill(step=step)])


class _Film:
    """What is made again and again, and what it must be.

    Args:
        folder: An empty one to work in.
        name: The output's.
        options: More of the command.
    """

    def __init__(self, folder: Path, name: str, options: Sequence[str]) -> None:
        self._folder, self._name, self._number = folder, name, 0
        self._clip, whole = str(make_clip(folder / "in.mkv")), folder / f"whole-{name}"
        plain = f"--model lanczos --segment-seconds {_SEGMENT} --device cpu"
        self._options = [*plain.split(), *options]
        began = time.monotonic()
        self.steps = _count_steps([self._clip, str(whole), *self._options], folder)
        """Steps on the disk that a run takes."""
        self.length = time.monotonic() - began
        """Seconds that it takes."""
        self._wanted = packets(whole)

    def survive(self, kills: list[Kill]) -> Outcome:
        """Kill a run as often as said, then let it finish."""
        home = self._folder / f"run-{self._number}"
        home.mkdir()
        self._number += 1
        film = home / self._name
        problem = self._until_done(film, kills) or _compare(film, self._wanted)
        left = tuple(sorted(path.name for path in home.iterdir() if path != film))
        return Outcome(tuple(kills), problem, left)

    def _until_done(self, film: Path, kills: list[Kill]) -> str | None:
        """What went wrong on the way."""
        log = self._folder / "log"
        command = [self._clip, str(film), *self._options]
        for number, kill in enumerate(kills):
            code = _run([*command, *(["--resume"] if number else [])], log, kill)
            if code not in (0, -signal.SIGKILL) and not film.exists():
                return f"exit code {code}: {_said(log)}"
        is_over = [*film.parent.iterdir()] == [film]  # nothing is left that could tell of the run
        code = _run([*command, "--resume"], log)
        if code == 0 or (is_over and "already exists" in _said(log)):
            return None
        return f"exit code {code}: {_said(log)}"


def _choose(rng: random.Random, steps: int, length: float) -> Kill:
    if rng.random() < 0.5:
        return Kill(seconds=rng.uniform(0, length))
    first = round(steps * (1 - _LATE)) if rng.random() < 0.5 else 1
    return Kill(step=rng.randint(first, steps), after=rng.random() < 0.5)


def _compare(film: Path, wanted: str) -> str | None:
    found = packets(film)
    if found != wanted:
        pairs = zip(found.splitlines(), wanted.splitlines(), strict=False)
        return next((f"{a!r} instead of {b!r}" for a, b in pairs if a != b), "another length")
    return None


def _said(log: Path) -> str:
    return log.read_text(errors="replace").strip().rpartition("\n")[2]


# Processes.


def _run(command: list[str], log: Path, kill: Kill | None = None) -> int:
    """Run the command in a child; returns its exit code, negative if a signal ended it."""
    child = os.fork()
    if not child:
        with _dying(kill):
            _be_the_command(command, log)
    if kill is not None and kill.seconds is not None:
        time.sleep(kill.seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _be_the_command(command: list[str], log: Path) -> None:
    code = 70
    try:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        code = main(command)
    finally:
        os._exit(code)


@contextmanager
def _dying(kill: Kill | None) -> Iterator[None]:
    """In this block, the process ends itself at the step of ``kill``."""
    if kill is not None and kill.step is not None:
        _count_down(kill.step, after=kill.after)
    yield


def _count_down(step: int, *, after: bool) -> None:
    left = step

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
            nonlocal left
            left -= 1
            if left == 0 and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*arguments, **options)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapped

    for name in _STEPS:
        setattr(os, name, wrap(getattr(os, name)))


def _count_steps(command: list[str], folder: Path) -> int:
    """Run the command to its end, and count its steps on the disk."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        for name in _STEPS:
            setattr(os, name, _telling(getattr(os, name), write))
        _be_the_command(command, folder / "log")
    os.close(write)
    with os.fdopen(read, "rb") as told:
        count = len(told.read())
    if os.waitpid(child, 0)[1]:
        raise RuntimeError(f"the run that nobody killed failed: {_said(folder / 'log')}")
    return count


def _telling(real: Callable[..., Any], write: int) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        os.write(write, b".")
        return real(*arguments, **options)

    return wrapped
