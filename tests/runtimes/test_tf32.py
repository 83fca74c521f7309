"""float32 stays float32 while a network runs, and the process's settings are put back."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from vsr.runtimes.tf32 import without_tf32


def test_settings_of_the_process_are_put_back() -> None:
    def settings() -> tuple[bool, bool, bool]:
        cudnn = torch.backends.cudnn
        return cudnn.enabled, cudnn.benchmark, cudnn.allow_tf32

    before = settings()
    with torch.backends.cudnn.flags(enabled=True, benchmark=True):
        with without_tf32():
            assert settings() == (True, True, False)
        assert settings() == (True, True, True)
    assert settings() == before


PRODUCTS: Any = torch.backends.cuda.matmul
CONVOLUTIONS: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
HOSTS: list[Callable[[], object]] = [
    lambda: None,
    lambda: torch.set_float32_matmul_precision("high"),
    lambda: torch.set_float32_matmul_precision("medium"),
    lambda: setattr(PRODUCTS, "fp32_precision", "tf32"),
    lambda: setattr(CONVOLUTIONS, "fp32_precision", "ieee"),
]
"""What programs around vsr say of float32, in PyTorch's older and newer way."""


@pytest.fixture
def _own_settings() -> Iterator[None]:
    kept = CONVOLUTIONS.fp32_precision
    yield
    CONVOLUTIONS.fp32_precision, PRODUCTS.fp32_precision = kept, "ieee"
    torch.set_float32_matmul_precision("highest")


@pytest.mark.usefixtures("_own_settings")
@pytest.mark.parametrize("host", HOSTS)
def test_products_are_not_rounded_either(host: Callable[[], object]) -> None:
    host()
    before = PRODUCTS.fp32_precision, CONVOLUTIONS.fp32_precision
    with without_tf32():
        assert torch.get_float32_matmul_precision() == "highest"
        assert PRODUCTS.fp32_precision in ("ieee", "none")  # not to be rounded, or not said to be
        assert CONVOLUTIONS.fp32_precision in ("ieee", "none")
    assert (PRODUCTS.fp32_precision, CONVOLUTIONS.fp32_precision) == before


def test_settings_hold_for_every_thread_until_the_last_leaves() -> None:
    """The first to leave does not take it from the second, who does not keep it for ever."""
    before, seen = torch.backends.cudnn.allow_tf32, []
    entered, left = threading.Event(), threading.Event()

    def second() -> None:
        with without_tf32():
            entered.set()
            left.wait(10)
            seen.append(torch.backends.cudnn.allow_tf32)

    assert before
    with ThreadPoolExecutor() as pool:
        with without_tf32():
            done = pool.submit(second)
            assert entered.wait(10)
        left.set()
        done.result()
    assert seen == [False]
    assert torch.backends.cudnn.allow_tf32 == before
