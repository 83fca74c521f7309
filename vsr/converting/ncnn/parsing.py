"""The two files of an ncnn network: layers as text, and weights in their order."""

import struct
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vsr.errors import CorruptWeightsError, WeightsError

__all__ = ["Layer", "WeightsReader", "is_ncnn", "parse_layers", "read_file"]

_MAGIC = 7767517
_FLOAT16 = 0x01306B47
_STORAGE = {0: torch.float32, 0x0002C056: torch.float32, _FLOAT16: torch.float16}
"""The tag before a layer's weights, and what it says of them; any other means a quantised layer."""


def is_ncnn(path: Path) -> bool:
    """Whether ``path`` is named like a file of ncnn, and is no PyTorch checkpoint called .bin."""
    if path.suffix != ".bin":
        return path.suffix == ".param"
    try:
        with path.open("rb") as file:
            return file.read(2) not in (b"PK", b"\x80\x02")
    except OSError:
        return True


def read_file(path: Path, given: Path) -> bytes:
    """What ``path`` holds: the file that was ``given``, or the one that belongs to it.

    Raises:
        WeightsError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        partner = "" if path == given else f", which belongs to {given.name}"
        raise WeightsError(f"{path}: there is no such file{partner}") from error
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
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


def parse_layers(content: bytes, path: Path) -> list[Layer]:
    """The layers of a .param file, in order; ``path`` is for messages.

    Raises:
        CorruptWeightsError: it is none, or is damaged.
    """
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


def _parse_layer(line: str, number: int, path: Path) -> Layer:
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
    return Layer(
        kind=kind, name=name, inputs=blobs[:inputs], outputs=blobs[inputs:], params=params
    )  # fmt: skip


class WeightsReader:
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
