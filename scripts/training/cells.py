"""A SPAN-F on pixels as one on cells of pixels: the same function, with room to learn more.

Note [From pixels to cells]: on cells of 2 x 2 pixels, kernels meet each pixel of a cell at another
place, and have to learn everything four times: from a random start, 12,000 steps got less far than
500 on pixels. A convolution on pixels is one on cells, of four times the channels, most of whose
weights are zero; pointwise steps stay what they are. So the network on cells begins as one on
pixels with a quarter of its channels, which trains fast, and may then use the weights between them.
"""

from itertools import product

import torch
from torch import Tensor

from training.starts import State
from vsr.networks.spanf import infer_config

__all__ = ["onto_cells"]


def onto_cells(state: State, fold: int) -> State:
    """The weights of a folded SPAN-F on pixels as those of one on cells.

    Args:
        state: of a network with ``unshuffle`` 1.
        fold: side of the cells.

    Returns:
        Weights of a network with ``unshuffle`` of ``fold`` and ``fold`` squared times the channels,
        which does the same to pictures whose sides are multiples of ``fold``.
    """
    config = infer_config(state, {})
    scale, colours = config.scale, config.in_channels
    cells = {
        name: _spread(value, fold) if value.dim() == 4 else value.repeat_interleave(fold**2)
        for name, value in state.items()
        if not name.startswith("conv_near.")
    }
    # The skip's copies: (colour, copy, pixel) become (colour, pixel, copy).
    copies, pixels = colours * scale**2, fold**2
    near = torch.arange(copies * pixels).view(colours, scale**2, pixels).transpose(1, 2).flatten()
    fused = cells["conv_cat.weight"]
    rest = torch.arange(copies * pixels, fused.shape[1])
    cells["conv_cat.weight"] = fused[:, torch.cat([near, rest])].contiguous()
    # The output: the pixel of a cell and the place in that pixel are one place of a larger shuffle.
    order = torch.arange(copies * pixels).view(colours, scale, scale, fold, fold)
    order = order.permute(0, 3, 1, 4, 2).flatten()
    for name in ("conv_2.eval_conv.weight", "conv_2.eval_conv.bias"):
        cells[name] = cells[name][order].contiguous()
    each = state["conv_near.weight"].view(colours, scale**2, 3, 3)
    cells["conv_near.weight"] = _near(each, fold)
    return cells


def _spread(kernel: Tensor, fold: int) -> Tensor:
    """A convolution of pixels as one of cells.

    Args:
        kernel: (outputs, inputs, 3, 3), or 1 x 1.
        fold: side of the cells.

    Returns:
        (outputs * fold^2, inputs * fold^2, 3, 3), or 1 x 1; pixels of a cell are counted last.
    """
    outputs, inputs, side = kernel.shape[:3]
    reach = side // 2
    spread = kernel.new_zeros(outputs, fold, fold, inputs, fold, fold, side, side)
    places, steps = range(fold), range(-reach, reach + 1)
    for row, column, down, across in product(places, places, steps, steps):
        cell_row, from_row = divmod(row + down, fold)
        cell_column, from_column = divmod(column + across, fold)
        target = spread[:, row, column, :, from_row, from_column]
        target[..., cell_row + reach, cell_column + reach] = kernel[
            ..., down + reach, across + reach
        ]
    return spread.flatten(3, 5).flatten(0, 2)


def _near(kernels: Tensor, fold: int) -> Tensor:
    """The skip's kernels, (colours, copies, 3, 3), one for each pixel of a cell.

    Only a centre fits: a grouped convolution on cells sees no other pixel of its own cell.
    """
    centre = torch.zeros_like(kernels)
    centre[..., 1, 1] = kernels[..., 1, 1]
    if not torch.equal(centre, kernels):
        raise SystemExit("this SPAN-F's skip looks at neighbours: it cannot be put onto cells")
    return centre.repeat_interleave(fold**2, dim=0).flatten(0, 1)[:, None].contiguous()
