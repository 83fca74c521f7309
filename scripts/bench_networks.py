"""Every variant of every network beside SPAN, in one run: size, work, error, time.

    python scripts/bench_networks.py [--size 128x128] [--device auto] [--json OUT]
    python scripts/bench_networks.py --paper --device cuda

Prints a Markdown table. Parameters and multiplications (of convolutions and matrix products;
attention apart, in the form that is run) are counted, on random weights, since neither depends on
them; milliseconds are the median of several frames in the precision that a run would choose. What
PyTorch can not count is "-", and a variant that fails is said in one line and left out.

With ``--paper``: latency and peak memory of one 1280x720 output frame beside what the SST paper
gives (tables 1, S3, S4; H200), at all scales. On a GPU the latency is that of a CUDA graph, which
is what the engine runs; beside it stands the eager one, in which the host may be what is slow.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from bench_kernels import tried
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vsr.benchmarks.graphed import graphed
from vsr.cli.values import parse_size
from vsr.device import choose_device, choose_dtype, describe, keep_freed_memory
from vsr.networks import Network, esc, esc_lte, span, spanf, spanplus, spanv2, sst, sst_real
from vsr.networks import describe as describe_network
from vsr.runtimes import EagerRuntime
from vsr.stopwatch import milliseconds

Row = dict[str, object]

ENOUGH = 5000
"""Milliseconds: what takes longer is timed no further."""
PAPER = {
    "sst": ((428.9, 2675), (194.2, 1296), (111.5, 764)),
    "sst+": ((455.8, 2825), (207.1, 1527), (120.8, 914)),
    "sst-l": ((608.4, 2824), (276.3, 1391), (158.3, 941)),
    "sst-l+": ((644.9, 2990), (293.4, 1639), (170.4, 1015)),
    "sst-light": ((191.9, 755), (69.2, 359), (36.5, 205)),
    "sst-light+": ((249.6, 804), (98.1, 432), (53.0, 253)),
    "esc": ((120.9, 831), (41.4, 385), (21.9, 215)),
}
"""Milliseconds and MB at x2, x3, x4."""


def networks() -> Iterator[tuple[str, Network]]:
    """All variants, SPAN first; at x2, or at the one scale that there is."""
    configs: list[tuple[str, type[nn.Module], object]] = [
        ("span", span.Span, span.SpanConfig()),
        ("spanf", spanf.SpanF, spanf.SpanFConfig()),
        ("spanv2", spanv2.SpanV2, spanv2.SpanV2Config()),
        *((name, spanplus.SpanPlus, replace(config, scale=2))
          for name, config in spanplus.PRESETS.items()),
        *((name, esc_lte.EscLte if config.scale == 0 else esc.Esc, config)
          for name, config in esc.VARIANTS.items()),
        *((name, sst.Sst, config) for name, config in sst.VARIANTS.items()),
        ("sst-real", sst_real.SstReal, sst_real.SstRealConfig()),
    ]  # fmt: skip
    for name, build, config in configs:
        yield name, random_network(name, build, config)


def random_network(name: str, build: type[nn.Module], config: object) -> Network:
    """A network with small random weights."""
    with torch.device("meta"):
        module = build(config)
    module = module.to_empty(device="cpu").eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.uniform_(-0.05, 0.05, generator=generator)
    for buffer in module.buffers():
        buffer.zero_()
    return describe_network(name, module, config)  # type: ignore[arg-type]


def measure(name: str, network: Network, size: tuple[int, int], device: torch.device) -> Row:
    """One row of the table."""
    runtime = EagerRuntime(network, device, choose_dtype(device, "auto"))
    height, width = size
    picture = network.fed(torch.rand(1, 3, height, width, device=device))

    def run() -> Tensor:
        out = runtime(picture)
        return out if network.scale else runtime.render(out, picture, (2 * height, 2 * width))

    run()  # backends are chosen and kernels compiled where nothing is counted
    macs = tried(f"{name}, counting", partial(kmacs, run, height * width))
    return {
        "variant": name, "scale": network.scale or "any (2)",
        "parameters": sum(p.numel() for p in network.module.parameters()),
        "kmac": macs and macs[0], "attention_kmac": macs and macs[1],
        "sees": f"windows, {network.grid} px" if network.grid > 1 else f"{network.halo} px",
        "milliseconds": round(milliseconds(run, device, 3, enough=ENOUGH), 4),
    }  # fmt: skip


def kmacs(run: Callable[[], Tensor], pixels: int) -> tuple[int, int]:
    """Thousands of multiplications for a pixel: all but attention, and attention.

    Raises:
        TypeError: some versions of PyTorch cannot count what they have compiled.
    """
    with FlopCounterMode(display=False) as counter:
        run()
    works = counter.get_flop_counts()["Global"]
    attention = sum(work for kind, work in works.items() if "attention" in str(kind))
    every, own = (amount / 2 / pixels / 1000 for amount in (sum(works.values()), attention))
    return round(every - own), round(own)


def beside_the_paper(
    device: torch.device, chosen: list[str] | None, frame: tuple[int, int] = (1280, 720)
) -> Iterator[Row]:
    """Latency and memory of one output frame, of 1280x720 as the paper measures them."""
    variants: dict[str, Any] = {**sst.VARIANTS, **esc.VARIANTS}
    for name, variant in variants.items():
        if variant.scale != 2 or (chosen and name not in chosen):  # one scale only, or any
            continue
        figures = PAPER.get(name, (("-", "-"),) * 3)
        for scale, (published, memory) in zip((2, 3, 4), figures, strict=True):
            build = sst.Sst if name.startswith("sst") else esc.Esc
            network = random_network(name, build, replace(variant, scale=scale))
            shape = frame[1] // scale, -(-frame[0] // scale)
            label = f"{name} x{scale}"
            found = tried(label, partial(_latencies, label, network, shape, device))
            if found is not None:
                yield {"variant": name, "scale": scale, **found,
                       "paper_ms": published, "paper_mb": memory}  # fmt: skip


def _latencies(
    label: str, network: Network, shape: tuple[int, int], device: torch.device
) -> dict[str, object]:
    """Milliseconds as the engine runs it (in a graph, if it can) and eagerly; the peak of MB."""
    runtime = EagerRuntime(network, device, choose_dtype(device, "auto"))
    picture = torch.rand(1, 3, *shape, device=device)
    run = partial(runtime, picture)
    eager, peak = milliseconds(run, device, enough=ENOUGH), 0.0
    graph: float | None = None
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        run()
        peak = torch.cuda.max_memory_allocated(device) / 1e6
        graph = tried(f"{label}, graph", partial(_replayed, runtime, picture, device))
    return {
        "milliseconds": round(eager if graph is None else graph, 2), "eager_ms": round(eager, 2),
        "mb": round(peak),
    }  # fmt: skip


def _replayed(runtime: EagerRuntime, picture: Tensor, device: torch.device) -> float:
    return milliseconds(partial(graphed(runtime, device), picture), device, enough=ENOUGH)


def _print_paper(
    device: torch.device, chosen: list[str] | None, path: Path | None, frame: tuple[int, int]
) -> int:
    print("| variant | scale | ms | eager ms | paper's ms | peak MB (CUDA) | paper's MB |")
    print("|---|---|---|---|---|---|---|")
    line = "| {variant} | {scale} | {milliseconds} | {eager_ms} | {paper_ms} | {mb} | {paper_mb} |"
    rows = []
    for row in beside_the_paper(device, chosen, frame):
        rows.append(row)
        print(line.format(**row), flush=True)
        _keep(rows, path)
    return 0 if rows else 1


def _keep(rows: list[Row], path: Path | None) -> None:
    """Write what is known so far: a run may be stopped."""
    if path:
        path.write_text(json.dumps(rows, indent=2) + "\n")


@torch.inference_mode()
def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=parse_size, default=(128, 128), metavar="WxH")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--paper", action="store_true", help="beside the SST paper's figures")
    parser.add_argument(
        "--frame", type=parse_size, default=(1280, 720), metavar="WxH",
        help="output of --paper (1280x720)",
    )  # fmt: skip
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these variants")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    keep_freed_memory()
    device = choose_device(options.device)
    if options.paper:
        print("{}x{} on".format(*options.frame), describe(device))
        return _print_paper(device, options.only, options.json, options.frame)
    width, height = options.size
    print(f"{width}x{height} on {describe(device)}")
    print("| variant | scale | parameters | kMAC/px | attention kMAC/px | sees | ms | to SPAN |")
    print("|---|---|---|---|---|---|---|---|")
    rows: list[Row] = []
    for name, network in networks():
        if options.only and name not in options.only and name != "span":
            continue
        row = tried(name, partial(measure, name, network, (height, width), device))
        if row is None:
            continue
        rows.append(row)
        print(_line(row, rows[0]), flush=True)
        _keep(rows, options.json)
    return 0 if rows else 1


def _line(row: Row, first: Row) -> str:
    """A row of the table; "-" for what is not known."""
    words = {key: "-" if value is None else value for key, value in row.items()}
    for key in ("parameters", "kmac", "attention_kmac"):
        words[key] = words[key] if isinstance(words[key], str) else f"{words[key]:,}"
    words["milliseconds"] = f"{float(str(row['milliseconds'])):.1f}"
    ratio = "-"
    if first["variant"] == "span":
        ratio = f"{float(str(row['milliseconds'])) / float(str(first['milliseconds'])):.1f}"
    return (
        "| {variant} | {scale} | {parameters} | {kmac} | {attention_kmac} | {sees} "
        "| {milliseconds} | {ratio} |".format(**words, ratio=ratio)
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
