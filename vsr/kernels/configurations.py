"""Which configurations there are, and which of them a device runs fastest.

Note [Order]
    Tile after tile, the best of each kind is kept, by the time of the whole network: first of the
    convolutions, then of the ends, then of blocks in strips against blocks of three kernels. What
    does not fit on a card, or does not compile for it, has no time and is never taken.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import torch

from vsr.kernels.block import Strip
from vsr.kernels.convolution import ConvTile
from vsr.kernels.ends import EndTile
from vsr.kernels.span import SpanKernels, Tiles
from vsr.kernels.tuning import device_name, milliseconds
from vsr.timings import remember, remembered

__all__ = ["CONVOLUTIONS", "ENDS", "STRIPS", "from_json", "network_key", "sample", "tune"]

logger = logging.getLogger(__name__)

CONVOLUTIONS = (
    ConvTile(8, 16, warps=4, stages=3), ConvTile(8, 16, whole=True, warps=4, stages=3),
    ConvTile(4, 32, warps=4, stages=4), ConvTile(8, 32, warps=8, stages=3),
    ConvTile(8, 8, warps=4, stages=4),
)  # fmt: skip
ENDS = (EndTile(4, 32, warps=8, stages=2), EndTile(4, 16, warps=4, stages=3))
STRIPS = (
    Strip(128, 128, warps=8), Strip(64, 64, warps=8), Strip(64, 64, warps=8, hoist=True),
)  # fmt: skip
_SAMPLE = (540, 960)


def sample(device: torch.device) -> torch.Tensor:
    """The picture that everything is timed with, (1, 3, 540, 960)."""
    return torch.rand((1, 3, *_SAMPLE), device=device)


def network_key(kernels: SpanKernels) -> str:
    """What of a network decides how fast it is."""
    return f"span x{kernels.scale}, {kernels.shape}"


def tune(kernels: SpanKernels, device: torch.device) -> None:
    """Give ``kernels`` the tiles that are fastest on ``device``: remembered, or measured now."""
    name, key = device_name(device), f"tiles of {network_key(kernels)}"
    if (known := from_json(remembered(name, key))) is not None:
        kernels.tiles = known
        return
    logger.info("measuring kernels on %s, once for this network: about a minute", name)
    with torch.cuda.device(device), torch.inference_mode():
        picture = sample(device)
        kernels.tiles = fastest(kernels.tiles, lambda tiles: _time(kernels, tiles, picture))
    remember(name, key, asdict(kernels.tiles))


def fastest(tiles: Tiles, time: Callable[[Tiles], float]) -> Tiles:
    """The best tiles by ``time``, kind after kind (see Note [Order]); infinite times lose."""
    for candidates in (_convolutions, _ends, _strips):
        times = {candidate: time(candidate) for candidate in candidates(tiles)}
        tiles = min(times, key=lambda candidate: times[candidate])
    return tiles


def _convolutions(tiles: Tiles) -> Iterator[Tiles]:
    return (replace(tiles, conv=conv) for conv in CONVOLUTIONS)


def _ends(tiles: Tiles) -> Iterator[Tiles]:
    return (replace(tiles, end=end) for end in ENDS)


def _strips(tiles: Tiles) -> Iterator[Tiles]:
    return (replace(tiles, strip=strip) for strip in (None, *STRIPS))


def _time(kernels: SpanKernels, tiles: Tiles, picture: torch.Tensor) -> float:
    kernels.tiles = tiles
    try:
        taken = milliseconds(lambda: kernels.rgb(picture))
    except Exception as error:  # noqa: BLE001 - whatever a compiler or a driver says of a size
        logger.debug("%s: %s", tiles, error)
        return float("inf")
    logger.debug("%s: %.3f ms", tiles, taken)
    return taken


def from_json(value: Any) -> Tiles | None:  # noqa: ANN401 - JSON
    """Tiles as :func:`dataclasses.asdict` wrote them; None if they are not that."""
    if not isinstance(value, Mapping):
        return None
    try:
        strip = value["strip"]
        return Tiles(ConvTile(**value["conv"]), EndTile(**value["end"]), strip and Strip(**strip))
    except (KeyError, TypeError):
        return None
