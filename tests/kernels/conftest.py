"""Kernels run in Triton's interpreter where TRITON_INTERPRET=1, else on a GPU.

It must be set before a kernel is imported, so ``test_interpreter.py`` runs these files again in
processes of their own.
"""

import os
from pathlib import Path

import pytest
import torch

_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def pytest_collection_modifyitems(items):
    for item in items:
        here = Path(__file__).parent in item.path.parents
        if here and "kernel_device" in getattr(item, "fixturenames", ()) and not _INTERPRETED:
            item.add_marker(pytest.mark.cuda)


@pytest.fixture
def kernel_device():
    """Where kernels run."""
    return torch.device("cpu") if _INTERPRETED else torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def _no_tuning(monkeypatch):
    """Kernels run as they are: measuring which tiles are fastest takes a minute for each shape."""
    monkeypatch.setattr("vsr.runtimes.triton.tune", lambda *_: True)
