"""Pictures from end to end: in and out as they are, out of video, and what goes wrong."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vsr.config import EncoderConfig, InputConfig, UpscaleConfig
from vsr.errors import ConfigError, SinkError, SourceError
from vsr.pipeline import Report, upscale

FFMPEG = shutil.which("ffmpeg")
pytestmark = pytest.mark.skipif(FFMPEG is None, reason="ffmpeg is not installed")

Draw = Callable[..., Path]


def ffmpeg(*arguments: str | Path) -> bytes:
    assert FFMPEG is not None
    command = [FFMPEG, "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Make a sequence of pictures with ffmpeg: ``draw("in/%d.png", "rgb48be", count=3)``."""

    def make(name: str, pix_fmt: str, *options: str, count: int = 1, size: str = "71x50") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        values = (f"{c}='mod(X*{k}*977+Y*{k}*131+N*7,65536)'" for k, c in enumerate("rgba", 1))
        graph = f"color=s={size},format=gbrap16le,geq={':'.join(values)}"
        ffmpeg("-f", "lavfi", "-i", graph, "-frames:v", str(count), "-pix_fmt", pix_fmt,
               "-strict", "-1", *options, path)  # fmt: skip
        return path

    return make


def samples(path: Path) -> NDArray[np.uint8]:
    """What ffmpeg decodes of a picture, in the picture's own pixel format."""
    return np.frombuffer(ffmpeg("-i", path, "-f", "rawvideo", "-"), np.uint8)


def run(path: Path, output: Path, **settings: Any) -> Report:
    settings = {"model": "identity", "device": "cpu", **settings}
    return upscale(UpscaleConfig(input=path, output=output, **settings))


def pixels(path: Path) -> NDArray[np.uint8]:
    """A picture of 8 bits as Pillow reads it."""
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize(
    "name",
    [
        "rgb24.png", "rgb48be.png", "rgba.png", "rgba64be.png", "gray.png", "gray16be.png",
        "rgb24.tif", "rgb48le.tif", "rgba64le.tif", "gray16le.tif", "rgb24.dpx", "rgba.dpx",
        "gbrp10be.dpx", "gbrp12be.dpx", "rgb48be.dpx", "gray.dpx", "gbrpf32le.exr",
        "gbrapf32le.exr", "grayf32le.exr",
    ],
)  # fmt: skip
def test_a_picture_comes_back_as_it_is(draw: Draw, tmp_path: Path, name: str) -> None:
    path = draw(name, name.partition(".")[0])
    report = run(path, tmp_path / f"out{path.suffix}")
    assert report.output == tmp_path / f"out{path.suffix}"
    before, after = samples(path), samples(tmp_path / f"out{path.suffix}")
    assert len(np.unique(before)) > 100
    assert np.array_equal(before, after)


def test_half_precision_comes_back_as_it_is(draw: Draw, tmp_path: Path) -> None:
    path = draw("a.exr", "gbrpf32le", "-format", "half")
    run(path, tmp_path / "b.exr")
    assert np.array_equal(samples(path), samples(tmp_path / "b.exr"))
    assert (tmp_path / "b.exr").stat().st_size < 71 * 50 * 3 * 3


def test_floats_beyond_white_survive(draw: Draw, tmp_path: Path) -> None:
    path = draw("a.exr", "grayf32le", "-compression", "none")
    data = bytearray(path.read_bytes())
    data[-16:] = np.array([-2.5, 1000.0, np.inf, np.nan], "<f4").tobytes()
    path.write_bytes(data)
    report = run(path, tmp_path / "b.exr")
    found = samples(tmp_path / "b.exr").view("<f4")
    assert found[-4:].tolist() == [-2.5, 1000.0, 65504.0, 0.0]
    assert np.array_equal(found[:-4], samples(path).view("<f4")[:-4])
    assert any("NaN" in line or "infinit" in line for line in report.warnings)


def test_sequence_to_sequence(draw: Draw, tmp_path: Path) -> None:
    pattern = draw("in/shot_%03d.png", "rgb48be", "-start_number", "86", count=5)
    for place in (pattern, pattern.parent, pattern.with_name("shot_*.png")):
        output = tmp_path / f"out {place.name.replace('%', '')}" / "%06d.tif"
        report = run(place, output, source=InputConfig(rate=Fraction(24)))
        assert report.frames == 5
        assert sorted(p.name for p in output.parent.iterdir()) == [
            f"{number:06}.tif" for number in range(86, 91)
        ]
        for number in range(86, 91):
            before = samples(pattern.with_name(f"shot_{number:03}.png")).view(">u2")
            after = samples(output.with_name(f"{number:06}.tif")).view("<u2")
            assert np.array_equal(before, after)


def test_sequence_to_video_at_a_rate(draw: Draw, tmp_path: Path) -> None:
    pattern = draw("in/%d.dpx", "gbrp10be", count=4)
    rate, lossless = InputConfig(rate=Fraction(24000, 1001)), EncoderConfig(codec="ffv1")
    run(pattern, tmp_path / "a.mkv", source=rate, encoder=lossless)
    with av.open(str(tmp_path / "a.mkv")) as container:
        times = [packet.pts for packet in container.demux(video=0) if packet.size]
    assert times == [0, 42, 83, 125]
    decoded = ffmpeg("-i", tmp_path / "a.mkv", "-f", "rawvideo", "-pix_fmt", "gbrp10le", "-")
    assert decoded == b"".join(
        samples(pattern.with_name(f"{n}.dpx")).tobytes() for n in range(1, 5)
    )


def test_part_of_a_sequence(draw: Draw, tmp_path: Path) -> None:
    pattern = draw("in/%d.png", "rgb24", count=6)
    rate = InputConfig(rate=Fraction(10))
    run(pattern, tmp_path / "out" / "%d.png", source=rate, start=Fraction(2, 10), frames=3)
    for number in (3, 4, 5):
        expected = samples(pattern.with_name(f"{number}.png"))
        assert np.array_equal(samples(tmp_path / "out" / f"{number}.png"), expected)
    assert len(list((tmp_path / "out").iterdir())) == 3


@pytest.mark.parametrize("segment_seconds", [0, 0.1])
def test_parts_of_a_sequence_go_into_one_folder(
    draw: Draw, tmp_path: Path, segment_seconds: float
) -> None:
    pattern, output = draw("in/%d.png", "rgb24", count=6), tmp_path / "out" / "%d.png"
    parts = ((None, Fraction(4, 25)), (Fraction(4, 25), None))
    for start, end in parts:
        report = run(pattern, output, start=start, end=end, segment_seconds=segment_seconds)
        assert not report.warnings
    for number in range(1, 7):
        expected = samples(pattern.with_name(f"{number}.png"))
        assert np.array_equal(samples(output.with_name(f"{number}.png")), expected)
    with pytest.raises(SinkError, match=r"5\.png: already exists; -y replaces it"):
        run(pattern, output, start=parts[1][0], segment_seconds=segment_seconds)


def test_a_sequence_that_begins_at_0_does_so_again(draw: Draw, tmp_path: Path) -> None:
    run(draw("in/%d.png", "rgb24", "-start_number", "0", count=2), tmp_path / "out" / "%d.png")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0.png", "1.png"]


@pytest.mark.parametrize("segment_seconds", [0, 0.1])
def test_numbers_below_zero_come_first(draw: Draw, tmp_path: Path, segment_seconds: float) -> None:
    names = ["a.-002.png", "a.-001.png", "a.0000.png", "a.0001.png"]
    made = draw("in/%d.png", "rgb24", count=4)
    for number, name in enumerate(names, 1):
        made.with_name(f"{number}.png").rename(made.with_name(name))
    for place in (made.with_name("a.%04d.png"), made.parent):
        output = tmp_path / f"o{place.suffix}" / "b_%02d.png"
        report = run(place, output, segment_seconds=segment_seconds)
        assert "numbers begin below 0, with a.-002.png" in report.notes
        for name, new in zip(names, ("b_-2", "b_-1", "b_00", "b_01"), strict=True):
            expected = samples(made.with_name(name))
            assert np.array_equal(samples(output.with_name(f"{new}.png")), expected)


def test_numbers_begin_where_they_are_asked_to(draw: Draw, tmp_path: Path) -> None:
    pattern = draw("in/%d.png", "rgb24", "-start_number", "7", count=3)
    cases: tuple[tuple[dict[str, Any], int], ...] = (
        ({"encoder": EncoderConfig(first_number=0)}, 0),
        ({"filters": "hflip"}, 1),  # as any filter, which may drop pictures
        ({"input": "glob", "encoder": EncoderConfig(first_number=7)}, 7),
    )
    for settings, first in cases:
        place = pattern.parent / "*.png" if settings.pop("input", None) else pattern
        run(place, tmp_path / f"o{first}", muxer="image2", **settings)
        assert sorted(p.name for p in (tmp_path / f"o{first}").iterdir()) == [
            f"{number:06}.png" for number in range(first, first + 3)
        ]


@pytest.mark.parametrize(
    ("output", "number", "message"),
    [
        ("o.mkv", 5, "-start_number is for numbered pictures"),
        ("o.png", 5, "-start_number is for numbered pictures"),
        ("%d.png", -5, "-start_number must be 0 or more, not -5"),
    ],
)
def test_numbers_that_cannot_be(
    draw: Draw, tmp_path: Path, output: str, number: int, message: str
) -> None:
    source = draw("a.png", "rgb24")
    with pytest.raises(ConfigError, match=message):
        run(source, tmp_path / output, encoder=EncoderConfig(first_number=number))


def test_video_to_pictures_is_the_picture_of_the_engine(
    make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    """PNG of 16 bits against FFV1 of the same RGB, and against what swscale makes of it."""
    clip = make_clip("in.mkv", pix_fmt="yuv444p", frames=5, audio=True)
    deep = EncoderConfig(pix_fmt="rgb48be")
    report = run(clip, tmp_path / "out" / "%d.png", encoder=deep)
    assert any("is dropped: png pictures cannot hold it" in note for note in report.notes)
    run(clip, tmp_path / "same.mkv", encoder=EncoderConfig(codec="ffv1", pix_fmt="gbrp16le"))
    planes = np.frombuffer(
        ffmpeg("-i", tmp_path / "same.mkv", "-f", "rawvideo", "-pix_fmt", "gbrp16le", "-"), "<u2"
    ).reshape(5, 3, 48, 64)[:, [2, 0, 1]]
    packed = ffmpeg("-i", clip, "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    theirs = np.frombuffer(packed, np.uint8).reshape(5, 48, 64, 3)
    for index in range(5):
        raw = samples(tmp_path / "out" / f"{index + 1}.png").view(">u2").reshape(48, 64, 3)
        assert np.array_equal(raw.transpose(2, 0, 1), planes[index])
        assert np.abs(raw / 257 - theirs[index]).mean() < 1.5


def test_sizes_that_change_are_brought_to_the_first(draw: Draw, tmp_path: Path) -> None:
    draw("in/1.png", "rgb24")
    draw("in/2.png", "gray16be", "-update", "1", size="40x30")
    report = run(draw("in/3.png", "rgb24").parent, tmp_path / "out" / "%d.png")
    assert {pixels(tmp_path / "out" / f"{n}.png").shape for n in (1, 2, 3)} == {(50, 71, 3)}
    assert any("1 frame of 3 changed size" in line for line in report.warnings)


def test_a_photograph_comes_out_upright(tmp_path: Path) -> None:
    picture = Image.fromarray(np.mgrid[0:48, 0:64][0].astype(np.uint8) * 5).convert("RGB")
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif, quality=95)
    run(tmp_path / "a.jpg", tmp_path / "a.png")
    upright = pixels(tmp_path / "a.png").astype(int)
    assert upright.shape == (64, 48, 3)
    assert upright[0, -1, 0] < 10  # what was the top is at the right
    assert upright[0, 0, 0] > 225


# What goes wrong leaves nothing behind.


def test_hole_and_damage_leave_nothing(draw: Draw, tmp_path: Path) -> None:
    pattern = draw("in/%03d.png", "rgb24", count=6)
    (pattern.parent / "004.png").unlink()
    for place in (pattern, pattern.parent, pattern.with_name("*.png")):
        with pytest.raises(SourceError, match=r"in/004\.png: is missing"):
            run(place, tmp_path / "out" / "%d.png")
    (pattern.parent / "004.png").write_bytes((pattern.parent / "003.png").read_bytes()[:-200])
    with pytest.raises(SourceError, match=r"in/004\.png: cannot be decoded"):
        run(pattern, tmp_path / "out" / "%d.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


def test_pictures_are_not_written_over_their_source(draw: Draw, tmp_path: Path) -> None:
    pattern = draw("in/%d.png", "rgb24", count=2)
    before = samples(pattern.with_name("1.png"))
    with pytest.raises(ConfigError, match="input and output are the same pictures"):
        run(pattern.parent, pattern, overwrite=True)
    with pytest.raises(ConfigError, match="input and output are the same pictures"):
        run(pattern.with_name("1.png"), pattern.with_name("1.png"), overwrite=True)
    with pytest.raises(SinkError, match=r"2\.png: already exists"):
        run(pattern.with_name("1.png"), pattern.with_name("2.png"))
    assert np.array_equal(samples(pattern.with_name("1.png")), before)


def test_many_frames_for_one_picture_stop_at_once(
    make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    clip = make_clip("in.mp4", frames=4)
    with pytest.raises(ConfigError, match=r"one picture, and the input has 4 frames"):
        run(clip, tmp_path / "a.png")
    assert run(clip, tmp_path / "a.png", frames=1).frames == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_interrupted_run_keeps_what_is_done(draw: Draw, tmp_path: Path) -> None:
    pattern = draw("in/%d.png", "rgb24", count=6)
    config = UpscaleConfig(
        input=pattern, output=tmp_path / "out" / "%d.png", model="identity", device="cpu"
    )
    seen: list[int] = []
    report = upscale(
        config, on_progress=lambda p: seen.append(p.frames), should_stop=lambda: len(seen) == 3
    )
    assert report.interrupted
    assert report.output is None
    assert report.kept == tmp_path / "out.%d.png.parts"
    made = sorted(p.name for p in (report.kept / "pictures").iterdir())
    assert made == ["1.png", "2.png", "3.png"]
    assert not (tmp_path / "out").exists()
    assert upscale(replace(config, resume=True)).frames_before == 3
    assert [p.name for p in tmp_path.iterdir() if p.name != "in"] == ["out"]
    assert len(list((tmp_path / "out").iterdir())) == 6


def test_pictures_in_a_folder_keep_their_names(draw: Draw, tmp_path: Path) -> None:
    pattern = draw("in/%d.png", "rgb24", count=3)
    for number, name in enumerate(("Zürich ☃.png", "b 1%.png", "b 2.tar.png"), 1):
        (pattern.parent / f"{number}.png").rename(pattern.parent / name)
    out = tmp_path / "out"
    run(pattern.parent, out, muxer="image2", encoder=EncoderConfig(codec="tiff"))
    assert {p.name for p in out.iterdir()} == {"Zürich ☃.tif", "b 1%.tif", "b 2.tar.tif"}
    run(pattern.parent, tmp_path / "part", muxer="image2", start=Fraction(1, 25))
    assert {p.name for p in (tmp_path / "part").iterdir()} == {"b 1%.png", "b 2.tar.png"}
    with pytest.raises(SinkError, match="already exists; -y replaces it"):
        run(pattern.parent, out, muxer="image2", encoder=EncoderConfig(codec="tiff"))
    with pytest.raises(ConfigError, match="input and output are the same pictures"):
        run(pattern.parent, pattern.parent, muxer="image2", overwrite=True)


def test_pictures_of_one_name_are_numbered(draw: Draw, tmp_path: Path) -> None:
    pattern = draw("in/%d.jpg", "yuvj444p", count=2)
    (pattern.parent / "2.jpg").rename(pattern.parent / "1.jpeg")
    run(pattern.parent, tmp_path / "out", muxer="image2")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"000001.png", "000002.png"}


def test_names_survive_a_stop(draw: Draw, tmp_path: Path) -> None:
    folder = draw("in/scan%d.png", "rgb24", count=4).parent
    config = UpscaleConfig(input=folder, output=tmp_path / "out", model="identity", muxer="image2",
                           device="cpu")  # fmt: skip
    stops = iter((False, True))
    assert upscale(config, should_stop=lambda: next(stops, False)).kept_frames == 2
    assert upscale(replace(config, resume=True)).frames_before == 2
    assert {p.name for p in (tmp_path / "out").iterdir()} == {p.name for p in folder.iterdir()}
