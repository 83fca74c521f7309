import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from vsr.cli import models
from vsr.comparing import draw
from vsr.converting.exporting import ExportConfig, export_network
from vsr.errors import ConfigError, SinkError, VsrError, WeightsError
from vsr.networks import Network, classical, describe
from vsr.networks.esc import Esc, EscConfig
from vsr.networks.span import Span, SpanConfig
from vsr.networks.spanf import SpanF, SpanFConfig
from vsr.networks.spanv2 import SpanV2, SpanV2Config
from vsr.networks.sst import Sst, SstConfig
from vsr.weights import load_network

Format = Literal["onnx", "torchscript"]
SHAPES = ((1, 3, 33, 47), (3, 3, 20, 31))
"""Other than the module itself tries."""


def wrap(module: Span | SpanF | SpanV2, name: str) -> Network:
    config = module.config
    return Network(
        module=module.eval().requires_grad_(False), name=name, scale=config.scale, halo=config.halo,
        body=config.body,
    )  # fmt: skip


def small_span(*, norm: bool = True) -> Network:
    return wrap(Span(SpanConfig(channels=6, fused_channels=6, blocks=2, norm=norm)), "span")


NETWORKS: dict[str, Callable[[], Network]] = {
    "span": small_span,
    "span without normalisation": lambda: small_span(norm=False),
    "spanf": lambda: wrap(SpanF(SpanFConfig(channels=6, blocks=3)), "spanf"),
    "spanv2": lambda: wrap(SpanV2(SpanV2Config(channels=6, blocks=3)), "spanv2"),
    "span-x2": lambda: load_network("span-x2"),
}


def run_onnx(path: Path, picture: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(["output"], {"input": picture.numpy()})
    return torch.from_numpy(found)


def pictures(shapes: tuple[tuple[int, ...], ...] = SHAPES) -> list[Tensor]:
    return [
        torch.cat([draw(c, h, w).roll(shift, -1) for shift in range(n)]) for n, c, h, w in shapes
    ]


def expected(network: Network, picture: Tensor) -> Tensor:
    with torch.no_grad():
        out: Tensor = network.module(picture)
    return out


def assert_same(found: Tensor, wanted: Tensor, limit: float = 1e-4) -> None:
    assert found.dtype == torch.float32
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() < limit * wanted.std()


# Networks with windows: any multiple of them.


def small_sst() -> Network:
    config = SstConfig(channels=16, heads=1, blocks=1, windows=(8, 16), ranks=(8, 8), inner=24)
    return describe("sst", Sst(config).eval().requires_grad_(False), config)


def small_esc() -> Network:
    config = EscConfig(
        channels=16, heads=1, blocks=1, convolutions=1, window=16, large_channels=8,
        kernel_hidden=4, inner=20, projection_inner=32,
    )  # fmt: skip
    return describe("esc", Esc(config).eval().requires_grad_(False), config)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("make", "batches"),
    [pytest.param(small_sst, (1, 3), marks=pytest.mark.slow), (small_esc, (1, 1))],
)
def test_windows_leave_multiples_of_them_free(
    tmp_path: Path, make: Callable[[], Network], batches: tuple[int, int]
) -> None:
    network = make()
    script, onnx_file = tmp_path / "model.pt", tmp_path / "model.onnx"
    export_network(network, script, ExportConfig(format="torchscript"))
    export_network(network, onnx_file, ExportConfig())
    for batch, height, width in ((batches[0], 96, 32), (batches[1], 32, 80)):
        (picture,) = pictures(((batch, 3, height, width),))
        assert_same(run_onnx(onnx_file, picture), expected(network, picture))
        assert_same(run_script(script, picture), expected(network, picture))
    known = {p.key: p.value for p in onnx.load(onnx_file).metadata_props}
    assert known["multiple"] == "16"


# ONNX.


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name == "span without normalisation"))
        for name in NETWORKS
    ],
)
def test_onnx_gives_our_output_at_any_size(tmp_path: Path, name: str) -> None:
    network = NETWORKS[name]()
    path = tmp_path / "model.onnx"
    done = export_network(network, path, ExportConfig())
    assert done.difference < 1e-4
    for picture in pictures():
        assert_same(run_onnx(path, picture), expected(network, picture))
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_cells_of_pixels_want_even_sides(tmp_path: Path) -> None:
    config = SpanFConfig(channels=6, blocks=3, unshuffle=2)
    network = describe("spanf", SpanF(config).eval(), config)
    onnx_path, script_path = tmp_path / "model.onnx", tmp_path / "model.pt"
    assert export_network(network, onnx_path, ExportConfig()).difference < 1e-4
    script = ExportConfig(format="torchscript")
    assert export_network(network, script_path, script).difference < 1e-4
    for height, width in ((24, 38), (62, 50)):
        picture = torch.rand(2, 3, height, width)
        assert_same(run_onnx(onnx_path, picture), expected(network, picture))
        assert_same(run_script(script_path, picture), expected(network, picture))
    known = {entry.key: entry.value for entry in onnx.load(onnx_path).metadata_props}
    assert known["multiple"] == "2"


def test_onnx_files_say_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    done = export_network(small_span(), path, ExportConfig(source="mine.safetensors"))
    model = onnx.load(path)
    assert {p.key: p.value for p in model.metadata_props}.items() >= {
        "architecture": "span", "scale": "2", "source": "mine.safetensors", "precision": "fp32"
    }.items()  # fmt: skip
    assert [entry.version for entry in model.opset_import if not entry.domain] == [done.opset]
    sides = [
        [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (model.graph.input[0], model.graph.output[0])
    ]
    assert sides == [["batch", 3, "height", "width"], ["batch", 3, "2*height", "2*width"]]
    assert not any(node.domain for node in model.graph.node)
    assert "Einsum" not in {node.op_type for node in model.graph.node}  # folded to constants


def test_the_opset_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    assert export_network(small_span(), path, ExportConfig(opset=17)).opset == 17
    opsets = {entry.domain: entry.version for entry in onnx.load(path).opset_import}
    assert opsets[""] == 17
    assert_same(run_onnx(path, pictures()[0]), expected(small_span_again(), pictures()[0]))


def small_span_again() -> Network:
    """The network that a test made first, from the seed that all tests start with."""
    torch.manual_seed(0)
    return small_span()


def test_opsets_that_cannot_be_had(tmp_path: Path) -> None:
    for opset in (7, 99):
        with pytest.raises(ConfigError, match=f"opset {opset} cannot be had"):
            export_network(small_span(), tmp_path / "m.onnx", ExportConfig(opset=opset))
    config = ExportConfig(format="torchscript", opset=17)
    with pytest.raises(ConfigError, match="TorchScript has none"):
        export_network(small_span(), tmp_path / "m.pt", config)
    assert not list(tmp_path.iterdir())


def test_one_size_only(tmp_path: Path) -> None:
    network, path = small_span(), tmp_path / "model.onnx"
    export_network(network, path, ExportConfig(size=(24, 18)))
    picture = draw(3, 18, 24)
    assert_same(run_onnx(path, picture), expected(network, picture))
    with pytest.raises(Exception, match="dimensions"):
        run_onnx(path, draw(3, 24, 18))


# TorchScript.


def run_script(path: Path, picture: Tensor) -> Tensor:
    loaded = torch.jit.load(path)
    with torch.no_grad():
        out: Tensor = loaded(picture)
    return out


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", NETWORKS)
def test_torchscript_gives_our_output_at_any_size(tmp_path: Path, name: str) -> None:
    network, path = NETWORKS[name](), tmp_path / "model.pt"
    done = export_network(network, path, ExportConfig(format="torchscript", source="mine"))
    assert done.opset is None
    for picture in pictures():
        assert_same(run_script(path, picture), expected(network, picture))
    extra = {"vsr.json": ""}
    torch.jit.load(path, _extra_files=extra)
    assert json.loads(extra["vsr.json"]) == {
        "architecture": network.name, "scale": str(network.scale), "source": "mine",
        "precision": "fp32", "multiple": "1",
    }  # fmt: skip


# Half precision.


@pytest.mark.parametrize("name", ["span", "spanf"])
def test_half_precision_is_for_the_body(tmp_path: Path, name: str) -> None:
    network, path = NETWORKS[name](), tmp_path / "model.onnx"
    done = export_network(network, path, ExportConfig(half=True))
    kinds = {tensor.name: tensor.data_type for tensor in onnx.load(path).graph.initializer}
    halves = {n for n, kind in kinds.items() if kind == onnx.TensorProto.FLOAT16}
    ends = {"span": "upsampler", "spanf": "conv_near"}[name]
    assert any("block_2.c1_r" in tensor for tensor in halves)
    assert not any(ends in tensor for tensor in halves)
    assert 1e-6 < done.difference < 0.05
    for picture in pictures():
        assert_same(run_onnx(path, picture), expected(network, picture), 0.05)
    assert {p.dtype for p in network.module.parameters()} == {torch.float32}


# What is refused; nothing is left then.


class Cropped(nn.Module):
    """Cuts its output to a size that a tracer takes for a constant."""

    def forward(self, x: Tensor) -> Tensor:
        rows = sum(1 for _ in range(x.shape[-2]))
        return torch.tanh(x)[..., :rows, :]


def refused(network: Network, path: Path, config: ExportConfig, kind: type[VsrError]) -> str:
    before = sorted(path.parent.iterdir())
    with pytest.raises(VsrError) as caught:
        export_network(network, path, config)
    assert type(caught.value) is kind, repr(caught.value)
    assert sorted(path.parent.iterdir()) == before
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 400
    return line


@pytest.mark.parametrize("format", ["onnx", "torchscript"])
def test_networks_that_are_tied_to_a_size(tmp_path: Path, format: Format) -> None:
    network = Network(module=Cropped(), name="cropped", scale=1, halo=0)
    config = ExportConfig(format=format)
    line = refused(network, tmp_path / "model", config, WeightsError)
    assert re.search(r"for any size: .*--size WxH", line)
    config = ExportConfig(format=format, size=(20, 18))
    assert export_network(network, tmp_path / "model", config).difference < 1e-4


def test_networks_that_cannot_be_traced(tmp_path: Path) -> None:
    line = refused(classical("lanczos", 2), tmp_path / "m.onnx", ExportConfig(), WeightsError)
    assert line.startswith("lanczos cannot be exported to onnx for any size: ")


def test_networks_that_want_more_than_a_picture(tmp_path: Path) -> None:
    module = nn.Identity()
    free = Network(module=module, name="free", scale=0, halo=0)
    noisy = Network(
        module=module, name="noisy", scale=1, halo=0,
        noise=lambda height, width, device: torch.zeros(1, 3, height, width),
    )  # fmt: skip
    assert "any factor" in refused(free, tmp_path / "m.onnx", ExportConfig(), WeightsError)
    assert "noise" in refused(noisy, tmp_path / "m.onnx", ExportConfig(), WeightsError)


class Centred(nn.Module):
    """Takes the mean of all it sees, so that padding shows; refuses other sides than of 8."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[-1] % 8 == 0
        return x - x.mean((2, 3), keepdim=True)


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_files_pad_as_our_runtime_does(tmp_path: Path) -> None:
    network = Network(module=Centred(), name="centred", scale=1, halo=0, multiple=8)
    path, picture = tmp_path / "model.pt", draw(3, 18, 20)
    export_network(network, path, ExportConfig(format="torchscript", size=(20, 18)))
    padded = nn.functional.pad(picture, (0, 4, 0, 6), mode="reflect")
    assert_same(run_script(path, picture), expected(network, padded)[..., :18, :20])


def test_an_existing_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"mine")
    config = ExportConfig(format="torchscript")
    assert "--force" in refused(small_span(), path, config, SinkError)
    assert path.read_bytes() == b"mine"
    export_network(small_span(), path, ExportConfig(format="torchscript", overwrite=True))
    assert path.read_bytes() != b"mine"


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    line = refused(small_span(), tmp_path / "model.onnx", ExportConfig(), ConfigError)
    assert "needs the extra export: pip install onnx" in line
    assert package in line
    export_network(small_span(), tmp_path / "model.pt", ExportConfig(format="torchscript"))


# The command.


def test_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["export", "span", "--format", "onnx", "--size", "20x18"]
    assert models.main([*arguments, "--opset", "18"]) == 0
    out, err = capfd.readouterr()
    assert out.startswith("span-x2.onnx: span x2, opset 18; differs from our output by ")
    assert not err
    assert models.main(arguments) == 1
    assert models.main([*arguments, "--scale", "9"]) == 2
    _, err = capfd.readouterr()
    assert len(err.splitlines()) == 2
    with pytest.raises(SystemExit) as caught:
        models.main([*arguments, "--size", "0x4"])
    assert caught.value.code == 2
    (source,) = {p.value for p in onnx.load("span-x2.onnx").metadata_props if p.key == "source"}
    assert source == "span-x2"


def test_command_with_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(small_span().module.state_dict(), "mine.pth")
    assert models.main(["export", "mine.pth", "--format", "torchscript"]) == 0
    assert capsys.readouterr().out.startswith("mine.pt: span x2; differs")
    assert (tmp_path / "mine.pt").is_file()
