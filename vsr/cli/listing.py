"""Models as a table, for both commands."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vsr.index import Model

__all__ = ["is_here", "models_table", "place_of"]

_HEAD = ("name", "--model", "scale", "where", "Set5", "licence", "summary")
_TO_THE_RIGHT = ("scale", "Set5")


def models_table(models: Iterable["Model"]) -> str:
    """A line for each of ``models``, below a head; columns are as wide as what stands in them."""
    rows = [_HEAD, *map(_row, models)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def place_of(model: "Model") -> str:
    """Where the weights are: ``shipped``, ``cached``, ``to pull``; ``built in`` without any."""
    from vsr.cache import is_cached

    if model.is_classical:
        return "built in"
    if not model.source:
        return "shipped"
    return "cached" if is_cached(model.source) else "to pull"


def is_here(model: "Model") -> bool:
    """Whether it runs without fetching anything."""
    return place_of(model) != "to pull"


def _row(model: "Model") -> tuple[str, ...]:
    psnr = "-" if model.psnr is None else f"{model.psnr:.2f} dB"
    published = f" ({model.paper})" if model.paper else ""
    return (
        model.name, model.family, str(model.scale or "any"), place_of(model), psnr,
        model.licence or "-", f"{model.summary}{published}",
    )  # fmt: skip


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell.rjust(width) if name in _TO_THE_RIGHT else cell.ljust(width)
        for name, cell, width in zip(_HEAD, row, widths, strict=True)
    ]
    return "  ".join(cells).rstrip()
