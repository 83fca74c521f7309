"""PSNR and SSIM of models on folders of pictures, with the standard protocol.

    python scripts/evaluate.py DATA --scale 2 span path/to/weights.safetensors bicubic

DATA holds ``HR`` and ``LRx<scale>`` with pictures of the same names. Protocol: output clamped and
rounded to 8 bits, ``scale`` pixels cropped at each side, PSNR and SSIM on BT.601 luma that is not
rounded (BasicSR's convention); SSIM with an 11 x 11 Gaussian window of sigma 1.5, valid region.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from pictures import load, to_uint8
from torch import Tensor

from vsr.device import choose_device
from vsr.errors import VsrError
from vsr.resample import resize
from vsr.runtimes import EagerRuntime
from vsr.weights import load_network

Upscale = Callable[[Tensor], Tensor]  # (1, 3, H, W) float32 in [0, 1] to (1, 3, s*H, s*W)


def luma(picture: Tensor) -> Tensor:
    """(3, H, W) uint8 RGB to (H, W) float64 BT.601 luma in [16, 235]."""
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=torch.float64) / 255
    return torch.einsum("chw,c->hw", picture.double(), weights) + 16


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of two pictures with peak 255."""
    return float(10 * torch.log10(255**2 / (a - b).square().mean()))


def ssim(a: Tensor, b: Tensor) -> float:
    """Structural similarity of two (H, W) float64 pictures (Wang et al. 2004)."""
    taps = torch.exp(-(torch.arange(-5.0, 6, dtype=torch.float64) ** 2) / (2 * 1.5**2))
    window = torch.outer(taps, taps) / taps.sum() ** 2

    def blur(x: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(x[None, None], window[None, None])[0, 0]

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    score = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float((score / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())


def pairs_of(folder: Path, scale: int) -> list[Path]:
    """The reduced pictures of ``folder``."""
    return sorted((folder / f"LRx{scale}").glob("*.png"))


def pairs(folder: Path, scale: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Low and high pictures of ``folder``, (3, H, W) uint8, the high one cropped to fit."""
    for path in pairs_of(folder, scale):
        low, high = load(path), load(folder / "HR" / path.name)
        height, width = (side * scale for side in low.shape[-2:])
        yield low, high[:, :height, :width]


def evaluate(upscale: Upscale, folder: Path, scale: int) -> tuple[float, float]:
    """Mean PSNR (dB) and SSIM on luma over the pictures of ``folder``."""
    scores = []
    inner = slice(scale, -scale)
    for low, high in pairs(folder, scale):
        out = upscale(low[None].float() / 255)[0]
        a, b = (luma(p)[inner, inner] for p in (to_uint8(out.float() * 255), high))
        scores.append((psnr(a, b), ssim(a, b)))
    return fmean(score[0] for score in scores), fmean(score[1] for score in scores)


def _classical(kernel: str, scale: int) -> Upscale:
    def upscale(x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        return resize(x, scale * height, scale * width, kernel)  # type: ignore[arg-type]

    return upscale


def _network(name: str, scale: int, device: str) -> Upscale:
    path = Path(name)
    chosen = load_network(path if path.suffix in (".safetensors", ".pth") else name, scale=scale)
    return EagerRuntime(chosen, choose_device(device), torch.float32)


def main() -> int:
    """Print one row a model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with HR and LRx<scale>")
    parser.add_argument("models", nargs="+", help="names, checkpoint files, bicubic or lanczos")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    if not list(pairs_of(options.data, options.scale)):
        parser.error(f"{options.data} holds no LRx{options.scale}/*.png")
    print(f"{'model':40} {'PSNR-Y':>8} {'SSIM':>7}   x{options.scale} on {options.data.name}")
    for name in options.models:
        classical = name in ("bicubic", "lanczos")
        try:
            upscale = (_classical if classical else partial(_network, device=options.device))(
                name, options.scale
            )
        except VsrError as error:
            print(f"evaluate.py: error: {error}", file=sys.stderr)
            return 1
        scores = evaluate(upscale, options.data, options.scale)
        print("{:40} {:8.4f} {:7.4f}".format(name, *scores), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
