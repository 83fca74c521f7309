"""Kernels compiled without the GPU that they are for, and what the compiler says of them.

Registers, spills, shared memory and instructions are known before a kernel ever runs; its speed is
not. ``cuobjdump`` comes with Triton.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from vsr.kernels.block import Strip, block_kernel, fits_in_strips, hoists
from vsr.kernels.convolution import ConvTile, Epilogue, conv3x3_kernel, pieces, stored
from vsr.kernels.ends import EndTile, fuse_kernel, head_kernel, tail_kernel

__all__ = ["SHARED_MEMORY", "Build", "Usage", "builds", "compile_ahead"]

SHARED_MEMORY = {80: 163, 89: 99, 90: 227, 120: 99}
"""KiB that one program may use, by compute capability (CUDA programming guide, table of limits)."""


@dataclass(frozen=True, slots=True)
class Build:
    """One kernel in one configuration."""

    name: str
    kernel: Any
    types: Mapping[str, str]
    """Of arguments, as Triton writes them; pointers and strides are multiples of 16."""
    constants: Mapping[str, object]
    warps: int
    stages: int
    traffic: int
    """Bytes that it reads and writes for a pixel of its input, if each is moved once."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one program needs."""

    registers: int
    """Of a thread."""
    spilled: int
    """Bytes of a thread that found no register."""
    shared: int
    """Bytes of a program."""
    wgmma: bool
    """Whether it multiplies with Hopper's instructions."""
    mma: bool
    """Whether it multiplies with those of Ampere and of what came after."""
    wide_loads: int
    """Instructions that load 16 bytes from memory to registers or to shared memory."""


def compile_ahead(build: Build, capability: int) -> Usage:
    """Compile for a GPU of ``capability`` (90 is 9.0), and take the result apart."""
    names = build.kernel.arg_names
    aligned = [n for n, kind in build.types.items() if kind.startswith("*") or "stride" in n]
    source = ASTSource(
        fn=build.kernel,
        signature={name: build.types.get(name, "constexpr") for name in names},
        constexprs=dict(build.constants),
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    compiled = triton.compile(
        source, target=GPUTarget("cuda", capability, 32),
        options={
            "num_warps": build.warps, "num_stages": build.stages, "enable_fp_fusion": True,
        },
    )  # fmt: skip
    ptx = compiled.asm["ptx"]
    registers, stack, local = _resources(compiled.asm["cubin"])
    loads = re.findall(r"ld\.global\S*\.v4\.[bf]32|cp\.async\.c[ag]\S* .*, 0x10,", ptx)
    return Usage(
        registers=registers, spilled=stack + local, shared=compiled.metadata.shared,
        wgmma="wgmma.mma_async" in ptx, mma="mma.sync" in ptx, wide_loads=len(loads),
    )  # fmt: skip


def _resources(cubin: bytes) -> tuple[int, int, int]:
    """Registers, bytes of stack and of local memory of the one kernel in ``cubin``."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run(
            [tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", text)
    assert found is not None, text
    return int(found[1]), int(found[2]), int(found[3])


def builds(
    capability: int, channels: int = 48, scale: int = 2, *, conv: ConvTile | None = None,
    end: EndTile | None = None, strip: Strip | None = None,
) -> Iterator[Build]:  # fmt: skip
    """The kernels of a SPAN for 8-bit 4:2:0, in the configurations that fit on a GPU."""
    width = stored(channels)
    conv, end = conv or ConvTile(), end or EndTile()
    yield _head(width, end)
    for epilogue in Epilogue:
        yield _conv(width, epilogue, conv)
    if (fitting := _strip(capability, width)) is not None:
        yield _block(capability, width, strip or fitting)
    yield _fuse(width, end)
    yield _tail(width, scale, end)


_PICTURE = {"picture": "*fp32", "mean": "*fp32", "height": "i32", "width": "i32"}
_STRIDED = {
    "source": "*fp16", "weights": "*fp16", "bias": "*fp32", "result": "*fp16",
    "source_stride": "i32", "result_stride": "i32", "height": "i32", "width": "i32",
}  # fmt: skip


def _head(width: int, tile: EndTile) -> Build:
    types = {**_PICTURE, "weights": "*fp32", "bias": "*fp32", "result": "*fp16"}
    return Build(
        "head", head_kernel, types, {**_outputs(width), **_tile(tile)}, tile.warps, 1,
        traffic=3 * 4 + 2 * width,
    )  # fmt: skip


def _conv(width: int, epilogue: Epilogue, tile: ConvTile) -> Build:
    types = {**_STRIDED, "residual": "*fp16", "residual_stride": "i32"}
    constants = {
        **_inputs(width), **_outputs(width, whole=tile.whole), **_tile(tile),
        "N_PACKED": 1 << (width - 1).bit_length(), "EPILOGUE": int(epilogue),
    }  # fmt: skip
    maps = 3 if epilogue == Epilogue.ATTENTION else 2
    return Build(
        f"conv3x3, {epilogue.name.lower()}", conv3x3_kernel, types, constants, tile.warps,
        tile.stages, traffic=maps * 2 * width,
    )  # fmt: skip


def _strip(capability: int, width: int) -> Strip | None:
    """What fits in shared memory: three layers' weights and the rows at hand."""
    if not fits_in_strips(width) or (width > 32 and SHARED_MEMORY[capability] < 163):
        return None
    return Strip(128 if capability == 90 else 64, warps=8)


def _block(capability: int, width: int, strip: Strip) -> Build:
    low, high = pieces(width)
    constants = {
        "LOW": low, "HIGH": high, "KEEP_FIRST": False, "M": strip.columns,
        "HOIST": hoists(capability // 10),
    }  # fmt: skip
    types = {**_STRIDED, "first_result": "*fp16", "first_stride": "i32", "rows": "i32"}
    return Build("block", block_kernel, types, constants, strip.warps, 1, traffic=2 * 2 * width)


def _fuse(width: int, tile: EndTile) -> Build:
    halves = ("hidden", "kept", "deep_weights", "kept_weights")
    types = {
        **_PICTURE, **dict.fromkeys(halves, "*fp16"), "hidden_stride": "i32",
        **dict.fromkeys(("direct_weights", "bias", "result"), "*fp32"),
    }  # fmt: skip
    constants = {**_inputs(width), **_outputs(width), **_tile(tile)}
    return Build(
        "fuse", fuse_kernel, types, constants, tile.warps, tile.stages,
        traffic=3 * 2 * width + 3 * 4 + 4 * width,
    )  # fmt: skip


def _tail(width: int, scale: int, tile: EndTile) -> Build:
    types = {**dict.fromkeys(("fused", "weights", "bias", "floats"), "*fp32"), "codes": "*u8",
             "ceiling": "fp32", "height": "i32", "width": "i32"}  # fmt: skip
    outputs = _outputs(stored(3 * scale**2))
    del outputs["N_STORED"]
    constants = {
        **_inputs(width), **outputs, **_tile(tile), "COMPONENTS": 3, "CODED": 1, "SCALE": scale,
    }  # fmt: skip
    return Build(
        "tail, to 4:2:0", tail_kernel, types, constants, tile.warps, tile.stages,
        traffic=4 * width + scale**2 * (1 + 2 * 4),
    )  # fmt: skip


def _inputs(width: int) -> dict[str, object]:
    low, high = pieces(width)
    return {"K_LOW": low, "K_HIGH": high}


def _outputs(width: int, *, whole: bool = False) -> dict[str, object]:
    low, high = pieces(width, whole=whole)
    return {"N_LOW": low, "N_HIGH": high, "N_STORED": width}


def _tile(tile: ConvTile | EndTile) -> dict[str, object]:
    return {"ROWS": tile.rows, "COLUMNS": tile.columns}
