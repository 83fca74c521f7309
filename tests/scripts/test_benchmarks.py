"""The benchmarks run and print what they promise; no figure is judged here."""

import json
import re
import sys

import pytest
import torch
from PIL import Image

from vsr.networks import Network, classical


def test_attention(scripts, monkeypatch, capsys, tmp_path):
    bench = scripts("bench_attention")
    monkeypatch.setattr(bench, "SHAPES", ((2, 64, 24, 16),))
    monkeypatch.setattr(bench, "FRAME", (20, 36))
    turns = bench.in_turn
    monkeypatch.setattr(bench, "in_turn", lambda calls, device, _: turns(calls, device, 1))
    out = tmp_path / "out.json"
    monkeypatch.setattr("sys.argv", ["bench", "--device", "cpu", "--json", str(out)])
    assert bench.main() == 0
    lines = capsys.readouterr().out.splitlines()
    rows = json.loads(out.read_text())
    assert len(rows) == 2 * (1 + 1 + 6)
    assert sum(bool(re.search(r": \d+\.\d\d times as fast$", x)) for x in lines) == len(rows)
    assert all(row["ratio"] > 0 for row in rows)


@pytest.mark.slow
def test_paper_beside_ours(scripts, monkeypatch, capsys, tmp_path):
    bench = scripts("bench_networks")
    out = tmp_path / "out.json"
    arguments = ["--paper", "--frame", "48x36", "--device", "cpu", "--only", "sst-light"]
    monkeypatch.setattr("sys.argv", ["bench", *arguments, "--json", str(out)])
    assert bench.main() == 0
    rows = json.loads(out.read_text())
    assert [(row["scale"], row["paper_ms"]) for row in rows] == [(2, 191.9), (3, 69.2), (4, 36.5)]
    assert all(row["milliseconds"] == row["eager_ms"] > 0 for row in rows)  # no graph on a CPU
    assert "48x36 on cpu" in capsys.readouterr().out


def test_precision(scripts, monkeypatch, capsys, tmp_path):
    """In float32 two ways are equal, bf16 is not; what is not here is said."""
    bench = scripts("bench_precision")
    for folder, side in (("HR", 49), ("LRx2", 24)):
        (tmp_path / folder).mkdir()
        picture = torch.arange(side * side * 3).remainder(251).byte().reshape(side, side, 3)
        Image.fromarray(picture.numpy()).save(tmp_path / folder / "a.png")
    out = tmp_path / "out.json"
    ways = ["torch:fp32", "torch:bf16", "triton:fp16", "torch:fp32"]
    arguments = [str(tmp_path), "--models", "span", "--device", "cpu", "--ways", *ways]
    monkeypatch.setattr("sys.argv", ["bench", *arguments, "--json", str(out)])
    assert bench.main() == 0
    exact, rounded, again = json.loads(out.read_text())
    assert exact["apart"] == again["apart"] == 0
    assert 0 < abs(rounded["apart"]) < 1
    assert rounded["apart"] == rounded["psnr"] - exact["psnr"]
    assert re.search(r"triton:fp16 +is left out: runtime triton: ", capsys.readouterr().out)


def test_precision_on_the_sample(scripts):
    low, high = scripts("bench_precision").pairs_of(None, 3)[2]
    assert [2 * side for side in low.shape[-2:]] == [*high.shape[-2:]]
    assert low.dtype == high.dtype == torch.uint8
    enlarged = low.float().repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert (enlarged - high.float()).abs().mean() < 12  # the same picture


def test_the_ladder_leaves_out_what_fails(scripts, monkeypatch, capsys, tmp_path):
    """On a CPU, and without Triton's interpreter, the rungs of Triton do."""
    bench = scripts("bench_kernels")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel here\nat all")

    monkeypatch.setattr(bench, "by_triton", fail)
    monkeypatch.setattr(bench, "measure_peaks", lambda *_: {"tflops": {"x": 2.0}, "gbs": 8.0})
    out = tmp_path / "out.json"
    monkeypatch.setattr(
        "sys.argv", ["bench", "--device", "cpu", "--sizes", "16x12", "--json", str(out)]
    )
    assert bench.main() == 0
    found = json.loads(out.read_text())
    assert found["peaks"] == {"tflops": 2.0, "gbs": 8.0}
    names = ["eager NCHW fp32", "eager channels_last fp16"]
    assert [row["way"] for row in found["rows"]] == names
    for row in found["rows"]:
        assert row["tflops"] == pytest.approx(row["fps"] * 192 * 2 * 409_680 / 1e12)
        assert row["gbs"] == pytest.approx(row["fps"] * 192 * bench.BYTES[row["way"]] / 1e9)
        assert row["of_bound"] == max(row["tflops"] / 2, row["gbs"] / 8)
    assert found["rows"][1]["psnr"] > 50
    text = capsys.readouterr().out
    assert "Triton, fused blocks: RuntimeError: no kernel here\n" in text
    monkeypatch.setattr("sys.argv", ["bench", "--device", "cuda:99"])
    assert bench.main() == 2


def test_the_ladder_keeps_what_it_has_when_it_is_stopped(scripts, monkeypatch, tmp_path):
    bench = scripts("bench_kernels")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "by_triton", stop)
    monkeypatch.setattr(bench, "ROUNDS", {"cpu": 3})
    monkeypatch.setattr(bench, "measure_peaks", lambda *_: {"tflops": {"x": 2.0}, "gbs": 8.0})
    out = tmp_path / "out.json"
    monkeypatch.setattr(
        "sys.argv", ["bench", "--device", "cpu", "--sizes", "16x12", "--json", str(out)]
    )
    with pytest.raises(KeyboardInterrupt):
        bench.main()
    rows = json.loads(out.read_text())["rows"]
    assert [row["way"] for row in rows] == ["eager NCHW fp32", "eager channels_last fp16"]


def test_what_begins_slowly_comes_last_on_the_ladder(scripts):
    bench = scripts("bench_kernels")
    names = [name for name, _ in bench.rungs(None, torch.device("cuda"))]
    assert names[-1] == "torch.compile"
    assert set(names) == set(bench.BYTES)


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


def test_networks_that_fail_or_cannot_be_counted(scripts, monkeypatch, capsys, tmp_path):
    """PyTorch 2.11 cannot count FlexAttention: the time is measured all the same."""
    bench = scripts("bench_networks")

    def build(name: str, *_: object) -> Network:
        if name == "spanv2":
            raise RuntimeError("no such kernel\nat all")
        return classical("bilinear", 2)

    def count(*_: object) -> None:
        raise TypeError("it is compiled")

    variants = ("span", "spanv2", "spanf")
    monkeypatch.setattr(bench, "networks", lambda: ((name, name) for name in variants))
    real = bench.measure
    monkeypatch.setattr(bench, "measure", lambda name, _, *rest: real(name, build(name), *rest))
    monkeypatch.setattr(bench, "kmacs", count)
    out = tmp_path / "out.json"
    arguments = ["--size", "20x12", "--device", "cpu", "--json", str(out)]
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    assert bench.main() == 0
    rows = json.loads(out.read_text())
    assert [(row["variant"], row["kmac"]) for row in rows] == [("span", None), ("spanf", None)]
    text = capsys.readouterr().out
    assert "spanv2: RuntimeError: no such kernel\n" in text
    assert "| spanf | 2 | 0 | - | - |" in text


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


def test_vspipe_is_found_in_its_package(scripts, monkeypatch, tmp_path):
    """Neither beside Python nor on the path, as after ``pip install --target``."""
    bench = scripts("bench_vapoursynth")
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    site = tmp_path / "site"
    (site / "vapoursynth").mkdir(parents=True)
    (site / "vapoursynth" / "__init__.py").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(site))
    assert bench.vspipe_of(python) == ""
    program = site / "vapoursynth" / "vspipe"
    program.touch()
    assert bench.vspipe_of(python) == str(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "vapoursynth.py").write_text("raise ImportError")
    assert bench.vspipe_of(python) == ""


def test_a_filter_that_is_not_measured_is_a_failure(scripts, monkeypatch, capsys):
    bench = scripts("bench_vapoursynth")
    monkeypatch.setattr(bench, "vspipe_of", lambda _: "")
    monkeypatch.setattr("sys.argv", ["bench"])
    assert bench.main() == 1
    assert "vspipe is not in this environment" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"ended with 3:\nwhat\nwent wrong"):
        bench._run([sys.executable, "-c", "import os; os.write(2, b'what\\nwent wrong'); exit(3)"])


def test_scripts_for_plugins_are_those_of_their_users(scripts):
    bench = scripts("bench_vapoursynth")
    for call in bench.PLUGINS.values():
        text = bench.MLRT.format(call=call.format(path="model.onnx"))
        compile(text, "script.vpy", "exec")
        assert "format=vs.RGBS" in text
