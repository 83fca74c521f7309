"""Which configurations there are, and which of them a device runs fastest.

Note [Order]
    Tile after tile, the best of each kind is kept, by the time of the whole network: first of the
    convolutions, then of the ends, then of blocks in strips against blocks of three kernels. What
    does not fit on a card, or does not compile for it, has no time and is never taken.

Note [Right before fast]
    A configuration that computes something wrong is never taken either: a compiler may make
    something else of a kernel on a card that nobody has tried. So before a configuration is timed,
    what it makes of a drawn picture is compared with what PyTorch makes of it.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

import vsr
from vsr.comparing import draw, why_unlike
from vsr.kernels.block import Strip
from vsr.kernels.convolution import ConvTile
from vsr.kernels.ends import EndTile
from vsr.kernels.span import SpanKernels, Tiles
from vsr.stopwatch import milliseconds
from vsr.timings import remember, remembered

__all__ = [
    "CONVOLUTIONS",
    "ENDS",
    "STRIPS",
    "device_name",
    "fastest_of",
    "from_json",
    "network_key",
    "sample",
    "tune",
]

logger = logging.getLogger(__name__)

CONVOLUTIONS = (
    ConvTile(8, 16, warps=4, stages=3), ConvTile(8, 16, whole=True, warps=4, stages=3),
    ConvTile(4, 32, warps=4, stages=4), ConvTile(8, 32, warps=8, stages=3),
    ConvTile(8, 8, warps=4, stages=4), ConvTile(8, 32, whole=True, warps=8, stages=3),
    ConvTile(16, 16, warps=8, stages=4),
)  # fmt: skip
ENDS = (EndTile(4, 32, warps=8, stages=2), EndTile(4, 16, warps=4, stages=3))
STRIPS = (Strip(128, warps=8), Strip(64, warps=8))
_SAMPLE = (1080, 1920)  # with less, strips would not keep all processors of a large GPU busy
_DRAWN = (270, 480)  # small, and not whole tiles


def sample(device: torch.device) -> Tensor:
    """The picture that everything is timed with, (1, 3, 1080, 1920)."""
    return torch.rand((1, 3, *_SAMPLE), device=device)


@cache
def device_name(device: torch.device) -> str:
    """A device with the versions that decide how fast it is, of our kernels among them."""
    import triton

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{name}, torch {torch.__version__}, triton {triton.__version__}, vsr {vsr.__version__}"


def network_key(kernels: SpanKernels) -> str:
    """What of a network decides how fast it is."""
    return f"span x{kernels.scale}, {kernels.shape}"


def tune(kernels: SpanKernels, device: torch.device, expected: Callable[[Tensor], Tensor]) -> bool:
    """Give ``kernels`` the tiles that are fastest on ``device``: remembered, or measured now.

    Args:
        kernels: what is tuned.
        device: a CUDA device.
        expected: PyTorch's way to do the same; see note [Right before fast].

    Returns:
        Whether there are such tiles: they run, and compute what they should.
    """
    name, key = device_name(device), f"tiles of {network_key(kernels)}"
    if (known := from_json(remembered(name, key))) is not None:
        kernels.tiles = known
        return True
    logger.info("measuring kernels on %s, once for this network: a minute or two", name)
    with torch.cuda.device(device), torch.inference_mode():
        picture = sample(device)
        drawn = draw(3, *_DRAWN).to(device)
        check = partial(_check, kernels, drawn, expected(drawn))
        best = fastest(kernels.tiles, lambda tiles: _time(kernels, tiles, picture, check))
    if best is None:
        return False
    kernels.tiles = best
    remember(name, key, asdict(best))
    return True


def fastest(tiles: Tiles, time: Callable[[Tiles], float]) -> Tiles | None:
    """The best tiles by ``time``, kind after kind (see Note [Order]); infinite times lose.

    None if all of a kind lose: a card that is full today may have room tomorrow.
    """
    for candidates in (_convolutions, _ends, _strips):
        times = {candidate: time(candidate) for candidate in candidates(tiles)}
        tiles = min(times, key=lambda candidate: times[candidate])
        if math.isinf(times[tiles]):
            return None
    return tiles


def fastest_of(kernels: SpanKernels, candidates: Sequence[Tiles], device: torch.device) -> Tiles:
    """The fastest of some tiles on a CUDA device, or in Triton's interpreter the first."""
    if device.type != "cuda":
        return candidates[0]
    with torch.cuda.device(device), torch.inference_mode():
        picture = sample(device)
        return min(candidates, key=lambda tiles: _time(kernels, tiles, picture))


def _convolutions(tiles: Tiles) -> Iterator[Tiles]:
    return (replace(tiles, conv=conv) for conv in CONVOLUTIONS)


def _ends(tiles: Tiles) -> Iterator[Tiles]:
    return (replace(tiles, end=end) for end in ENDS)


def _strips(tiles: Tiles) -> Iterator[Tiles]:
    return (replace(tiles, strip=strip) for strip in (None, *STRIPS))


def _time(
    kernels: SpanKernels, tiles: Tiles, picture: Tensor, check: Callable[[], None] | None = None
) -> float:
    kernels.tiles = tiles
    try:
        if check is not None:
            check()
        taken = milliseconds(lambda: kernels.rgb(picture), picture.device)
    except Exception as error:  # noqa: BLE001 - whatever a compiler or a driver says of a size
        logger.debug("%s: %s", tiles, error)
        return float("inf")
    logger.debug("%s: %.3f ms", tiles, taken)
    return taken


def _check(kernels: SpanKernels, picture: Tensor, expected: Tensor) -> None:
    """Raise ``ValueError`` if ``kernels`` make something else of ``picture``."""
    if wrong := why_unlike(kernels.rgb(picture), expected):
        logger.warning(
            "kernels with %s are not used: they compute something else than PyTorch here (%s)",
            kernels.tiles, wrong,
        )  # fmt: skip
        raise ValueError(wrong)


def from_json(value: Any) -> Tiles | None:  # noqa: ANN401 - JSON
    """Tiles as :func:`dataclasses.asdict` wrote them; None if they are not that."""
    if not isinstance(value, Mapping):
        return None
    try:
        strip = value["strip"]
        return Tiles(ConvTile(**value["conv"]), EndTile(**value["end"]), strip and Strip(**strip))
    except (KeyError, TypeError):
        return None
