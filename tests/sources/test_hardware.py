"""Decoding on a GPU: what is refused, what falls back, and on a GPU the same samples."""

import ctypes
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from vsr.cli import main
from vsr.config import FieldsConfig, UpscaleConfig
from vsr.frame import Frame
from vsr.pipeline import upscale
from vsr.sources import SourceConfig, open_source
from vsr.sources.hardware import download, is_on_gpu, layout_name

ClipMaker = Callable[..., Path]
KINDS = [("libx264", "yuv420p"), ("libx265", "yuv420p"), ("libx265", "yuv420p10le")]


def read(path: Path, **options: object) -> tuple[list[Frame], list[str]]:
    with open_source(path, SourceConfig(**options)) as source:  # type: ignore[arg-type]
        return list(source), source.notes


def assert_same(found: list[Frame], expected: list[Frame]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.pts, ours.duration, ours.colour) == (
            theirs.pts,
            theirs.duration,
            theirs.colour,
        )
        assert (ours.width, ours.height) == (theirs.width, theirs.height)
        for a, b in zip(ours.components, theirs.components, strict=True):
            assert torch.equal(a.cpu().int() >> ours.format.shift, b.int() >> theirs.format.shift)


@pytest.fixture(autouse=True)
def _decoder(request: pytest.FixtureRequest) -> None:
    """Containers are often given CUDA without the driver's library for video."""
    if request.node.get_closest_marker("cuda") is not None:
        try:
            ctypes.CDLL("libnvcuvid.so.1")
        except OSError as error:
            pytest.skip(f"there is no NVDEC: {error}")


# Without a GPU.


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_the_gpu_must_be_there(make_clip: ClipMaker, capsys: pytest.CaptureFixture[str]) -> None:
    clip = str(make_clip("in.mp4", frames=3))
    assert main([clip, "-f", "null", "-", "--hwaccel", "cuda"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("vsr-upscale: error: --hwaccel cuda: frames stay on the GPU")


def test_auto_decodes_in_main_memory_for_a_cpu(make_clip: ClipMaker) -> None:
    config = UpscaleConfig(
        input=make_clip("in.mp4", frames=3), output=None, model="identity", device="cpu",
        hwaccel="auto",
    )  # fmt: skip
    report = upscale(config)
    assert report.frames == 3
    assert not any("GPU" in note for note in report.notes)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_what_the_gpu_cannot_do_main_memory_does(make_clip: ClipMaker) -> None:
    """The frames are those of a source that never heard of a GPU, and one line says so."""
    clip = make_clip("in.mp4", frames=6)
    plain, notes = read(clip)
    found, more = read(clip, gpu=0)
    assert more == [
        "decoded in main memory, not on the GPU: FFmpeg cannot use CUDA device 0",
        *notes,
    ]
    assert_same(found, plain)


def test_ffv1_has_no_decoder_on_a_gpu(make_clip: ClipMaker) -> None:
    clip = make_clip("in.mkv", codec="ffv1", frames=3, audio=False)
    found, notes = read(clip, gpu=0)
    assert "cannot decode this ffv1 video" in notes[0]
    assert_same(found, read(clip)[0])


def test_an_error_of_the_input_stays_its_own(tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_bytes(b"no film " * 100)
    with pytest.raises(OSError, match="not a media file"):
        read(path, gpu=0)


def test_pipes_and_pictures_say_that_they_are_not_decoded_there(
    make_clip: ClipMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "decoded in main memory, not on the GPU: only media files can be"
    picture = tmp_path / "one.png"
    clip = make_clip("in.mkv", codec="ffv1", frames=2, audio=False)
    upscale(UpscaleConfig(input=clip, output=picture, model="identity", frames=1, device="cpu"))
    assert line in read(picture, gpu=0)[1]
    with clip.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        frames, notes = read(Path("-"), gpu=0)
    assert len(frames) == 2
    assert line in notes


# On one.


@pytest.mark.cuda
@pytest.mark.parametrize(("codec", "pix_fmt"), KINDS)
@pytest.mark.parametrize("size", [(320, 180), (192, 200)])
def test_gpu_decodes_the_same_samples(
    make_clip: ClipMaker, codec: str, pix_fmt: str, size: tuple[int, int]
) -> None:
    clip = make_clip("in.mkv", codec=codec, pix_fmt=pix_fmt, size=size, frames=40)
    found, notes = read(clip, gpu=0)
    assert any(note.startswith("decoded on the GPU") for note in notes)
    assert {plane.device.type for frame in found for plane in frame.planes} == {"cuda"}
    assert_same(found, read(clip)[0])


@pytest.mark.cuda
def test_gpu_frames_are_trimmed_alike(make_clip: ClipMaker) -> None:
    clip = make_clip("in.mkv", size=(320, 180), frames=60)
    part = {"start": Fraction(1, 2), "end": Fraction(2)}
    assert_same(read(clip, gpu=0, **part)[0], read(clip, **part)[0])


@pytest.mark.cuda
def test_gpu_frames_go_through_filters_and_fields(make_clip: ClipMaker) -> None:
    clip = make_clip("in.mkv", size=(320, 180), frames=20)
    options = {"filters": "hflip", "fields": FieldsConfig()}
    found, notes = read(clip, gpu=0, **options)
    assert "frames are copied to main memory for the filters, and to the GPU again" in notes
    assert_same(found, read(clip, **options)[0])


@pytest.mark.cuda
def test_gpu_falls_back_for_what_it_cannot_decode(make_clip: ClipMaker) -> None:
    """No NVDEC decodes H.264 in 4:2:2."""
    clip = make_clip("in.mkv", pix_fmt="yuv422p", size=(320, 180), frames=5)
    found, notes = read(clip, gpu=0)
    assert notes[0].startswith("decoded in main memory, not on the GPU")
    assert_same(found, read(clip)[0])


@pytest.mark.cuda
@pytest.mark.parametrize(("codec", "pix_fmt"), KINDS)
def test_a_run_is_the_same_to_the_bit(
    make_clip: ClipMaker, tmp_path: Path, codec: str, pix_fmt: str
) -> None:
    clip = make_clip("in.mkv", codec=codec, pix_fmt=pix_fmt, size=(320, 180), frames=30)
    hashes = []
    for hwaccel in ("none", "cuda"):
        output = tmp_path / f"{hwaccel}.mkv"
        upscale(UpscaleConfig(
            input=clip, output=output, target="archive", device="cuda",
            hwaccel=hwaccel,
        ))  # fmt: skip
        lines = output.with_name(f"{output.name}.framemd5").read_text().splitlines()
        hashes.append([line.split()[-1] for line in lines if not line.startswith("#")])
    assert hashes[0] == hashes[1]
    assert len(hashes[0]) == 30


@pytest.mark.cuda
def test_captions_come_down(shared: Path) -> None:
    """A frame with captions carries them in main memory, for the encoder's picture."""
    clips = sorted((shared / "media").rglob("*.ts"))
    carried = 0
    for clip in clips:
        with open_source(clip, SourceConfig(gpu=0, frames=60)) as source:
            carriers = [frame.captions for frame in source if frame.captions is not None]
        assert not any(is_on_gpu(carrier) for carrier in carriers)
        assert all(download(c) is c and layout_name(c) == c.format.name for c in carriers)
        carried += len(carriers)
    assert carried
