"""Whether a run's memory, threads, open files and temporary files grow with the film.

Resident memory alone tells late: freed memory is kept, and a leak fills that before it shows. So
what has been allocated and not freed is counted beside it, where the C library says (glibc).
"""

import ctypes
import gc
import os
import resource
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from vsr.config import EncoderConfig, UpscaleConfig
from vsr.pipeline import upscale
from vsr.progress import Progress

__all__ = ["Memory", "allocated", "give_back", "resident", "watch_memory"]

_WARM_UP = 0.4  # of the frames: buffers fill, the allocator finds its size
_SAMPLES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What was seen."""

    frames: int
    slope: float
    """KB of resident memory a frame after the warm-up, by least squares."""
    allocated: float
    """The same of memory that was allocated and not freed; 0 where the C library does not say."""
    begin: int
    """Resident KB after the warm-up."""
    end: int
    left: tuple[str, ...]
    """Threads, open files and temporary files that were not there before."""

    def __str__(self) -> str:
        left = ", ".join(self.left) or "nothing"
        return (
            f"{self.frames} frames: resident memory {self.slope:+.4f} KB a frame after the "
            f"warm-up ({self.begin} to {self.end} KB), allocated {self.allocated:+.4f} KB a frame; "
            f"left: {left}"
        )


def watch_memory(frames: int, folder: Path, *, leak: int = 0) -> Memory:
    """Upscale a film of tiny frames, and look at this process while it does.

    Args:
        frames: Length of the film.
        folder: An empty one to work in.
        leak: Bytes a frame to lose on purpose, to see that it is noticed.
    """
    clip, target, lost = _make_clip(frames, folder), folder / "out.mkv", bytearray()
    encoder = EncoderConfig(codec="libx264", options={"preset": "ultrafast"})
    config = UpscaleConfig(input=clip, output=target, model="identity", encoder=encoder)
    before, seen = _belongings(folder), list[tuple[int, int, int]]()

    def look(progress: Progress) -> None:
        lost.extend(b"x" * leak)
        if (
            progress.frames > _WARM_UP * frames
            and progress.frames % max(1, frames // _SAMPLES) == 0
        ):
            seen.append((progress.frames, resident(), allocated()))

    report = upscale(config, on_progress=look)
    target.unlink()
    del look
    gc.collect()
    left = tuple(sorted(_belongings(folder) - before))
    return Memory(
        frames=report.frames, slope=_slope(seen, 1), allocated=_slope(seen, 2),
        begin=seen[0][1], end=seen[-1][1], left=left,
    )  # fmt: skip


def _make_clip(frames: int, folder: Path) -> Path:
    path = folder / "in.mkv"
    source = ["-f", "lavfi", "-i", "testsrc=s=16x16:r=25", "-frames:v", str(frames)]
    command = ["ffmpeg", "-v", "error", *source, "-c:v", "mpeg4", "-pix_fmt", "yuv420p", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


def _belongings(folder: Path) -> set[str]:
    """Names of threads, open files, and files in the folder."""
    threads = {f"thread {thread.name}" for thread in threading.enumerate()}
    files = {f"file {path.name}" for path in folder.rglob("*")}
    handles = {_target(number) for number in os.listdir("/proc/self/fd")}
    return threads | files | {f"handle {name}" for name in handles if str(folder) in name}


def _target(number: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return ""


def resident() -> int:
    """Resident memory of this process in KB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() // 1024


class _MallInfo(ctypes.Structure):
    """``struct mallinfo2`` of glibc's malloc.h."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    )  # fmt: skip


def allocated() -> int:
    """KB that this process has allocated and not freed; 0 where the C library does not say."""
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return 0
    mallinfo.restype = _MallInfo
    found = mallinfo()
    return int(found.uordblks + found.hblkhd) // 1024


def give_back() -> None:
    """Return freed memory to the system, where the C library can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _slope(seen: list[tuple[int, int, int]], column: int) -> float:
    """Least squares: a column over the first."""
    mean_x, mean_y = (sum(row[axis] for row in seen) / len(seen) for axis in (0, column))
    above = sum((row[0] - mean_x) * (row[column] - mean_y) for row in seen)
    return above / sum((row[0] - mean_x) ** 2 for row in seen)
