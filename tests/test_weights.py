import argparse
import hashlib
import os
import pickle
import re
import shutil
import tomllib
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vsr import index as index_module
from vsr.checkpoints import read_checkpoint
from vsr.converting.exporting import ExportConfig, export_network
from vsr.converting.importing import import_checkpoint
from vsr.errors import (
    ConfigError,
    CorruptWeightsError,
    UnknownArchitectureError,
    VsrError,
    WeightsError,
)
from vsr.index import find_model, list_models, models_folder
from vsr.networks import ARCHITECTURES, Network, describe
from vsr.networks.blocks import branches
from vsr.networks.conv_attention import average_large_kernel
from vsr.networks.esc import Esc, EscConfig
from vsr.networks.esc_lte import EscLte
from vsr.networks.span import Span, SpanConfig
from vsr.networks.spanf import SpanF, SpanFConfig
from vsr.networks.spanplus import SpanPlus, SpanPlusConfig
from vsr.networks.spanv2 import SpanV2, SpanV2Config
from vsr.networks.sst import Sst, SstConfig
from vsr.networks.sst_real import SstReal, SstRealConfig
from vsr.upscaler import Upscaler
from vsr.weights import load_network

State = dict[str, Tensor]
CONFIG = SpanConfig(channels=6, fused_channels=6, blocks=2)


@pytest.fixture
def state() -> State:
    return Span(CONFIG).state_dict()


@pytest.fixture
def picture() -> Tensor:
    return torch.rand(1, 3, 9, 8)


def run(network: Network, picture: Tensor) -> Tensor:
    with torch.no_grad():
        out: Tensor = network.module(picture)
    return out


def expected(state: State, picture: Tensor, config: SpanConfig = CONFIG) -> Tensor:
    network = Span(config)
    network.load_state_dict(state)
    with torch.no_grad():
        out: Tensor = network(picture)
    return out


def error_line(path: Path, kind: type[VsrError]) -> str:
    """The message of the error that loading ``path`` raises: one line that names the file."""
    with pytest.raises(VsrError) as caught:
        load_network(path)
    assert type(caught.value) is kind, repr(caught.value)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    assert "weights_only" not in line
    assert "loading state_dict" not in line  # PyTorch's words
    assert len(line) < len(str(path)) + 200
    return line.removeprefix(f"{path}: ")


# Layouts and wrappers.


WRAPPERS: dict[str, Callable[[State], Any]] = {
    "raw": lambda s: s,
    "params": lambda s: {"params": s},
    "params_ema": lambda s: {"params": {k: v + 1 for k, v in s.items()}, "params_ema": s},
    "state_dict": lambda s: {"state_dict": s, "epoch": 3, "optimizer": {"lr": 1e-3}},
    "model": lambda s: {"model": s},
    "module.": lambda s: {f"module.{k}": v for k, v in s.items()},
    "params, module.": lambda s: {"params": {f"module.{k}": v for k, v in s.items()}},
}


def prefixed(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": value for name, value in state.items()}


def under(key: str) -> Callable[[State], Any]:
    return lambda state: {"epoch": 3, key: state}


def behind(prefix: str) -> Callable[[State], Any]:
    return lambda state: prefixed(prefix, state)


OTHERS: dict[str, Callable[[State], Any]] = {
    **{
        key: under(key)
        for key in (
            "params-ema", "ema", "model_state_dict", "sd", "net_g", "generator", "network", "net",
        )
    },
    **{
        prefix: behind(prefix)
        for prefix in (
            "_orig_mod.", "net_g.", "netG.", "generator.", "model.", "module._orig_mod.",
            "_orig_mod.module.", "model._orig_mod.", "net_g.module.", "module.generator.",
        )
    },
    "inside": lambda s: {k.replace("conv_cat.", "conv_cat._orig_mod."): v for k, v in s.items()},
    "Lightning": lambda s: {
        "state_dict": prefixed("model.", s) | {"loss.vgg.0.weight": torch.ones(2)},
        "pytorch-lightning_version": "2.5", "hyper_parameters": {"lr": 1e-4},
    },
    "GAN": lambda s: prefixed("generator.", s) | {"discriminator.0.weight": torch.ones(2)},
    "a wrapper in any other": lambda s: {"net": {"model": {"params": prefixed("model.", s)}}},
    "an empty one before": lambda s: {"params_ema": {}, "ema": {"decay": 0.999}, "params": s},
    "thop": lambda s: {
        "params": s | {"total_ops": torch.zeros(1), "conv_cat.total_params": torch.zeros(1)}
    },
    "module. and thop": lambda s: prefixed("module.", s | {"total_ops": torch.zeros(1)}),
}  # fmt: skip


@pytest.mark.parametrize("layout", OTHERS)
def test_layouts_of_other_trainers(
    tmp_path: Path, state: State, picture: Tensor, layout: str
) -> None:
    path = tmp_path / "model.pth"
    torch.save(OTHERS[layout](state), path)
    network = load_network(path)
    assert torch.equal(run(network, picture), expected(state, picture))


SAVED: dict[str, Callable[[torch.nn.Module], Any]] = {
    "named_parameters": lambda m: dict(m.named_parameters()),
    "keep_vars": lambda m: {"params": m.state_dict(keep_vars=True)},
}


@pytest.mark.parametrize("saved", SAVED)
def test_parameters_are_read_as_plain_tensors(tmp_path: Path, picture: Tensor, saved: str) -> None:
    path, original = tmp_path / "model.pth", Span(CONFIG)
    torch.save(SAVED[saved](original), path)
    state, _ = read_checkpoint(path)
    assert {type(tensor) for tensor in state.values()} == {Tensor}
    assert not any(tensor.requires_grad for tensor in state.values())
    enlarged = Upscaler(weights=path, device="cpu", precision="fp32", runtime="torch")(picture[0])
    want = expected(original.state_dict(), picture)
    torch.testing.assert_close(enlarged, want[0], rtol=1e-4, atol=1e-4)
    import_checkpoint(path, tmp_path / "imported.safetensors")
    assert torch.equal(run(load_network(tmp_path / "imported.safetensors"), picture), want)


ORDER = [
    "params_ema", "params-ema", "ema", "params", "state_dict", "model_state_dict", "model", "sd",
    "net_g", "generator", "network", "net",
]  # fmt: skip


@pytest.mark.parametrize("first", range(len(ORDER)))
def test_wrappers_have_an_order(tmp_path: Path, first: int) -> None:
    path = tmp_path / "model.pth"
    wrapped = {key: {"weight": torch.full((1,), i)} for i, key in enumerate(ORDER) if i >= first}
    torch.save(dict(reversed(wrapped.items())), path)
    assert read_checkpoint(path)[0]["weight"] == first


def test_the_order_of_wrappers_is_documented() -> None:
    quoted = ", ".join(f"`{key}`" for key in ORDER)
    text = (Path(__file__).parents[1] / "docs" / "models.md").read_text(encoding="utf-8")
    assert quoted in " ".join(text.split())
    assert quoted.replace("`", "``") in " ".join((read_checkpoint.__doc__ or "").split())


def test_a_dict_that_holds_itself(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    content: dict[str, Any] = {"epoch": 1}
    content["model"] = content["params"] = content["net"] = content
    torch.save(content, path)
    assert "its keys are epoch, model, params, net" in error_line(path, CorruptWeightsError)


@pytest.mark.parametrize("layout", ["folded", "training", "training with a stale kernel"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_every_layout_gives_the_same_picture(
    tmp_path: Path, state: State, picture: Tensor, wrapper: str, layout: str
) -> None:
    stored = state
    if layout != "folded":
        stored = branches(state)
    if layout == "training with a stale kernel":
        stored |= {k: v * 0 for k, v in state.items() if "eval_conv" in k}
    path = tmp_path / "model.pth"
    torch.save(WRAPPERS[wrapper](stored), path)
    network = load_network(path)
    torch.testing.assert_close(
        run(network, picture), expected(state, picture), rtol=1e-4, atol=1e-5
    )
    assert (network.name, network.scale, network.halo) == ("span", 2, 9)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".ckpt"])
def test_safetensors_under_any_name(
    tmp_path: Path, state: State, picture: Tensor, suffix: str
) -> None:
    path = tmp_path / f"model{suffix}"
    save_file(state, path)
    assert torch.equal(run(load_network(path), picture), expected(state, picture))


def test_legacy_pth(tmp_path: Path, state: State, picture: Tensor) -> None:
    path = tmp_path / "old.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert torch.equal(run(load_network(path), picture), expected(state, picture))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(
    tmp_path: Path, state: State, picture: Tensor, dtype: torch.dtype
) -> None:
    path = tmp_path / "model.safetensors"
    save_file({k: v.to(dtype) for k, v in state.items()}, path)
    network = load_network(path)
    assert {p.dtype for p in network.module.parameters()} == {torch.float32}
    rounded = {k: v.to(dtype).float() for k, v in state.items()}
    assert torch.equal(run(network, picture), expected(rounded, picture))


def test_each_architecture_loads(tmp_path: Path, picture: Tensor) -> None:
    esc = EscConfig(
        channels=8, blocks=1, convolutions=1, window=8, heads=1, large_channels=4, kernel=5,
        kernel_hidden=2, inner=8, projection_inner=8,
    )  # fmt: skip
    modules = {
        "esc": Esc(esc),
        "esc-lte": EscLte(replace(esc, scale=0, ending="features")),
        "sst": Sst(SstConfig(channels=8, blocks=1, windows=(8,), heads=1, ranks=(8,), inner=8)),
        "sst-real": SstReal(
            SstRealConfig(
                channels=8,
                blocks=2,
                windows=(8,),
                heads=1,
                ranks=(8,),
                inner=8,
                embedding=8,
                noise_channels=8,
                middle=4,
                fused=1,
            )
        ),
        "span": Span(CONFIG),
        "spanf": SpanF(SpanFConfig(channels=6)),
        "spanplus": SpanPlus(SpanPlusConfig(channels=8)),
        "spanv2": SpanV2(SpanV2Config(channels=6)),
    }
    assert set(modules) == {a.name for a in ARCHITECTURES}
    for name, module in modules.items():
        path = tmp_path / f"{name}.safetensors"
        state = average_large_kernel(module.state_dict())
        module.load_state_dict(state)
        windowed = name.startswith("sst")
        save_file({k: v.contiguous() for k, v in state.items()}, path,
                  {"windows": "8"} if windowed else None)  # fmt: skip
        network = load_network(path)
        assert network.name == name
        size = () if network.scale else ((30, 40),)
        with torch.no_grad():
            found, wanted = network.module(picture, *size), module(picture, *size)
        assert torch.allclose(found, wanted, atol=1e-4)  # the large kernel is averaged twice


def test_the_layout_of_esc_lte(tmp_path: Path) -> None:
    config = EscConfig(
        scale=0, ending="features", channels=8, blocks=1, convolutions=1, window=8, heads=1,
        large_channels=4, kernel=5, kernel_hidden=2, inner=8, projection_inner=8,
    )  # fmt: skip
    state = average_large_kernel(EscLte(config).state_dict())
    path = tmp_path / "lte.pth"
    torch.save({"model": {"name": "lte", "args": {"imnet_spec": {}}, "sd": state}}, path)
    network = load_network(path)
    assert (network.name, network.scale) == ("esc-lte", 0)


@pytest.mark.parametrize("marked", [True, False])
def test_networks_without_normalisation(tmp_path: Path, picture: Tensor, marked: bool) -> None:
    """Told by the buffer ``no_norm``, or by the file's metadata alone."""
    config = SpanConfig(channels=6, fused_channels=6, norm=False)
    module = Span(config)
    stored = {k: v for k, v in module.state_dict().items() if marked or k != "no_norm"}
    path = tmp_path / "model.safetensors"
    save_file(stored, path, None if marked else {"norm": "none"})
    with torch.no_grad():
        assert torch.equal(run(load_network(path), picture), module(picture))


def test_normalisation_of_the_metadata_is_used(tmp_path: Path, picture: Tensor) -> None:
    config = SpanConfig(channels=6, fused_channels=6, mean=(0.5, 0.25, 0.75), img_range=1.0)
    module = Span(config)
    path = tmp_path / "model.safetensors"
    metadata = {"norm": "mean", "rgb_mean": "[0.5, 0.25, 0.75]", "img_range": "1.0"}
    save_file(module.state_dict(), path, metadata)
    with torch.no_grad():
        assert torch.equal(run(load_network(path), picture), module(picture))


def test_networks_of_one_channel(tmp_path: Path) -> None:
    config = SpanConfig(channels=6, fused_channels=6, in_channels=1, out_channels=1, norm=False)
    path = tmp_path / "luma.safetensors"
    save_file(Span(config).state_dict(), path)
    assert load_network(path).in_channels == 1


def test_loaded_networks_are_for_inference(tmp_path: Path, state: State) -> None:
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    module = load_network(path).module
    assert not module.training
    assert not any(p.requires_grad for p in module.parameters())
    assert {t.device.type for t in (*module.parameters(), *module.buffers())} == {"cpu"}


def test_loading_leaves_the_random_state_alone(tmp_path: Path, state: State) -> None:
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    before = torch.get_rng_state()
    load_network(path)
    assert torch.equal(torch.get_rng_state(), before)


# Files that run code.


class Payload:
    """Creates a file when unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", [None, 0, 2, 4, 5])
@pytest.mark.parametrize("name", ["model.pth", "model.ckpt", "model.safetensors"])
def test_code_in_a_pickle_does_not_run(
    tmp_path: Path, state: State, protocol: int | None, name: str
) -> None:
    path, evidence = tmp_path / name, tmp_path / "evidence"
    content = {"params": state, "extra": Payload(f"touch {evidence}")}
    if protocol is None:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol))
    line = error_line(path, CorruptWeightsError)
    assert not evidence.exists()
    if protocol is None and not name.endswith("safetensors"):
        assert "would run code" in line
    # The test is worth something: plain unpickling does run it.
    if protocol == 2:
        pickle.loads(pickle.dumps(Payload(f"touch {evidence}"), 2))
        assert evidence.exists()


def test_archives_that_climb_out(tmp_path: Path, state: State) -> None:
    """Names in an archive are no paths: nothing is written, wherever they lead."""
    path = tmp_path / "a" / "b" / "model.pth"
    path.parent.mkdir(parents=True)
    torch.save(state, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for prefix in ("../../up", "/tmp/up", "..\\..\\up"):
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(f"{prefix}/{name.partition('/')[2]}", content)
        before = sorted(tmp_path.rglob("*"))
        with suppress(CorruptWeightsError):
            assert read_checkpoint(path)[0].keys() == state.keys()
        assert sorted(tmp_path.rglob("*")) == before
        assert not Path("/tmp/up").exists()


def test_archives_that_are_bombs(tmp_path: Path, state: State) -> None:
    plain, path = tmp_path / "plain.pth", tmp_path / "model.pth"
    torch.save({**state, "bomb": torch.zeros(1 << 24)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name in source.namelist():
            out.writestr(name, source.read(name))
    assert path.stat().st_size < plain.stat().st_size / 20
    assert "bytes are packed into it" in error_line(path, CorruptWeightsError)


def test_a_few_values_repeated_into_large_tensors(tmp_path: Path, state: State) -> None:
    """Thirteen kilobytes that stand for gigabytes."""
    path = tmp_path / "large.pth"
    torch.save({name: torch.zeros(1).expand(value.shape) for name, value in state.items()}, path)
    assert "is larger than its values in the file" in error_line(path, CorruptWeightsError)


def test_whole_modules_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(torch.nn.Linear(2, 2), path)
    assert "objects other than tensors" in error_line(path, CorruptWeightsError)


@pytest.mark.parametrize("archive", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    ("beside", "name"),
    [(argparse.Namespace(lr=1), "argparse.Namespace"), (np.float64(3.2), r"numpy\.[\w.]+\.scalar")],
)
def test_objects_beside_the_weights(
    tmp_path: Path, state: State, beside: Any, name: str, archive: bool
) -> None:
    path = tmp_path / "model.pth"
    content = {"params": state, "beside": beside}
    torch.save(content, path, _use_new_zipfile_serialization=archive)
    assert re.fullmatch(
        rf"refused: it holds objects other than tensors \({name}\), and loading them would run "
        r"code; save the state dict alone: torch\.save\(model\.state_dict\(\), …\)",
        error_line(path, CorruptWeightsError),
    )


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_torchscript_is_called_that(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    config = ExportConfig(format="torchscript", size=(16, 16))
    export_network(describe("span", Span(CONFIG).eval(), CONFIG), path, config)
    line = error_line(path, CorruptWeightsError)
    assert line.startswith("a TorchScript file, not a state dict; save the state dict alone")


def test_programs_of_torch_export_are_called_that(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/archive_format", "pt2")
    assert "made by torch.export, not a state dict" in error_line(path, CorruptWeightsError)


@pytest.mark.parametrize("name", ["model.onnx", "model.pth"])
@pytest.mark.parametrize("producer", [b"\x12\x07pytorch", b""])
def test_onnx_is_called_that(tmp_path: Path, name: str, producer: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x08\x0a" + producer + b':3\n\x0c\n\x01x\x12\x01y"\x04Relu\x12\x01g')
    assert "an ONNX file, not a state dict" in error_line(path, CorruptWeightsError)


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth"])
@pytest.mark.parametrize("text", [b'\n<!DOCTYPE html>\n<html lang="en">', b"<html><head>"])
def test_a_page_is_called_that(tmp_path: Path, name: str, text: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(text + bytes(2000))
    assert "an HTML page, not weights" in error_line(path, CorruptWeightsError)


# Files that are no checkpoints.


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 1234\n"
TEXTS = [
    b"hello world, these are not weights\n", b"# Title\n\nSome text.\n", b"<html>\n</html>\n",
    b"(lp0\n.", b"{}", b"version: 1", b"PK\x03\x04", b"\x80\x02", b"\x80\x04\x95", b"\x00" * 100,
    b"vectors\n", b"1,2,3\n4,5,6\n",
]  # fmt: skip


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
def test_lfs_pointer(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(LFS)
    assert "git lfs pull" in error_line(path, CorruptWeightsError)


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.touch()
    assert "empty" in error_line(path, CorruptWeightsError)


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
@pytest.mark.parametrize("text", TEXTS)
def test_other_files(tmp_path: Path, name: str, text: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(text)
    line = error_line(path, CorruptWeightsError)
    assert "run code" not in line
    assert any(words in line for words in ("readable", "no tensors", "an HTML page"))


def test_random_bytes(tmp_path: Path, rng: Any) -> None:
    path = tmp_path / "model.pth"
    for _ in range(200):
        path.write_bytes(rng.bytes(int(rng.integers(1, 200))))
        error_line(path, CorruptWeightsError)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert "No such file" in error_line(tmp_path / "none.pth", WeightsError)
    assert "directory" in error_line(tmp_path, WeightsError)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_truncated_files(tmp_path: Path, state: State, kind: str, share: float) -> None:
    path = tmp_path / ("model.safetensors" if kind == "safetensors" else "model.pth")
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "readable" in error_line(path, CorruptWeightsError)


@pytest.mark.parametrize(
    "content", [[1, 2], {"a": 1}, {}, torch.ones(3), {"params": {}}, {"params": [1]}, None, 5]
)
def test_checkpoints_without_tensors(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "model.pth"
    torch.save(content, path)
    assert "no tensors" in error_line(path, CorruptWeightsError)


def test_weights_under_an_unknown_key(tmp_path: Path, state: State) -> None:
    path = tmp_path / "model.pth"
    torch.save({"epoch": 3, "my\nweights": state}, path)
    line = error_line(path, CorruptWeightsError)
    assert line == "no tensors with names, nor under a known key; its keys are epoch, my weights"
    torch.save({str(number): number for number in range(99)}, path)
    assert error_line(path, CorruptWeightsError).endswith("; its keys are 0, 1, 2, 3, 4, …")


# Checkpoints that do not fit.


def test_unknown_network(tmp_path: Path) -> None:
    path = tmp_path / "esrgan.safetensors"
    save_file({"model.0.weight": torch.ones(1), "model.1.bias": torch.ones(1)}, path)
    line = error_line(path, UnknownArchitectureError)
    assert "model.0.weight" in line
    assert "span" in line


def damaged(state: State) -> Iterator[tuple[str, State]]:
    def without(name: str) -> State:
        return {k: v for k, v in state.items() if k != name}

    def instead(name: str, value: Tensor) -> State:
        return {**state, name: value}

    yield "missing", without("block_2.c3_r.eval_conv.bias")
    yield "missing", without("conv_2.eval_conv.weight")
    yield "missing", without("upsampler.0.bias")
    yield "left over", instead("block_7.c9_r.weight", torch.ones(1))
    yield "left over", instead("head.weight", torch.ones(1))
    yield "shape", instead("conv_2.eval_conv.bias", torch.ones(5))
    yield "shape", instead("conv_2.eval_conv.weight", torch.ones(6, 6, 1, 1))
    yield "shape", instead("block_1.c1_r.eval_conv.weight", torch.ones(6, 7, 3, 3))
    yield "scale", instead("upsampler.0.weight", torch.ones(7, 6, 3, 3))
    yield "", instead("upsampler.0.weight", torch.tensor(1.0))
    yield "", instead("conv_1.eval_conv.weight", torch.ones(6))
    yield "", instead("conv_1.eval_conv.weight", torch.ones(0, 0, 3, 3))
    yield "", instead("conv_cat.weight", torch.ones(0, 24, 1, 1))


def test_damaged_checkpoints(tmp_path: Path, state: State) -> None:
    path = tmp_path / "model.safetensors"
    for word, content in damaged(state):
        save_file(content, path)
        line = error_line(path, CorruptWeightsError)
        assert "span" in line
        assert word in line, line


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite(
    tmp_path: Path, state: State, value: float, dtype: torch.dtype
) -> None:
    path = tmp_path / "model.safetensors"
    content = {name: tensor.to(dtype) for name, tensor in state.items()}
    content["conv_2.eval_conv.weight"].view(-1)[-1] = value
    save_file(content, path)
    assert error_line(path, CorruptWeightsError) == (
        f"NaN or infinity in 1 of its {len(state)} tensors (conv_2.eval_conv.weight): "
        "the training has diverged, or the file is damaged"
    )


def test_a_training_that_has_diverged(tmp_path: Path, state: State) -> None:
    path = tmp_path / "model.pth"
    training = branches(state)
    torch.save({"params": {name: v * float("nan") for name, v in training.items()}}, path)
    line = error_line(path, CorruptWeightsError)
    assert line.startswith(f"NaN or infinity in {len(training)} of its {len(training)} tensors (")
    assert ", …): the training has diverged" in line


def test_float64_that_becomes_infinite_in_float32(tmp_path: Path, state: State) -> None:
    path = tmp_path / "model.safetensors"
    content = {name: tensor.double() for name, tensor in state.items()}
    content["conv_cat.bias"][0] = 1e39
    save_file(content, path)
    assert "NaN or infinity in 1 of" in error_line(path, CorruptWeightsError)


@pytest.mark.parametrize("layout", ["folded", "training"])
@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        (torch.int8, "integers (torch.int8)"),
        (torch.int64, "integers (torch.int64)"),
        (torch.complex64, "complex numbers (torch.complex64)"),
    ],
)
def test_weights_that_are_no_real_numbers(
    tmp_path: Path, state: State, dtype: torch.dtype, words: str, layout: str
) -> None:
    path = tmp_path / "model.pth"
    content = state if layout == "folded" else branches(state)
    torch.save({name: tensor.to(dtype) for name, tensor in content.items()}, path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert f"holds {words}, not real numbers" in error_line(path, CorruptWeightsError)


def test_a_marker_may_be_of_any_type(tmp_path: Path) -> None:
    config = SpanConfig(channels=6, fused_channels=6, norm=False)
    path = tmp_path / "model.safetensors"
    save_file({**Span(config).state_dict(), "no_norm": torch.tensor([False])}, path)
    module: Any = load_network(path).module
    assert not module.config.norm


def test_damaged_training_checkpoints(tmp_path: Path, state: State) -> None:
    path = tmp_path / "model.safetensors"
    training = {k: v.contiguous() for k, v in branches(state).items()}
    for name in ("conv_1.conv.1.weight", "block_1.c2_r.conv.2.bias", "conv_2.sk.bias"):
        save_file({k: v for k, v in training.items() if k != name}, path)
        assert name in error_line(path, CorruptWeightsError)
        wrong = torch.ones(3, 2) if name.endswith("weight") else torch.ones(99)
        save_file({**training, name: wrong}, path)
        error_line(path, CorruptWeightsError)


def test_damaged_metadata(tmp_path: Path, state: State) -> None:
    path = tmp_path / "model.safetensors"
    for metadata in ({"img_range": "wide"}, {"rgb_mean": "[red]"}, {"rgb_mean": "[1.0, 2.0]"}):
        save_file(state, path, metadata)
        error_line(path, CorruptWeightsError)


@pytest.mark.parametrize(("inputs", "outputs"), [(4, 4), (1, 3), (3, 4)])
def test_networks_that_fit_no_picture(tmp_path: Path, inputs: int, outputs: int) -> None:
    config = SpanConfig(
        channels=6, fused_channels=6, in_channels=inputs, out_channels=outputs, norm=False
    )
    path = tmp_path / "model.safetensors"
    save_file(Span(config).state_dict(), path)
    assert "channels" in error_line(path, WeightsError)


def test_scale_that_a_file_has_not(tmp_path: Path, state: State) -> None:
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    assert load_network(path, scale=2).scale == 2
    with pytest.raises(ConfigError, match="enlarges 2 times, not 4"):
        load_network("span", scale=4, weights=path)


def test_metadata_is_returned(tmp_path: Path, state: State) -> None:
    path = tmp_path / "model.safetensors"
    save_file(state, path, {"author": "someone"})
    found, metadata = read_checkpoint(path)
    assert metadata == {"author": "someone"}
    assert set(found) == set(state)


# Models that ship.


def entries(folder: Path) -> list[Mapping[str, Any]]:
    index = tomllib.loads((folder / "index.toml").read_text(encoding="utf-8"))
    found: list[Mapping[str, Any]] = index.get("model", [])
    return found


def test_every_shipped_model_is_whole() -> None:
    for entry in entries(models_folder()):
        path = models_folder() / entry["file"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"], entry["name"]
        cards = [p for p in models_folder().glob("*.md") if p.stem == path.stem]
        assert cards, f"{entry['name']} has no card"
        network = load_network(entry["name"])
        assert network.scale == entry["scale"]
        assert network.name == entry["architecture"]
        state, _ = read_checkpoint(path)
        assert [a.name for a in ARCHITECTURES if a.detect(state)] == [entry["architecture"]]
        for key in ("family", "summary", "licence"):
            assert entry[key], f"{entry['name']} states no {key}"


def test_no_weights_without_an_entry() -> None:
    listed = {entry["file"] for entry in entries(models_folder())}
    assert {p.name for p in models_folder().glob("*.safetensors")} == listed


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of models to break: two scales of one family."""
    index = ""
    for scale in (4, 2):
        config = SpanConfig(channels=6, fused_channels=6, scale=scale)
        path = tmp_path / f"toy-x{scale}.safetensors"
        save_file(Span(config).state_dict(), path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        index += (
            f'[[model]]\nname = "toy-x{scale}"\nfamily = "toy"\nscale = {scale}\n'
            f'summary = "x"\nfile = "{path.name}"\nsha256 = "{digest}"\n'
        )
    (tmp_path / "index.toml").write_text(index)
    monkeypatch.setattr(index_module, "models_folder", lambda: tmp_path)
    list_models.cache_clear()
    yield
    list_models.cache_clear()


@pytest.mark.usefixtures("shelf")
def test_names_and_families() -> None:
    assert load_network("toy").scale == 2
    assert load_network("toy", scale=4).scale == 4
    assert load_network("toy-x4").scale == 4
    assert find_model("toy", None).name == "toy-x2"


@pytest.mark.usefixtures("shelf")
def test_a_scale_that_is_not_offered() -> None:
    with pytest.raises(ConfigError, match=r"'toy' has no scale 3; it has 2, 4 "):
        load_network("toy", scale=3)
    with pytest.raises(ConfigError, match=r"no scale 2; it has 4 "):
        load_network("toy-x4", scale=2)
    with pytest.raises(ConfigError, match=r"no scale 9; it has 2, 3, 4 "):
        load_network("lanczos", scale=9)


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tyo", r"'tyo'; did you mean toy\?"),
        ("waifu", "'waifu'; toy, identity, lanczos are here, and vsr-models list"),
        ("2xMine.pth", "'2xMine.pth'; if it is a file, give it as weights instead"),
    ],
)
def test_a_model_that_does_not_exist(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_network(name)


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize("position", [10, -1])
def test_a_damaged_copy_is_refused(tmp_path: Path, position: int) -> None:
    path = tmp_path / "toy-x2.safetensors"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptWeightsError, match="checksum") as caught:
        load_network("toy")
    assert str(path) in str(caught.value)


@pytest.mark.usefixtures("shelf")
def test_a_missing_or_unfetched_copy(tmp_path: Path) -> None:
    path = tmp_path / "toy-x2.safetensors"
    path.write_bytes(LFS)
    with pytest.raises(CorruptWeightsError, match="git lfs pull"):
        load_network("toy")
    path.unlink()
    with pytest.raises(WeightsError, match=re.escape(f"{path}: No such file")):
        load_network("toy")


def test_shipped_models_resist_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "models"
    shutil.copytree(models_folder(), folder)
    monkeypatch.setattr(index_module, "models_folder", lambda: folder)
    list_models.cache_clear()
    try:
        for entry in entries(folder):
            with (folder / entry["file"]).open("r+b") as file:
                file.seek(-1, 2)
                last = file.read(1)
                file.seek(-1, 2)
                file.write(bytes([last[0] ^ 1]))
            with pytest.raises(CorruptWeightsError):
                load_network(entry["name"])
    finally:
        list_models.cache_clear()


def test_classical_models_need_no_file() -> None:
    assert load_network("identity").scale == 1
    assert load_network("lanczos").scale == 2
    assert load_network("lanczos-x3").scale == 3
    assert load_network("lanczos", scale=4).scale == 4
    names = [model.name for model in list_models()]
    assert len(names) == len(set(names))
