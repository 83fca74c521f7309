"""What tiling costs a network that sees further than its tiles, in dB on real pictures.

    python scripts/bench_tiles.py MODEL DATA --scale 2 --tiles 64 128

DATA holds pictures; each is reduced by MATLAB's bicubic and enlarged again, whole and in tiles. Two
figures for each size of tile, means over the pictures: PSNR of the tiled result against the whole
frame's (how visible a difference could be), and how much PSNR against the original is lost.
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from metrics import luma, psnr
from pictures import load, reduce_bicubic
from torch import Tensor

from vsr.device import choose_device, choose_dtype
from vsr.engine.tiles import run_tiled
from vsr.errors import VsrError
from vsr.runtimes import EagerRuntime
from vsr.weights import load_network


def compare(whole: Tensor, tiled: Tensor, original: Tensor) -> tuple[float, float]:
    """PSNR of ``tiled`` against ``whole``, and what it loses against ``original``; dB on luma."""
    a, b, c = (luma(part.clamp(0, 1) * 255) for part in (whole, tiled, original))
    return psnr(b, a), psnr(a, c) - psnr(b, c)


@torch.inference_mode()
def main() -> int:
    """Measure and print one row for each size of tile."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a name, or a checkpoint file")
    parser.add_argument("data", type=Path, help="folder of pictures")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--tiles", type=int, nargs="+", default=[64, 128, 192])
    parser.add_argument("--pictures", type=int, default=8, help="how many of them")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    name = Path(options.model) if Path(options.model).suffix else options.model
    try:
        network = load_network(name, scale=options.scale)
        device = choose_device(options.device)
    except VsrError as error:
        print(f"bench_tiles.py: error: {error}", file=sys.stderr)
        return 1
    runtime = EagerRuntime(network, device, choose_dtype(device, "auto"))
    paths = sorted(p for p in options.data.iterdir() if p.suffix in (".png", ".jpg"))
    scores: dict[int, list[tuple[float, float]]] = {tile: [] for tile in options.tiles}
    for path in paths[: options.pictures]:
        high = load(path)
        high = high[:, : high.shape[1] // 4 * 4, : high.shape[2] // 4 * 4]
        low = (reduce_bicubic(high, options.scale).float() / 255)[None].to(device)
        run = partial(
            run_tiled, runtime, low, halo=network.halo, scale=network.scale, grid=network.grid
        )
        whole = run(tile=max(low.shape)).float().cpu()[0]
        for tile, row in scores.items():
            tiled = run(tile=tile).float().cpu()[0]
            row.append(compare(whole, tiled, high.float() / 255))
    print(f"{network.name} x{network.scale}, {len(next(iter(scores.values())))} pictures")
    for tile, row in scores.items():
        against, lost = (fmean(column) for column in zip(*row, strict=True))
        print(f"tiles of {tile:4}: {against:6.2f} dB to the whole frame, {lost:+.4f} dB lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
