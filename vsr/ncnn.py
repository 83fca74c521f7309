"""SPAN from the files of ncnn: a graph as text (.param) and its weights (.bin).

Written from ncnn's documentation ("param and model file structure", "operators"). Such a file
holds a graph, not named parameters, so the graph is walked: each step of SPAN is looked up by what
it is applied to, must be there, and nothing may be left over. What a layer is called does not
matter, so the files of both of ncnn's converters are understood.
"""

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vsr.errors import CorruptWeightsError, UnknownArchitectureError, WeightsError

__all__ = ["is_ncnn", "read_ncnn"]

_MAGIC = 7767517
_FLOAT16 = 0x01306B47
_STORAGE = {0: torch.float32, 0x0002C056: torch.float32, _FLOAT16: torch.float16}
"""The tag before a layer's weights, and what it says of them; any other means a quantised layer."""

_OPERATIONS = {0: "add", 1: "sub", 2: "mul"}
"""Of BinaryOp; SPAN needs no other."""

_OTHERS = {
    "PReLU": "SRVGG Compact",
    "Interp": "an ESRGAN, or another network that resizes",
    "ConvolutionDepthWise": "SPAN-F, SPANV2, or another network with grouped convolutions",
}
"""What a network most likely is that holds such a layer."""


def is_ncnn(path: Path) -> bool:
    """Whether ``path`` is named like a file of ncnn, and is no PyTorch checkpoint called .bin."""
    if path.suffix != ".bin":
        return path.suffix == ".param"
    try:
        with path.open("rb") as file:
            return file.read(2) not in (b"PK", b"\x80\x02")
    except OSError:
        return True


def read_ncnn(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a SPAN that was converted for ncnn.

    Args:
        path: the .param or the .bin; the other lies beside it under the same name.

    Returns:
        The folded state dict in float32, named as in :mod:`vsr.networks.span`, and the metadata
        ``norm``, ``rgb_mean`` and ``img_range`` that the graph implies.

    Raises:
        WeightsError: one of the two files cannot be read.
        CorruptWeightsError: they are no ncnn files, are damaged, or do not belong together.
        UnknownArchitectureError: the graph is not that of SPAN.
    """
    param, binary = path.with_suffix(".param"), path.with_suffix(".bin")
    layers = _parse(_read(param, path), param)
    _check_kinds(layers, param)
    weights = _Weights(_read(binary, path), binary)
    try:
        graph = _read_graph(layers, weights, param)
        return _walk(graph)
    except _MismatchError as error:
        raise UnknownArchitectureError(f"{param}: not SPAN: {error}") from error


def _read(path: Path, given: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        partner = "" if path == given else f", which belongs to {given.name}"
        raise WeightsError(f"{path}: there is no such file{partner}") from error
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}") from error


# The graph, as text.


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """A line of the .param file."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: dict[int, str]

    def integer(self, key: int, default: int = 0) -> int:
        """A parameter that must be whole; ValueError if it is not."""
        return int(self.params.get(key, default))

    def real(self, key: int) -> float:
        """A parameter that may have a fraction, 0 by default; ValueError if it is no number."""
        return float(self.params.get(key, 0))


def _parse(content: bytes, path: Path) -> list[_Layer]:
    if content[:4] == struct.pack("<I", _MAGIC):
        raise CorruptWeightsError(f"{path}: a binary .param file; only those in text can be read")
    lines = content.decode("utf-8", "replace").split("\n")
    if lines[0].strip() != str(_MAGIC):
        raise CorruptWeightsError(f"{path}: no .param file of ncnn")
    rest = [(number, line) for number, line in enumerate(lines[1:], 2) if line.strip()]
    layers = [_parse_layer(line, number, path) for number, line in rest[1:]]
    count = rest[0][1].split()[0] if rest else "no"
    if count != str(len(layers)):
        raise CorruptWeightsError(f"{path}: damaged: holds {len(layers)} layers, announces {count}")
    return layers


def _parse_layer(line: str, number: int, path: Path) -> _Layer:
    wrong = CorruptWeightsError(f"{path}: damaged: line {number} is no layer")
    try:
        kind, name, *rest = line.split()
        inputs, outputs = int(rest[0]), int(rest[1])
        pairs = [pair.split("=", 1) for pair in rest[2 + inputs + outputs :]]
        params = {int(key): value for key, value in pairs}
    except (ValueError, IndexError) as error:
        raise wrong from error
    blobs = tuple(rest[2 : 2 + inputs + outputs])
    if min(inputs, outputs) < 0 or len(blobs) < inputs + outputs:
        raise wrong
    return _Layer(
        kind=kind, name=name, inputs=blobs[:inputs], outputs=blobs[inputs:], params=params
    )  # fmt: skip


def _check_kinds(layers: Iterable[_Layer], path: Path) -> None:
    """Refuse a graph with layers that SPAN has not, before its weights are read."""
    for layer in layers:
        if layer.kind not in _READERS:
            likely = _OTHERS.get(layer.kind)
            kind = f"it holds a {layer.kind} layer"
            raise UnknownArchitectureError(
                f"{path}: {likely}, not SPAN ({kind})" if likely else f"{path}: not SPAN: {kind}"
            )


# The weights.


class _Weights:
    """The .bin file, read from its start to its end."""

    def __init__(self, content: bytes, path: Path) -> None:
        self._content = content
        self._path = path
        self._offset = 0

    def tagged(self, count: int, layer: str) -> Tensor:
        """``count`` numbers behind a tag that says how they are stored, as float32."""
        tag = int.from_bytes(self._take(4, layer), "little")
        if tag not in _STORAGE:
            raise CorruptWeightsError(
                f"{self._path}: {layer} is quantised (tag {tag:#010x}), or the file is damaged"
            )
        size = count * _STORAGE[tag].itemsize
        content = self._take(size + -size % 4, layer)
        return torch.frombuffer(content, dtype=_STORAGE[tag], count=count).float()

    def plain(self, count: int, layer: str) -> Tensor:
        """``count`` float32 numbers."""
        return torch.frombuffer(self._take(4 * count, layer), dtype=torch.float32)

    def finish(self) -> None:
        """Check that nothing is left."""
        left = len(self._content) - self._offset
        if left:
            raise CorruptWeightsError(
                f"{self._path}: {left} bytes more than the .param file asks for"
            )

    def _take(self, size: int, layer: str) -> bytearray:
        start, self._offset = self._offset, self._offset + size
        if size < 1 or self._offset > len(self._content):
            raise CorruptWeightsError(f"{self._path}: truncated: it ends in the weights of {layer}")
        return bytearray(self._content[start : self._offset])


# Both together.


class _MismatchError(Exception):
    """The graph is not that of SPAN; says in what."""


class _Graph:
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
            raise _MismatchError(f"two layers take the {operation} of the same blob")
        self._steps[step] = output

    def has(self, operation: str, *inputs: str) -> bool:
        """Whether the step is there, and not taken yet."""
        return self._step(operation, inputs) in self._steps

    def take(self, operation: str, *inputs: str) -> str:
        """The blob that the step makes.

        Raises:
            _MismatchError: it is not there.
        """
        blob = self._steps.pop(self._step(operation, inputs), None)
        if blob is None:
            raise _MismatchError(f"it lacks {_phrase(operation, inputs)}")
        return blob

    def finish(self) -> None:
        """Check that every step was taken."""
        if self._steps:
            operation, *inputs = next(iter(self._steps))
            raise _MismatchError(f"it also holds {_phrase(operation, inputs)}")

    @staticmethod
    def _step(operation: str, inputs: Iterable[str]) -> tuple[str, ...]:
        """A key; the order of what is added or multiplied does not matter."""
        ordered = sorted(inputs) if operation in ("add", "mul") else inputs
        return (operation, *ordered)


def _phrase(operation: str, inputs: Iterable[str]) -> str:
    return f"{operation} of {' and '.join(inputs)}" if inputs else operation


def _read_graph(layers: Iterable[_Layer], weights: _Weights, path: Path) -> _Graph:
    graph = _Graph()
    for layer in layers:
        try:
            _READERS[layer.kind](layer, graph, weights)
        except WeightsError:
            raise
        except (ValueError, IndexError) as error:
            raise CorruptWeightsError(f"{path}: damaged: layer {layer.name}") from error
    weights.finish()
    return graph


def _read_step(layer: _Layer, graph: _Graph, weights: _Weights) -> None:
    if layer.kind == "Concat" and layer.integer(0):
        raise _MismatchError(f"{layer.name} joins along another axis than the channels")
    graph.add(layer.kind, layer.inputs, layer.outputs[0])


def _read_split(layer: _Layer, graph: _Graph, weights: _Weights) -> None:
    for copy in layer.outputs:
        graph.rename(layer.inputs[0], copy)


def _read_constant(layer: _Layer, graph: _Graph, weights: _Weights) -> None:
    count = math.prod(layer.integer(key) or 1 for key in (0, 1, 11, 2))
    plain = layer.integer(21, 1)
    values = (weights.plain if plain else weights.tagged)(count, layer.name)
    graph.constants[layer.outputs[0]] = values


def _read_binary(layer: _Layer, graph: _Graph, weights: _Weights) -> None:
    operation = _OPERATIONS.get(layer.integer(0))
    if operation is None:
        raise _MismatchError(f"{layer.name} neither adds, subtracts nor multiplies")
    if layer.integer(1):
        minus = operation == "sub"
        graph.scalars[layer.outputs[0]] = -layer.real(2) if minus else layer.real(2)
        operation = "add" if minus else operation
    graph.add(operation, layer.inputs, layer.outputs[0])


def _read_shuffle(layer: _Layer, graph: _Graph, weights: _Weights) -> None:
    if layer.integer(1):
        raise _MismatchError(f"{layer.name} shuffles in another order")
    graph.scalars[layer.outputs[0]] = layer.integer(0)
    _read_step(layer, graph, weights)


def _read_convolution(layer: _Layer, graph: _Graph, weights: _Weights) -> None:
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


def _check_convolution(layer: _Layer, side: int) -> None:
    """Dilation, stride, padding, int8 scales, activation, height, padding's value, source."""
    same = -233, -234  # padding that keeps the size, under other names
    pad = side // 2 if layer.integer(4) not in same else layer.integer(4)
    usual = {2: 1, 12: 1, 3: 1, 13: 1, 14: pad, 15: pad, 16: pad, 8: 0, 9: 0, 11: side, 19: 0}
    odd = [key for key, value in usual.items() if layer.integer(key, value) != value]
    if odd or layer.integer(4) != pad or layer.real(18):
        setting = f"{(odd or [4])[0]}={layer.params.get((odd or [4])[0], 0)}"
        raise _MismatchError(f"convolution {layer.name} has {setting}")


_READERS = {
    "Input": _read_step, "Swish": _read_step, "Sigmoid": _read_step, "Concat": _read_step,
    "Split": _read_split, "MemoryData": _read_constant, "BinaryOp": _read_binary,
    "PixelShuffle": _read_shuffle, "Convolution": _read_convolution,
}  # fmt: skip
"""What to note of a layer; SPAN has no others."""


# SPAN, step by step.


def _walk(graph: _Graph) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Follow section 3 of the paper through ``graph``, and name each convolution by its place."""
    picture, metadata = _take_normalisation(graph, graph.take("Input"))
    sites = {"conv_1.eval_conv": graph.take("Convolution", picture)}
    features, activation = _take_blocks(graph, sites)
    joined = graph.take("Concat", *features, activation)
    sites["conv_cat"] = graph.take("Convolution", joined)
    sites["upsampler.0"] = graph.take("Convolution", sites["conv_cat"])
    _take_shuffle(graph, sites)
    graph.finish()
    state = {}
    for site, blob in sites.items():
        state[f"{site}.weight"], state[f"{site}.bias"] = graph.weights[blob]
    return state, metadata


def _take_normalisation(graph: _Graph, picture: str) -> tuple[str, dict[str, str]]:
    """The blob that the first convolution takes, and what happens to the picture before."""
    for blob, mean in graph.constants.items():
        if graph.has("sub", picture, blob):
            shifted, gain = graph.take("sub", picture, blob), 1.0
            if graph.has("mul", shifted):
                shifted = graph.take("mul", shifted)
                gain = graph.scalars[shifted]
            # In float32, a mean of 0.4488 prints as that, not as what float64 makes of it.
            values = ", ".join(str(value) for value in mean.numpy())
            return shifted, {"norm": "mean", "rgb_mean": f"[{values}]", "img_range": str(gain)}
    return picture, {"norm": "none"}


def _take_blocks(graph: _Graph, sites: dict[str, str]) -> tuple[tuple[str, ...], str]:
    """All attention blocks and ``conv_2``.

    Returns:
        What the concatenation joins: the features of ``conv_1``, of ``conv_2`` and of the first
        block, and, last, the first activation of the last block.
    """
    hidden = sites["conv_1.eval_conv"]
    outputs: list[str] = []
    activation = ""
    convolved = graph.take("Convolution", hidden)
    while graph.has("Swish", convolved) or graph.has("Sigmoid", convolved):
        block = f"block_{len(outputs) + 1}"
        sites[f"{block}.c1_r.eval_conv"] = convolved
        hidden, activation = _take_block(graph, hidden, block, sites)
        outputs.append(hidden)
        convolved = graph.take("Convolution", hidden)
    if not outputs:
        raise _MismatchError("it has no attention blocks")
    sites["conv_2.eval_conv"] = convolved
    return (sites["conv_1.eval_conv"], convolved, outputs[0]), activation


def _take_block(graph: _Graph, hidden: str, block: str, sites: dict[str, str]) -> tuple[str, str]:
    """Section 3.2, from the first activation on: the block's output, and that activation."""
    first = _take_activation(graph, sites[f"{block}.c1_r.eval_conv"])
    sites[f"{block}.c2_r.eval_conv"] = graph.take("Convolution", first)
    second = _take_activation(graph, sites[f"{block}.c2_r.eval_conv"])
    sites[f"{block}.c3_r.eval_conv"] = features = graph.take("Convolution", second)
    attention = graph.take("add", graph.take("Sigmoid", features))
    if graph.scalars[attention] != -0.5:
        raise _MismatchError(f"an attention shifted by {graph.scalars[attention]:g}")
    residual = graph.take("add", features, hidden)
    return graph.take("mul", residual, attention), first


def _take_activation(graph: _Graph, blob: str) -> str:
    """SiLU, which some converters leave as a product."""
    if graph.has("Swish", blob):
        return graph.take("Swish", blob)
    return graph.take("mul", blob, graph.take("Sigmoid", blob))


def _take_shuffle(graph: _Graph, sites: dict[str, str]) -> None:
    """The pixel shuffle, which a network that does not enlarge may lack."""
    last = sites["upsampler.0"]
    scale = 1.0
    if graph.has("PixelShuffle", last):
        scale = graph.scalars[graph.take("PixelShuffle", last)]
    rows = graph.weights[last][0].shape[0]
    colours = graph.weights[sites["conv_1.eval_conv"]][0].shape[1]
    if rows != colours * scale**2:
        raise _MismatchError(f"{rows} channels are shuffled to {scale:g} times the size")
