"""The ladder of SPAN on a GPU: what each way of running it is worth, and its price.

    python scripts/bench_kernels.py --device cuda [--sizes 1920x1080 1280x720] [--json OUT]

SPAN with 48 channels, x2, random weights. Peaks of this device are measured first, in the same run:
a product of large fp16 matrices, and a copy. Then each rung in turn, several times: frames a second
(median), TFLOP/s and GB/s (bytes as counted for its kernels) over those peaks, PSNR against fp32.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from vsr.kernels.configurations import STRIPS
from vsr.kernels.tuning import milliseconds
from vsr.networks import Network, describe
from vsr.networks.span import Span, SpanConfig
from vsr.runtimes import EagerRuntime, make_runtime
from vsr.runtimes.triton import TritonRuntime

Run = Callable[[Tensor], Tensor]

FLOP = 2 * 409_680
"""Of a pixel of the source: SPAN with 48 channels at x2, folded."""
BYTES = {
    "eager NCHW fp32": 26_460, "eager channels_last fp16": 13_230, "CUDA graph": 13_230,
    "torch.compile": 9_774, "Triton, fused epilogues": 5_022, "Triton, fused blocks": 2_142,
}  # fmt: skip
"""Of a pixel of the source, if every tensor of a kernel is moved once."""


def network() -> Network:
    """SPAN with random weights of the usual size."""
    config = SpanConfig(norm=False)
    torch.manual_seed(0)
    return describe("span", Span(config).eval().requires_grad_(False), config)


def rungs(span: Network, device: torch.device) -> Iterator[tuple[str, Run]]:
    """Every way, slowest first."""
    plain = span.module.to(device)
    yield "eager NCHW fp32", torch.inference_mode()(plain)
    eager = EagerRuntime(span, device, torch.float16)
    yield "eager channels_last fp16", eager
    yield "CUDA graph", graphed(eager)
    yield "torch.compile", make_runtime(span, device, torch.float16, "compile")
    fused, blocks = (TritonRuntime(span, device, torch.float16) for _ in range(2))
    fused.kernels.tiles = replace(fused.kernels.tiles, strip=None)
    yield "Triton, fused epilogues", fused
    if blocks.kernels.tiles.strip is None:  # slower here: shown all the same
        blocks.kernels.tiles = replace(blocks.kernels.tiles, strip=STRIPS[0])
    yield "Triton, fused blocks", blocks


def graphed(run: Run) -> Run:
    """``run``, captured at the first picture of a size."""
    kept: dict[tuple[int, ...], tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}

    def replay(picture: Tensor) -> Tensor:
        if picture.shape not in kept:
            source = picture.clone()
            run(source)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                result = run(source)
            kept[picture.shape] = graph, source, result
        graph, source, result = kept[picture.shape]
        source.copy_(picture)
        graph.replay()
        return result

    return replay


def peaks(device: torch.device) -> dict[str, float]:
    """TFLOP/s of fp16 matrices and GB/s of a copy."""
    a, b = torch.randn(2, 8192, 8192, device=device, dtype=torch.float16)
    wide = torch.empty(1 << 30, dtype=torch.uint8, device=device)
    other = torch.empty_like(wide)
    return {
        "tflops": 2 * 8192**3 / milliseconds(lambda: a @ b) / 1e9,
        "gbs": 2 * wide.numel() / milliseconds(lambda: other.copy_(wide)) / 1e6,
    }


def measure(
    size: tuple[int, int], ways: list[tuple[str, Run]], best: dict[str, float], device: torch.device
) -> Iterator[dict[str, object]]:
    """One row for each rung that runs."""
    width, height = size
    picture = torch.rand((1, 3, height, width), device=device)
    exact = ways[0][1](picture).double()
    times: dict[str, list[float]] = {name: [] for name, _ in ways}
    errors = {}
    for turn in range(3):
        for name, run in ways:
            try:
                times[name].append(milliseconds(lambda run=run: run(picture)))  # type: ignore[misc]
                if turn == 0:
                    errors[name] = float((run(picture).double() - exact).square().mean())
            except Exception as error:  # noqa: BLE001 - the other rungs count all the same
                print(f"{name}: {type(error).__name__}: {str(error).partition(chr(10))[0]}")
    for name, _ in ways:
        if times[name]:
            yield row(name, size, statistics.median(times[name]), errors.get(name), best)


def row(
    name: str, size: tuple[int, int], taken: float, error: float | None, best: dict[str, float]
) -> dict[str, object]:
    """Print a row and return it."""
    pixels = size[0] * size[1]
    tflops, gbs = pixels * FLOP / taken / 1e9, pixels * BYTES[name] / taken / 1e6
    psnr = None if not error else -10 * torch.tensor(error).log10().item()
    print(
        f"{size[0]}x{size[1]} {name:26} {1000 / taken:7.1f} fps, {tflops:6.1f} TFLOP/s "
        f"({tflops / best['tflops']:4.0%}), {gbs:6.0f} GB/s ({gbs / best['gbs']:4.0%})"
        + (f", {psnr:.1f} dB against fp32" if psnr else ""), flush=True,
    )  # fmt: skip
    return {"size": size, "way": name, "ms": taken, "fps": 1000 / taken, "tflops": tflops,
            "gbs": gbs, "psnr": psnr}  # fmt: skip


@torch.inference_mode()
def main() -> int:
    """Measure and print; 2 where there is no CUDA device."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", nargs="+", default=["1920x1080", "1280x720"])
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("bench_kernels.py: PyTorch finds no CUDA device here", file=sys.stderr)
        return 2
    device = torch.device(options.device)
    best = peaks(device)
    print(f"{torch.cuda.get_device_name(device)}: {best['tflops']:.0f} TFLOP/s in fp16, "
          f"{best['gbs']:.0f} GB/s")  # fmt: skip
    ways = [*rungs(network(), device)]
    rows: list[dict[str, object]] = []
    for size in options.sizes:
        width, height = map(int, size.split("x"))
        rows += measure((width, height), ways, best, device)
    if options.json:
        options.json.write_text(json.dumps({"peaks": best, "rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
