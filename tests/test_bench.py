"""vsr-bench prints what it promises and counts right; no speed is judged here."""

import importlib.util
import json
import os
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.warm import PYTHON
from vsr.benchmarks import Wanted, bench, draw_clip, loops, tell, worker
from vsr.benchmarks.jobs import Job
from vsr.benchmarks.loops import STAGES
from vsr.benchmarks.measures import count_work, measure_peaks, peak_mib, psnr
from vsr.benchmarks.worker import perform
from vsr.cli.bench import main
from vsr.errors import ConfigError, SourceError

PIXELS = 64 * 48


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """SPAN on a tiny clip, with peers; every job in this process."""
    clip = tmp_path_factory.mktemp("bench") / "in.mp4"
    draw_clip(clip, 3, 64, 48)
    peers = ("openvino-fp32", "onnxruntime", "ncnn", "torch")
    lines: list[str] = []
    wanted = Wanted(clip=clip, frames=3, rounds=1, peers=peers, precision="fp32", device="cpu")
    return bench(wanted, lines.append, perform), lines


def test_every_figure_is_there_and_positive(measured):
    results, _ = measured
    assert list(results["stages"]) == list(STAGES)
    here = {name for name in ("openvino-fp32", "onnxruntime", "torch", "ncnn")
            if name not in results["missing"]}  # fmt: skip
    serial = {f"serial {name}" for name in here & {"onnxruntime", "torch", "ncnn"}}
    assert set(results["runs"]) == (
        {"command", "network vsr"} | {f"network {name}" for name in here} | serial
    )
    for row in [*results["stages"].values(), *results["runs"].values()]:
        assert row["fps"] == pytest.approx(1000 / row["ms"])
        assert row["ms"] > 0
    for name, row in results["runs"].items():
        assert row["mib"] > 50, name
        assert row["frames"] == 3
        if row["kind"] == "network":
            assert row["tflops"] == pytest.approx(results["flop"] * row["fps"] / 1e12)
            assert row["of_peak"] == row["tflops"] / results["peaks"]["tflops"]["float32"]
            assert row["of_copy"] == row["gbs"] / results["peaks"]["gbs"]
    assert json.loads(json.dumps(results)) == results


def test_stages_are_timed_warm(monkeypatch):
    clocks = []

    class Middle:
        def __init__(self, *_):
            pass

        def __call__(self, frame, clock):
            clocks.append(clock)
            return frame

    sink = nullcontext(SimpleNamespace(write=lambda _: None))
    monkeypatch.setattr(loops, "_Middle", Middle)
    monkeypatch.setattr(loops, "open_sink", lambda *_, **__: sink)
    for name in ("synchronise", "peak_mib", "_moved"):
        monkeypatch.setattr(loops, name, lambda *_: None)
    plan: Any = SimpleNamespace(source=[1, 2, 3], encoding=None, info=None)
    job: Any = SimpleNamespace(file=str)
    case: Any = SimpleNamespace(device=torch.device("cpu"))
    loops.run_stages(job, plan, case, lambda picture: picture)
    assert [clock is clocks[-1] for clock in clocks] == [False] + [True] * 3


def test_work_is_that_of_the_network(measured):
    results, _ = measured
    assert results["parameters"] == 410_700
    assert results["flop"] == pytest.approx(2 * 409_680 * PIXELS, rel=5e-3)
    assert 20_000 < results["bytes"] / PIXELS < 33_000  # 26.5 kB by hand, weights apart


def test_every_way_runs_the_same_network(measured):
    """In float32 nothing but rounding is between them."""
    results, _ = measured
    for name, row in results["runs"].items():
        if row["kind"] == "network":
            assert row["psnr"] is None or row["psnr"] > 80, name


def test_ratios_are_quotients_of_what_is_reported(measured):
    results, _ = measured
    runs = results["runs"]
    assert {"command / network vsr", "command / serial torch", "network vsr / network torch"} <= (
        results["ratios"].keys()
    )
    for name, ratio in results["ratios"].items():
        over, under = name.split(" / ")
        assert ratio == runs[over]["fps"] / runs[under]["fps"]


def test_what_is_not_installed_is_said(measured):
    results, lines = measured
    if importlib.util.find_spec("ncnn") is None:
        assert results["missing"]["ncnn"] == "the package ncnn is not installed"
        assert "ncnn is left out: the package ncnn is not installed" in lines
        assert not any("ncnn" in name for name in results["runs"])


def test_everything_is_told(measured):
    results, _ = measured
    lines = [*tell(results)]
    for name in (*STAGES, *results["runs"]):
        assert any(line.startswith(f"  {name} ") for line in lines), name
    assert lines[-1].startswith("| span 2x | ")
    assert f"64x48: {results['runs']['command']['fps']:.2f} fps" in lines[-1]


def test_medians_of_rounds_are_reported(tmp_path):
    clip = tmp_path / "in.mp4"
    draw_clip(clip, 3, 64, 48)
    lines: list[str] = []
    wanted = Wanted(clip=clip, frames=2, rounds=3, peers=(), model="identity", device="cpu")
    results = bench(wanted, lines.append, perform)
    assert [line[:7] for line in lines] == ["round 1"] * 2 + ["round 2"] * 2 + ["round 3"] * 2
    for row in results["runs"].values():
        assert row["frames"] == 2
        assert row["ms"] == pytest.approx(1000 * sorted(row["seconds"])[1] / 2)


def test_the_command_measures_in_processes_of_their_own(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(worker, "_PYTHON", PYTHON)
    clip, out = tmp_path / "in.mp4", tmp_path / "out.json"
    draw_clip(clip, 3, 64, 48)
    arguments = [clip, "--model", "identity", "--frames", "2", "--rounds", "1", "--device", "cpu"]
    assert main([*map(str, arguments), "--json", str(out), "--peers"]) == 0
    results = json.loads(out.read_text())
    assert set(results["runs"]) == {"command", "network vsr"}
    assert results["runs"]["command"]["frames"] == 2
    assert results["runs"]["network vsr"]["psnr"] is None
    assert capsys.readouterr().out == "\n".join(tell(results)) + "\n"


def test_a_file_that_is_none_is_one_line(capsys, tmp_path):
    assert main([str(tmp_path / "nowhere.mkv")]) == 1
    assert capsys.readouterr().err == f"vsr-bench: error: {tmp_path}/nowhere.mkv: no such file\n"


def test_a_file_without_pictures_is_one_line(tmp_path):
    path = tmp_path / "words.mp4"
    path.write_text("nothing to see")
    with pytest.raises(SourceError, match=r"words\.mp4") as caught:
        bench(Wanted(clip=path), print, perform)
    assert "\n" not in str(caught.value)


def test_contradictions_are_usage_errors(capsys):
    assert main(["--peers", "nobody"]) == 2
    assert "no peer is called 'nobody'; there are openvino-bf16" in capsys.readouterr().err
    assert main(["in.mp4", "--size", "64x48"]) == 2
    assert main(["--size", "63x48"]) == 2
    assert main(["--peers-python", "/no/python"]) == 2
    with pytest.raises(ConfigError, match="1 or more"):
        Wanted(frames=0)


@pytest.mark.parametrize(
    ("name", "words"), [("none/b.json", "there is no folder "), ("", "it is a folder")]
)
def test_nothing_is_measured_for_a_file_that_cannot_be_written(
    capsys, tmp_path, monkeypatch, name, words
):
    monkeypatch.setattr("vsr.benchmarks.bench", lambda *_: pytest.fail("it was measured"))
    assert main(["--json", str(tmp_path / name)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"vsr-bench: error: --json {tmp_path / name}: {words}")
    assert err.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_nothing_is_measured_for_a_file_that_may_not_be_written(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("vsr.benchmarks.bench", lambda *_: pytest.fail("it was measured"))
    tmp_path.chmod(0o500)
    assert main(["--json", str(tmp_path / "b.json")]) == 2
    assert "it may not be written" in capsys.readouterr().err


def test_work_of_known_operations():
    picture = torch.rand(1, 3, 10, 12)
    weight = torch.rand(4, 3, 3, 3)
    out, flop, moved = count_work(lambda x: F.relu(F.conv2d(x, weight, padding=1))[:, :2], picture)
    assert out.shape == (1, 2, 10, 12)  # the slice is a view: nothing is moved
    assert flop == 2 * 4 * 3 * 9 * 120
    assert moved == 4 * (360 + weight.numel() + 480 + 2 * 480)


def test_distance_and_memory():
    a = np.zeros((1, 3, 4, 4), np.float32)
    assert psnr(a, a) is None
    assert psnr(a + np.float32(0.1), a) == pytest.approx(20, abs=1e-4)
    before = peak_mib(torch.device("cpu"))
    held = torch.ones(64 << 20)
    assert held.sum() > 0
    assert peak_mib(torch.device("cpu")) >= before
    assert peak_mib(torch.device("cpu")) > 256


def test_peaks_are_measured():
    found = measure_peaks(torch.device("cpu"), [torch.float32])
    assert found["tflops"]["float32"] > 1e-3
    assert found["gbs"] > 0.1


def test_a_drawn_clip_moves(tmp_path):
    clip = tmp_path / "clip.mp4"
    draw_clip(clip, 4, 98, 62)
    with av.open(str(clip)) as container:
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert [frame.shape for frame in frames] == [(62, 98)] * 4
    assert not np.array_equal(frames[0], frames[3])


def test_a_job_travels_as_text():
    job = Job(kind="network", clip="a.mp4", folder="b", frames=3, way="torch", packages=("x",))
    assert Job.from_json(job.json) == job
