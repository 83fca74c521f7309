"""SPAN as a handful of kernels, from the picture to the target's planes.

Note [Concatenation]
    ``conv_cat`` sees ``conv_1``, ``conv_2``, the first block's output and the last one's first
    activation. Nothing nonlinear lies between it and the first two: ``conv_1``'s share is a 3x3
    convolution of the picture (in float32, see vsr.networks.span), ``conv_2``'s one of the last
    block's output. The other two are written side by side where they arise. All is one sum, made in
    one kernel, whose bias is constant: a 1x1 convolution follows, so no border differs.
"""

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from vsr.kernels.block import Strip, fits_in_strips, fused_block, pack_block
from vsr.kernels.convolution import ConvTile, Epilogue, conv3x3, pack, stored
from vsr.kernels.ends import EndTile, Fusion, Head, fuse, head, tail
from vsr.networks.blocks import FoldedConv, Spab
from vsr.networks.span import Span

__all__ = ["SpanKernels", "Tail", "Tiles", "why_not"]


@dataclass(frozen=True, slots=True)
class Tiles:
    """All configurations of a network's kernels."""

    conv: ConvTile = field(default_factory=ConvTile)
    end: EndTile = field(default_factory=EndTile)
    strip: Strip | None = None
    """None: three kernels for each block."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The last convolution for one kind of result."""

    weights: Tensor
    bias: Tensor
    components: int
    coded: int
    """Of the components, how many are delivered as codes; the others are float32."""
    dtype: torch.dtype
    """Of codes."""
    ceiling: float
    """The largest code."""


def why_not(module: object) -> str | None:
    """Why these kernels do not run ``module``; None if they do."""
    if not isinstance(module, Span):
        return "runs SPAN, no other network"
    config = module.config
    if (config.in_channels, config.out_channels) != (3, 3):
        return "runs SPAN from RGB to RGB, not other channels"
    return None


class SpanKernels:
    """A SPAN, packed for its kernels.

    Args:
        module: in float32, as it was loaded; it is not kept.
        device: CUDA, or the CPU in Triton's interpreter.
        dtype: of features between the ends, float16 or bfloat16.
        tiles: configurations.
    """

    def __init__(
        self, module: Span, device: torch.device, dtype: torch.dtype, tiles: Tiles | None = None
    ) -> None:
        self.tiles = tiles or Tiles()
        """Configurations; may be replaced at any time."""
        self.scale = module.config.scale
        self._dtype, self._device = dtype, device
        self._width = stored(module.config.channels)
        self._fused_width = stored(module.config.fused_channels)
        self._last = [p.detach().double().cpu() for p in module.upsampler[0].parameters()]
        self._pack_ends(module)
        self._blocks = [
            self._pack_block(cast(Spab, module.get_submodule(f"block_{index}")))
            for index in range(1, module.config.blocks + 1)
        ]
        self._rgb = self.tail(torch.eye(3), torch.zeros(3))

    @property
    def shape(self) -> str:
        """Sizes in words: channels, blocks, precision."""
        kind = str(self._dtype).removeprefix("torch.")
        return f"{self._width} to {self._fused_width} channels, {len(self._blocks)} blocks, {kind}"

    def rgb(self, picture: Tensor) -> Tensor:
        """Upscale (N, 3, H, W) float32 to the same, enlarged; not clamped."""
        return self.deliver(picture, self._rgb)[1]

    def deliver(self, picture: Tensor, last: Tail) -> tuple[Tensor, Tensor]:
        """Upscale (N, 3, H, W) float32 to what ``last`` makes.

        Returns:
            Codes (N, coded, sH, sW), and the other components (N, rest, sH, sW) in float32.
        """
        picture = picture.contiguous()
        return tail(
            self._features(picture), last.weights, last.bias, scale=self.scale,
            components=last.components, coded=last.coded, dtype=last.dtype, ceiling=last.ceiling,
            tile=self.tiles.end,
        )  # fmt: skip

    def tail(
        self, matrix: Tensor, bias: Tensor, *, coded: int = 0, dtype: torch.dtype = torch.uint8,
        ceiling: float = 0.0,
    ) -> Tail:  # fmt: skip
        """The last convolution, followed by a linear map of colours.

        Args:
            matrix: (components, 3), from R'G'B' to what is delivered.
            bias: (components,), added to it.
            coded: how many components are delivered as codes, rounded down.
            dtype: of codes.
            ceiling: the largest code.
        """
        weight, own = (part.unflatten(0, (3, self.scale**2)) for part in self._last)
        linear = matrix.double().cpu()
        weight = torch.einsum("oc,cpiuv->opiuv", linear, weight).flatten(0, 1)
        own = (linear @ own + bias.double().cpu()[:, None]).flatten()
        outputs = stored(len(own))
        return Tail(
            self._put(pack(weight, self._fused_width, outputs), torch.float32),
            self._put(F.pad(own, (0, outputs - len(own))), torch.float32),
            len(linear), coded, dtype, ceiling,
        )  # fmt: skip

    def _features(self, picture: Tensor) -> Tensor:
        """What the last convolution sees: (N, H, W, fused channels) float32."""
        batch, _, height, width = picture.shape
        kept = self._empty(batch, height, width, 2 * self._width)
        first, activation = kept.split(self._width, dim=3)
        hidden, *free = (self._empty(batch, height, width, self._width) for _ in range(2))
        head(picture, self._head, hidden, tile=self.tiles.end)
        for index, block in enumerate(self._blocks):
            target = free.pop() if index else first
            self._run_block(
                block, hidden, target, activation if index == len(self._blocks) - 1 else None
            )
            if hidden is not first:
                free.append(hidden)
            hidden = target
        fused = picture.new_empty(batch, height, width, self._fused_width)
        return fuse(hidden, kept, picture, self._fusion, fused, tile=self.tiles.end)

    def _run_block(self, block: "_Block", x: Tensor, result: Tensor, first: Tensor | None) -> None:
        if self.tiles.strip is not None and block.strip is not None:
            weights, bias = block.strip
            fused_block(x, weights, bias, result, first=first, strip=self.tiles.strip)
            return
        tile, (one, two, three) = self.tiles.conv, block.convolutions
        kept = self._empty(*x.shape) if first is None else first
        conv3x3(x, *one, kept, epilogue=Epilogue.SILU, tile=tile)
        inner = conv3x3(kept, *two, self._empty(*x.shape), epilogue=Epilogue.SILU, tile=tile)
        conv3x3(inner, *three, result, residual=x, epilogue=Epilogue.ATTENTION, tile=tile)

    def _pack_ends(self, module: Span) -> None:
        """The first convolution, and what is summed before the last (see Note [Concatenation])."""
        config, width, fused_width = module.config, self._width, self._fused_width
        mean = torch.tensor(config.mean if config.norm else (0.0, 0.0, 0.0))
        gain = config.img_range if config.norm else 1.0
        first, deep = (_kernel(conv) for conv in (module.conv_1, module.conv_2))
        cat = module.conv_cat.weight.detach().double().cpu()[:, :, 0, 0]
        cat_bias = _double(module.conv_cat.bias)
        own, *others = cat.split(config.channels, dim=1)  # conv_1, conv_2, first, activation
        bias = cat_bias + own @ first[1] + others[0] @ deep[1]
        self._head = Head(
            self._put(mean, torch.float32),
            self._put(pack(gain * first[0], 3, width), torch.float32),
            self._put(_padded(first[1], width), torch.float32),
        )
        direct = torch.einsum("oc,cikl->oikl", own, gain * first[0])
        folded = torch.einsum("oc,cikl->oikl", others[0], deep[0])
        kept = torch.cat([pack(w[:, :, None, None], width, fused_width) for w in others[1:]])
        self._fusion = Fusion(
            self._head.mean,
            self._put(pack(folded, width, fused_width), self._dtype),
            self._put(kept, self._dtype),
            self._put(pack(direct, 3, fused_width), torch.float32),
            self._put(_padded(bias, fused_width), torch.float32),
        )

    def _pack_block(self, module: Spab) -> "_Block":
        width = self._width
        power = 1 << (width - 1).bit_length()
        kernels = [_kernel(conv) for conv in (module.c1_r, module.c2_r, module.c3_r)]
        biases = self._put(
            torch.stack([_padded(bias, width) for _, bias in kernels]), torch.float32
        )
        packed = [self._put(pack(weight, width, power), self._dtype) for weight, _ in kernels]
        strip = None
        if fits_in_strips(width):
            missing = width - len(kernels[0][0])
            square = [F.pad(weight, (0, 0, 0, 0, 0, missing, 0, missing)) for weight, _ in kernels]
            strip = self._put(pack_block(square), self._dtype), biases
        return _Block(tuple(zip(packed, biases, strict=True)), strip)

    def _put(self, value: Tensor, dtype: torch.dtype) -> Tensor:
        return value.to(self._device, dtype).contiguous()

    def _empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=self._dtype, device=self._device)


@dataclass(frozen=True, slots=True)
class _Block:
    convolutions: tuple[tuple[Tensor, Tensor], ...]
    """Packed weights and bias of each."""
    strip: tuple[Tensor, Tensor] | None
    """Of all three, where one kernel can hold them."""


def _kernel(conv: FoldedConv) -> tuple[Tensor, Tensor]:
    return _double(conv.eval_conv.weight), _double(conv.eval_conv.bias)


def _double(value: Tensor | None) -> Tensor:
    assert value is not None
    return value.detach().double().cpu()


def _padded(bias: Tensor, width: int) -> Tensor:
    return F.pad(bias, (0, width - len(bias)))
