"""Attention inside windows, made for frames that keep coming.

Windows and position tables live here, for every network that attends.

A window's attention has two forms. Before :meth:`WindowAttention.fold` it is the published one:
differentiable, traceable, with parameters as checkpoints have them. After it, it is the streaming
one: scales are folded into the weights, values are widened there to what kernels align to, tables
are computed once, and q, k and v live in buffers that stay. Their positional columns, and the zeros
up to the width of queries that some kernels want of a value, are written once; a frame writes the
content columns only. Windows have to be copied out of the picture anyway, so that write is free,
and nothing is concatenated or padded per frame.

The buffers hold a bounded number of tokens whatever the frame's size: windows pass through them in
groups, which also keeps a group's scores and values in the processor's cache. Values have no
positions: layers of one network, which run one after another, share a buffer for them.

Published networks differ in where a token learns its position:

* rank-factorised implicit neural bias (:class:`ImplicitBiasAttention`; SST paper, section 3.2):
  extra columns of q and k whose product is the bias;
* a table of relative positions (:class:`RelativeBiasAttention`; ESC, after the Swin Transformer):
  a dense mask.
"""

from collections.abc import Iterator
from functools import lru_cache
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.constants import constant
from vsr.networks.attention_kernels import GROUP_TOKENS, choose_kernel, round_up, sdpa

__all__ = [
    "ImplicitBiasAttention",
    "LayerNorm",
    "Pointwise",
    "RelativeBiasAttention",
    "WindowAttention",
    "fold_attention",
    "pad_to_multiple",
]


# Layers that work on pixels.


class Pointwise(nn.Conv2d):
    """1x1 convolution, as a matrix product over pixels: what every device is best at."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W), channels last."""
        return F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(
            0, 3, 1, 2
        )


class LayerNorm(nn.Module):
    """Normalisation over channels, pixel by pixel."""

    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, channels: int, *, affine: bool = True) -> None:
        super().__init__()
        self.channels = channels
        if affine:
            self.weight = nn.Parameter(torch.ones(channels))
            self.bias = nn.Parameter(torch.zeros(channels))
        else:
            self.weight = self.bias = None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        pixels = x.permute(0, 2, 3, 1)
        out = F.layer_norm(pixels, (self.channels,), self.weight, self.bias, 1e-6)
        return out.permute(0, 3, 1, 2)


# Windows.


@constant(16)
@torch.inference_mode(False)  # what is kept may be used in training later
def _mirrored(height: int, width: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """For each pixel of a padded picture, row by row, the pixel it repeats."""

    def reflected(length: int, total: int) -> Tensor:
        period = max(1, 2 * (length - 1))  # a picture may be mirrored more than once
        steps = torch.arange(total) % period
        return torch.minimum(steps, period - steps)

    index = reflected(height, rows)[:, None] * width + reflected(width, columns)
    return index.flatten().to(device)


def pad_to_multiple(x: Tensor, size: int) -> Tensor:
    """Mirror the bottom and right of (N, C, H, W) until both sides are multiples of ``size``.

    Where a side is shorter than its padding, the mirror image is mirrored again, which continues
    what ``F.pad`` can only begin. Channels last.
    """
    height, width = x.shape[-2:]
    rows, columns = height + -height % size, width + -width % size
    if (rows, columns) == (height, width):
        return x
    if rows - height < height and columns - width < width:
        return F.pad(x, (0, columns - width, 0, rows - height), mode="reflect")
    pixels = x.permute(0, 2, 3, 1).flatten(1, 2)
    padded = pixels.index_select(1, _mirrored(height, width, rows, columns, x.device))
    return padded.view(x.shape[0], rows, columns, -1).permute(0, 3, 1, 2)


def _split(x: Tensor, window: int, heads: int) -> Tensor:
    """(N, H, W, C) as a view (N * H / window, W / window, window, window, heads, C / heads)."""
    count, height, width, channels = x.shape
    return x.reshape(
        count * (height // window), window, width // window, window, heads, channels // heads
    ).transpose(1, 2)


def _groups(rows: int, columns: int, capacity: int) -> Iterator[tuple[slice, slice]]:
    """Rectangles of at most ``capacity`` windows that cover ``rows`` x ``columns`` windows."""
    down, across = _sides(rows, columns, capacity)
    for top in range(0, rows, down):
        for left in range(0, columns, across):
            yield slice(top, min(rows, top + down)), slice(left, min(columns, left + across))


@lru_cache(maxsize=64)
def _sides(rows: int, columns: int, capacity: int) -> tuple[int, int]:
    """Sides of the rectangles, so that they are as few as can be, then as wide, then as equal."""

    def counts(across: int) -> tuple[int, int]:
        down = min(rows, capacity // across)
        return -(-rows // down), -(-columns // across)

    widths = range(min(columns, capacity), 0, -1)
    across = min(widths, key=lambda across: prod(counts(across)))
    below, beside = counts(across)
    return -(-rows // below), -(-columns // beside)


# The attention itself.


class _Workspace:
    """Buffers of q, k and v for a group of windows; what is not content is written here, once."""

    def __init__(
        self, attention: "WindowAttention", dtype: torch.dtype, device: torch.device
    ) -> None:
        window, heads, width = attention.window, attention.heads, attention.width
        self.dtype, self.device, tokens = dtype, device, window * window
        columns = round_up(width + attention.rank)
        self.bias = None if attention.bias is None else attention.bias[None].to(dtype)
        self.kernel = choose_kernel(device, dtype, columns, width, self.bias is not None)
        self.capacity = max(1, GROUP_TOKENS[device.type] // tokens)

        def zeros(features: int) -> Tensor:
            with torch.inference_mode(False):  # or they could be written in inference mode only
                return torch.zeros(
                    self.capacity, tokens, heads, features, dtype=dtype, device=device
                )

        self.q, self.k = zeros(columns), zeros(columns)
        alike = (tokens, heads, width, self.kernel.value_width, dtype, device)
        if alike not in attention.values:
            attention.values[alike] = zeros(self.kernel.value_width)
        self.v = attention.values[alike]
        for buffer, table in ((self.q, attention.q_table), (self.k, attention.k_table)):
            if table is not None:
                buffer[..., width : width + attention.rank] = table

    def take(self, windows: int) -> tuple[Tensor, Tensor, Tensor]:
        """The part of q, k and v that holds so many windows: (windows, N, heads, columns)."""
        return self.q[:windows], self.k[:windows], self.v[:windows]

    def serves(self, dtype: torch.dtype, device: torch.device) -> bool:
        """Whether these are of this dtype and on this device."""
        return self.dtype == dtype and self.device == device


class WindowAttention(nn.Module):
    """Softmax attention among the pixels of each window; windows begin at the top left."""

    q_table: Tensor | None
    k_table: Tensor | None
    bias: Tensor | None

    def __init__(self, channels: int, heads: int, window: int, rank: int = 0) -> None:
        super().__init__()
        self.heads, self.window, self.rank, self.width = heads, window, rank, channels // heads
        self.to_qkv = Pointwise(channels, 3 * channels)
        self.to_out = Pointwise(channels, channels)
        self._folded = False
        self._dtype: torch.dtype | None = None
        self._workspace: _Workspace | None = None
        self.values: dict[tuple[object, ...], Tensor] = {}
        for name in ("q_table", "k_table", "bias"):
            self.register_buffer(name, None, persistent=False)

    def position_tables(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """What the position of tokens adds: columns of q, columns of k, a dense bias."""
        return None, None, None

    def fold(self, dtype: torch.dtype | None = None) -> None:
        """Fold the scale into the weights and compute the tables: the module is now for inference.

        In float32, before anything is cast. The parameters are no longer the published ones. A
        second time changes nothing.

        Args:
            dtype: of queries, keys and values; None is that of the layers.
        """
        if self._folded:
            return
        with torch.no_grad():
            queries = self.to_qkv.out_channels // 3
            self.to_qkv.weight[:queries] *= self.width**-0.5
            assert self.to_qkv.bias is not None
            self.to_qkv.bias[:queries] *= self.width**-0.5
            self.q_table, self.k_table, bias = self.position_tables()
            # Of three axes: tensors of four are laid out anew when a network is made channels last,
            # and SDPA's kernels for GPUs take a bias only if a query's numbers are side by side.
            self.bias = None if bias is None else bias[0]
            self._widen_values()
        self._folded, self._dtype = True, dtype

    def _widen_values(self) -> None:
        """Zero rows in the projection, so that a value has the width that kernels align to."""
        extra = round_up(self.width) - self.width
        for name in ("weight", "bias") if extra else ():
            rows = self.to_qkv.get_parameter(name)
            others, values = rows.tensor_split([2 * self.heads * self.width])
            values = values.reshape(self.heads, self.width, *rows.shape[1:])
            zeros = values.new_zeros(self.heads, extra, *rows.shape[1:])
            widened = torch.cat([others, torch.cat([values, zeros], dim=1).flatten(0, 1)])
            setattr(self.to_qkv, name, nn.Parameter(widened, requires_grad=False))

    def attend(self, x: Tensor) -> Tensor:
        """Attention of (N, C, H, W) before the last projection: (N, C, H, W), channels last."""
        height, width = x.shape[-2:]
        qkv = self.to_qkv(pad_to_multiple(x, self.window)).permute(0, 2, 3, 1)
        out = self._stream(qkv) if self._folded else self._published(qkv)
        return out[:, :height, :width].permute(0, 3, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        out: Tensor = self.to_out(self.attend(x))
        return out

    def _stream(self, qkv: Tensor) -> Tensor:
        """(N, H, W, 3C or more), sides multiples of the window, to (N, H, W, C)."""
        dtype = self._dtype or qkv.dtype
        if self._workspace is None or not self._workspace.serves(dtype, qkv.device):
            self._workspace = _Workspace(self, dtype, qkv.device)
        workspace, width, side = self._workspace, self.width, self.window
        channels = self.heads * width
        out = qkv.new_empty((*qkv.shape[:3], channels))
        q_k_v = qkv.tensor_split([channels, 2 * channels], dim=-1)
        parts = [_split(part, side, self.heads) for part in q_k_v]
        target = _split(out, side, self.heads)
        for rows, columns in _groups(target.shape[0], target.shape[1], workspace.capacity):
            squares = target[rows, columns]
            group = workspace.take(squares.shape[0] * squares.shape[1])
            for buffer, part in zip(group, parts, strict=True):
                content = part[rows, columns]
                buffer[..., : content.shape[-1]].view(content.shape).copy_(content)
            q, k, v = group
            squares.copy_(
                workspace.kernel.run(q, k, v, workspace.bias)[..., :width].reshape(squares.shape)
            )
        return out

    def _published(self, qkv: Tensor) -> Tensor:
        """The same, written as in the papers."""
        count, height, width, _ = qkv.shape
        windows = _split(qkv, self.window, 3 * self.heads)
        tokens = windows.reshape(-1, self.window**2, 3, self.heads, self.width)
        q, k, v = tokens.unbind(2)
        q_table, k_table, bias = self.position_tables()
        q = q * self.width**-0.5
        if q_table is not None and k_table is not None:
            q, k = (
                torch.cat([part, table.to(part.dtype).expand(part.shape[0], -1, -1, -1)], dim=-1)
                for part, table in ((q, q_table), (k, k_table))
            )
        bias = None if bias is None else bias.to(q.dtype)
        found = sdpa(q, k, F.pad(v, (0, q.shape[-1] - v.shape[-1])), bias)[..., : self.width]
        squares = found.reshape(*windows.shape[:4], -1).transpose(1, 2)
        return squares.reshape(count, height, width, -1)


class ImplicitBiasAttention(WindowAttention):
    """Window attention with a rank-factorised implicit neural bias (SST paper, section 3.2).

    A small network maps a pixel's place in the window to ``rank`` numbers for the query and as many
    for the key; the bias of a pair is their product. It depends on nothing but the window's size.
    A gate, made from the input by convolution, weights what was found.
    """

    def __init__(
        self, channels: int, heads: int, window: int, rank: int, hidden: int = 32,
        frequencies: int = 10,
    ) -> None:  # fmt: skip
        super().__init__(channels, heads, window, rank)
        self.frequencies = frequencies
        self.to_hidden = nn.Parameter(torch.randn(2 + 4 * frequencies, hidden) * 0.05)
        self.hidden_b = nn.Parameter(torch.zeros(1, hidden))
        self.to_q = nn.Parameter(torch.randn(heads, hidden, rank) * 0.05)
        self.to_k = nn.Parameter(torch.randn(heads, hidden, rank) * 0.05)
        self.gate = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            Pointwise(channels, channels),
            nn.Sigmoid(),
        )

    def position_tables(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """(window^2, heads, rank) for q, with the scale in it, and for k."""
        places = _encode(self.window, self.frequencies, self.to_hidden.device)
        hidden = F.relu(places @ self.to_hidden.float() + self.hidden_b.float())
        q = torch.einsum("nc,hcr->nhr", hidden, self.to_q.float())
        k = torch.einsum("nc,hcr->nhr", hidden, self.to_k.float())
        return q * self.rank**-0.5, k, None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        out: Tensor = self.to_out(self.attend(x) * self.gate(x))
        return out


@constant(16)
@torch.inference_mode(False)  # what is kept may be used in training later
def _encode(window: int, frequencies: int, device: torch.device) -> Tensor:
    """Pixel centres of a window in (-1, 1), x before y, and their sines and cosines; no pi."""
    centres = (torch.arange(window) + 0.5) * (2 / window) - 1
    places = torch.stack([centres.repeat(window), centres.repeat_interleave(window)], dim=1)
    waves = [f(places * 2**power) for power in range(frequencies) for f in (torch.sin, torch.cos)]
    return torch.cat([places, *waves], dim=1).to(device)


class RelativeBiasAttention(WindowAttention):
    """Window attention with a learnt bias for each head and each step from a query to a key."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__(channels, heads, window)
        self.relative_position_bias = nn.Parameter(torch.zeros(heads, (2 * window - 1) ** 2))

    def position_tables(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The dense bias (1, heads, window^2, window^2)."""
        places = torch.arange(self.window, device=self.relative_position_bias.device)
        step = places - places[:, None] + self.window - 1  # from query (row) to key (column)
        index = step[:, None, :, None] * (2 * self.window - 1) + step[None, :, None, :]
        return None, None, self.relative_position_bias[:, index.flatten(0, 1).flatten(1)][None]


def fold_attention(module: nn.Module, dtype: torch.dtype | None = None) -> None:
    """Prepare every attention inside ``module`` for a stream of frames, in place.

    Args:
        module: a network in float32.
        dtype: in which queries, keys and values are, whatever the layers' is: the published models
            attend in bfloat16. None is the layers'.
    """
    values: dict[tuple[object, ...], Tensor] = {}
    for part in module.modules():
        if isinstance(part, WindowAttention):
            part.values = values
            part.fold(dtype)
