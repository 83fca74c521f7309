"""SPAN and SPAN-F by Winograd's minimal filtering: the fastest on a CPU, and in float32."""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.constants import loose
from vsr.networks import Network
from vsr.networks.attention import pad_to_multiple
from vsr.networks.span import Span
from vsr.networks.spanf import SpanF
from vsr.runtimes.eager import EagerRuntime
from vsr.winograd import (
    PICTURE,
    Epilogue,
    Layers,
    Program,
    Step,
    convolution,
    load,
    mix,
    upsampling,
)

__all__ = ["WinogradRuntime", "runs"]

_GEOMETRIES = 4
"""Whose maps are kept: a whole frame, or the tiles of one."""


class WinogradRuntime(EagerRuntime):
    """Runs a network of the SPAN family on the CPU.

    Args:
        network: one that :func:`runs`.
        threads: how many work on a picture.

    Raises:
        vsr.winograd.CompilerError: the kernels cannot be compiled here.
    """

    option = "winograd"

    def __init__(self, network: Network, threads: int) -> None:
        super().__init__(network, torch.device("cpu"), torch.float32)
        steps = [*_STEPS[type(self._module)](self._module)]
        self._layers = Layers(steps, load(), threads)
        self._programs = lru_cache(maxsize=_GEOMETRIES)(loose(self._make_program))
        self._prepare = _preparation(self._module)
        self._scale = network.scale

    def _run(self, picture: Tensor) -> Tensor:
        height, width = picture.shape[-2:]
        padded = self._prepare(pad_to_multiple(picture, self._multiple))
        program = self._programs(*padded.shape[1:])
        out = torch.stack([program(one) for one in padded])
        return out[..., : self._scale * height, : self._scale * width]

    def _make_program(self, planes: int, height: int, width: int) -> Program:
        return Program(self._layers, planes, height, width)


def runs(network: Network) -> bool:
    """Whether ``network`` is of the SPAN family."""
    return type(network.module) in _STEPS


def _preparation(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """What a network does to the picture before its first convolution pads it."""
    if isinstance(module, SpanF):
        return lambda picture: F.pixel_unshuffle(picture, module.config.unshuffle)
    if not isinstance(module, Span) or not module.config.norm:
        return lambda picture: picture
    mean, reach = module.mean, module.config.img_range
    return lambda picture: (picture - mean) * reach


def _span_steps(network: Span) -> Iterator[Step]:
    """Figure 2 of the paper; ``conv_cat`` is split, and its shares are summed.

    Nothing nonlinear lies between ``conv_2`` and its share, nor between ``conv_1`` and its: each
    pair is one convolution. A block's features stay in ``x`` but for the first block's.
    """
    c, last = network.config.channels, network.config.blocks
    own, deep, first, activation = torch.split(_weights(network.conv_cat)[0], c, dim=1)
    conv_1, conv_2 = network.conv_1.eval_conv, network.conv_2.eval_conv
    kernel, bias = _weights(conv_1)
    yield mix([(PICTURE, kernel)], bias, "x")
    yield from _block(network.get_submodule("block_1"), "x", "first")
    for index in range(2, last + 1):
        yield from _block(network.get_submodule(f"block_{index}"), "first" if index == 2 else "x")
    total = "b" if len(own) == c else "total"  # "b" is free here, if it has the channels
    kernel, bias = _mixed(own, conv_1)
    bias = bias + _weights(network.conv_cat)[1]
    shares = [(PICTURE, kernel), ("first", first[:, :, 0, 0]), ("a", activation[:, :, 0, 0])]
    yield mix(shares, bias, total)
    features = "x" if last > 1 else "first"
    yield convolution(*_mixed(deep, conv_2), features, total, Epilogue.ADD, skip=total)
    yield upsampling(*_weights(network.upsampler[0]), total, network.config.scale)


def _spanf_steps(network: SpanF) -> Iterator[Step]:
    """As :meth:`SpanF.forward` reads; ``conv_cat``'s share of the skip is one convolution."""
    c, last = network.config.channels, network.config.blocks
    pixels = network.conv_near.out_channels
    near, deep, first = torch.split(_weights(network.conv_cat)[0], [pixels, c, c], dim=1)
    head = network.block_1
    kernel, bias = _weights(head.c1_r.eval_conv)
    yield mix([(PICTURE, kernel)], bias, "a", Epilogue.SILU)
    yield convolution(*_weights(head.c2_r.eval_conv), "a", "b", Epilogue.SILU)
    yield convolution(*_weights(head.c3_r.eval_conv), "b", "first")
    for index in range(2, last + 1):
        yield from _block(network.get_submodule(f"block_{index}"), "first" if index == 2 else "x")
    features = "x" if last > 1 else "first"
    shares = [
        (PICTURE, _mixed(near, network.conv_near)[0]), (features, deep[:, :, 0, 0]),
        ("first", first[:, :, 0, 0]),
    ]  # fmt: skip
    yield mix(shares, _weights(network.conv_cat)[1], "b")
    enlargement = network.config.unshuffle * network.config.scale
    yield upsampling(*_weights(network.conv_2.eval_conv), "b", enlargement)


def _block(block: nn.Module, source: str, target: str = "x") -> Iterator[Step]:
    """SPAB (section 3.2): ``a`` holds its first activation, ``b`` its second."""
    parts = [
        _weights(block.get_submodule(f"{name}.eval_conv")) for name in ("c1_r", "c2_r", "c3_r")
    ]
    yield convolution(*parts[0], source, "a", Epilogue.SILU)
    yield convolution(*parts[1], "a", "b", Epilogue.SILU)
    yield convolution(*parts[2], "b", target, Epilogue.ATTENTION, skip=source)


def _weights(conv: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution in float64, its groups written out."""
    assert isinstance(conv, nn.Conv2d)
    weight = conv.weight.detach().double()
    bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.detach().double()
    if conv.groups > 1:  # zeros where a group does not look
        own = torch.eye(conv.groups, dtype=weight.dtype)
        shares = weight.reshape(conv.groups, -1, *weight.shape[1:])
        weight = torch.einsum("gonij,gh->gohnij", shares, own).flatten(0, 1).flatten(1, 2)
    return weight, bias


def _mixed(mix: Tensor, conv: nn.Module) -> tuple[Tensor, Tensor]:
    """The convolution that ``conv`` and then the 1x1 ``mix`` of (outputs, inputs, 1, 1) are."""
    weight, bias = _weights(conv)
    mix = mix[:, :, 0, 0]
    return torch.einsum("oc,cikl->oikl", mix, weight), mix @ bias


_STEPS: Mapping[type[nn.Module], Callable[[Any], Iterator[Step]]] = {
    Span: _span_steps, SpanF: _spanf_steps,
}  # fmt: skip
