"""The benchmarks run and print what they promise; no figure is judged here."""

import json
import re

import pytest
import torch
from PIL import Image


def test_attention(scripts, monkeypatch, capsys, tmp_path):
    bench = scripts("bench_attention")
    monkeypatch.setattr(bench, "SHAPES", ((2, 64, 24, 16),))
    monkeypatch.setattr(bench, "FRAME", (20, 36))
    out = tmp_path / "out.json"
    monkeypatch.setattr("sys.argv", ["bench", "--device", "cpu", "--json", str(out)])
    assert bench.main() == 0
    lines = capsys.readouterr().out.splitlines()
    rows = json.loads(out.read_text())
    assert len(rows) == 2 * (1 + 1 + 6)
    assert sum(bool(re.search(r": \d+\.\d\d times as fast$", x)) for x in lines) == len(rows)
    assert all(row["ratio"] > 0 for row in rows)


def test_networks(scripts, monkeypatch, capsys, tmp_path):
    bench = scripts("bench_networks")
    out = tmp_path / "out.json"
    arguments = ["--size", "20x12", "--device", "cpu", "--only", "spanf", "esc-fp", "esc-lte"]
    monkeypatch.setattr("sys.argv", ["bench", *arguments, "--json", str(out)])
    assert bench.main() == 0
    rows = {row["variant"]: row for row in json.loads(out.read_text())}
    assert set(rows) == {"span", "spanf", "esc-fp", "esc-lte"}
    assert rows["span"]["parameters"] == 410_700
    assert rows["esc-fp"]["parameters"] == 523_675
    assert rows["span"]["kmac"] == pytest.approx(410, abs=1)  # facts of the published network
    assert rows["span"]["attention_kmac"] == 0
    assert len(capsys.readouterr().out.splitlines()) == 3 + len(rows)


def test_every_variant_is_in_the_table(scripts):
    bench = scripts("bench_networks")
    names = [name for name, network in bench.networks() if network.module is not None]
    assert len(names) == len(set(names))
    assert {"span", "spanplus", "esc-real", "esc-lte", "sst-xl+", "sst-real"} <= set(names)


@pytest.mark.parametrize(("model", "exact"), [("span", True), ("sst", False)])
def test_tiles(scripts, monkeypatch, capsys, tmp_path, model, exact):
    bench = scripts("bench_tiles")
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(136, 200, 3, generator=generator).mul(60).add(100).byte()
    Image.fromarray(noise.numpy()).save(tmp_path / "a.png")
    monkeypatch.setattr(
        "sys.argv", ["bench", model, str(tmp_path), "--tiles", "32", "--device", "cpu"]
    )
    assert bench.main() == 0
    line = capsys.readouterr().out.splitlines()[-1]
    found = re.search(r"tiles of +32: +([\d.]+|inf) dB to the whole frame, ([+-][\d.]+) dB", line)
    assert found
    assert (float(found[1]) > 90) == exact


def test_vapoursynth(scripts, monkeypatch, capsys, tmp_path):
    """What is measured is the filter and the command; vs-mlrt's plugins are seldom here."""
    bench = scripts("bench_vapoursynth")
    out = tmp_path / "out.json"
    arguments = ["--size", "48x32", "--frames", "6", "--rounds", "1", "--options", "batch_size=2"]
    monkeypatch.setattr("sys.argv", ["bench", *arguments, "--json", str(out)])
    assert bench.main() == 0
    found = json.loads(out.read_text())
    assert found["fps"]["filter"] > 0
    assert found["ratios"]["command"] == found["fps"]["filter"] / found["fps"]["command"]
    assert re.search(r"filter / command: \d+\.\d{3} \(6 frames of 48x32\)", capsys.readouterr().out)


def test_scripts_for_plugins_are_those_of_their_users(scripts):
    bench = scripts("bench_vapoursynth")
    for call in bench.PLUGINS.values():
        text = bench.MLRT.format(call=call.format(path="model.onnx"))
        compile(text, "script.vpy", "exec")
        assert "format=vs.RGBS" in text
