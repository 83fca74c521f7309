"""Which kernel computes attention: what PyTorch and others have, asked and timed once."""

import logging
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend

__all__ = ["GROUP_TOKENS", "Kernel", "choose_kernel", "round_up", "sdpa"]

logger = logging.getLogger(__name__)

GROUP_TOKENS = {"cpu": 8192, "cuda": 8192}
"""Tokens that are worked on at once: whole windows of up to so many."""
_WORTH_CHANGING = 0.9
"""Another kernel must take no more of SDPA's time than this, or a run's choice may waver."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One way of computing softmax(q k^T + bias) v, with the scale already in q."""

    name: str
    value_width: int
    """Width that v must have: its own, or padded with zeros."""
    run: Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
    """q, k (B, N, heads, width), v (B, N, heads, value_width), bias (1, heads, N, N) or None to
    (B, N, heads, value_width)."""


def sdpa(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """PyTorch's own, as :attr:`Kernel.run` has it."""
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))  # heads before tokens
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0).transpose(1, 2)


def round_up(width: int, step: int = 8) -> int:
    """The smallest multiple of ``step`` from ``width`` on: what kernels align to."""
    return width + -width % step


@cache
def choose_kernel(
    device: torch.device, dtype: torch.dtype, width: int, value_width: int, biased: bool
) -> Kernel:
    """The kernel for queries and keys of ``width`` and values of ``value_width`` columns a head.

    Chosen once for each device, dtype and widths, and logged. SDPA's fallback that stores all
    scores is never chosen: it needs gigabytes for a window of 96. On CUDA the candidates are timed.

    Raises:
        NotImplementedError: every kernel here would store all scores.
    """
    candidates = [*_sdpa_kernels(device, dtype, width, value_width, biased)]
    if device.type == "cuda" and dtype is not torch.float32:
        candidates += _extra_kernels(value_width, biased)
    if not candidates:
        raise NotImplementedError(f"no attention kernel for {device} in {dtype}, width {width}")
    kernel = candidates[0]
    if len(candidates) > 1:
        sample = _sample(device, dtype, width, biased)
        times = {candidate: _seconds(candidate, *sample) for candidate in candidates}
        fastest = min(candidates, key=lambda candidate: times[candidate])
        if times[fastest] < _WORTH_CHANGING * times[kernel]:
            kernel = fastest
    logger.info(
        "attention %d/%d on %s in %s: %s", width, value_width, device.type,
        str(dtype).removeprefix("torch."), kernel.name,
    )  # fmt: skip
    return kernel


def _sdpa_kernels(
    device: torch.device, dtype: torch.dtype, width: int, value_width: int, biased: bool
) -> Iterator[Kernel]:
    """SDPA with values as narrow as they may be, and as wide as the queries."""
    for padded in sorted({round_up(value_width), max(width, round_up(value_width))}):
        q, v = (torch.empty(1, 2, 16, size, dtype=dtype, device=device) for size in (width, padded))
        mask = torch.empty(1, 2, 16, 16, dtype=dtype, device=device) if biased else None
        choice = SDPBackend(torch._fused_sdp_choice(q, q, v, mask, scale=1.0))
        if choice not in (SDPBackend.MATH, SDPBackend.ERROR):
            yield Kernel(f"sdpa {choice.name.lower()} {width}/{padded}", padded, sdpa)


def _extra_kernels(value_width: int, biased: bool) -> Iterator[Kernel]:
    """What CUDA has besides SDPA: FlashAttention 4 without a bias, FlexAttention with one."""
    if biased:
        from torch.nn.attention.flex_attention import flex_attention

        compiled = torch.compile(flex_attention)
        yield Kernel("flex", value_width, partial(_flex, compiled))
        return
    try:
        from flash_attn.cute import flash_attn_func
    except ImportError:
        return
    yield Kernel(
        "flash-attn 4", round_up(value_width), partial(_flash_attention_4, flash_attn_func)
    )


def _flash_attention_4(
    function: Callable[..., object], q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None
) -> Tensor:
    out = function(q, k, v, softmax_scale=1.0)
    result = out[0] if isinstance(out, tuple) else out  # some versions return the sums as well
    assert isinstance(result, Tensor)
    return result


def _flex(
    function: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None
) -> Tensor:
    assert bias is not None
    table = bias[0]

    def add_bias(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return score + table[head, query, key]

    heads_first = (part.transpose(1, 2) for part in (q, k, v))
    return function(*heads_first, score_mod=add_bias, scale=1.0).transpose(1, 2)


Sample = tuple[Tensor, Tensor, Tensor | None]


def _sample(device: torch.device, dtype: torch.dtype, width: int, biased: bool) -> Sample:
    """Queries (as keys, and cut as values) of a group of windows of 32x32."""
    tokens = 1024
    windows = GROUP_TOKENS[device.type] // tokens
    q = torch.randn(windows, tokens, 4, 2 * width, dtype=dtype, device=device)
    mask = torch.zeros(1, 4, tokens, tokens, dtype=dtype, device=device) if biased else None
    return q[..., :width].contiguous(), q, mask


def _seconds(kernel: Kernel, q: Tensor, wide: Tensor, bias: Tensor | None) -> float:
    """Median time of a call; infinite if the kernel does not work here."""
    v = wide[..., : kernel.value_width].contiguous()
    times = []
    try:
        for _ in range(7):
            torch.cuda.synchronize()
            started = time.perf_counter()
            kernel.run(q, q, v, bias)
            torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
    except Exception as error:  # noqa: BLE001 - compilers raise anything; SDPA is there instead
        logger.debug("attention: %s does not run here (%s)", kernel.name, error)
        return float("inf")
    return statistics.median(times[2:])
