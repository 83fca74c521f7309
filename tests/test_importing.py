import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from vsr.checkpoints import read_checkpoint
from vsr.cli import models
from vsr.comparing import draw
from vsr.converting.importing import import_checkpoint
from vsr.errors import (
    ConfigError,
    CorruptWeightsError,
    SinkError,
    UnknownArchitectureError,
    VsrError,
    WeightsError,
)
from vsr.networks.blocks import branches
from vsr.networks.span import Span, SpanConfig
from vsr.networks.spanf import SpanF, SpanFConfig
from vsr.networks.spanv2 import SpanV2, SpanV2Config
from vsr.networks.sst import Sst, SstConfig
from vsr.weights import load_network

State = dict[str, Tensor]
CONFIG = SpanConfig(channels=6, fused_channels=6, blocks=2)


def published(state: Mapping[str, Tensor], config: SpanConfig, x: Tensor) -> Tensor:
    """SPAN as its authors train it, branches and all, in float64."""
    state = {name: value.double() for name, value in state.items()}

    def layer(x: Tensor, name: str) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def site(x: Tensor, name: str) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1))
        chain = layer(layer(layer(padded, f"{name}.conv.0"), f"{name}.conv.1"), f"{name}.conv.2")
        return chain + layer(x, f"{name}.sk")

    x = x.double()
    if config.norm:
        x = (x - x.new_tensor(config.mean).view(1, -1, 1, 1)) * config.img_range
    features = hidden = site(x, "conv_1")
    outputs = []
    for index in range(1, config.blocks + 1):
        first = F.silu(site(hidden, f"block_{index}.c1_r"))
        last = site(F.silu(site(first, f"block_{index}.c2_r")), f"block_{index}.c3_r")
        hidden = (last + hidden) * (torch.sigmoid(last) - 0.5)
        outputs.append(hidden)
    joined = torch.cat([features, site(hidden, "conv_2"), outputs[0], first], 1)
    fused = F.pad(layer(joined, "conv_cat"), (1, 1, 1, 1))
    return F.pixel_shuffle(layer(fused, "upsampler.0"), config.scale)


def run(path: Path, picture: Tensor) -> Tensor:
    with torch.no_grad():
        out: Tensor = load_network(path).module(picture)
    return out


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "model.pth"
    torch.save({"params_ema": branches(Span(CONFIG).state_dict())}, path)
    return path


# What is written.


@pytest.mark.parametrize("norm", [True, False])
def test_a_training_checkpoint_gives_what_its_branches_give(tmp_path: Path, norm: bool) -> None:
    config = SpanConfig(channels=6, fused_channels=6, blocks=2, norm=norm)
    state = branches(Span(config).state_dict())
    path = tmp_path / "model.pth"
    torch.save({"params": state}, path)
    done = import_checkpoint(path)
    assert done.path == tmp_path / "model.safetensors"
    assert (done.architecture, done.scale) == ("span", 2)
    picture = draw(3, 30, 26)
    expected = published(state, config, picture)
    apart = (run(done.path, picture) - expected).abs().max() / expected.std()
    assert apart < 1e-4
    assert done.difference < 1e-4
    written, _ = read_checkpoint(done.path)
    assert set(written) == set(Span(config).state_dict())


def test_metadata(checkpoint: Path) -> None:
    _, metadata = read_checkpoint(import_checkpoint(checkpoint).path)
    assert metadata == {
        "format": "pt", "arch": "span", "scale": "2", "source_file": "model.pth",
        "source_sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "norm": "mean", "rgb_mean": "[0.4488, 0.4371, 0.404]", "img_range": "255.0",
    }  # fmt: skip


def test_what_the_original_says_is_kept(tmp_path: Path) -> None:
    module = Span(SpanConfig(channels=6, fused_channels=6, blocks=2, mean=(0.5, 0.25, 0.75)))
    path, output = tmp_path / "model.safetensors", tmp_path / "out.safetensors"
    said = {"author": "someone", "licence": "MIT", "rgb_mean": "[0.5, 0.25, 0.75]", "scale": "7"}
    save_file(module.state_dict(), path, said)
    import_checkpoint(path, output)
    _, metadata = read_checkpoint(output)
    assert metadata.items() >= {"author": "someone", "licence": "MIT", "scale": "2"}.items()
    picture = draw(3, 12, 9)
    with torch.no_grad():
        assert torch.equal(run(output, picture), module(picture))


def test_normalisation_that_only_metadata_tells(tmp_path: Path) -> None:
    module = Span(SpanConfig(channels=6, fused_channels=6, blocks=2, norm=False))
    state = {name: value for name, value in module.state_dict().items() if name != "no_norm"}
    path, output = tmp_path / "model.safetensors", tmp_path / "out.safetensors"
    save_file(state, path, {"norm": "none"})
    import_checkpoint(path, output)
    picture = draw(3, 12, 9)
    with torch.no_grad():
        assert torch.equal(run(output, picture), module(picture))


def test_other_networks(tmp_path: Path) -> None:
    picture = draw(3, 12, 9)
    for module in (SpanF(SpanFConfig(channels=6)), SpanV2(SpanV2Config(channels=6))):
        path = tmp_path / f"{type(module).__name__}.pth"
        torch.save(module.state_dict(), path)
        done = import_checkpoint(path)
        assert done.architecture == type(module).__name__.lower()
        with torch.no_grad():
            assert torch.equal(run(done.path, picture), module(picture))


def test_windows_are_written_down(tmp_path: Path) -> None:
    """They leave no trace in the shapes; without the metadata, the file could not be read."""
    config = SstConfig(
        channels=12, blocks=1, windows=(8, 4), heads=3, ranks=(4, 4), hidden=8, inner=18
    )
    module = Sst(config).eval()
    path, output = tmp_path / "model.safetensors", tmp_path / "out.safetensors"
    save_file(module.state_dict(), path, {"windows": "8,4"})
    import_checkpoint(path, output)
    _, metadata = read_checkpoint(output)
    assert metadata["windows"] == "8,4"
    assert "file_name" not in metadata
    picture = draw(3, 20, 17)
    with torch.no_grad():
        assert torch.equal(run(output, picture), module(picture))


def test_half_precision_rounds_and_says_so(checkpoint: Path, tmp_path: Path) -> None:
    single = import_checkpoint(checkpoint)
    half = import_checkpoint(checkpoint, tmp_path / "half.safetensors", half=True)
    written, _ = read_checkpoint(half.path)
    assert {value.dtype for value in written.values()} == {torch.float16}
    assert single.difference < 1e-4 < half.difference < 0.05


def test_the_variant_that_is_named_is_kept(checkpoint: Path) -> None:
    _, metadata = read_checkpoint(import_checkpoint(checkpoint, variant="span-s").path)
    assert metadata["variant"] == "span-s"
    assert "requested_variant" not in metadata


def test_published_weights(tmp_path: Path, shared: Path) -> None:
    """The authors' weights again, from branches: folding them gives back what they fold to."""
    path = shared / "weights" / "spanx2_ch48.safetensors"
    state, _ = read_checkpoint(path)
    training = tmp_path / "training.pth"
    torch.save({"params": branches(state)}, training)
    imported = import_checkpoint(training)
    assert imported.difference < 1e-4
    picture = draw(3, 40, 36)
    expected = run(path, picture)
    assert (run(imported.path, picture) - expected).abs().max() < 1e-3 * expected.std()


# What is refused; nothing is left then.


def refused(
    path: Path, kind: type[VsrError], *, overwrite: bool = False, half: bool = False
) -> str:
    before = sorted(path.parent.iterdir())
    with pytest.raises(VsrError) as caught:
        import_checkpoint(path, overwrite=overwrite, half=half)
    assert type(caught.value) is kind, repr(caught.value)
    assert sorted(path.parent.iterdir()) == before
    return str(caught.value)


def test_an_existing_file_stays(checkpoint: Path) -> None:
    output = checkpoint.with_suffix(".safetensors")
    output.write_bytes(b"mine")
    assert "already exists; --force" in refused(checkpoint, SinkError)
    assert output.read_bytes() == b"mine"
    import_checkpoint(checkpoint, overwrite=True)
    assert load_network(output).name == "span"


def test_an_existing_file_stays_if_its_replacement_fails(checkpoint: Path) -> None:
    output = checkpoint.with_suffix(".safetensors")
    output.write_bytes(b"mine")
    checkpoint.write_bytes(checkpoint.read_bytes()[:999])
    refused(checkpoint, CorruptWeightsError, overwrite=True)
    assert output.read_bytes() == b"mine"


def test_a_file_is_not_replaced_by_itself(checkpoint: Path) -> None:
    path = import_checkpoint(checkpoint).path
    assert "name another" in refused(path, ConfigError, overwrite=True)


def test_checkpoints_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    refused(path, WeightsError)
    torch.save({"model.0.weight": torch.ones(1)}, path)
    refused(path, UnknownArchitectureError)
    path = tmp_path / "model.param"
    path.write_text("7767517\n0 0\n")
    assert "model.bin" in refused(path, WeightsError)


def test_folders_that_are_not_there(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="No such file"):
        import_checkpoint(checkpoint, tmp_path / "none" / "out.safetensors")


def test_weights_that_half_precision_cannot_hold(tmp_path: Path) -> None:
    module = Span(CONFIG)
    module.conv_cat.weight.data[0, 0] = 1e5
    path = tmp_path / "model.pth"
    torch.save(module.state_dict(), path)
    line = refused(path, WeightsError, half=True)
    assert "not written: conv_cat.weight holds values beyond 65504" in line
    import_checkpoint(path)


def test_networks_that_fit_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    config = SpanConfig(
        channels=6, fused_channels=6, blocks=2, in_channels=4, out_channels=4, norm=False
    )
    torch.save(Span(config).state_dict(), path)
    assert "a network from 4 to 4 channels" in refused(path, WeightsError)


def test_a_training_that_has_diverged(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    state = branches(Span(CONFIG).state_dict())
    torch.save({name: value * float("nan") for name, value in state.items()}, path)
    assert "the training has diverged" in refused(path, CorruptWeightsError)


# The command.


def test_command(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkpoint.parent)
    assert models.main(["import", "model.pth"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("model.safetensors: span x2; differs from model.pth by ")
    assert not err
    assert models.main(["import", "model.pth"]) == 1
    assert models.main(["import", "model.safetensors"]) == 2
    assert models.main(["import", "model.pth", "-o", "b.safetensors", "--half"]) == 0
    assert models.main(["import", "model.pth", "--force"]) == 0
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert [line.split(":")[:3] for line in lines] == [
        ["vsr-models", " error", " model.safetensors"]
    ] * 2
    files = {path.name for path in checkpoint.parent.iterdir()}
    assert files == {"model.pth", "model.safetensors", "b.safetensors"}
