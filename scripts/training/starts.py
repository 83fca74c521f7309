"""What a training begins with: a bilinear enlargement, whatever the network.

Note [The picture's path]: the published SPAN has no image skip, but can express one: a few feature
channels carry the picture through to the last convolution. Those weights are set so at the start
and stay fixed. Were they free, Adam's steps, all of one size, would shake the picture itself;
fixed, they act as an image skip, yet the result is a plain SPAN. Weights of somebody else have no
such path in them, and to write it there would destroy what they do: it is held only where it is
there already.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vsr.errors import VsrError
from vsr.networks.span import Span, SpanConfig
from vsr.networks.spanf import SpanF, SpanFConfig
from vsr.networks.sst import Sst
from vsr.weights import load_network

__all__ = ["Slot", "State", "agreeing", "bilinear_kernels", "carries", "hold", "initial_state",
           "picture_path", "read_donor", "transplant"]  # fmt: skip

State = dict[str, Tensor]
Slot = tuple[slice | tuple[slice, slice], Tensor]
"""Part of a tensor, and the values it is held at."""


def bilinear_kernels(scale: int) -> Tensor:
    """(scale * scale, 3, 3): the kernel of each sub-pixel of a bilinear enlargement."""
    offsets = (torch.arange(scale) + 0.5) / scale - 0.5
    taps = torch.stack([(1 - (offsets - tap).abs()).clamp(min=0) for tap in (-1, 0, 1)], dim=1)
    return torch.einsum("au,bv->abuv", taps, taps).flatten(0, 1)


def picture_path(config: Any) -> dict[str, Slot]:  # noqa: ANN401 - of any network
    """The weights that carry the picture past a network: see Note [The picture's path].

    Args:
        config: of SPAN or SPAN-F; other networks have a skip of their own, and no path.
    """
    if isinstance(config, SpanConfig):
        return _span_path(config)
    if isinstance(config, SpanFConfig) and config.channels > config.inner_channels:
        return _spanf_path(config)
    return {}


def _span_path(config: SpanConfig) -> dict[str, Slot]:
    colours = config.in_channels
    pick = torch.eye(colours, config.channels)[:, :colours]
    first = torch.zeros(colours, colours, 3, 3)
    first[:, :, 1, 1] = pick
    fuse = torch.zeros(colours, 4 * config.channels, 1, 1)
    fuse[:, :colours, 0, 0] = pick
    kernels = bilinear_kernels(config.scale)
    last = torch.einsum("ck,suv->cskuv", torch.eye(colours), kernels).flatten(0, 1)
    rows, none = slice(0, colours), torch.zeros(colours)
    return {
        "conv_1.eval_conv.weight": (rows, first),
        "conv_1.eval_conv.bias": (rows, none),
        "conv_cat.weight": (rows, fuse),
        "conv_cat.bias": (rows, none),
        "upsampler.0.weight": ((slice(None), rows), last),
    }


def _spanf_path(config: SpanFConfig) -> dict[str, Slot]:
    """SPAN-F's own skip is a nearest-neighbour one; its first copies carry the picture."""
    inputs, copies = config.inner_channels, config.scale**2
    width = inputs * copies + 2 * config.channels
    near = torch.zeros(inputs * copies, 1, 3, 3)
    near[:, 0, 1, 1] = 1
    fuse = torch.zeros(inputs, width, 1, 1)
    fuse[range(inputs), range(0, inputs * copies, copies), 0, 0] = 1
    rows = slice(0, inputs)
    return {
        "conv_near.weight": (slice(None), near),
        "conv_cat.weight": (rows, fuse),
        "conv_cat.bias": (rows, torch.zeros(inputs)),
        "conv_2.eval_conv.weight": ((slice(None), rows), _folded_bilinear(config)),
    }


def _folded_bilinear(config: SpanFConfig) -> Tensor:
    """A bilinear enlargement as a convolution from unshuffled pixels to shuffled ones.

    Returns:
        (in_channels * (fold * scale)^2, in_channels * fold^2, 3, 3), fold being ``unshuffle``.
    """
    fold, scale, colours = config.unshuffle, config.scale, config.in_channels
    total = fold * scale
    kernel = torch.zeros(colours, total, total, colours, fold, fold, 3, 3)
    for y in range(total):
        for row, cell_row, down in _taps(y, fold, scale):
            for x in range(total):
                for column, cell_column, across in _taps(x, fold, scale):
                    for colour in range(colours):
                        kernel[colour, y, x, colour, row, column, cell_row, cell_column] += (
                            down * across
                        )
    return kernel.flatten(3, 5).flatten(0, 2)


def _taps(position: int, fold: int, scale: int) -> list[tuple[int, int, float]]:
    """Which pixels output ``position`` of a cell is interpolated from.

    Returns:
        For each its place in its cell, the cell (0 to 2, 1 is this one), and its weight.
    """
    centre = (position + 0.5) / scale - 0.5
    below = int(centre // 1)
    taps = ((below, 1 - (centre - below)), (below + 1, centre - below))
    return [(pixel % fold, pixel // fold + 1, weight) for pixel, weight in taps if weight]


def hold(weights: State, path: Mapping[str, Slot]) -> State:
    """``weights`` with the picture's path put back; no gradient flows into those parts."""
    held = dict(weights)
    for name, (rows, values) in path.items():
        held[name] = weights[name].clone()
        held[name][rows] = values.to(held[name])
    return held


def carries(weights: State, path: Mapping[str, Slot]) -> bool:
    """Whether the picture's path is in ``weights``, to rounding in float16."""
    return all(
        torch.allclose(weights[name][rows], values, rtol=0, atol=1e-3)
        for name, (rows, values) in path.items()
    )


def read_donor(path: Path) -> State:
    """The weights of a checkpoint of any format that ``--weights`` takes, folded, in float32.

    What is trained takes pictures as they are: a SPAN's normalisation becomes part of its first
    convolution. That differs where the picture ends, since what lies beyond it is black then, and
    was the mean colour.

    Raises:
        SystemExit: it cannot be read, or is no checkpoint.
    """
    try:
        module = load_network(path).module
    except VsrError as error:
        raise SystemExit(f"start: {error}") from error
    state = {k: v.detach().clone() for k, v in module.state_dict().items() if k != "no_norm"}
    if isinstance(module, Span) and module.config.norm:
        mean = torch.tensor(module.config.mean, dtype=torch.float64)
        weight, bias = (state[f"conv_1.eval_conv.{part}"].double() for part in ("weight", "bias"))
        weight = weight * module.config.img_range
        bias = bias - torch.einsum("oiuv,i->o", weight, mean)
        state["conv_1.eval_conv.weight"], state["conv_1.eval_conv.bias"] = (
            weight.float(), bias.float()
        )  # fmt: skip
    return state


def agreeing(state: State, donor: Mapping[str, Tensor]) -> list[str]:
    """The names of the tensors that both have, in the same shape."""
    return [n for n, value in state.items() if n in donor and donor[n].shape == value.shape]


def transplant(state: State, donor: Mapping[str, Tensor]) -> State:
    """``donor``'s weights where the shapes agree: the body of a network of another scale."""
    taken = {name: donor[name].clone().to(state[name]) for name in agreeing(state, donor)}
    return state | taken


def initial_state(network: nn.Module, sample: Tensor) -> State:
    """Weights that enlarge bilinearly from the first step, with features of a useful size.

    Args:
        network: any; what is not SPAN, SPAN-F or SST begins as PyTorch makes it.
        sample: (N, 3, H, W) in [0, 1] to measure features on.
    """
    start: Callable[[Any, Tensor], None] | None = next(
        (begin for kind, begin in _STARTS if isinstance(network, kind)), None
    )
    if start is not None:
        with torch.no_grad():
            start(network, sample)
    return {name: value.clone() for name, value in network.state_dict().items()}


def _start_attention_blocks(network: Span | SpanF, sample: Tensor) -> None:
    """Scale kernels on a batch so that ``c3_r`` reaches into the sigmoid's bend.

    With the usual start its factor (sigmoid - 1/2) shrinks the signal at each block to nothing.
    """
    gains = {"conv_1": 1.0, "c1_r": 1.0, "c2_r": 1.0, "c3_r": 2.0, "conv_2": 1.0}

    def rescale(name: str, gain: float) -> torch.utils.hooks.RemovableHandle:
        weight, bias = (network.get_parameter(f"{name}.{kind}") for kind in ("weight", "bias"))

        def hook(module: nn.Module, args: tuple[Tensor], out: Tensor) -> Tensor:
            factor, mean = gain / out.std(), out.mean((0, 2, 3))
            weight.mul_(factor)
            bias.copy_((bias - mean) * factor)
            return (out - mean[:, None, None]) * factor

        return network.get_submodule(name).register_forward_hook(hook)

    handles = [
        rescale(f"{name}.eval_conv", gains[name.rsplit(".", 1)[-1]])
        for name, module in network.named_modules()
        if hasattr(module, "eval_conv")
    ]
    network(sample)
    for handle in handles:
        handle.remove()
    for name, (rows, values) in picture_path(network.config).items():
        network.get_parameter(name)[rows] = values
    last, carried, share = "upsampler.0", network.config.in_channels, 0.1
    if isinstance(network, SpanF):  # whose last kernel has just been scaled up
        last, carried, share = "conv_2.eval_conv", network.config.inner_channels, 0.02
    network.get_parameter(f"{last}.weight")[:, carried:] *= share
    network.get_parameter(f"{last}.bias").zero_()


def _start_sst(network: Sst, sample: Tensor) -> None:
    """Random layers around a bilinear enlargement, which three features carry to the end.

    The network's own skip is a nearest-neighbour enlargement; what is missing to a bilinear one
    is written into the last convolution. Where that one is not the first after the features, the
    network begins as it is.
    """
    if network.config.upsampling != "pixelshuffle_direct":
        return
    colours = network.config.in_channels
    network.proj.weight[:colours] = 0
    network.proj.weight[range(colours), range(colours), 1, 1] = 1
    assert network.proj.bias is not None
    network.proj.bias[:colours] = 0
    network.get_parameter(f"body.{network.config.blocks + 1}.weight").mul_(0.1)
    last = network.upsampler.up_conv.weight
    last *= 0.1
    kernels = bilinear_kernels(network.config.scale)
    kernels[:, 1, 1] -= 1
    last[:, :colours] = torch.einsum("ck,suv->cskuv", torch.eye(colours), kernels).flatten(0, 1)


_STARTS: tuple[tuple[type[nn.Module], Callable[[Any, Tensor], None]], ...] = (
    (Span, _start_attention_blocks),
    (SpanF, _start_attention_blocks),
    (Sst, _start_sst),
)
