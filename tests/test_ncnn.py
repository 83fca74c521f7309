"""Files of ncnn, written here from its documentation, and read back."""

import re
import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vsr.converting.ncnn import is_ncnn, read_ncnn
from vsr.errors import CorruptWeightsError, UnknownArchitectureError, VsrError, WeightsError
from vsr.networks.span import Span, SpanConfig
from vsr.weights import build_network

FLOAT16 = 0x01306B47
CONFIG = SpanConfig(channels=5, fused_channels=4, blocks=2, mean=(0.5, 0.25, 0.4), img_range=255.0)
PLAIN = SpanConfig(channels=5, fused_channels=5, blocks=2, norm=False)


@dataclass
class Line:
    """A layer, with the blobs that the network has rather than ncnn's copies of them."""

    kind: str
    inputs: Sequence[str]
    output: str
    params: str = ""
    weights: bytes = b""


@dataclass
class Writer:
    """Collects layers and writes them as a pair of files, with a Split for each blob used twice."""

    half: bool = False
    lines: list[Line] = field(default_factory=list)

    def add(self, kind: str, *inputs: str, params: str = "", weights: bytes = b"") -> str:
        output = f"b{len(self.lines)}"
        self.lines.append(Line(kind, inputs, output, params, weights))
        return output

    def convolve(self, blob: str, state: Mapping[str, Tensor], site: str) -> str:
        weight, bias = (state[f"{site}.{part}"].numpy() for part in ("weight", "bias"))
        outputs, _, side, _ = weight.shape
        stored = weight.astype("<f2").tobytes() if self.half else weight.astype("<f4").tobytes()
        tag = struct.pack("<I", FLOAT16 if self.half else 0)
        return self.add(
            "Convolution", blob, params=f"0={outputs} 1={side} 4={side // 2} 5=1 6={weight.size}",
            weights=tag + stored + bytes(-len(stored) % 4) + bias.astype("<f4").tobytes(),
        )  # fmt: skip

    def save(self, path: Path) -> Path:
        uses = Counter(blob for line in self.lines for blob in line.inputs)
        seen: Counter[str] = Counter()
        text, blobs = [], 0
        for number, line in enumerate(self.lines):
            inputs = []
            for blob in line.inputs:
                inputs.append(f"{blob}_{seen[blob]}" if uses[blob] > 1 else blob)
                seen[blob] += 1
            output = "out" if number == len(self.lines) - 1 else line.output
            names = " ".join([*inputs, output])
            text.append(
                f"{line.kind:16} layer{number} {len(inputs)} 1 {names} {line.params}".strip()
            )
            count = uses[line.output]
            blobs += 1 + (count if count > 1 else 0)
            if count > 1:
                copies = " ".join(f"{line.output}_{index}" for index in range(count))
                text.append(f"Split            split{number} 1 {count} {line.output} {copies}")
        path.write_text(f"7767517\n{len(text)} {blobs}\n" + "\n".join(text) + "\n")
        path.with_suffix(".bin").write_bytes(b"".join(line.weights for line in self.lines))
        return path


def span(module: Span, *, half: bool = False, product: bool = False) -> Writer:
    """The layers of a SPAN; ``product`` writes SiLU as a product with the sigmoid."""
    config, state, out = module.config, module.state_dict(), Writer(half=half)

    def activate(blob: str) -> str:
        if product:
            return out.add("BinaryOp", out.add("Sigmoid", blob), blob, params="0=2")
        return out.add("Swish", blob)

    x = out.add("Input")
    if config.norm:
        stored = np.array(config.mean, "<f4").tobytes()
        mean = out.add("MemoryData", params="0=1 1=1 2=3", weights=stored)
        x = out.add("BinaryOp", x, mean, params="0=1")
        if config.img_range != 1:
            x = out.add("BinaryOp", x, params=f"0=2 1=1 2={config.img_range:e}")
    features = hidden = out.convolve(x, state, "conv_1.eval_conv")
    ends = []
    for index in range(1, config.blocks + 1):
        sites = [f"block_{index}.c{n}_r.eval_conv" for n in (1, 2, 3)]
        first = activate(out.convolve(hidden, state, sites[0]))
        last = out.convolve(activate(out.convolve(first, state, sites[1])), state, sites[2])
        attention = out.add("BinaryOp", out.add("Sigmoid", last), params="0=1 1=1 2=5.000000e-01")
        residual = out.add("BinaryOp", last, hidden, params="0=0")
        hidden = out.add("BinaryOp", residual, attention, params="0=2")
        ends.append(hidden)
    deep = out.convolve(hidden, state, "conv_2.eval_conv")
    joined = out.add("Concat", features, deep, ends[0], first)
    last = out.convolve(out.convolve(joined, state, "conv_cat"), state, "upsampler.0")
    out.add("PixelShuffle", last, params=f"0={config.scale}")
    return out


def run(path: Path, picture: Tensor) -> Tensor:
    state, metadata = read_ncnn(path)
    with torch.no_grad():
        found: Tensor = build_network(state, metadata, path).module(picture)
    return found


# What is read.


@pytest.mark.parametrize("product", [False, True])
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_same_picture_comes_out(tmp_path: Path, scale: int, norm: bool, product: bool) -> None:
    config = SpanConfig(channels=5, fused_channels=4, blocks=3, scale=scale, norm=norm)
    module = Span(config)
    path = span(module, product=product).save(tmp_path / "model.param")
    picture = torch.rand(1, 3, 9, 8)
    with torch.no_grad():
        assert torch.equal(run(path, picture), module(picture))


def test_either_file_may_be_named(tmp_path: Path) -> None:
    path = span(Span(CONFIG)).save(tmp_path / "model.param")
    picture = torch.rand(1, 3, 9, 8)
    assert torch.equal(run(path, picture), run(path.with_suffix(".bin"), picture))


def test_half_precision(tmp_path: Path) -> None:
    """Kernels are stored in half; biases never are. conv_1 has an odd count: a gap follows it."""
    module = Span(CONFIG)
    assert module.state_dict()["conv_1.eval_conv.weight"].numel() % 2
    state, _ = read_ncnn(span(module, half=True).save(tmp_path / "model.param"))
    expected = {
        name: value.half().float() if name.endswith("weight") else value
        for name, value in module.state_dict().items()
    }
    assert set(state) == set(expected)
    assert all(torch.equal(state[name], expected[name]) for name in expected)


@pytest.mark.parametrize("img_range", [255.0, 1.0])
def test_normalisation_is_read_from_the_graph(tmp_path: Path, img_range: float) -> None:
    config = SpanConfig(channels=5, fused_channels=5, blocks=1, img_range=img_range)
    _, metadata = read_ncnn(span(Span(config)).save(tmp_path / "model.param"))
    assert metadata == {
        "norm": "mean", "rgb_mean": "[0.4488, 0.4371, 0.404]", "img_range": str(img_range)
    }  # fmt: skip
    _, metadata = read_ncnn(span(Span(PLAIN)).save(tmp_path / "model.param"))
    assert metadata == {"norm": "none"}


def test_parameters_that_the_other_converter_writes_out(tmp_path: Path) -> None:
    """pnnx writes what is at its default too: dilation, stride, padding on each side, axis."""
    path = span(Span(CONFIG)).save(tmp_path / "model.param")
    expected, _ = read_ncnn(path)
    text = path.read_text()
    for side, pad in ((3, 1), (1, 0)):
        whole = f"11={side} 12=1 13=1 14={pad} 15={pad} 16={pad} 2=1 3=1 9=0 -23310=0"
        text = text.replace(f" 1={side} 4={pad} 5=1", f" 1={side} {whole} 4={pad} 5=1")
    text = text.replace("0=2\n", "0=2 1=0\n").replace("Concat ", "Concat  ")
    assert text.count("-23310") == 10
    path.write_text(text)
    found, _ = read_ncnn(path)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_convolutions_without_bias(tmp_path: Path) -> None:
    module = Span(CONFIG)
    assert module.conv_cat.bias is not None
    module.conv_cat.bias.data.zero_()
    writer = span(module)
    for line in writer.lines:
        if line.params.startswith("0=4 1=1 "):
            line.params = line.params.replace(" 5=1", "")
            line.weights = line.weights[:-16]
    state, _ = read_ncnn(writer.save(tmp_path / "model.param"))
    assert torch.equal(state["conv_cat.bias"], torch.zeros(4))


def test_which_files_are_taken_for_ncnn(tmp_path: Path) -> None:
    assert is_ncnn(tmp_path / "model.param")
    assert is_ncnn(tmp_path / "model.bin")
    assert not is_ncnn(tmp_path / "model.pth")
    torch.save({"a": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    assert not is_ncnn(tmp_path / "pytorch_model.bin")


# What is refused.


def refused(path: Path, kind: type[VsrError]) -> str:
    with pytest.raises(VsrError) as caught:
        read_ncnn(path)
    assert type(caught.value) is kind, repr(caught.value)
    line = str(caught.value)
    assert line.startswith(str(path.parent))
    assert "\n" not in line
    return line


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return span(Span(CONFIG)).save(tmp_path / "model.param")


@pytest.mark.parametrize("missing", [".param", ".bin"])
@pytest.mark.parametrize("given", [".param", ".bin"])
def test_a_file_without_its_partner(model: Path, given: str, missing: str) -> None:
    model.with_suffix(missing).unlink()
    line = refused(model.with_suffix(given), WeightsError)
    assert f"model{missing}: there is no such file" in line
    assert (f"belongs to model{given}" in line) == (given != missing)


@pytest.mark.parametrize("suffix", [".param", ".bin"])
def test_a_folder_of_that_name(model: Path, suffix: str) -> None:
    model.with_suffix(suffix).unlink()
    model.with_suffix(suffix).mkdir()
    assert "directory" in refused(model, WeightsError)


def test_every_truncation_is_seen(model: Path) -> None:
    binary = model.with_suffix(".bin")
    content = binary.read_bytes()
    for length in (0, 3, 4, 12, 100, len(content) // 2, len(content) - 4, len(content) - 1):
        binary.write_bytes(content[:length])
        assert "truncated" in refused(model, CorruptWeightsError)


def test_bytes_too_many(model: Path) -> None:
    with model.with_suffix(".bin").open("ab") as file:
        file.write(b"12345")
    assert "5 bytes more" in refused(model, CorruptWeightsError)


def test_quantised_weights(model: Path) -> None:
    binary = model.with_suffix(".bin")
    content = binary.read_bytes()
    binary.write_bytes(content[:12] + struct.pack("<I", 0x000D4B38) + content[16:])
    assert "quantised (tag 0x000d4b38)" in refused(model, CorruptWeightsError)


def test_the_binary_form_of_the_graph(model: Path) -> None:
    model.write_bytes(struct.pack("<III", 7767517, 3, 3) + bytes(40))
    assert "a binary .param file" in refused(model, CorruptWeightsError)


@pytest.mark.parametrize(
    "content", [b"", b"7767516\n1 1\n", b"<html>\n", bytes(9), b"\xff\xfe\x00"]
)
def test_files_of_another_kind(model: Path, content: bytes) -> None:
    model.write_bytes(content)
    assert "no .param file of ncnn" in refused(model, CorruptWeightsError)


def edited(path: Path, change: Callable[[str], str]) -> Path:
    before = path.read_text()
    after = change(before)
    assert after != before
    path.write_text(after)
    return path


@pytest.mark.parametrize("keep", [1, 2, 10])
def test_a_graph_that_ends_early(model: Path, keep: int) -> None:
    edited(model, lambda text: "\n".join(text.split("\n")[:keep]))
    assert "announces" in refused(model, CorruptWeightsError)


@pytest.mark.parametrize(
    "line",
    ["Swish", "Swish a", "Swish a 1 1 x", "Swish a b c", "Swish a -1 1", "Swish a 1 1 x y z"],
)
def test_lines_that_are_no_layers(model: Path, line: str) -> None:
    edited(model, lambda text: text.replace(text.split("\n")[5], line))
    assert "line 6 is no layer" in refused(model, CorruptWeightsError)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (" 6=135", " 6=136"),
        (" 6=135", " 6=-135"),
        (" 0=5 1=3", " 0=five 1=3"),
        (" 0=5 1=3", " 1=3"),
    ],
)
def test_convolutions_of_impossible_shape(model: Path, before: str, after: str) -> None:
    edited(model, lambda text: text.replace(before, after, 1))
    assert "damaged: layer layer4" in refused(model, CorruptWeightsError)


def compact() -> Writer:
    """SRVGG: convolutions and PReLU, and the input added at the end."""
    out = Writer()
    state = {"0.weight": torch.ones(12, 3, 3, 3), "0.bias": torch.ones(12)}
    x = out.add("Input")
    hidden = out.add("PReLU", out.convolve(x, state, "0"), params="0=12")
    out.add("BinaryOp", out.add("PixelShuffle", hidden, params="0=2"), x, params="0=0")
    return out


def test_srvgg_is_named(tmp_path: Path) -> None:
    path = compact().save(tmp_path / "compact.param")
    assert "SRVGG Compact, not SPAN" in refused(path, UnknownArchitectureError)


CHANGES = {
    "a layer that SPAN has not": lambda t: t.replace("Sigmoid  ", "HardSigmoid"),
    "dilation": lambda t: t.replace("1=3 4=1 ", "1=3 2=2 4=1 "),
    "stride": lambda t: t.replace("1=3 4=1 ", "1=3 3=2 4=1 "),
    "no padding": lambda t: t.replace("1=3 4=1 ", "1=3 "),
    "a fused activation": lambda t: t.replace("1=3 4=1 ", "1=3 4=1 9=1 "),
    "another order of the concatenation": lambda t: re.sub(r"(24 4 1) (\S+) (\S+)", r"\1 \3 \2", t),
    "another attention": lambda t: t.replace("5.000000e-01", "4.000000e-01"),
    "a division": lambda t: t.replace("0=2 1=1 2=2.55", "0=3 1=1 2=2.55"),
    "another scale": lambda t: t.replace("out 0=2", "out 0=4"),
    "another shuffle": lambda t: t.replace("out 0=2", "out 0=2 1=1"),
    "another axis": lambda t: re.sub(r"(layer24 .*)", r"\1 0=1", t),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_graphs_that_are_nearly_span(model: Path, change: str) -> None:
    edited(model, CHANGES[change])
    assert "not SPAN" in refused(model, UnknownArchitectureError)


def test_what_comes_after_the_shuffle(model: Path) -> None:
    def change(text: str) -> str:
        lines = text.strip().split("\n")
        count, blobs = map(int, lines[1].split())
        lines[1] = f"{count + 1} {blobs + 1}"
        return "\n".join([*lines, "BinaryOp last 1 1 out end 0=2 1=1 2=2.0", ""])

    edited(model, change)
    assert "it also holds mul of out" in refused(model, UnknownArchitectureError)


def test_no_blocks(tmp_path: Path) -> None:
    out = Writer()
    state = {"0.weight": torch.ones(12, 3, 3, 3), "0.bias": torch.ones(12)}
    state |= {"1.weight": torch.ones(12, 12, 3, 3), "1.bias": torch.ones(12)}
    hidden = out.convolve(out.convolve(out.add("Input"), state, "0"), state, "1")
    out.add("PixelShuffle", hidden, params="0=2")
    path = out.save(tmp_path / "model.param")
    assert "no attention blocks" in refused(path, UnknownArchitectureError)
