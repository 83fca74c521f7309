"""An encoder that is given the same frames gives the same packets, whatever memory held before."""

import ctypes
import subprocess
from pathlib import Path

import pytest
import torch

from vsr.config import EncoderConfig, UpscaleConfig
from vsr.pipeline import upscale
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
