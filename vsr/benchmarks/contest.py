"""Everything in turn, several times, and the medians compared: a drifting machine favours none."""

import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsr import __version__
from vsr.benchmarks.clips import draw_clip, sample_clip
from vsr.benchmarks.jobs import OURS, Job
from vsr.benchmarks.loops import STAGES
from vsr.benchmarks.ways import ON_CPU, ON_CUDA, SERIAL, WAYS, NotHereError
from vsr.benchmarks.worker import apart
from vsr.config import Precision, Runtime
from vsr.errors import ConfigError, SourceError, VsrError

__all__ = ["Wanted", "bench"]

Found = dict[str, Any]
Say = Callable[[str], None]

_SMALLEST_SIDE = 16
_DRAWN = (320, 180)
"""Where there is no sample."""
_NEEDS_ONNX = {"openvino-bf16", "openvino-fp32", "onnxruntime", "ncnn"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is measured."""

    clip: Path | None = None
    """None takes the sample, or a clip that is drawn in ``size``."""
    size: tuple[int, int] | None = None
    """Width and height of the clip that is drawn instead."""
    frames: int = 24
    rounds: int = 3
    peers: tuple[str, ...] | None = None
    """Names of other ways; None takes all that suit the device."""
    compiled: bool = False
    """Measure torch.compile too, which takes a minute to begin."""
    packages: tuple[str, ...] = ()
    """Folders in which Python looks for peers after its own."""
    model: str = "span"
    weights: Path | None = None
    scale: int | None = None
    device: str = "auto"
    precision: Precision = "auto"
    runtime: Runtime = "auto"

    def __post_init__(self) -> None:
        if self.clip is not None and self.size is not None:
            raise ConfigError("give a file to measure on, or the size of one that is drawn")
        if any(side < _SMALLEST_SIDE or side % 2 for side in self.size or ()):
            raise ConfigError(f"sides must be even numbers from 16, not {self.size}")
        if min(self.frames, self.rounds) < 1:
            raise ConfigError("frames and rounds must be 1 or more")
        unknown = set(self.peers or ()) - WAYS.keys()
        if unknown:
            raise ConfigError(f"no peer is called {min(unknown)!r}; there are {_names(WAYS)}")


def _names(ways: Mapping[str, object]) -> str:
    return ", ".join(name for name in ways if name != OURS)


def bench(wanted: Wanted, say: Say, do: Callable[[Job], Found] = apart) -> Found:
    """Measure.

    Args:
        wanted: what.
        say: takes a line of how far it is, or of what is left out.
        do: performs one job; each in a process of its own unless told otherwise.

    Returns:
        Everything that is known, fit for JSON; speeds are medians of all rounds.

    Raises:
        VsrError: the clip, the model or the device cannot be used.
    """
    with tempfile.TemporaryDirectory() as name:
        clip = _find_clip(wanted, Path(name), say)
        job = Job(
            kind="facts", clip=str(clip), folder=name, frames=wanted.frames, model=wanted.model,
            weights=str(wanted.weights) if wanted.weights else None, scale=wanted.scale,
            device=wanted.device, precision=wanted.precision, runtime=wanted.runtime,
            packages=wanted.packages,
        )  # fmt: skip
        facts, peaks = do(job), do(job.of("peaks"))
        missing: dict[str, str] = {}
        jobs = _jobs(job, wanted, facts["device"], do, missing)
        _say_missing(missing, say)
        runs = _rounds(jobs, wanted.rounds, do, missing, say)
    facts["clip"], facts["version"] = clip.name, __version__
    return _results(facts, peaks, runs, missing)


def _say_missing(missing: Mapping[str, str], say: Say) -> None:
    """One line for each peer that is left out."""
    for name, reason in missing.items():
        say(f"{name} is left out: {reason}")


def _find_clip(wanted: Wanted, folder: Path, say: Say) -> Path:
    if wanted.clip is not None:
        if not wanted.clip.is_file():
            raise SourceError(f"{wanted.clip}: no such file")
        return wanted.clip.resolve()
    sample = sample_clip()
    if wanted.size is None and sample is not None:
        say(f"measuring on the sample clip, {sample.name}")
        return sample
    width, height = wanted.size or _DRAWN
    say(f"measuring on a clip of drifting texture, {width}x{height}")
    drawn = folder / f"{width}x{height}.mp4"
    draw_clip(drawn, wanted.frames, width, height)
    return drawn


def _jobs(
    job: Job, wanted: Wanted, device: str, do: Callable[[Job], Found], missing: dict[str, str]
) -> list[Job]:
    """All that is measured in a round; the network's file for peers is made here."""
    ways = wanted.peers
    if ways is None:
        ways = (ON_CUDA if device == "cuda" else ON_CPU) + ("torch-compile",) * wanted.compiled
    if _NEEDS_ONNX & set(ways):
        try:
            do(job.of("export"))
        except (NotHereError, VsrError) as error:
            missing.update({way: str(error) for way in ways if way in _NEEDS_ONNX})
    ways = tuple(way for way in ways if way not in missing)
    return [
        job.of("command"), job.of("network"),
        *(job.of("network", way) for way in ways),
        *(job.of("serial", way) for way in SERIAL[device] if way in ways),
        job.of("stages"),
    ]  # fmt: skip


def _rounds(
    jobs: Sequence[Job], rounds: int, do: Callable[[Job], Found], missing: dict[str, str], say: Say
) -> dict[tuple[str, str], list[Found]]:
    """What every job found in every round; a peer that fails once is left out."""
    found: dict[tuple[str, str], list[Found]] = {}
    for turn in range(rounds):
        for job in jobs:
            if job.way in missing:
                continue
            try:
                one = do(job)
            except NotHereError as error:
                if job.way == OURS:
                    raise SourceError(f"{job.clip}: {job.kind}: {error}") from error
                missing[job.way] = str(error)
                _say_missing({job.way: str(error)}, say)
                continue
            found.setdefault((job.kind, job.way), []).append(one)
            if job.kind != "stages":
                fps = one["frames"] / one["seconds"]
                say(f"round {turn + 1}: {_title(job.kind, job.way)} {fps:.2f} frames/s")
    return {key: value for key, value in found.items() if key[1] not in missing}


def _title(kind: str, way: str) -> str:
    return kind if kind == "command" else f"{kind} {way}"


def _results(
    facts: Found, peaks: Found, runs: Mapping[tuple[str, str], list[Found]],
    missing: dict[str, str],
) -> Found:  # fmt: skip
    rows = {
        _title(kind, way): _row(kind, way, found, facts, peaks)
        for (kind, way), found in runs.items()
        if kind != "stages"
    }
    return {
        **facts, "peaks": peaks, "stages": _stages(runs["stages", OURS], facts, peaks),
        "runs": rows, "ratios": dict(_ratios(rows)), "missing": missing,
    }  # fmt: skip


def _row(kind: str, way: str, found: list[Found], facts: Found, peaks: Found) -> Found:
    """One way's medians; of a bare network also its work over the device's peaks."""
    seconds = statistics.median(one["seconds"] / one["frames"] for one in found)
    row = {
        "kind": kind, "way": way, "fps": 1 / seconds, "ms": 1000 * seconds,
        "frames": found[0]["frames"], "mib": max(one["mib"] for one in found),
        "seconds": [one["seconds"] for one in found],
    }  # fmt: skip
    if kind == "command":
        row["busy"] = found[-1]["busy"]
    if kind == "network":
        dtype = _dtype(way, facts)
        row |= {"dtype": dtype, "psnr": found[0]["psnr"], **_work(seconds, dtype, facts, peaks)}
    return row


def _dtype(way: str, facts: Found) -> str:
    half = "float16" if facts["device"] == "cuda" else "bfloat16"
    if way == OURS:
        return str(facts["dtype"])
    return half if way.endswith(("half", "compile", "bf16")) else "float32"


def _work(seconds: float, dtype: str, facts: Found, peaks: Found) -> Found:
    """See note [Work is that of the direct method] in :mod:`vsr.benchmarks.measures`."""
    width = 1 if dtype == "float32" else 2  # bytes were counted in float32
    tflops, gbs = facts["flop"] / seconds / 1e12, facts["bytes"] / width / seconds / 1e9
    best = peaks["tflops"].get(dtype)
    return {
        "tflops": tflops, "of_peak": tflops / best if best else None,
        "gbs": gbs, "of_copy": gbs / peaks["gbs"],
    }  # fmt: skip


def _stages(found: list[Found], facts: Found, peaks: Found) -> dict[str, Found]:
    """Every stage alone."""
    stages = {}
    for name in STAGES:
        seconds = statistics.median(one["seconds"][name] / one["frames"] for one in found)
        stages[name] = {"ms": 1000 * seconds, "fps": 1 / seconds}
        if name == "network":
            stages[name] |= _work(seconds, facts["dtype"], facts, peaks)
        elif name in found[0]["bytes"]:
            gbs = found[0]["bytes"][name] / seconds / 1e9
            stages[name] |= {"gbs": gbs, "of_copy": gbs / peaks["gbs"]}
    return stages


def _ratios(rows: Mapping[str, Found]) -> Iterator[tuple[str, float]]:
    """The command over everything, and our network over every other one."""
    for ours in ("command", f"network {OURS}"):
        for name, row in rows.items():
            if name == "command" or (ours != "command" and row["kind"] != "network"):
                continue
            if name != ours:
                yield f"{ours} / {name}", rows[ours]["fps"] / row["fps"]
