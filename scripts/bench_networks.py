"""Every variant of every network beside SPAN, in one run: size, work, error, time.

    python scripts/bench_networks.py [--size 128x128] [--device auto] [--json OUT]

Prints a Markdown table. Parameters and multiplications (of convolutions and matrix products;
attention apart, in the form that is run) are counted, on random weights, since neither depends on
them; milliseconds are the median of several frames in the precision that a run would choose.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vsr.device import choose_device, choose_dtype, describe, keep_freed_memory
from vsr.networks import Network, esc, span, spanf, spanplus, spanv2, sst
from vsr.networks import describe as describe_network
from vsr.runtimes import EagerRuntime

Row = dict[str, object]


def networks() -> Iterator[tuple[str, Network]]:
    """All variants, SPAN first; at x2, or at the one scale that there is."""
    configs: list[tuple[str, type[nn.Module], object]] = [
        ("span", span.Span, span.SpanConfig()),
        ("spanf", spanf.SpanF, spanf.SpanFConfig()),
        ("spanv2", spanv2.SpanV2, spanv2.SpanV2Config()),
        *((name, spanplus.SpanPlus, replace(config, scale=2))
          for name, config in spanplus.PRESETS.items()),
        *((name, esc.EscLte if config.scale == 0 else esc.Esc, config)
          for name, config in esc.VARIANTS.items()),
        *((name, sst.Sst, config) for name, config in sst.VARIANTS.items()),
        ("sst-real", sst.SstReal, sst.SstRealConfig()),
    ]  # fmt: skip
    for name, build, config in configs:
        with torch.device("meta"):
            module = build(config)
        module = module.to_empty(device="cpu").eval().requires_grad_(False)
        generator = torch.Generator().manual_seed(0)
        for parameter in module.parameters():
            parameter.uniform_(-0.05, 0.05, generator=generator)
        for buffer in module.buffers():
            buffer.zero_()
        yield name, describe_network(name, module, config)  # type: ignore[arg-type]


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

    with FlopCounterMode(display=False) as counter:
        run()
    works = counter.get_flop_counts()["Global"]
    attention = sum(work for kind, work in works.items() if "attention" in str(kind))
    macs = [amount / 2 / (height * width) / 1000 for amount in (sum(works.values()), attention)]
    times = []
    for _ in range(3):
        _wait(device)
        started = time.perf_counter()
        run()
        _wait(device)
        times.append(1000 * (time.perf_counter() - started))
    return {
        "variant": name, "scale": network.scale or "any (2)",
        "parameters": sum(p.numel() for p in network.module.parameters()),
        "kmac": round(macs[0] - macs[1]), "attention_kmac": round(macs[1]),
        "sees": f"windows, {network.grid} px" if network.grid > 1 else f"{network.halo} px",
        "milliseconds": round(statistics.median(times), 1),
    }  # fmt: skip


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.inference_mode()
def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="128x128", metavar="WxH")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these variants")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    keep_freed_memory()
    device = choose_device(options.device)
    width, height = map(int, options.size.split("x"))
    print(f"{options.size} on {describe(device)}")
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
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
