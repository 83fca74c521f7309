"""The record of a run that was gone on with says what that of a run without a break says."""

import itertools
import json
import re
import subprocess
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from vsr.config import EncoderConfig, UpscaleConfig
from vsr.engine import Engine
from vsr.engine.tiles import run_tiled
from vsr.errors import SinkError
from vsr.networks.span import Span
from vsr.pipeline import upscale
from vsr.resume.account import pack_report, unpack_report
from vsr.resume.join import SegmentJoiner
from vsr.sources import SourceReport, open_source
from vsr.weights import load_network

FRAMES, SEGMENT = 26, 10


@pytest.fixture(scope="module")
def overflowing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real weights that overflow in half precision where a frame is bright enough."""
    module = load_network("span-x2").module
    assert isinstance(module, Span)
    state = module.state_dict()
    for name in ("conv_2.eval_conv.weight", "conv_2.eval_conv.bias"):
        state[name] = state[name] * 1e6
    state["conv_cat.weight"] = state["conv_cat.weight"].clone()
    state["conv_cat.weight"][:, 48:96] /= 1e6
    path = tmp_path_factory.mktemp("weights") / "overflowing.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


def config_for(clip: Path, output: Path, **kw: Any) -> UpscaleConfig:
    plain: dict[str, Any] = {
        "input": clip, "output": output, "model": "identity", "device": "cpu", "record": True,
        "segment_seconds": SEGMENT / 25,
    }  # fmt: skip
    if output.suffix == ".mkv":
        plain["encoder"] = EncoderConfig(codec="ffv1")
    return UpscaleConfig(**(plain | kw))


def stop_after(config: UpscaleConfig, frames: int) -> Path:
    """Run ``config``, and stop it after so many frames; returns the work folder."""
    count = itertools.count(1)
    report = upscale(config, should_stop=lambda: next(count) >= frames)
    assert report.kept is not None
    return report.kept


def record_of(config: UpscaleConfig) -> dict[str, Any]:
    """What does not depend on when, how often and under which name a run was made."""
    output = config.output
    assert output is not None
    text = output.with_name(f"{output.name}.json").read_text()
    record: dict[str, Any] = json.loads(text)
    for name in ("started", "finished", "sittings"):
        del record["run"][name]
    record["run"]["command"].remove(str(output))
    del record["output"]["path"]
    if output.suffix == ".mkv":  # its muxer numbers files at random
        del record["output"]["sha256"]
    return record


def unbroken(config: UpscaleConfig, folder: Path) -> dict[str, Any]:
    """The record of the same run without a break."""
    assert config.output is not None
    tail = config.output.parts[-2:] if "%" in config.output.name else config.output.parts[-1:]
    (home := folder / "unbroken").mkdir()
    whole = replace(config, output=home.joinpath(*tail), resume=False)
    upscale(whole)
    return record_of(whole)


@pytest.mark.parametrize("said", [{}, {"runtime": "torch", "precision": "fp32"}])
def test_the_command_is_the_one_that_begins_from_the_start(clip, home, tmp_path, said):
    """What is fastest was measured by the first run; the others take it over."""
    config = config_for(clip, home / "out.mkv", **said)
    stop_after(config, 14)
    upscale(config_for(clip, home / "out.mkv", resume=True))
    command = record_of(config)["run"]["command"]
    assert "--resume" not in command
    assert ("--runtime" in command, "--precision" in command) == (bool(said), bool(said))
    assert command == unbroken(config, tmp_path)["run"]["command"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty folder for an output."""
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.mark.parametrize("name", ["out.mkv", "out/%03d.png"])
def test_frames_that_were_wrong_or_repeated(clip, overflowing, home, tmp_path, name):
    config = config_for(clip, home / name, weights=overflowing, precision="fp16")
    stop_after(config, 14)
    report = upscale(replace(config, resume=True))
    record = record_of(config)
    repaired, reused = record["health"]["repaired"], record["processing"]["reused"]
    assert 0 < repaired == record["health"]["checked"] == FRAMES - reused < FRAMES
    assert len(report.warnings) == repaired
    assert record == unbroken(config, tmp_path)


def test_a_segment_that_is_made_again_is_told_of_once(clip, overflowing, home, tmp_path):
    config = config_for(clip, home / "out.mkv", weights=overflowing, precision="fp16")
    work = stop_after(config, 22)
    (work / "000000.seg").unlink()
    upscale(replace(config, resume=True))
    assert record_of(config) == unbroken(config, tmp_path)


def test_damage_that_only_an_earlier_run_has_seen(clip, home, tmp_path, monkeypatch):
    """The last run reads the first segment, the damage is in the last."""
    damaged = tmp_path / "damaged.mkv"
    command = ["ffmpeg", "-v", "error", "-i", str(clip), "-c", "copy"]
    subprocess.run([*command, "-bsf:v", "noise=amount='9*eq(n,22)'", str(damaged)], check=True)

    def fail(self: SegmentJoiner, *, overwrite: bool) -> Path:
        raise SinkError("no more room")

    config = config_for(damaged, home / "out.mkv")
    with monkeypatch.context() as patch:
        patch.setattr(SegmentJoiner, "join", fail)
        with pytest.raises(SinkError, match=rf"no more room \({FRAMES - 1} frames are finished"):
            upscale(config)
    (home / "out.mkv.parts" / "000000.seg").unlink()
    report = upscale(replace(config, resume=True))
    assert report.frames_before == FRAMES - 1 - SEGMENT
    record = record_of(config)
    assert record["damage"]["refused_packets"] == 1
    assert "1 packet could not be decoded" in str(record["notes"])
    assert record == unbroken(config, tmp_path)


def test_memory_that_ran_out_before(clip, home, monkeypatch):
    calls = itertools.count()

    def run_out(*arguments: object, **options: object) -> object:
        if next(calls) == 0:
            raise MemoryError("out of memory")
        return run_tiled(*arguments, **options)  # type: ignore[arg-type]

    config = config_for(clip, home / "out.mkv", model="lanczos")
    with monkeypatch.context() as patch:
        patch.setattr("vsr.engine.rendering.run_tiled", run_out)
        stop_after(config, 14)
    upscale(replace(config, resume=True))
    said = [note["text"] for note in record_of(config)["notes"] if note["kind"] == "warning"]
    assert said == ["out of memory: frames are now split into tiles of 32 pixels"]


def test_the_number_of_a_frame_is_that_in_the_film(clip, overflowing, home, monkeypatch, caplog):
    """Of a segment in the middle that is done again, too."""
    config = config_for(clip, home / "out.mkv", weights=overflowing, precision="fp16")
    work = stop_after(config, 22)
    (work / "000000.seg").unlink()
    numbers: list[int | None] = []
    collect = Engine.collect

    def spy(self: Engine, pending: Any, into: Any = None, *, number: int | None = None) -> Any:
        numbers.append(number)
        return collect(self, pending, into, number=number)

    monkeypatch.setattr(Engine, "collect", spy)
    caplog.clear()  # the first run has told of the same frames
    upscale(replace(config, resume=True))
    assert numbers == [*range(SEGMENT), *range(2 * SEGMENT, FRAMES)]
    told = re.findall(r"frame (\d+) \((.+?) s\) holds NaN", caplog.text)
    fresh = [(0, "0.000"), (4, "0.160"), (5, "0.200"), (20, "0.800"), (21, "0.840")]
    assert [(int(number), time) for number, time in told] == fresh  # the others repeat one


REPORTS = [
    SourceReport(),
    SourceReport(
        frames=7, read=8, corrupt_frames=2, damaged=[3, 5], repaired=[1], repaired_pts=1,
        reshaped=(Fraction(4, 3), Fraction(16, 9)), expected_duration=Fraction(10, 3),
        unfound_duration=Fraction(4, 5), unfound_sound=Fraction(1, 50),
        missing_duration=Fraction(1, 7), missing_sound=Fraction(2),
        conversion_losses=Counter({"alpha": 2}), lost_segments=["b.ts, from 2.00 s on: is empty"],
    ),
]  # fmt: skip


@pytest.mark.parametrize("report", REPORTS)
def test_what_is_said_of_a_source_is_read_as_it_was_written(report):
    found = unpack_report(json.loads(json.dumps(pack_report(report))))
    assert found == report
    assert found.lines() == report.lines()


def test_what_a_report_does_not_speak_of_was_not_found():
    assert unpack_report({"frames": 7, "read": 8}) == SourceReport(frames=7, read=8)


def test_a_source_is_kept_as_it_is(clip):
    with open_source(clip) as source:
        for _ in source:
            pass
        assert unpack_report(json.loads(json.dumps(pack_report(source.report)))) == source.report


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frames", -1), ("frames", True), ("damaged", [1, "2"]), ("damaged", 3), ("read", None),
        ("missing_duration", "1/0"), ("expected_duration", "x"), ("reshaped", ["1"]),
        ("has_end", 1), ("lost_segments", "b.ts"), ("missing_duration", 1), ("unheard_of", 1),
    ],
)  # fmt: skip
def test_what_no_report_holds(name, value):
    with pytest.raises((ValueError, TypeError, ArithmeticError, KeyError)):
        unpack_report(pack_report(SourceReport()) | {name: value})
