import json
import math
from dataclasses import asdict
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

import vsr
from vsr.errors import ConfigError
from vsr.kernels import configurations
from vsr.kernels.block import Strip
from vsr.kernels.configurations import CONVOLUTIONS, ENDS, STRIPS, device_name, fastest, from_json
from vsr.kernels.convolution import ConvTile
from vsr.kernels.ends import EndTile
from vsr.kernels.span import Tiles
from vsr.networks import describe
from vsr.networks.span import Span, SpanConfig
from vsr.runtimes import EagerRuntime, triton

CPU = torch.device("cpu")


def test_tiles_survive_the_way_to_json_and_back() -> None:
    for tiles in (Tiles(), Tiles(ConvTile(4, 8, whole=True), EndTile(stages=4), Strip(64, 4))):
        assert from_json(json.loads(json.dumps(asdict(tiles)))) == tiles
    for wrong in ("null", "[]", "{}", '{"conv": {"rows": 1}}'):
        assert from_json(json.loads(wrong)) is None
    assert from_json({**asdict(Tiles()), "end": {"no": 1}}) is None


def test_the_fastest_of_each_kind_is_kept_and_what_fails_never() -> None:
    def time(tiles: Tiles) -> float:
        if tiles.strip == STRIPS[0]:
            return math.inf  # does not fit on this card
        conv, end = CONVOLUTIONS.index(tiles.conv), ENDS.index(tiles.end)
        return abs(conv - 2) + end + (0.5 if tiles.strip == STRIPS[1] else 1)

    assert fastest(Tiles(), lambda tiles: math.inf) is None
    found = fastest(Tiles(end=ENDS[1]), time)
    assert found == Tiles(CONVOLUTIONS[2], ENDS[0], STRIPS[1])


def test_what_other_kernels_took_is_not_remembered() -> None:
    assert device_name(CPU).endswith(f", vsr {vsr.__version__}")


# Right before fast.


class Kernels:
    """What stands for a device on which whole tiles of the second width come out wrong."""

    shape, scale = "4 channels", 2

    def __init__(self, wrong) -> None:
        self.tiles, self._wrong = Tiles(), wrong

    def rgb(self, picture):
        out = torch.nn.functional.interpolate(picture, scale_factor=2)
        if self._wrong(self.tiles):
            out = out.clone()
            out[..., -1] = 0  # a column that was left out
        return out + 1e-3 * torch.randn_like(out)


@pytest.fixture
def tuned(monkeypatch, tmp_path):
    """Tunes on a CPU, where earlier candidates are faster."""
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "models"))
    monkeypatch.setattr(torch.cuda, "device", lambda _: torch.inference_mode())
    monkeypatch.setattr(configurations, "_SAMPLE", (32, 48))
    monkeypatch.setattr(configurations, "device_name", lambda _: "none")
    count = iter(range(1000))

    def milliseconds(run, device) -> float:
        run()
        return float(next(count))

    monkeypatch.setattr(configurations, "milliseconds", milliseconds)

    def tune(wrong):
        kernels: Any = Kernels(wrong)
        found = configurations.tune(
            kernels, CPU, lambda picture: torch.nn.functional.interpolate(picture, scale_factor=2)
        )
        return found, kernels.tiles

    return tune


def test_what_computes_something_else_is_never_taken(tuned, caplog) -> None:
    found, tiles = tuned(lambda tiles: tiles.conv in CONVOLUTIONS[:2] or tiles.end == ENDS[0])
    assert (found, tiles.end) == (False, ENDS[0])  # each candidate is tried with the first end
    found, tiles = tuned(lambda tiles: tiles.conv in CONVOLUTIONS[:2])
    assert (found, tiles.conv) == (True, CONVOLUTIONS[2])
    assert "compute something else than PyTorch here" in caplog.text


def test_where_the_kernels_are_wrong_pytorch_runs(monkeypatch, caplog) -> None:
    config = SpanConfig(channels=8, scale=2)
    network = describe("span", Span(config).eval().requires_grad_(False), config)

    def refuse(*_):
        raise ConfigError("runtime triton: wrong")

    monkeypatch.setattr(triton, "TritonRuntime", refuse)
    assert type(triton.make_fastest(network, CPU, torch.float32)) is EagerRuntime
    assert "runtime triton: wrong: PyTorch runs the network" in caplog.text
