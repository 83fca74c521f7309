"""An encoder that is given the same frames gives the same packets, whatever memory held before."""

import ctypes
import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vsr.config import EncoderConfig, UpscaleConfig
from vsr.encoding import Encoding, threads
from vsr.errors import ConfigError
from vsr.frame import Colour, pixel_format
from vsr.pipeline import upscale
from vsr.resume.manifest import Manifest
from vsr.sinks.memory import defined_memory

ENCODERS = [
    ("mkv", "libx264", {}), ("mp4", "libx264", {"threads": "1"}), ("mkv", "libx265", {}),
    ("mp4", "libsvtav1", {"preset": "10"}), ("mkv", "ffv1", {}), ("mov", "prores_ks", {}),
    ("webm", "libvpx-vp9", {"cpu-used": "5"}),
]  # fmt: skip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Brightness that changes, which encoders weigh their predictions for."""
    path = tmp_path_factory.mktemp("clip") / "in.mkv"
    picture = "mandelbrot=s=160x120:r=30,fade=in:0:24"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", picture, "-frames:v", "32"]
    subprocess.run([*command, "-pix_fmt", "yuv420p", "-c:v", "ffv1", str(path)], check=True)
    return path


def litter(seed: int) -> None:
    """Leave memory full of something."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [1 << 20] * 20 + [300_000] * 40 + [60_000] * 60 + [4_000] * 200
    kept = [
        torch.randint(0, 256, (size,), dtype=torch.uint8, generator=generator) for size in sizes
    ]
    for index in torch.randperm(len(kept), generator=generator).tolist():
        kept[index] = torch.empty(0)


def packets(path: Path) -> str:
    command = ["ffprobe", "-v", "error", "-show_data_hash", "md5", "-show_entries"]
    entries = "packet=pts,dts,size,flags,data_hash"
    done = subprocess.run(
        [*command, entries, "-of", "csv", str(path)], check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.mark.parametrize("segment_seconds", [pytest.param(0, marks=pytest.mark.slow), 0.6])
@pytest.mark.parametrize(("extension", "codec", "options"), ENCODERS)
def test_the_same_packets(clip, tmp_path, extension, codec, options, segment_seconds):
    found = set()
    for run in range(3):
        litter(run)
        output = tmp_path / f"{run}.{extension}"
        config = UpscaleConfig(
            input=clip, output=output, model="identity", device="cpu",
            encoder=EncoderConfig(codec=codec, options=options), segment_seconds=segment_seconds,
        )  # fmt: skip
        upscale(config)
        found.add(packets(output))
    assert len(found) == 1
    assert next(iter(found)).count("packet,") == 32


def fresh(size: int = 50_000) -> bytes:
    """What memory holds that malloc hands out."""
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    place = library.malloc(ctypes.c_size_t(size))
    try:
        return ctypes.string_at(place, size)
    finally:
        library.free(ctypes.c_void_p(place))


def test_memory_holds_zeros_for_who_needs_that():
    for size in (2_000, 50_000):
        for _ in range(3):
            litter(0)
            with defined_memory("libx264"), defined_memory("libx264rgb"):
                assert not any(fresh(size))
            with defined_memory("libx264"):
                with defined_memory("libx264"):
                    pass
                assert not any(fresh(size))
    litter(0)
    with defined_memory("libx265"):
        taken = [fresh(60_000) for _ in range(20)]
    assert any(map(any, taken))


@pytest.fixture
def on_cores() -> Iterator[Callable[[int], None]]:
    """Let this thread, which encodes, use so many cores."""
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    cores = os.sched_getaffinity(0)
    yield lambda count: os.sched_setaffinity(0, sorted(cores)[:count])
    os.sched_setaffinity(0, cores)


def stopped(config: UpscaleConfig) -> Manifest:
    """The manifest of a run that was stopped after its first segment."""
    count = itertools.count(1)
    upscale(config, should_stop=lambda: next(count) >= 20)
    assert config.output is not None
    return Manifest.load(config.output.with_name(f"{config.output.name}.parts"))


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_the_same_packets_on_other_cores(clip, tmp_path, on_cores, codec):
    config = UpscaleConfig(
        input=clip, output=tmp_path / "whole.mkv", model="identity", device="cpu",
        encoder=EncoderConfig(codec=codec), segment_seconds=0.6, runtime="torch",
    )  # fmt: skip
    on_cores(1)
    upscale(replace(config, output=tmp_path / "alone.mkv"))
    on_cores(2)
    upscale(config)
    assert packets(tmp_path / "alone.mkv") != packets(tmp_path / "whole.mkv")
    again = replace(config, output=tmp_path / "again.mkv")
    stopped(again)
    on_cores(1)
    upscale(replace(again, resume=True))
    assert packets(tmp_path / "again.mkv") == packets(tmp_path / "whole.mkv")


def test_vp9_is_the_same_on_any_cores(tmp_path, on_cores):
    """With one thread it would differ; the packets of a longer side show that."""
    clip = tmp_path / "clip.mkv"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x192:rate=25"]
    subprocess.run([*command, "-frames:v", "12", "-c:v", "ffv1", str(clip)], check=True)
    config = UpscaleConfig(
        input=clip, output=tmp_path / "two.mkv", model="identity", device="cpu",
        encoder=EncoderConfig(codec="libvpx-vp9"), segment_seconds=0.4, runtime="torch",
    )  # fmt: skip
    upscale(config)
    on_cores(1)
    upscale(replace(config, output=tmp_path / "one.mkv"))
    assert packets(tmp_path / "one.mkv") == packets(tmp_path / "two.mkv")


def test_threads_that_are_said_are_a_setting(clip, tmp_path):
    config = UpscaleConfig(
        input=clip, output=tmp_path / "out.mkv", model="identity", device="cpu",
        encoder=EncoderConfig(codec="libx264", preset="ultrafast", options={"threads": "2"}),
        segment_seconds=0.6,
    )  # fmt: skip
    assert stopped(config).settings["encoder option threads"] == "2"
    other = replace(config.encoder, options={"threads": "3"})
    with pytest.raises(ConfigError, match="encoder option threads was 2, is 3"):
        upscale(replace(config, encoder=other, resume=True))


def test_work_that_tells_of_no_threads_is_gone_on_with(clip, tmp_path):
    config = UpscaleConfig(
        input=clip, output=tmp_path / "out.mkv", model="identity", device="cpu",
        encoder=EncoderConfig(codec="libx264", preset="ultrafast"), segment_seconds=0.6,
    )  # fmt: skip
    manifest = stopped(config)
    del manifest.settings["encoder option threads"]
    manifest.save(tmp_path / "out.mkv.parts")
    assert upscale(replace(config, resume=True)).frames == 32


@pytest.mark.parametrize(
    ("codec", "options", "numbers"),
    [
        ("libx264", {}, {1: 1, 2: 3, 16: 24, 64: 34}),
        ("libx264", {"tune": "zerolatency"}, {1: 1, 2: 2, 16: 16}),
        ("libx265", {}, {1: 1, 4: 2, 8: 3, 16: 4, 64: 5}),
        ("libvpx", {}, {1: 1, 2: 2, 16: 16}),
        ("mpeg4", {}, {1: 1, 2: 3, 16: 16}),
        ("libx264", {"threads": "2"}, {}),
        ("libx264", {"x264-params": "keyint=5:threads=2"}, {}),
        ("libx264", {"x264-params": "lookahead-threads=2"}, {2: 3}),
        ("libx265", {"x265-params": "frame-threads=2"}, {}),
        ("libvpx-vp9", {}, {1: 2, 2: 2, 16: 16}),
        ("ffv1", {}, {}), ("libsvtav1", {}, {}), ("prores_ks", {}, {}),
    ],
)  # fmt: skip
def test_threads_that_an_encoder_takes_by_itself(monkeypatch, codec, options, numbers):
    encoding = Encoding(
        muxer="matroska", codec=codec, format=pixel_format("yuv420p"), colour=Colour(),
        options=options,
    )  # fmt: skip
    assert threads.depends_on_threads(encoding) == bool(numbers)
    for cores, number in numbers.items():
        monkeypatch.setattr(threads, "_cores", lambda cores=cores: cores)
        assert threads.choose_threads(encoding, 1080) == number
