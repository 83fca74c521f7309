"""The ladder of SPAN on a GPU: what each way of running it is worth, and its price.

    python scripts/bench_kernels.py --device cuda [--sizes 1920x1080 1280x720] [--json OUT]

The ``span`` that ships: 48 channels, x2. Peaks of this device are measured first, in the same run:
a product of large matrices, and a copy. Then each rung in turn, several times: frames a second
(median so far), TFLOP/s and GB/s (bytes as counted for its kernels) over those peaks, the speed
over the bound that the slower of both peaks sets, and PSNR against PyTorch in float32. A rung that
does not work here is said in one line and left out; what is known is written to OUT each time.

On a CPU only those rungs run that exist there, Triton's in its interpreter (TRITON_INTERPRET=1):
that rehearses the script, and says nothing about speed.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vsr.benchmarks.graphed import graphed
from vsr.benchmarks.measures import measure_peaks
from vsr.cli.values import parse_size
from vsr.device import choose_device
from vsr.errors import VsrError
from vsr.networks import Network
from vsr.runtimes import EagerRuntime, make_runtime
from vsr.stopwatch import milliseconds
from vsr.weights import load_network

Run = Callable[[Tensor], Tensor]
Rung = tuple[str, Callable[[], Run]]

FLOP = 2 * 409_680
"""Of a pixel of the source: SPAN with 48 channels at x2, folded."""
BYTES = {
    "eager NCHW fp32": 26_460, "eager channels_last fp16": 13_230, "CUDA graph": 13_230,
    "torch.compile": 9_774, "Triton, fused epilogues": 5_022, "Triton, fused blocks": 2_142,
}  # fmt: skip
"""Of a pixel of the source, if every tensor of a kernel is moved once."""
ROUNDS, CALLS = {"cuda": 3, "cpu": 1}, {"cuda": 5, "cpu": 1}
HALF = torch.float16


def rungs(span: Network, device: torch.device) -> Iterator[Rung]:
    """Every way that there is on ``device``; each is made when it is called.

    What takes a minute to begin, and nobody waits for, comes last: a run may be stopped.
    """
    yield "eager NCHW fp32", lambda: torch.inference_mode()(span.module.to(device))
    yield "eager channels_last fp16", lambda: EagerRuntime(span, device, HALF)
    if device.type == "cuda":
        yield "CUDA graph", lambda: graphed(EagerRuntime(span, device, HALF), device)
    yield "Triton, fused epilogues", lambda: by_triton(span, device, blocks=False)
    yield "Triton, fused blocks", lambda: by_triton(span, device, blocks=True)
    if device.type == "cuda":
        yield "torch.compile", lambda: graphed(make_runtime(span, device, HALF, "compile"), device)


def by_triton(span: Network, device: torch.device, *, blocks: bool) -> Run:
    """Our kernels with the tiles that are fastest here, whole blocks in one or not."""
    from vsr.kernels.configurations import STRIPS, fastest_of
    from vsr.runtimes.triton import TritonRuntime

    runtime = TritonRuntime(span, device, HALF)
    tiles = runtime.kernels.tiles
    if not blocks:
        runtime.kernels.tiles = replace(tiles, strip=None)
    elif tiles.strip is None:  # slower here: shown all the same
        strips = [replace(tiles, strip=strip) for strip in STRIPS]
        runtime.kernels.tiles = fastest_of(runtime.kernels, strips, device)
    return graphed(runtime, device) if device.type == "cuda" else runtime


class Ladder:
    """Rows for one device, kept in a file from one measurement to the next."""

    def __init__(self, device: torch.device, path: Path | None) -> None:
        self.device, self._path = device, path
        self.rows: dict[tuple[str, tuple[int, int]], dict[str, object]] = {}
        dtype = HALF if device.type == "cuda" else torch.float32  # fp16 is emulated on most CPUs
        found = measure_peaks(device, [dtype])
        (tflops,) = found["tflops"].values()
        self.peaks = {"tflops": tflops, "gbs": found["gbs"]}
        self._save()

    def climb(self, span: Network, size: tuple[int, int]) -> None:
        """Measure every rung in turn, at one size."""
        width, height = size
        picture = torch.rand((1, 3, height, width), device=self.device)
        exact = EagerRuntime(span, self.device, torch.float32)(picture).double()
        ways: dict[str, Run] = {}
        times: dict[str, list[float]] = {}
        errors: dict[str, float] = {}
        for name, make in rungs(span, self.device):  # the first round
            taken = None
            if (run := tried(name, make)) is not None:
                taken = tried(name, partial(self._time, run, picture))
            if run is not None and taken is not None:
                ways[name], times[name] = run, [taken]
                errors[name] = float((run(picture).double() - exact).square().mean())
                self._add(name, size, taken, errors[name])
        for _ in range(1, ROUNDS[self.device.type]):
            for name, run in ways.items():
                if (taken := tried(name, partial(self._time, run, picture))) is not None:
                    times[name].append(taken)
                    self._add(name, size, statistics.median(times[name]), errors[name])

    def _time(self, run: Run, picture: Tensor) -> float:
        return milliseconds(lambda: run(picture), self.device, CALLS[self.device.type])

    def _add(self, name: str, size: tuple[int, int], taken: float, error: float) -> None:
        """Print a row and keep it."""
        pixels, best = size[0] * size[1], self.peaks
        tflops, gbs = pixels * FLOP / taken / 1e9, pixels * BYTES[name] / taken / 1e6
        shares = tflops / best["tflops"], gbs / best["gbs"]
        psnr = -10 * torch.tensor(error).log10().item() if error else None
        print(
            f"{size[0]}x{size[1]} {name:26} {1000 / taken:7.1f} fps, {tflops:6.1f} TFLOP/s "
            f"({shares[0]:4.0%}), {gbs:6.0f} GB/s ({shares[1]:4.0%})"
            + (f", {psnr:.1f} dB against fp32" if psnr else ""), flush=True,
        )  # fmt: skip
        self.rows[name, size] = {
            "size": size, "way": name, "ms": taken, "fps": 1000 / taken, "tflops": tflops,
            "gbs": gbs, "of_bound": max(shares), "psnr": psnr,
        }  # fmt: skip
        self._save()

    def _save(self) -> None:
        if self._path is not None:
            found = {"peaks": self.peaks, "rows": [*self.rows.values()]}
            self._path.write_text(json.dumps(found, indent=2) + "\n")


def tried[T](name: str, make: Callable[[], T]) -> T | None:
    """What ``make`` gives; None, and a line, if it fails: the other rungs count all the same."""
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - compilers and drivers raise anything
        print(f"{name}: {type(error).__name__}: {str(error).partition(chr(10))[0]}", flush=True)
        return None


@torch.inference_mode()
def main() -> int:
    """Measure and print; 2 where the device is not here."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", type=parse_size, nargs="+", default=[(1920, 1080), (1280, 720)])
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    try:
        device = choose_device(options.device)
    except VsrError as error:
        print(f"bench_kernels.py: error: {error}", file=sys.stderr)
        return 2
    ladder = Ladder(device, options.json)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    print("{}: {tflops:.3g} TFLOP/s, {gbs:.0f} GB/s".format(name, **ladder.peaks), flush=True)
    span = load_network("span", scale=2)
    for size in options.sizes:
        ladder.climb(span, size)
    return 0 if ladder.rows else 1


if __name__ == "__main__":
    sys.exit(main())
