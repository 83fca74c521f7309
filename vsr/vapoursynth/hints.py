"""What is said of arguments of other filters that scripts give, and that are called otherwise."""

from collections.abc import Callable
from functools import wraps

__all__ = ["answering"]

_OTHERWISE = {
    "device_id": "device_index",
    "fp16": 'precision="fp16"',
    "bf16": 'precision="bf16"',
    "tilesize": "tile, which is without the margin,",
    "tiles": "tile, the longest side of one,",
    "overlap": "tile_pad, of which enough is taken by itself,",
    "backend": "device and runtime",
    "network_path": "weights",
    "model_path": "weights",
}
"""Arguments of vs-mlrt and of Python filters like it, and what they are here."""


def answering[**P, R](filter: Callable[P, R]) -> Callable[P, R]:
    """``filter``, whose ``TypeError`` for an argument of another filter names its own."""

    @wraps(filter)
    def answer(*arguments: P.args, **named: P.kwargs) -> R:
        for name in named:
            if (ours := _OTHERWISE.get(name)) is not None:
                raise TypeError(f"{filter.__name__}() takes no {name}: it is {ours} here")
        return filter(*arguments, **named)

    return answer
