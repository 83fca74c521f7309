"""Steps made ready to run: weights as the C code reads them, and maps for pictures of one size."""

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from vsr.winograd.steps import PICTURE, Epilogue, Step

__all__ = ["Layers", "Program"]

_TILE = 6
"""Results along the side of a tile; as in the C code."""


class _CStep(ctypes.Structure):
    """``struct step``."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("kind", "epilogue", "inputs", "others")),
        *((name, ctypes.c_int32) for name in ("colours", "outputs")),
        *((name, ctypes.c_void_p) for name in ("source", "other", "picture", "skip")),
        *((name, ctypes.c_void_p) for name in ("kernel", "bias", "target")),
        *((name, ctypes.c_int32) for name in ("scale", "planes")),
    )


class _CProgram(ctypes.Structure):
    """``struct program``."""

    _fields_ = (
        ("steps", ctypes.POINTER(_CStep)),
        *((name, ctypes.c_int32) for name in ("count", "height", "width", "rows", "columns")),
        *((name, ctypes.c_void_p) for name in ("taken", "done")),
    )


class Layers:
    """The steps of a network with their weights, and the threads that run them.

    Args:
        steps: the last one ends in a pixel shuffle.
        library: the compiled kernels.
        threads: how many work at a time, the caller's among them.

    Raises:
        ValueError: a step has more channels than the kernels have room for.
    """

    def __init__(self, steps: Sequence[Step], library: Any, threads: int) -> None:  # noqa: ANN401
        self.steps, self.lanes, self._library = steps, int(library.vsr_lanes()), library
        library.vsr_scratch.restype = ctypes.c_int64
        library.vsr_run.argtypes = (ctypes.POINTER(_CProgram), ctypes.c_void_p)
        if (most := max(step.outputs for step in steps)) > library.vsr_most_channels():
            raise ValueError(f"{most} channels are too many for the kernels")
        self.kernels = [step.kernel(self.lanes) for step in steps]
        self.biases = [self._padded(step.bias) for step in steps]
        self._helpers = ThreadPoolExecutor(max(1, threads - 1), "winograd")
        self._scratch = [_new(self._scratch_size()) for _ in range(threads)]

    def channels(self, count: int) -> int:
        """Channels of a map that holds ``count``."""
        return -(-count // self.lanes) * self.lanes

    def run(self, program: _CProgram) -> None:
        """Run on all threads; whoever is late finds less to do (see ``winograd.c``)."""
        own, *others = self._scratch
        address = ctypes.byref(program)
        helping = [
            self._helpers.submit(self._library.vsr_run, address, scratch.data_ptr())
            for scratch in others
        ]
        self._library.vsr_run(address, own.data_ptr())
        for helper in helping:
            helper.result()

    def _padded(self, bias: Tensor) -> Tensor:
        padded = _new(self.channels(len(bias)))
        padded[: len(bias)] = bias
        return padded

    def _scratch_size(self) -> int:
        channels = max(self.channels(step.outputs) for step in self.steps)
        channels = max(
            channels, *(self.channels(n) for step in self.steps for _, n in step.sources)
        )
        return int(self._library.vsr_scratch(channels, max(k.shape[1] for k in self.kernels)))


class Program:
    """A network for pictures of one size.

    Note [The border]. Maps are made of zeros, and steps write inside the picture alone. So the
    pixels around it, and those of tiles that reach beyond it, are the padding that convolutions
    want, and need no care from frame to frame.
    """

    def __init__(self, layers: Layers, planes: int, height: int, width: int) -> None:
        self._layers, self._size = layers, (height, width)
        rows, columns = -(-height // _TILE), -(-width // _TILE)
        self._area = (rows * _TILE + 2, columns * _TILE + 2)
        self._picture = _new(planes, *self._area)
        self._maps = {PICTURE: self._picture}
        for step in layers.steps[:-1]:
            self._make_map(step.target, layers.channels(step.outputs))
        self._c_steps = (_CStep * len(layers.steps))(*map(self._c_step, range(len(layers.steps))))
        self._counters = torch.zeros(2, len(layers.steps), dtype=torch.int32, device="cpu")
        self._program = _CProgram(
            steps=self._c_steps, count=len(layers.steps), height=height, width=width, rows=rows,
            columns=columns, taken=self._counters[0].data_ptr(), done=self._counters[1].data_ptr(),
        )  # fmt: skip

    def __call__(self, picture: Tensor) -> Tensor:
        """Enlarge (planes, height, width) float32; one call at a time."""
        height, width = self._size
        self._picture[:, 1 : height + 1, 1 : width + 1] = picture
        last = self._layers.steps[-1]
        shape = (self._planes(last), height * last.scale, width * last.scale)
        result = torch.empty(shape, dtype=torch.float32, device="cpu")
        self._c_steps[len(self._c_steps) - 1].target = result.data_ptr()
        self._counters.zero_()
        self._layers.run(self._program)
        return result

    def _make_map(self, name: str, channels: int) -> None:
        """A map, unless there is one; with other channels, its border would be elsewhere."""
        shape = (*self._area, channels)
        if self._maps.setdefault(name, _new(*shape)).shape != shape:
            raise ValueError(f"the steps disagree in the channels of map {name!r}")

    def _c_step(self, index: int) -> _CStep:
        step, layers = self._layers.steps[index], self._layers
        maps = {name: each.data_ptr() for name, each in self._maps.items()}
        (source, inputs), (other, others) = [*step.sources, ("", 0), ("", 0)][:2]
        return _CStep(
            kind=step.kind, epilogue=step.epilogue, scale=step.scale, planes=self._planes(step),
            inputs=layers.channels(inputs), others=layers.channels(others),
            colours=step.colours, outputs=layers.channels(step.outputs),
            source=maps.get(source), other=maps.get(other), picture=maps[PICTURE],
            skip=maps.get(step.skip), target=maps[step.target],
            kernel=layers.kernels[index].data_ptr(), bias=layers.biases[index].data_ptr(),
        )  # fmt: skip

    @staticmethod
    def _planes(step: Step) -> int:
        shuffled = step.epilogue == Epilogue.SHUFFLE
        return step.outputs // step.scale**2 if shuffled else 0


def _new(*shape: int) -> Tensor:
    """Zeros as the C code takes them, whatever PyTorch's defaults are."""
    return torch.zeros(shape, dtype=torch.float32, device="cpu")
