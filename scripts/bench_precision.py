"""What each way to run a model costs in quality: its PSNR against the truth, beside float32's.

    python scripts/bench_precision.py [DATA] [--models span sst] [--ways torch:fp32 torch:fp16]

DATA holds ``HR`` and ``LRx2`` with PNG files of the same names; without it, pictures of the sample
clip are the truth, reduced by half. Protocol as in ``evaluate.py``: 8 bits, 2 pixels cropped at
each side, PSNR on BT.601 luma. A way is a runtime and a precision; the first one is what the
others are compared with. Needs nothing but vsr.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import cast

import av
import torch
from metrics import luma, psnr
from torch import Tensor

from vsr.benchmarks import sample_clip
from vsr.config import PRECISIONS, RUNTIMES, Precision, Runtime
from vsr.device import choose_device, choose_dtype
from vsr.errors import VsrError
from vsr.resample import resize
from vsr.runtimes import make_runtime
from vsr.weights import load_network

Pair = tuple[Tensor, Tensor]
"""A reduced picture and its truth, (3, H, W) uint8."""

SCALE = 2
WAYS = {
    "cpu": ("torch:fp32", "torch:bf16", "openvino:bf16", "winograd:fp32"),
    "cuda": ("torch:fp32", "torch:fp16", "auto:fp16"),
}


def pictures_of(path: Path) -> Iterator[Tensor]:
    """The frames of a file, (3, H, W) uint8."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)


def pairs_of(folder: Path | None, most: int) -> list[Pair]:
    """Up to ``most`` pictures to enlarge; without a folder those of the sample, if it is here."""
    if folder is not None:
        paths = sorted((folder / f"LRx{SCALE}").glob("*.png"))[:most]
        return [cropped(*(next(pictures_of(p)) for p in (low, folder / "HR" / low.name)))
                for low in paths]  # fmt: skip
    clip = sample_clip()
    return (
        [] if clip is None else [reduced(p) for p in islice(pictures_of(clip), 0, None, 24)][:most]
    )


def cropped(low: Tensor, high: Tensor) -> Pair:
    """The truth without the rows and columns that have no counterpart."""
    height, width = (SCALE * side for side in low.shape[-2:])
    return low, high[:, :height, :width]


def reduced(high: Tensor) -> Pair:
    """A picture of half the size, and its truth."""
    height, width = (side // SCALE for side in high.shape[-2:])
    low = resize(high.float(), height, width, "bicubic")
    return cropped(low.round().clamp(0, 255).byte(), high)


@torch.inference_mode()
def score(model: str, way: str, pairs: Sequence[Pair], device: torch.device) -> float:
    """Mean PSNR on luma of what ``model`` makes, run in a ``way``.

    Raises:
        VsrError: there is no such model, or it cannot be run so here.
    """
    name, _, precision = way.partition(":")
    dtype = choose_dtype(device, cast(Precision, precision))
    chosen = load_network(Path(model) if Path(model).is_file() else model, scale=SCALE)
    runtime = make_runtime(chosen, device, dtype, cast(Runtime, name))
    inner, found = slice(SCALE, -SCALE), []
    for low, high in pairs:
        out = runtime(low[None].to(device).float() / 255)[0].float().cpu()
        seen = (out * 255).round().clamp(0, 255).byte()
        found.append(psnr(*(luma(p)[inner, inner] for p in (seen, high))))
    return fmean(found)


def measure(
    model: str, ways: Sequence[str], pairs: Sequence[Pair], device: torch.device
) -> Iterator[dict[str, object]]:
    """Print and give a row for each way that there is."""
    exact: float | None = None
    for way in ways:
        try:
            found = score(model, way, pairs, device)
        except VsrError as error:
            print(f"{model:8} {way:16} is left out: {error}", flush=True)
            continue
        exact = found if exact is None else exact
        print(f"{model:8} {way:16} {found:9.4f} dB {found - exact:+9.4f}", flush=True)
        yield {"model": model, "way": way, "psnr": found, "apart": found - exact}


def _way(text: str) -> str:
    name, _, precision = text.partition(":")
    if name not in RUNTIMES or precision not in PRECISIONS:
        raise argparse.ArgumentTypeError(f"{text!r}: a way is RUNTIME:PRECISION, e.g. torch:fp32")
    return text


def main() -> int:
    """Measure and print; 1 if there is nothing to measure on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, help="folder with HR and LRx2")
    parser.add_argument("--models", nargs="+", default=["span", "sst"])
    parser.add_argument("--ways", nargs="+", type=_way, help="RUNTIME:PRECISION, the exact first")
    parser.add_argument("--pictures", type=int, default=24, help="at most (24)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    device = choose_device(options.device)
    folder = options.data if options.data and options.data.is_dir() else None
    if not (pairs := pairs_of(folder, options.pictures)):
        print("bench_precision.py: error: there are no pictures", file=sys.stderr)
        return 1
    print(f"{len(pairs)} pictures of {folder.name if folder else 'the sample clip'}, x{SCALE}")
    rows: list[dict[str, object]] = []
    for model in options.models:
        for row in measure(model, options.ways or WAYS[device.type], pairs, device):
            rows.append(row)
            if options.json:
                options.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0 if rows else 1


if __name__ == "__main__":
    sys.exit(main())
