"""Every variant of every network beside SPAN, in one run: size, work, error, time.

    python scripts/bench_networks.py [--size 128x128] [--device auto] [--json OUT]
    python scripts/bench_networks.py --paper --device cuda

Prints a Markdown table. Parameters and multiplications (of convolutions and matrix products;
attention apart, in the form that is run) are counted, on random weights, since neither depends on
them; milliseconds are the median of several frames in the precision that a run would choose.

With ``--paper``: latency and peak memory of one 1280x720 output frame beside what the SST paper
gives (tables 1, S3, S4; H200), at all scales.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vsr.cli.values import parse_size
from vsr.device import choose_device, choose_dtype, describe, keep_freed_memory
from vsr.networks import Network, esc, esc_lte, span, spanf, spanplus, spanv2, sst, sst_real
from vsr.networks import describe as describe_network
from vsr.runtimes import EagerRuntime

Row = dict[str, object]

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
    picture = torch.rand(1, 3, height, width, device=device)
    if network.noise is not None:
        picture = torch.cat([picture, network.noise(height, width, device)], dim=1)

    def run() -> Tensor:
        out = runtime(picture)
        return out if network.scale else runtime.render(out, picture, (2 * height, 2 * width))

    run()  # backends are chosen and kernels compiled where nothing counts
    with FlopCounterMode(display=False) as counter:
        run()
    works = counter.get_flop_counts()["Global"]
    attention = sum(work for kind, work in works.items() if "attention" in str(kind))
    macs = [amount / 2 / (height * width) / 1000 for amount in (sum(works.values()), attention)]
    return {
        "variant": name, "scale": network.scale or "any (2)",
        "parameters": sum(p.numel() for p in network.module.parameters()),
        "kmac": round(macs[0] - macs[1]), "attention_kmac": round(macs[1]),
        "sees": f"windows, {network.grid} px" if network.grid > 1 else f"{network.halo} px",
        "milliseconds": round(milliseconds(run, 3, device), 1),
    }  # fmt: skip


def milliseconds(run: Callable[[], Tensor], rounds: int, device: torch.device) -> float:
    """Median time of a call, which was made before; of one call if it takes long."""
    times: list[float] = []
    for _ in range(rounds):
        if sum(times) > 5000:
            break
        _wait(device)
        started = time.perf_counter()
        run()
        _wait(device)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


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
            config = replace(variant, scale=scale)
            build = sst.Sst if name.startswith("sst") else esc.Esc
            network = random_network(name, build, config)
            runtime = EagerRuntime(network, device, choose_dtype(device, "auto"))
            picture = torch.rand(1, 3, frame[1] // scale, -(-frame[0] // scale), device=device)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            runtime(picture)
            found = milliseconds(partial(runtime, picture), 5, device)
            peak = torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else 0
            yield {"variant": name, "scale": scale, "milliseconds": round(found, 1),
                   "paper_ms": published, "mb": round(peak), "paper_mb": memory}  # fmt: skip


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _print_paper(
    device: torch.device, chosen: list[str] | None, path: Path | None, frame: tuple[int, int]
) -> int:
    print("| variant | scale | ms | paper's ms | peak MB (CUDA) | paper's MB |")
    print("|---|---|---|---|---|---|")
    rows = []
    for row in beside_the_paper(device, chosen, frame):
        rows.append(row)
        print("| " + " | ".join(str(value) for value in row.values()) + " |", flush=True)
        _keep(rows, path)
    return 0


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
        row = measure(name, network, (height, width), device)
        rows.append(row)
        ratio = float(str(row["milliseconds"])) / float(str(rows[0]["milliseconds"]))
        print(
            "| {variant} | {scale} | {parameters:,} | {kmac:,} | {attention_kmac:,} | {sees} "
            "| {milliseconds} | {ratio:.1f} |".format(**row, ratio=ratio), flush=True,
        )  # fmt: skip
        _keep(rows, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
