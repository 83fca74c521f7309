"""Compiled for GPUs that are not here: what the compiler promises of every kernel."""

import os

import pytest

pytest.importorskip("triton")

from vsr.kernels.ahead import SHARED_MEMORY, builds, compile_ahead

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("kernels are interpreted, not compiled", allow_module_level=True)

CHANNELS = {80: 48, 89: 32, 90: 48, 120: 32}
"""So that blocks fit in shared memory everywhere."""


@pytest.mark.parametrize("capability", CHANNELS)
def test_nothing_spills_and_matrices_are_multiplied_as_they_should(capability) -> None:
    names = []
    for build in builds(capability, CHANNELS[capability]):
        usage = compile_ahead(build, capability)
        names.append(build.name)
        assert usage.spilled == 0, build
        assert usage.shared <= SHARED_MEMORY[capability] * 1024, build
        assert usage.wide_loads > 0, build
        if build.name != "head":  # 27 products an output, in float32
            assert usage.wgmma == (capability == 90), build
            assert usage.mma == (capability != 90), build
    assert "block" in names
    assert len(names) == 7


@pytest.mark.parametrize("capability", [89, 120])
def test_wide_channels_without_blocks_where_they_do_not_fit(capability) -> None:
    assert "block" not in {build.name for build in builds(capability, 48)}
