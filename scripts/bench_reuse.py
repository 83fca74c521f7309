"""What --reuse-threshold saves and costs: which share of frames it reuses, how far these are off.

    python scripts/bench_reuse.py CLIP... [--model span] [--frames 96] [--thresholds 0 0.5 1 2 4]

Every frame is computed once; what each threshold would reuse is then compared with what it would
have been. PSNR is that of the 8-bit luma of reused frames against their own results, and of the
worst of them; equal frames, which cost nothing, are counted but not averaged.
"""

import argparse
import json
import math
import sys
from contextlib import ExitStack
from pathlib import Path

from vsr.config import UpscaleConfig
from vsr.frame import Frame
from vsr.planning import make_plan
from vsr.reuse import mark_repeats


def compute(path: Path, model: str, frames: int) -> tuple[list[Frame], list[Frame]]:
    """The first frames of ``path``, and what becomes of each."""
    with ExitStack() as stack:
        plan = make_plan(UpscaleConfig(input=path, output=None, model=model, frames=frames), stack)
        sources = list(plan.source)
        return sources, [plan.engine.collect(one) for one in plan.engine.submit(sources)]


def psnr(one: Frame, other: Frame) -> float:
    """Of luma, in dB; infinite if equal."""
    a, b = (frame.components[0].double() for frame in (one, other))
    top = (1 << one.format.depth) - 1
    error = float((a - b).square().mean())
    return 10 * math.log10(top**2 / error) if error else math.inf


def measure(sources: list[Frame], results: list[Frame], threshold: float) -> dict[str, float]:
    """Share of the frames that are reused, and how far they are from their own results."""
    marked = list(mark_repeats(iter(sources), threshold))
    shown: list[int] = []
    for index, frame in enumerate(marked):
        shown.append(shown[-1] if frame.repeats else index)
    found = [psnr(results[i], results[j]) for j, i in enumerate(shown) if i != j]
    apart = [value for value in found if math.isfinite(value)]
    return {
        "threshold": threshold,
        "reused": len(found) / len(marked),
        "equal": (len(found) - len(apart)) / len(marked),
        "psnr": sum(apart) / len(apart) if apart else math.inf,
        "worst": min(apart, default=math.inf),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--model", default="span")
    parser.add_argument("--frames", type=int, default=96)
    parser.add_argument("--thresholds", nargs="+", type=float, default=[0, 0.5, 1, 2, 4])
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    rows = []
    print("clip                      threshold  reused  of these equal    PSNR   worst")
    for clip in options.clips:
        sources, results = compute(clip, options.model, options.frames)
        for threshold in options.thresholds:
            row = measure(sources, results, threshold)
            rows.append({"clip": clip.name, "frames": len(sources), **row})
            print(
                f"{clip.name:25} {threshold:9g} {row['reused']:6.1%} {row['equal']:15.1%} "
                f"{row['psnr']:7.1f} {row['worst']:7.1f}",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
