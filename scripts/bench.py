"""What a run costs beside its network, whether memory grows with the film, and the filter.

    python scripts/bench.py [--weights FILE] [--json OUT]

1. ``vsr-bench`` on a drawn clip of 640x360, with the same options: every stage alone, the whole
   command, other ways to run the network. The whole command's time over the bare network's is
   printed once more as the figure that is watched.
2. Peak resident memory of a clip ten times as long over that of the short one.
3. Frames a second of the VapourSynth filter through vspipe over the command's; and over vs-mlrt's,
   where its plugins are installed (see bench_vapoursynth.py).
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from bench_vapoursynth import Wanted as WantedFilter
from bench_vapoursynth import bench_filter

from vsr.benchmarks import bench, draw_clip, tell
from vsr.benchmarks.jobs import Job
from vsr.benchmarks.worker import apart
from vsr.cli.bench import add_options, wanted_of

SIZE = (640, 360)


def bench_command(options: argparse.Namespace) -> dict[str, object]:
    """Stages, the whole command, peers."""
    found = bench(wanted_of(options, None, options.frames), lambda line: print(line, flush=True))
    print(*tell(found), sep="\n")
    runs = found["runs"]
    found["ratio"] = ratio = runs["command"]["ms"] / runs["network vsr"]["ms"]
    print(f"command / network: {ratio:.3f} ({options.frames} frames of {SIZE[0]}x{SIZE[1]})")
    return found


def bench_memory(folder: Path, frames: int, model: str) -> dict[str, float]:
    """Peak memory of a long clip over a short one's."""
    peaks = []
    for count in (frames, 10 * frames):
        clip = folder / f"clip{count}.mp4"
        draw_clip(clip, count, *SIZE)
        job = Job(kind="command", clip=str(clip), folder=str(folder), frames=count, model=model)
        peaks.append(apart(job)["mib"])
    ratio = peaks[1] / peaks[0]
    print(
        f"memory, {10 * frames} frames / {frames} frames: "
        f"{peaks[1]:.0f} MiB / {peaks[0]:.0f} MiB = {ratio:.3f} (model {model})"
    )
    return {"short_mib": peaks[0], "long_mib": peaks[1], "ratio": ratio}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=48)
    add_options(parser)
    parser.add_argument("--memory-frames", type=int, default=60)
    parser.add_argument("--memory-model", default="span")
    parser.add_argument("--filter-size", type=int, nargs=2, default=(320, 180))
    parser.add_argument("--mlrt", type=Path, help="Python of an environment with vs-mlrt's plugins")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.set_defaults(size=SIZE)
    options = parser.parse_args()
    wanted = WantedFilter(
        size=tuple(options.filter_size), frames=options.frames, rounds=options.rounds,
        weights=options.weights, mlrt=options.mlrt,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        results = {
            "command": bench_command(options),
            "memory": bench_memory(Path(name), options.memory_frames, options.memory_model),
            "vapoursynth": bench_filter(Path(name), wanted),
        }
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
