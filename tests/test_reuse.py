"""Which frames are found to repeat the one before, and that results stay the same to the bit."""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from vsr.config import UpscaleConfig
from vsr.errors import ConfigError
from vsr.frame import Frame, Matrix, Range
from vsr.pipeline import upscale
from vsr.reuse import difference, mark_repeats, same

FrameMaker = Callable[..., Frame]


def copy_of(frame: Frame, *, padding: int = 0) -> Frame:
    """The same samples in other memory, with garbage beside them."""
    planes = []
    for plane in frame.planes:
        memory = torch.full((plane.shape[0], plane.shape[1] + padding), 7, dtype=plane.dtype)
        memory[:, : plane.shape[1]] = plane
        planes.append(memory[:, : plane.shape[1]])
    return replace(frame, planes=tuple(planes))


def changed(frame: Frame, component: int, row: int, column: int, by: int = 1) -> Frame:
    """A copy of which one sample differs."""
    found = copy_of(frame)
    samples = found.components[component]
    step = by << frame.format.shift
    value = int(samples[row, column])
    samples[row, column] = value + step if value < step else value - step
    return found


def marks(*frames: Frame, threshold: float = 0.0) -> list[bool]:
    return [frame.repeats for frame in mark_repeats(iter(frames), threshold)]


FORMATS = ["yuv420p", "yuv422p10le", "yuva444p", "nv12", "p010le", "rgb24", "gbrp16le", "gray"]


@pytest.mark.parametrize("name", FORMATS)
def test_equal_samples_repeat(make_frame: FrameMaker, name: str) -> None:
    frame = make_frame(name, 35, 23)
    later = replace(copy_of(frame, padding=5), pts=9, duration=4, corrupt=True)
    found = list(mark_repeats([frame, later, make_frame(name, 35, 23)]))
    assert [f.repeats for f in found] == [False, True, False]
    assert (found[1].pts, found[1].duration, found[1].corrupt) == (9, 4, True)


@pytest.mark.parametrize("name", FORMATS)
def test_one_step_anywhere_is_a_difference(make_frame: FrameMaker, name: str) -> None:
    """In the first and the last sample of each component: alpha and chroma are looked at too."""
    frame = make_frame(name, 35, 23)
    for index, samples in enumerate(frame.components):
        for row, column in ((0, 0), (samples.shape[0] - 1, samples.shape[1] - 1)):
            assert marks(frame, changed(frame, index, row, column)) == [False, False]


def test_each_row_of_a_tall_picture_is_compared(make_frame: FrameMaker) -> None:
    frame = make_frame("gray", 4, 1100)
    for row in (0, 255, 256, 511, 512, 600, 1023, 1024, 1099):
        assert not same(frame, changed(frame, 0, row, 3))
    assert same(frame, copy_of(frame))


def test_how_a_frame_is_read_counts(make_frame: FrameMaker) -> None:
    frame = make_frame("yuv444p", 32, 16)
    for colour in (
        replace(frame.colour, matrix=Matrix.BT2020_NCL),
        replace(frame.colour, range=Range.FULL),
        replace(frame.colour, transfer=16),
    ):
        assert marks(frame, replace(copy_of(frame), colour=colour)) == [False, False]
    assert marks(frame, make_frame("gbrp", 32, 16)) == [False, False]
    narrower = replace(frame, planes=tuple(p[:, :30] for p in frame.planes), width=30)
    assert marks(frame, narrower, copy_of(narrower), frame) == [False, False, True, False]


def test_what_is_not_seen_does_not_count(make_frame: FrameMaker) -> None:
    """Rows and columns beyond the picture, as decoders leave them."""
    frame = make_frame("yuv420p", 32, 16)
    wider = make_frame("yuv420p", 48, 32)
    for big, small in zip(wider.planes, frame.planes, strict=True):
        big[: small.shape[0], : small.shape[1]] = small
    assert marks(frame, replace(wider, width=32, height=16)) == [False, True]


def test_numbers_are_compared_as_bytes(make_frame: FrameMaker) -> None:
    frame = make_frame("gray", 4, 4)
    plane = torch.zeros(4, 4, dtype=torch.float32)
    form = replace(frame.format, floating=True, depth=32, name="grayf32le")
    frame = replace(frame, planes=(plane,), format=form)
    negative, nan = copy_of(frame), copy_of(frame)
    negative.planes[0][2, 2] = -0.0
    nan.planes[0][2, 2] = torch.nan
    assert marks(frame, copy_of(frame), negative, nan, copy_of(nan)) == [
        False, True, False, False, True,
    ]  # fmt: skip
    assert marks(frame, nan, threshold=5.0) == [False, False]


def test_frames_are_compared_with_the_one_that_was_computed(make_frame: FrameMaker) -> None:
    """A fade in steps below the threshold does not drift away from what stands for it."""
    first = make_frame("gray", 32, 32, low=0, high=0)
    fade = [replace(first, planes=(first.planes[0] + level,)) for level in range(9)]
    assert marks(*fade, threshold=2.0) == [False, True, True] * 3
    assert marks(*fade) == [False] * 9


@pytest.mark.parametrize(("name", "step"), [("gray", 1), ("gray10le", 4), ("gray16le", 256)])
def test_differences_are_in_steps_of_eight_bits(
    make_frame: FrameMaker, name: str, step: int
) -> None:
    dark = make_frame(name, 40, 40, low=0, high=0)
    light = copy_of(dark)
    light.planes[0][16:32, 16:32] = step  # a whole block by one
    assert difference(dark, light) == pytest.approx(1.0)
    single = copy_of(dark)
    single.planes[0][3, 5] = 255 * step  # one sample of 256
    assert difference(dark, single) == pytest.approx(255 / 256)
    corner = copy_of(dark)
    corner.planes[0][39, 39] = 64 * step  # one of 8x8 that are left at the corner
    assert difference(dark, corner) == pytest.approx(1.0)


def test_small_things_that_move_are_not_frozen(make_frame: FrameMaker) -> None:
    """A mouth of 12x4 samples in a still picture of 320x180, which a mean would not see."""
    still = make_frame("yuv420p", 320, 180, low=90, high=110)
    moved = copy_of(still)
    moved.planes[0][100:104, 200:212] = 40
    mean = float((moved.planes[0].float() - still.planes[0].float()).abs().mean())
    assert mean < 0.1
    assert marks(still, moved, threshold=2.0) == [False, False]
    assert marks(still, changed(still, 1, 50, 60), threshold=2.0) == [False, True]


def test_the_source_is_closed(make_frame: FrameMaker) -> None:
    closed = []

    def frames() -> Iterator[Frame]:
        try:
            while True:
                yield make_frame("gray", 4, 4)
        finally:
            closed.append(True)

    marked = mark_repeats(frames())
    next(marked)
    marked.close()  # type: ignore[attr-defined]
    assert closed == [True]


# The whole command.


@pytest.fixture
def held_clip(tmp_path: Path) -> Path:
    """8 pictures a second shown at 24, as FFmpeg makes it: 8 pictures, 24 frames, lossless."""
    path = tmp_path / "held.mkv"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=48x32:r=8:d=1", "-vf",
         "fps=24,format=yuv420p", "-c:v", "ffv1", path],
        check=True,
    )  # fmt: skip
    return path


def repeats_by_ffmpeg(path: Path) -> int:
    """Frames whose samples hash to what those of the frame before do."""
    done = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", path, "-f", "framemd5", "-"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    hashes = [line.split()[-1] for line in done.stdout.splitlines() if not line.startswith("#")]
    return sum(one == other for one, other in pairwise(hashes))


def pictures(path: Path) -> list[tuple[int, bytes]]:
    """Time and samples of each frame."""
    with av.open(str(path)) as container:
        return [
            (frame.pts or 0, frame.to_ndarray().tobytes()) for frame in container.decode(video=0)
        ]


@pytest.mark.parametrize("dither", ["none", "ordered"])
def test_a_film_with_held_frames_is_the_same_to_the_bit(
    held_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dither: str
) -> None:
    found = []
    for name in ("reused", "computed"):
        config = UpscaleConfig(
            input=held_clip, output=tmp_path / f"{name}.mkv", target="archive", device="cpu",
            dither=dither,  # type: ignore[arg-type]
        )  # fmt: skip
        found.append(upscale(config))
        monkeypatch.setattr("vsr.reuse.same", lambda *_: False)
    repeats = repeats_by_ffmpeg(held_clip)
    assert repeats >= 16
    assert [(report.frames, report.reused) for report in found] == [(24, repeats), (24, 0)]
    reused, computed = (pictures(tmp_path / f"{name}.mkv") for name in ("reused", "computed"))
    assert reused == computed


def test_near_frames_are_reused_if_asked(tmp_path: Path) -> None:
    """The same clip after a lossy encoder: its held frames are no longer equal."""
    path = tmp_path / "noisy.mkv"
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "gray"
        for _ in range(3):
            picture = rng.integers(20, 230, (32, 48), dtype=np.uint8)
            for _ in range(4):
                noisy = picture + rng.integers(0, 3, picture.shape, dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(noisy, format="gray")))
        container.mux(stream.encode(None))
    for threshold, expected in ((0.0, 0), (0.1, 0), (2.5, 9)):
        config = UpscaleConfig(
            input=path, output=None, model="identity", scale=1, device="cpu",
            reuse_threshold=threshold,
        )  # fmt: skip
        assert upscale(config).reused == expected


@pytest.mark.parametrize("threshold", [-1.0, 17.0, float("nan")])
def test_thresholds_out_of_range(threshold: float) -> None:
    with pytest.raises(ConfigError, match="--reuse-threshold must be from 0 to 16"):
        UpscaleConfig(input=Path("a"), output=None, reuse_threshold=threshold)
