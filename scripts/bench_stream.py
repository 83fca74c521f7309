"""The whole command from a file to nothing, over the network alone: what streaming costs.

    python scripts/bench_stream.py [--device cuda] [--sizes 1920x1080 1280x720] [--frames 480]

The network alone runs on one picture that lies on the device, through the runtime that the command
chooses, in a CUDA graph where there is CUDA. The command decodes, converts, runs the network,
converts back and downloads (``-f null -``), once decoding in main memory and once on the GPU. Its
first frames, in which kernels are chosen and graphs captured, are left out.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import torch

from vsr.benchmarks import draw_clip
from vsr.benchmarks.graphed import graphed
from vsr.cli.values import parse_size
from vsr.config import UpscaleConfig
from vsr.device import choose_device, choose_dtype, keep_freed_memory
from vsr.pipeline import upscale
from vsr.progress import Progress
from vsr.runtimes import make_runtime
from vsr.stopwatch import synchronise
from vsr.weights import load_network

WARM_UP = 1 / 4
"""Share of the frames that is not timed."""


def network_fps(device: torch.device, model: str, width: int, height: int, frames: int) -> float:
    """Pictures a second of the network, one after another."""
    runtime = make_runtime(load_network(model), device, choose_dtype(device, "auto"))
    picture = torch.rand(1, 3, height, width, device=device)
    run = graphed(runtime, device) if device.type == "cuda" else runtime
    run(picture)
    synchronise(device)
    started = time.perf_counter()
    for _ in range(frames):
        run(picture)
    synchronise(device)
    return frames / (time.perf_counter() - started)


class Watch:
    """Times a run from its first quarter on."""

    def __init__(self, frames: int) -> None:
        self._skipped = round(frames * WARM_UP)
        self._began = self._ended = (0, 0.0)

    def mark(self, progress: Progress) -> None:
        """A frame is done."""
        self._ended = progress.frames, time.perf_counter()
        if progress.frames <= self._skipped:
            self._began = self._ended

    @property
    def fps(self) -> float:
        """Frames a second since then."""
        (first, start), (last, end) = self._began, self._ended
        return (last - first) / (end - start)


def command_fps(clip: Path, device: str, model: str, hwaccel: str, frames: int) -> float:
    """Frames a second of the command, and where its time went."""
    watch = Watch(frames)
    report = upscale(
        UpscaleConfig(
            input=clip, output=None, model=model, device=device,
            hwaccel=hwaccel,  # type: ignore[arg-type]
        ),
        on_progress=watch.mark,
    )  # fmt: skip
    for stage in report.stages:
        on_gpu = "" if stage.device is None else f", {stage.device:.2f} s on the GPU"
        print(f"    {stage.name}: {stage.busy:.2f} s{on_gpu} of {report.seconds:.2f}")
    if hwaccel == "cuda" and any("decoded in main memory" in note for note in report.notes):
        raise RuntimeError("the GPU did not decode")
    return watch.fps


def measure(folder: Path, size: tuple[int, int], options: argparse.Namespace) -> dict[str, object]:
    """One size: the network, and the command with each way of decoding."""
    width, height = size
    device = choose_device(options.device)
    clip = folder / f"{width}x{height}.mp4"
    draw_clip(clip, options.frames, width, height)
    row: dict[str, object] = {"size": f"{width}x{height}", "frames": options.frames}
    row["network"] = alone = network_fps(device, options.model, width, height, options.frames)
    print(f"{width}x{height}: network alone {alone:.1f} frames/s", flush=True)
    for hwaccel in ("none", "cuda") if device.type == "cuda" else ("none",):
        try:
            fps = command_fps(clip, options.device, options.model, hwaccel, options.frames)
        except RuntimeError as error:
            print(f"  command, --hwaccel {hwaccel}: {error}", flush=True)
            continue
        row[f"command, --hwaccel {hwaccel}"] = fps
        print(f"  command, --hwaccel {hwaccel}: {fps:.1f} frames/s = {fps / alone:.3f}", flush=True)
    return row


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--model", default="span")
    parser.add_argument("--sizes", type=parse_size, nargs="+", default=[(1920, 1080), (1280, 720)])
    parser.add_argument("--frames", type=int, default=480)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    keep_freed_memory()  # as the command does
    with tempfile.TemporaryDirectory() as name:
        rows = []
        for size in options.sizes:
            rows.append(measure(Path(name), size, options))
            if options.json:
                options.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
