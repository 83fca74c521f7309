"""How far patches are from the truth, as a number to be made small.

Note [Decibels]: a mean of differences is ruled by what cannot be won back, strong noise and coarse
quantisers: a network that is trained on longer by it spends itself there, and loses what it had on
sources that are nearly clean. ``psnr`` (Chen et al., "Simple Baselines for Image Restoration", ECCV
2022, in their code) is the mean of the patches' decibels, to which a gain counts alike everywhere.
Its ``epsilon`` keeps patches that are flat, and almost right, from ruling instead.
"""

from torch import Tensor

from training.recipe import Recipe

__all__ = ["loss_of"]


def loss_of(difference: Tensor, recipe: Recipe) -> Tensor:
    """The recipe's loss of (N, 3, H, W) RGB differences in [-1, 1]: the mean over N patches.

    With ``luma_share``, that share of a patch's loss is the same measure of luma. Errors of chroma
    count as much as those of luma in RGB, though people see them less, and what subsampling took
    of it cannot be found again.
    """
    share = recipe.luma_share
    sizes = _sizes(difference, recipe).mean((1, 2, 3))
    if share:
        sizes = sizes * (1 - share) + _sizes(_luma(difference), recipe).mean((1, 2)) * share
    if recipe.loss == "psnr":
        return 10 * (sizes + recipe.epsilon**2).log10().mean()
    return sizes.mean()


def _sizes(difference: Tensor, recipe: Recipe) -> Tensor:
    """Of each difference, by itself."""
    match recipe.loss:
        case "psnr":
            return difference.square()
        case "charbonnier":
            return (difference.square() + recipe.epsilon**2).sqrt()
        case _:
            return difference.abs()


def _luma(pictures: Tensor) -> Tensor:
    """BT.601's, (N, 3, H, W) to (N, H, W); by numbers, since a tensor would have to be moved."""
    red, green, blue = pictures.unbind(1)
    return 0.299 * red + 0.587 * green + 0.114 * blue
