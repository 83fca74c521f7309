"""How close a picture or a video is to another: PSNR, SSIM, VMAF, flicker.

PSNR and SSIM are on BT.601 luma that is not rounded (BasicSR's convention); SSIM with an 11 x 11
Gaussian window of sigma 1.5, valid region (Wang et al., IEEE TIP 13, 2004).
"""

import torch
from torch import Tensor

__all__ = ["luma", "psnr", "ssim"]


def luma(picture: Tensor) -> Tensor:
    """(..., 3, H, W) uint8 RGB to (..., H, W) float64 BT.601 luma in [16, 235]."""
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=torch.float64) / 255
    return torch.einsum("...chw,c->...hw", picture.double(), weights) + 16


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of two pictures with peak 255."""
    return float(10 * torch.log10(255**2 / (a - b).square().mean()))


def ssim(a: Tensor, b: Tensor) -> float:
    """Structural similarity of two (H, W) float64 pictures."""
    taps = torch.exp(-(torch.arange(-5.0, 6, dtype=torch.float64) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()

    def blur(x: Tensor) -> Tensor:
        across = torch.nn.functional.conv2d(x[None, None], taps.view(1, 1, 1, -1))
        return torch.nn.functional.conv2d(across, taps.view(1, 1, -1, 1))[0, 0]

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    score = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float((score / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())
