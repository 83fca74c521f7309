"""What was measured, as tables in Markdown."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from video import Result

__all__ = ["Score", "codec_table", "picture_table", "rounding_cost"]

Score = tuple[float, float]
"""PSNR in dB and SSIM."""


def picture_table(scores: Mapping[str, Sequence[Score]], sets: Sequence[str]) -> list[str]:
    """PSNR and SSIM of each model on each set, as lines of Markdown."""
    lines = ["| model | " + " | ".join(f"{name}, dB / SSIM" for name in sets) + " |"]
    lines.append("|---" * (1 + len(sets)) + "|")
    for name, row in scores.items():
        lines.append(f"| {name} | " + " | ".join(f"{p:.3f} / {s:.4f}" for p, s in row) + " |")
    return lines


def rounding_cost(exact: Sequence[Score], rounded: Sequence[Score], sets: Sequence[str]) -> str:
    """What bfloat16 costs in PSNR on each set, in words."""
    costs = (a[0] - b[0] for a, b in zip(exact, rounded, strict=True))
    said = ", ".join(f"{cost:.4f} dB on {name}" for cost, name in zip(costs, sets, strict=True))
    return f"The body in bfloat16 costs {said}."


def codec_table(results: Sequence[Result]) -> list[str]:
    """The codec test, means over the clips, as lines of Markdown."""
    found: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for result in results:
        scores = result.scores
        row = (scores.psnr, scores.ssim, scores.vmaf, scores.flicker)
        found.setdefault((result.coding, result.model), []).append(row)
    lines = ["| coding | model | PSNR, dB | SSIM | VMAF | flicker |", "|---|---|---|---|---|---|"]
    for (coding, model), rows in found.items():
        psnr, ssim, vmaf, flicker = (fmean(column) for column in zip(*rows, strict=True))
        lines.append(
            f"| {coding} | {model} | {psnr:.2f} | {ssim:.4f} | {vmaf:.1f} | {flicker:.2f} |"
        )
    return lines
