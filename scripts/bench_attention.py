"""What padded widths and kept buffers are worth to attention, on this machine.

    python scripts/bench_attention.py [--device auto] [--json OUT]

* padded / plain: scaled_dot_product_attention with values as wide as queries, over the plain call
  with narrower values, on the shapes of an SST's windows (4 heads); with freed memory returned to
  the system, as malloc does by itself, and kept, as the command has it.
* streaming / published: a layer's attention with buffers that stay, over the same written as in the
  paper: positions computed and concatenated for every frame.

Medians of several rounds, in which the two take turns.
"""

import argparse
import copy
import json
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from vsr.device import choose_device, keep_freed_memory
from vsr.networks import attention
from vsr.networks.attention import ImplicitBiasAttention
from vsr.networks.sst import VARIANTS
from vsr.stopwatch import in_turn

SHAPES = ((64, 256, 48, 32), (16, 1024, 48, 32), (4, 4096, 48, 30), (4, 4096, 48, 32))
"""Windows, tokens, width of queries, width of values."""
FRAME = (192, 320)
Times = dict[str, float]


def bench_padding(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Times:
    """SDPA as it is against SDPA with padded values."""
    windows, tokens, width, value_width = shape
    q, k, padded = torch.randn(3, windows, 4, tokens, width, dtype=dtype, device=device)
    padded[..., value_width:] = 0
    values = padded[..., :value_width].contiguous()

    def call(v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, scale=1.0)

    return in_turn({"plain": lambda: call(values), "padded": lambda: call(padded)}, device, 5)


def bench_streaming(name: str, layer: int, dtype: torch.dtype, device: torch.device) -> Times:
    """A layer of SST as published against the same with buffers that stay."""
    config = VARIANTS[name]
    published = ImplicitBiasAttention(
        config.channels, config.heads, config.windows[layer], config.ranks[layer]
    ).requires_grad_(False)
    streaming = copy.deepcopy(published)
    attention.fold_attention(streaming)
    for module in (published, streaming):
        module.to(device, dtype).to(memory_format=torch.channels_last)
    picture = torch.randn(1, config.channels, *FRAME, dtype=dtype, device=device)
    picture = picture.to(memory_format=torch.channels_last)
    calls = {
        "published": lambda: published.attend(picture),
        "streaming": lambda: streaming.attend(picture),
    }
    return in_turn(calls, device, 9)


def measure(device: torch.device) -> Iterator[dict[str, object]]:
    """Measure and print, row by row."""
    dtypes = (torch.float32, torch.float16 if device.type == "cuda" else torch.bfloat16)
    for kept in (False, True):
        if kept:
            keep_freed_memory()  # as the command does; from here on for this process
        print(f"freed memory {'kept, as the command does' if kept else 'returned, as malloc does'}")
        for dtype, shape in product(dtypes, SHAPES):
            label = "{} windows of {} tokens, {}/{}".format(*shape)
            yield show(label, dtype, bench_padding(shape, dtype, device), kept)
    for dtype, name, layer in product(dtypes, ("sst-light", "sst"), range(3)):
        label = f"{name}, window {VARIANTS[name].windows[layer]}, {FRAME[1]}x{FRAME[0]}"
        yield show(label, dtype, bench_streaming(name, layer, dtype, device), True)


def show(label: str, dtype: torch.dtype, times: Times, kept: bool) -> dict[str, object]:
    """Print a row and return it."""
    (first, before), (second, after) = times.items()
    kind = str(dtype).removeprefix("torch.")
    print(
        f"{label:44} {kind:9} {first} {before:8.2f} ms, {second} {after:8.2f} ms: "
        f"{before / after:.2f} times as fast", flush=True,
    )  # fmt: skip
    return {"what": label, "dtype": kind, "kept": kept, **times, "ratio": before / after}


@torch.inference_mode()
def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    results = list(measure(choose_device(options.device)))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
