"""Compiled for GPUs that are not here: what the compiler promises of every kernel."""

import os

import pytest

pytest.importorskip("triton")

from vsr.kernels.ahead import SHARED_MEMORY, builds, compile_ahead
from vsr.kernels.configurations import CONVOLUTIONS, STRIPS

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("kernels are interpreted, not compiled", allow_module_level=True)

CASES = [(80, 48), (89, 32), (89, 48), (90, 48), (120, 32), (120, 48)]
"""GPUs, and channels; blocks of 48 fit in the shared memory of some, of 32 everywhere."""


@pytest.mark.parametrize(("capability", "channels"), CASES)
def test_nothing_spills_and_matrices_are_multiplied_as_they_should(capability, channels) -> None:
    names = []
    for build in builds(capability, channels):
        usage = compile_ahead(build, capability)
        names.append(build.name)
        assert usage.spilled == 0, build
        assert usage.shared <= SHARED_MEMORY[capability] * 1024, build
        assert usage.wide_loads > 0, build
        if build.name != "head":  # 27 products an output, in float32
            assert usage.wgmma == (capability == 90), build
            assert usage.mma == (capability != 90), build
    fits = channels == 32 or capability in (80, 90)
    assert ("block" in names) == fits
    assert len(names) == 6 + fits


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("conv3x3, attention", {"conv": tile}) for tile in CONVOLUTIONS),
        *(("block", {"strip": strip}) for strip in STRIPS),
    ],
    ids=str,
)
def test_nothing_that_is_tried_spills_on_a_hopper(name, options) -> None:
    """Of convolutions, the one that needs the most."""
    build = next(build for build in builds(90, **options) if build.name == name)
    usage = compile_ahead(build, 90)
    assert usage.spilled == 0
    assert usage.shared <= SHARED_MEMORY[90] * 1024
    assert usage.wgmma
