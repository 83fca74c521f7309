"""Which kernel computes attention: what PyTorch and others have, asked and timed once.

Note [Backends by name]
    On a GPU SDPA takes the first of its backends that can do something, whichever is fastest: on an
    H100 always cuDNN. Which ones it may take is a setting of the process, which other threads have
    set in the middle of it. So the others are called by name, below SDPA; what SDPA does around
    them (a bias for each window, shapes that they cannot do) is little, and stands here.

Note [What others compute]
    What is called by name, or compiled, is no longer what SDPA's own tests hold. So what each makes
    of the sample is compared with what SDPA makes of it; one that is wrong is never chosen.
"""

import logging
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend

from vsr.comparing import why_unlike
from vsr.stopwatch import milliseconds

__all__ = ["GROUP_TOKENS", "Kernel", "choose_kernel", "round_up", "sdpa"]

logger = logging.getLogger(__name__)

GROUP_TOKENS = {"cpu": 8192, "cuda": 8192}
"""Tokens that are worked on at once: whole windows of up to so many."""
_ALIGNED = 8
"""Numbers: rows of a bias begin at multiples of them."""
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


_choosing = threading.Lock()
"""Of threads that ask at the same time one measures, alone, and all take what it has chosen."""


def choose_kernel(
    device: torch.device, dtype: torch.dtype, width: int, value_width: int, biased: bool
) -> Kernel:
    """The kernel for queries and keys of ``width`` and values of ``value_width`` columns a head.

    Chosen once for each device, dtype and widths, and logged. SDPA's fallback that stores all
    scores is never chosen: it needs gigabytes for a window of 96. On CUDA the candidates are timed.

    Raises:
        NotImplementedError: every kernel here would store all scores, or fails.
        torch.OutOfMemoryError: there is not even room to time them.
    """
    # Compiled kernels run on the device that is current.
    with _choosing, torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        return _choose_kernel(device, dtype, width, value_width, biased)


@cache
def _choose_kernel(
    device: torch.device, dtype: torch.dtype, width: int, value_width: int, biased: bool
) -> Kernel:
    candidates = [*_sdpa_kernels(device, dtype, width, value_width, biased)]
    if device.type == "cuda":
        candidates += _backends(dtype, width, value_width, biased, candidates)
        if dtype is not torch.float32:
            candidates += _extra_kernels(value_width, biased)
    if not candidates:
        raise NotImplementedError(f"no attention kernel for {device} in {dtype}, width {width}")
    kernel = candidates[0]
    if len(candidates) > 1:
        kernel = _fastest(candidates, _sample(device, dtype, width, biased))
    logger.info(
        "attention %d/%d on %s in %s: %s", width, value_width, device.type,
        str(dtype).removeprefix("torch."), kernel.name,
    )  # fmt: skip
    return kernel


def _fastest(candidates: Sequence[Kernel], sample: "Sample") -> Kernel:
    """The fastest; the first, if none takes much less time than it."""
    times: dict[Kernel, float] = {}
    failed: dict[Kernel, Exception] = {}
    expected: Tensor | None = None
    for candidate in candidates:
        try:
            found = _result(candidate, *sample)
            expected = found if expected is None else expected
            _check(candidate, found, expected)
            times[candidate] = _milliseconds(candidate, *sample)
        except Exception as error:  # noqa: BLE001 - compilers raise anything; there are others
            logger.debug("attention: %s does not run here (%s)", candidate.name, error)
            failed[candidate] = error
    if not times:
        reason = next(iter(failed.values()))
        if isinstance(reason, torch.OutOfMemoryError):
            raise reason
        first = str(reason).partition("\n")[0]
        names = ", ".join(kernel.name for kernel in candidates)
        raise NotImplementedError(
            f"no attention kernel works here (of {names}): {first}"
        ) from reason
    fastest, first_one = min(times, key=lambda kernel: times[kernel]), candidates[0]
    worth = times[fastest] < _WORTH_CHANGING * times.get(first_one, math.inf)
    return fastest if worth else first_one


def _sdpa_kernels(
    device: torch.device, dtype: torch.dtype, width: int, value_width: int, biased: bool
) -> Iterator[Kernel]:
    """SDPA with values as narrow as they may be, and as wide as the queries."""
    for padded in _value_widths(width, value_width):
        q, v = (torch.empty(1, 2, 16, size, dtype=dtype, device=device) for size in (width, padded))
        mask = torch.empty(1, 2, 16, 16, dtype=dtype, device=device) if biased else None
        choice = SDPBackend(torch._fused_sdp_choice(q, q, v, mask, scale=1.0))
        if choice not in (SDPBackend.MATH, SDPBackend.ERROR):
            yield Kernel(f"sdpa {choice.name.lower()} {width}/{padded}", padded, sdpa)


def _value_widths(width: int, value_width: int) -> list[int]:
    """As narrow as kernels align to, and as wide as the queries."""
    return sorted({round_up(value_width), max(width, round_up(value_width))})


def _backends(
    dtype: torch.dtype, width: int, value_width: int, biased: bool, taken: Sequence[Kernel]
) -> Iterator[Kernel]:
    """What SDPA has on CUDA and does not take by itself; see note [Backends by name]."""
    runs = {"cudnn_attention": _cudnn, "flash_attention": _flash, "efficient_attention": _efficient}
    names = {kernel.name for kernel in taken}
    for backend, run in runs.items():
        for padded in _value_widths(width, value_width):
            if dtype is torch.float32 and run is not _efficient:
                continue
            if run is _flash and (biased or padded != width):
                continue
            name = f"sdpa {backend} {width}/{padded}"
            if name not in names:
                yield Kernel(name, padded, run)


def _cudnn(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    found = torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, bias, False, scale=1.0)
    return _first(found)


def _flash(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    assert bias is None
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    return _first(torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, scale=1.0))


def _efficient(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    if bias is not None and bias.shape[-1] % _ALIGNED:
        return sdpa(q, k, v, bias)  # which pads it
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    each = None if bias is None else bias.expand(q.shape[0], -1, -1, -1)
    return _first(
        torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, each, False, scale=1.0)
    )


def _first(found: tuple[Tensor, ...]) -> Tensor:
    """The attention of what a backend gives, tokens before heads again."""
    return found[0].transpose(1, 2)


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
    mask = torch.randn(1, 4, tokens, tokens, dtype=dtype, device=device) if biased else None
    return (q[..., :width] * width**-0.25).contiguous(), q, mask


def _result(kernel: Kernel, q: Tensor, wide: Tensor, bias: Tensor | None) -> Tensor:
    """What a call makes of the sample."""
    return kernel.run(q, q, wide[..., : kernel.value_width].contiguous(), bias)


def _check(kernel: Kernel, found: Tensor, expected: Tensor) -> None:
    """Raise ``ValueError`` if the columns that both have are not the same."""
    width = min(found.shape[-1], expected.shape[-1])
    if wrong := why_unlike(found[..., :width], expected[..., :width]):
        logger.warning("attention: %s is not used: it is wrong here (%s)", kernel.name, wrong)
        raise ValueError(wrong)


def _milliseconds(kernel: Kernel, q: Tensor, wide: Tensor, bias: Tensor | None) -> float:
    v = wide[..., : kernel.value_width].contiguous()
    return milliseconds(lambda: kernel.run(q, q, v, bias), q.device)
