"""Constants that are made once, kept for those that ask again, and never freed under a CUDA graph.

A graph replays with raw addresses. If a cache dropped a tensor that the graph reads, because others
were asked for since, a replay would read freed memory. So whoever captures keeps a reference to
every constant that was asked for meanwhile (:func:`collected`).

Note [Tensors without content]
    While PyTorch traces a network, for export or compilation, tensors that are made have shapes and
    no content. Were one kept, whoever asks next, after the trace, would compute with it. So what is
    made meanwhile is not kept; what is there already is taken.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, wraps
from threading import local
from typing import cast
from weakref import WeakMethod

import torch

__all__ = ["collected", "constant", "hold", "loose"]


class _Asked(local):
    """What was asked for by each thread where it captures a graph, else None."""

    found: list[object] | None = None


_asked = _Asked()


def _makes_no_content() -> bool:
    """See note [Tensors without content]."""
    return torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE) is not None


class _NotKeptError(Exception):
    """Carries what was made past the cache, which keeps what is returned alone."""

    def __init__(self, value: object) -> None:
        super().__init__()
        self.value = value


def constant[**P, T](size: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Keep the latest ``size`` results of a function; those of one engine, or of the process.

    Where a graph is captured, nothing new is made: it would be recorded instead of computed. The
    function then raises RuntimeError.

    As with functools' caches, the function's ``cache_clear`` forgets them all.
    """

    def decorate(make: Callable[P, T]) -> Callable[P, T]:
        @lru_cache(maxsize=size)
        def kept(*args: P.args, **kwargs: P.kwargs) -> T:
            if _asked.found is not None:
                raise RuntimeError("a constant has left its cache before the capture of a graph")
            made = make(*args, **kwargs)
            if _makes_no_content():
                raise _NotKeptError(made)
            return made

        @wraps(make)
        def find(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                found = kept(*args, **kwargs)  # type: ignore[arg-type] # hashable, or it raises
            except _NotKeptError as traced:
                return cast(T, traced.value)
            hold(found)
            return found

        find.__dict__["cache_clear"] = kept.cache_clear
        return find

    return decorate


def loose[**P, T](method: Callable[P, T]) -> Callable[P, T]:
    """The bound ``method``, to be held by its own object, which it does not keep alive.

    Else the object would refer to itself, and its memory and threads would stay after it until the
    garbage collector comes by.
    """
    weak = WeakMethod(method)

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        bound = weak()
        assert bound is not None, "the method has outlived its object"
        return bound(*args, **kwargs)

    return call


def hold(value: object) -> None:
    """Have ``value`` outlive a graph that is being captured by this thread, if one is."""
    if _asked.found is not None:
        _asked.found.append(value)


@contextmanager
def collected() -> Iterator[list[object]]:
    """All that is asked for inside, in this thread: to be kept as long as a graph is."""
    before, _asked.found = _asked.found, []
    try:
        yield _asked.found
    finally:
        _asked.found = before
