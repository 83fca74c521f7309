"""What was measured, as text."""

from collections.abc import Iterator, Mapping
from typing import Any

from vsr.benchmarks.jobs import OURS

__all__ = ["posted", "tell"]

Found = Mapping[str, Any]


def tell(results: Found) -> Iterator[str]:
    """The lines that are printed, from what :func:`vsr.benchmarks.bench` returns."""
    yield from _head(results)
    yield ""
    yield "stages, each alone      ms/frame   frames/s"
    for name, stage in results["stages"].items():
        yield f"  {name:20} {stage['ms']:9.2f} {stage['fps']:10.2f}{_work(stage)}"
    yield ""
    yield "runs                    ms/frame   frames/s       MiB"
    for name, row in results["runs"].items():
        yield f"  {name:20} {row['ms']:9.2f} {row['fps']:10.2f} {row['mib']:9.0f}{_quality(row)}"
    yield ""
    for name, ratio in results["ratios"].items():
        yield f"{name}: {ratio:.3f}"
    yield ""
    yield posted(results)


def _head(results: Found) -> Iterator[str]:
    machine, peaks = results["machine"], results["peaks"]
    (width, height), (wide, high) = results["source"], results["result"]
    yield (
        f"vsr {results['version']}, {results['network']} x{results['scale']} "
        f"({results['parameters']:,} parameters, {results['flop'] / 1e9:.1f} GFLOP a frame), "
        f"{results['clip']}: {width}x{height} to {wide}x{high}"
    )
    yield f"{machine['cpu']}, {machine['device']}, torch {machine['torch']}"
    tflops = ", ".join(f"{value:.3g} TFLOP/s {name}" for name, value in peaks["tflops"].items())
    yield f"peaks measured now: matrix products {tflops}; a copy {peaks['gbs']:.1f} GB/s"


def _work(row: Found) -> str:
    """Of what is counted, over the peaks."""
    told = ""
    if row.get("tflops"):
        told += f"   {row['tflops']:.3g} TFLOP/s"
        told += f" ({row['of_peak']:.0%})" if row["of_peak"] else ""
    if row.get("gbs"):
        told += f"   {row['gbs']:.3g} GB/s ({row['of_copy']:.0%})"
    return told


def _quality(row: Found) -> str:
    if row["kind"] != "network":
        return ""
    distance = "equal to fp32" if row["psnr"] is None else f"{row['psnr']:.1f} dB to fp32"
    return f"{_work(row)}   {distance}, {row['dtype']}"


def posted(results: Found) -> str:
    """One row as people post them: model, device, size, speed, memory, how."""
    machine, command = results["machine"], results["runs"]["command"]
    width, height = results["source"]
    return (
        f"| {results['network']} {results['scale']}x "
        f"| {machine['gpu'] or machine['cpu']}, {machine['system']} "
        f"| {width}x{height}: {command['fps']:.2f} fps "
        f"(network alone {results['runs'][f'network {OURS}']['fps']:.2f}) "
        f"| {command['mib'] / 1024:.1f} GB "
        f"| vsr {results['version']}, {results['runtime']} {results['dtype']}, "
        f"decode + network + {results['encoder']} |"
    )
