"""What a run costs beside its network, and whether memory grows with the film.

    python scripts/bench.py [--weights FILE] [--json OUT]

Makes its own clips. These ratios are printed:

* command / network: wall-clock time of the whole command on a 640x360 clip (decode, colour,
  network, colour, encode; from the first frame to the finished file) over the time of the bare
  network on pictures of the same size, number and precision, in a process of its own with the same
  threads. The two run in turn, several times, and the medians are compared: a machine whose speed
  drifts then does not favour either.
* memory: peak resident memory of a clip ten times as long over that of the short one.
* filter / command: frames a second of the VapourSynth filter through vspipe over the command's; and
  over vs-mlrt's, where its plugins are installed (see bench_vapoursynth.py).
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from bench_vapoursynth import Wanted, bench_filter

WIDTH, HEIGHT, RATE = 640, 360, 24


def make_clip(path: Path, frames: int, width: int = WIDTH, height: int = HEIGHT) -> None:
    """A clip of drifting texture: neither trivial nor impossible to encode."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (height // 4 + 64, width // 4 + 64, 3), dtype=np.uint8)
    fine = np.kron(coarse, np.ones((4, 4, 1), np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "20"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            left, top = index % 200, (index // 2) % 200
            picture = np.ascontiguousarray(fine[top : top + height, left : left + width])
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))


# The two parts that are measured, each run by this script in a process of its own.


def run_command(source: str, target: str, weights: str | None) -> dict[str, float]:
    """The whole command, as a library call; seconds from the first frame to the finished file."""
    from vsr.config import UpscaleConfig
    from vsr.pipeline import upscale

    report = upscale(
        UpscaleConfig(
            input=Path(source), output=Path(target), overwrite=True,
            weights=Path(weights) if weights else None,
        )
    )  # fmt: skip
    busy = {f"{stage.name}_busy": stage.busy for stage in report.stages}
    return {"seconds": report.seconds, "frames": report.frames, **busy}


def run_network(frames: int, weights: str | None) -> dict[str, float]:
    """The bare network on pictures that lie ready in memory."""
    import torch

    from vsr.device import choose_device, choose_dtype
    from vsr.runtimes import EagerRuntime
    from vsr.weights import load_network

    device = choose_device("auto")
    network = load_network(Path(weights) if weights else "span")
    runtime = EagerRuntime(network, device, choose_dtype(device, "auto"))
    picture = torch.rand(1, 3, HEIGHT, WIDTH, device=device)
    started = time.perf_counter()
    for _ in range(frames):
        runtime(picture)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return {"seconds": time.perf_counter() - started, "frames": frames}


def peak_memory(source: str, target: str, model: str) -> dict[str, float]:
    """Peak resident memory of the command in MiB."""
    import resource

    from vsr.config import UpscaleConfig
    from vsr.pipeline import upscale

    upscale(UpscaleConfig(input=Path(source), output=Path(target), overwrite=True, model=model))
    return {"mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def in_process(*arguments: object) -> dict[str, float]:
    """Run one part of this script in a process of its own; returns what it measured."""
    command = [sys.executable, __file__, "--part", *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    values: dict[str, float] = json.loads(done.stdout)
    return values


def _run_part(part: str, *arguments: str) -> dict[str, float]:
    from vsr.device import keep_freed_memory

    keep_freed_memory()  # as the command does
    if part == "command":
        return run_command(arguments[0], arguments[1], *(arguments[2:] or (None,)))
    if part == "network":
        return run_network(int(arguments[0]), *(arguments[1:] or (None,)))
    return peak_memory(*arguments)


def bench_overhead(
    folder: Path, frames: int, rounds: int, weights: Path | None
) -> dict[str, float]:
    """Whole command over pure network."""
    clip, extra = folder / "clip.mp4", [weights] if weights else []
    make_clip(clip, frames)
    command, network = [], []
    for turn in range(rounds):
        network.append(in_process("network", frames, *extra)["seconds"])
        measured = in_process("command", clip, folder / "out.mp4", *extra)
        command.append(measured["seconds"])
        beside = ", ".join(f"{k.replace('_', ' ')} {v:.2f}" for k, v in measured.items())
        print(f"round {turn + 1}: network {network[-1]:.2f}; command {beside}", flush=True)
    ratio = statistics.median(command) / statistics.median(network)
    print(f"command / network: {ratio:.3f} ({frames} frames of {WIDTH}x{HEIGHT})")
    return {
        "command_s": statistics.median(command), "network_s": statistics.median(network),
        "frames": frames, "ratio": ratio,
    }  # fmt: skip


def bench_memory(folder: Path, frames: int, model: str) -> dict[str, float]:
    """Peak memory of a long clip over a short one's."""
    peaks = []
    for count in (frames, 10 * frames):
        clip = folder / f"clip{count}.mp4"
        make_clip(clip, count)
        peaks.append(in_process("memory", clip, folder / "out.mp4", model)["mib"])
    ratio = peaks[1] / peaks[0]
    print(
        f"memory, {10 * frames} frames / {frames} frames: "
        f"{peaks[1]:.0f} MiB / {peaks[0]:.0f} MiB = {ratio:.3f} (model {model})"
    )
    return {"short_mib": peaks[0], "long_mib": peaks[1], "ratio": ratio}


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(), "cores": os.cpu_count(),
        "torch": torch.__version__, "python": platform.python_version(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }  # fmt: skip


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weights", type=Path, help="instead of the model that ships")
    parser.add_argument("--memory-frames", type=int, default=60)
    parser.add_argument("--memory-model", default="span")
    parser.add_argument("--filter-size", type=int, nargs=2, default=(320, 180))
    parser.add_argument("--mlrt", type=Path, help="Python of an environment with vs-mlrt's plugins")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(_run_part(*options.part)))
        return 0
    wanted = Wanted(
        size=tuple(options.filter_size), frames=options.frames, rounds=options.rounds,
        weights=options.weights, mlrt=options.mlrt,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        results = {
            "machine": machine(),
            "overhead": bench_overhead(Path(name), options.frames, options.rounds, options.weights),
            "memory": bench_memory(Path(name), options.memory_frames, options.memory_model),
            "vapoursynth": bench_filter(Path(name), wanted),
        }  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
