"""What the authors' own networks made of the same pictures with the same weights."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from torch import Tensor


@pytest.fixture(scope="module")
def goldens(shared: Path) -> dict[str, Any]:
    text = (shared / "golden" / "synthetic_official.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.fixture
def error(golden_fill: ModuleType) -> Callable[[Tensor, Mapping[str, Any]], float]:
    """The largest error of mean, deviation, mean size and samples, in deviations."""

    def measure(out: Tensor, golden: Mapping[str, Any]) -> float:
        found = golden_fill.digest(out)
        assert found["shape"] == golden["shape"]
        errors = [abs(found[key] - golden[key]) for key in ("mean", "std", "l1")]
        errors += [abs(a - b) for a, b in zip(found["samples"], golden["samples"], strict=True)]
        return float(max(errors) / golden["std"])

    return measure
