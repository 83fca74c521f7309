"""float32 as it is: without the TF32 that a GPU, or bf16 that a CPU, may round it to."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

__all__ = ["without_tf32"]


class _Tf32:
    """Whether float32 may be rounded to TF32, which has the ten bits of mantissa of fp16.

    In cuDNN's convolutions it may, unless told otherwise; in products of matrices where a host
    program allows it, and there even to bf16 on a CPU.

    Those are settings of the process, and networks run in several threads: who comes first sets
    them, and who leaves last puts them back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside, self._put_back = 0, list[Callable[[], None]]()

    @contextmanager
    def forbidden(self) -> Iterator[None]:
        """Forbid it, in whatever thread, until the last of these contexts ends."""
        with self._lock:
            if self._inside == 0:
                self._put_back = [_exact_convolutions(), _exact_products()]
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    for put_back in self._put_back:
                        put_back()


def _exact_convolutions() -> Callable[[], None]:
    """Keep cuDNN from rounding; how to put that back."""
    cudnn: Any = torch.backends.cudnn
    return _changed(
        lambda: cudnn.allow_tf32, partial(setattr, cudnn, "allow_tf32"), False, cudnn.conv
    )


def _exact_products() -> Callable[[], None]:
    """Keep products of matrices from being rounded; how to put that back."""
    get, change = torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    return _changed(get, change, "highest", torch.backends.cuda.matmul)


def _changed[T](
    get: Callable[[], T], change: Callable[[T], None], exact: T,
    newer: Any,  # noqa: ANN401 - its modules have no types
) -> Callable[[], None]:  # fmt: skip
    """Change a setting to ``exact``; how to put it back.

    PyTorch has an older way to set it, and a ``newer`` object that knows it as ``fp32_precision``.
    Where a program uses the newer one, the older may refuse to be asked.
    """
    try:
        before = get()
    except RuntimeError:
        kept, newer.fp32_precision = newer.fp32_precision, "ieee"
        return partial(setattr, newer, "fp32_precision", kept)
    if before == exact:
        return lambda: None
    change(exact)
    return partial(change, before)


without_tf32 = _Tf32().forbidden
