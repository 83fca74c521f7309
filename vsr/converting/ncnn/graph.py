"""What follows from what: the steps of an ncnn network, each looked up by what it is applied to."""

import math
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from vsr.converting.ncnn.parsing import Layer, WeightsReader
from vsr.errors import CorruptWeightsError, UnknownArchitectureError, WeightsError

__all__ = ["Graph", "MismatchError", "check_kinds", "read_graph"]

_OPERATIONS = {0: "add", 1: "sub", 2: "mul"}
"""Of BinaryOp; SPAN needs no other."""

_OTHERS = {
    "PReLU": "SRVGG Compact",
    "Interp": "an ESRGAN, or another network that resizes",
    "ConvolutionDepthWise": "SPAN-F, SPANV2, or another network with grouped convolutions",
}
"""What a network most likely is that holds such a layer."""


class MismatchError(Exception):
    """The graph is not that of SPAN; says in what."""


class Graph:
    """What follows from each blob by each operation. Every step can be taken once."""

    def __init__(self) -> None:
        self.weights: dict[str, tuple[Tensor, Tensor]] = {}
        """Kernel and bias of the convolution that makes a blob."""
        self.constants: dict[str, Tensor] = {}
        self.scalars: dict[str, float] = {}
        """Number that was added to, taken from or multiplied with something to make a blob."""
        self._steps: dict[tuple[str, ...], str] = {}
        self._origins: dict[str, str] = {}

    def rename(self, blob: str, copy: str) -> None:
        """Note that ``copy`` is ``blob`` under another name."""
        self._origins[copy] = self._origins.get(blob, blob)

    def add(self, operation: str, inputs: Iterable[str], output: str) -> None:
        """Note a step."""
        step = self._step(operation, (self._origins.get(blob, blob) for blob in inputs))
        if step in self._steps:
            raise MismatchError(f"two layers take the {operation} of the same blob")
        self._steps[step] = output

    def has(self, operation: str, *inputs: str) -> bool:
        """Whether the step is there, and not taken yet."""
        return self._step(operation, inputs) in self._steps

    def take(self, operation: str, *inputs: str) -> str:
        """The blob that the step makes.

        Raises:
            MismatchError: it is not there.
        """
        blob = self._steps.pop(self._step(operation, inputs), None)
        if blob is None:
            raise MismatchError(f"it lacks {_phrase(operation, inputs)}")
        return blob

    def finish(self) -> None:
        """Check that every step was taken."""
        if self._steps:
            operation, *inputs = next(iter(self._steps))
            raise MismatchError(f"it also holds {_phrase(operation, inputs)}")

    @staticmethod
    def _step(operation: str, inputs: Iterable[str]) -> tuple[str, ...]:
        """A key; the order of what is added or multiplied does not matter."""
        ordered = sorted(inputs) if operation in ("add", "mul") else inputs
        return (operation, *ordered)


def _phrase(operation: str, inputs: Iterable[str]) -> str:
    return f"{operation} of {' and '.join(inputs)}" if inputs else operation


def read_graph(layers: Iterable[Layer], weights: WeightsReader, path: Path) -> Graph:
    """The steps of ``layers``, each with its part of ``weights``; ``path`` is for messages.

    Raises:
        CorruptWeightsError: a layer makes no sense, or does not fit the weights.
        MismatchError: SPAN has no such layer.
    """
    graph = Graph()
    for layer in layers:
        try:
            _READERS[layer.kind](layer, graph, weights)
        except WeightsError:
            raise
        except (ValueError, IndexError) as error:
            raise CorruptWeightsError(f"{path}: damaged: layer {layer.name}") from error
    weights.finish()
    return graph


def _read_step(layer: Layer, graph: Graph, weights: WeightsReader) -> None:
    if layer.kind == "Concat" and layer.integer(0):
        raise MismatchError(f"{layer.name} joins along another axis than the channels")
    graph.add(layer.kind, layer.inputs, layer.outputs[0])


def _read_split(layer: Layer, graph: Graph, weights: WeightsReader) -> None:
    for copy in layer.outputs:
        graph.rename(layer.inputs[0], copy)


def _read_constant(layer: Layer, graph: Graph, weights: WeightsReader) -> None:
    count = math.prod(layer.integer(key) or 1 for key in (0, 1, 11, 2))
    plain = layer.integer(21, 1)
    values = (weights.plain if plain else weights.tagged)(count, layer.name)
    graph.constants[layer.outputs[0]] = values


def _read_binary(layer: Layer, graph: Graph, weights: WeightsReader) -> None:
    operation = _OPERATIONS.get(layer.integer(0))
    if operation is None:
        raise MismatchError(f"{layer.name} neither adds, subtracts nor multiplies")
    if layer.integer(1):
        minus = operation == "sub"
        graph.scalars[layer.outputs[0]] = -layer.real(2) if minus else layer.real(2)
        operation = "add" if minus else operation
    graph.add(operation, layer.inputs, layer.outputs[0])


def _read_shuffle(layer: Layer, graph: Graph, weights: WeightsReader) -> None:
    if layer.integer(1):
        raise MismatchError(f"{layer.name} shuffles in another order")
    graph.scalars[layer.outputs[0]] = layer.integer(0)
    _read_step(layer, graph, weights)


def _read_convolution(layer: Layer, graph: Graph, weights: WeightsReader) -> None:
    outputs, side, count = (layer.integer(key) for key in (0, 1, 6))
    _check_convolution(layer, side)
    inputs, rest = divmod(count, outputs * side * side or 1)
    if rest or min(inputs, outputs) < 1:
        raise ValueError(count)
    kernel = weights.tagged(count, layer.name).view(outputs, inputs, side, side)
    biased = layer.integer(5)
    bias = weights.plain(outputs, layer.name) if biased else torch.zeros(outputs)
    graph.weights[layer.outputs[0]] = kernel, bias
    _read_step(layer, graph, weights)


def _check_convolution(layer: Layer, side: int) -> None:
    """Dilation, stride, padding, int8 scales, activation, height, padding's value, source."""
    same = -233, -234  # padding that keeps the size, under other names
    pad = side // 2 if layer.integer(4) not in same else layer.integer(4)
    usual = {2: 1, 12: 1, 3: 1, 13: 1, 14: pad, 15: pad, 16: pad, 8: 0, 9: 0, 11: side, 19: 0}
    odd = [key for key, value in usual.items() if layer.integer(key, value) != value]
    if odd or layer.integer(4) != pad or layer.real(18):
        setting = f"{(odd or [4])[0]}={layer.params.get((odd or [4])[0], 0)}"
        raise MismatchError(f"convolution {layer.name} has {setting}")


_READERS = {
    "Input": _read_step, "Swish": _read_step, "Sigmoid": _read_step, "Concat": _read_step,
    "Split": _read_split, "MemoryData": _read_constant, "BinaryOp": _read_binary,
    "PixelShuffle": _read_shuffle, "Convolution": _read_convolution,
}  # fmt: skip
"""What to note of a layer; SPAN has no others."""


def check_kinds(layers: Iterable[Layer], path: Path) -> None:
    """Refuse a graph with layers that SPAN has not, before its weights are read."""
    for layer in layers:
        if layer.kind not in _READERS:
            likely = _OTHERS.get(layer.kind)
            kind = f"it holds a {layer.kind} layer"
            raise UnknownArchitectureError(
                f"{path}: {likely}, not SPAN ({kind})" if likely else f"{path}: not SPAN: {kind}"
            )
