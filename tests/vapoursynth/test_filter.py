"""The VapourSynth filter, in process: pixels, properties, order, and what is refused."""

import gc
import logging
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import vapoursynth as vs  # type: ignore[import-untyped]
from numpy.typing import NDArray
from safetensors.torch import save_file

from tests.warm import PYTHON
from vsr.config import EncoderConfig, UpscaleConfig
from vsr.frame import Frame, Range
from vsr.networks import Network
from vsr.pipeline import upscale as run_command
from vsr.sources import open_source
from vsr.stdout import printing_aside
from vsr.vapoursynth import streams, upscale
from vsr.weights import load_network

Node = Any
Planes = Sequence[NDArray[Any]]
WHOLE = [
    vs.YUV420P8, vs.YUV420P10, vs.YUV422P8, vs.YUV422P16, vs.YUV444P8, vs.YUV444P12, vs.YUV411P8,
    vs.YUV440P8, vs.YUV410P8, vs.GRAY8, vs.GRAY10, vs.GRAY16, vs.RGB24, vs.RGB30, vs.RGB48,
]  # fmt: skip
FLOATING = [
    vs.GRAYH, vs.GRAYS, vs.RGBH, vs.RGBS, vs.YUV420PH, vs.YUV420PS, vs.YUV422PS, vs.YUV444PS,
]  # fmt: skip


def clip_of(pictures: Sequence[Planes], form: int, rate: int = 25, **props: Any) -> Node:
    """A clip whose frames have these planes and properties."""
    rows, columns = pictures[0][0].shape
    blank = vs.core.std.BlankClip(
        format=form, width=columns, height=rows, length=len(pictures), fpsnum=rate
    )

    def fill(n: int, f: Any) -> Any:
        made = f.copy()
        for index, plane in enumerate(pictures[n]):
            np.asarray(made[index])[:] = plane
        for name, value in props.items():
            made.props[name] = value
        return made

    return blank.std.ModifyFrame(blank, fill)


def texture(form: int, width: int = 48, height: int = 32, count: int = 1, seed: int = 0) -> Node:
    """Smooth pictures of all codes, each unlike the others."""
    rng = np.random.default_rng(seed)
    source = [
        [rng.integers(0, 65536, (height // 4, width // 4), dtype=np.uint16) for _ in range(3)]
        for _ in range(count)
    ]
    small = clip_of(source, vs.YUV444P16, _Matrix=1, _Range=1)
    large = small.resize.Bicubic(width, height)
    family = vs.core.get_video_format(form).color_family
    matrix = {"matrix": 1} if family != vs.RGB else {}
    return large.resize.Bicubic(format=form, **matrix)


def planes_of(frame: Any) -> list[NDArray[Any]]:
    return [np.asarray(frame[index]).copy() for index in range(frame.format.num_planes)]


def pictures_of(clip: Node) -> list[list[NDArray[Any]]]:
    return [planes_of(frame) for frame in clip.frames(close=True)]


def largest_difference(ours: Planes, theirs: Planes) -> float:
    assert [plane.shape for plane in ours] == [plane.shape for plane in theirs]
    pairs = zip(ours, theirs, strict=True)
    return max(float(np.abs(a.astype(float) - b.astype(float)).max()) for a, b in pairs)


def fast(clip: Node, model: str = "lanczos", **options: Any) -> Node:
    return upscale(clip, model, precision="fp32", runtime="torch", **options)


# The same pixels as the command.


def _read(path: Path) -> list[Frame]:
    with open_source(path) as source:
        return list(source)


def _numbers(frame: Frame) -> list[NDArray[Any]]:
    return [np.ascontiguousarray(component.numpy()) for component in frame.components]


def _tags(frame: Frame) -> dict[str, int]:
    colour = frame.colour
    tags = {
        "_Matrix": int(colour.matrix), "_Range": int(colour.range == Range.FULL),
        "_Primaries": colour.primaries, "_Transfer": colour.transfer, "_FieldBased": 0,
    }  # fmt: skip
    return tags | ({"_ChromaLocation": colour.siting - 1} if colour.siting else {})


def assert_as_the_command(source: Path, form: int, folder: Path, **options: Any) -> None:
    """The filter's frames are those that the command writes losslessly."""
    output = folder / "out.mkv"
    lossless = EncoderConfig(codec="ffv1")
    config: dict[str, Any] = {"precision": "fp32", "runtime": "torch"} | options
    run_command(UpscaleConfig(input=source, output=output, frames=3, encoder=lossless, **config))
    wanted, frames = _read(output), _read(source)[:3]
    clip = clip_of([_numbers(frame) for frame in frames], form, **_tags(frames[0]))
    found = pictures_of(upscale(clip, **config))
    assert len(found) == len(wanted) == 3
    for ours, frame in zip(found, wanted, strict=True):
        assert largest_difference(ours, _numbers(frame)) == 0


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "form", "model"),
    [("libx264", "yuv420p", vs.YUV420P8, "span"), ("libx264", "yuv422p10le", vs.YUV422P10, "span"),
     ("libx265", "yuv420p10le", vs.YUV420P10, "lanczos"), ("ffv1", "gray16le", vs.GRAY16, "span"),
     ("ffv1", "yuv444p12le", vs.YUV444P12, "lanczos"), ("ffv1", "yuv411p", vs.YUV411P8, "lanczos")],
)  # fmt: skip
def test_pixels_are_those_of_the_command(
    make_clip: Callable[..., Path], tmp_path: Path, codec: str, pix_fmt: str, form: int, model: str
) -> None:
    source = make_clip("in.mkv", codec=codec, pix_fmt=pix_fmt, frames=3, audio=False)
    assert_as_the_command(source, form, tmp_path, model=model)


@pytest.mark.parametrize(
    ("options", "size"), [({"size": (150, 70)}, (64, 48)), ({"tile": 16}, (70, 34)),
                          ({"dither": "ordered", "scale": 4}, (48, 32))],
)  # fmt: skip
def test_options_mean_what_they_mean_to_the_command(
    make_clip: Callable[..., Path], tmp_path: Path, options: dict[str, Any], size: tuple[int, int]
) -> None:
    source = make_clip("in.mkv", codec="ffv1", size=size, frames=3, audio=False)
    assert_as_the_command(source, vs.YUV420P8, tmp_path, model="lanczos", **options)


@pytest.mark.parametrize("name", ["bt709_full_range.mp4", "friday.mp4"])
def test_real_files_as_the_command_does(shared: Path, tmp_path: Path, name: str) -> None:
    found = sorted((shared / "media").rglob(name))
    if not found:
        pytest.skip(f"{name} is not among the reference media")
    assert_as_the_command(found[0], vs.YUV420P8, tmp_path, model="lanczos")


# Formats, against VapourSynth's own conversions (zimg).


@pytest.mark.parametrize("form", WHOLE)
def test_identity_gives_every_format_back(form: int) -> None:
    clip = texture(form)
    found = fast(clip, "identity")
    assert found.format == clip.format
    assert largest_difference(pictures_of(found)[0], pictures_of(clip)[0]) <= 1


@pytest.mark.parametrize("form", FLOATING)
def test_identity_gives_floating_point_back(form: int) -> None:
    clip = texture(form)
    found = fast(clip, "identity")
    assert found.format == clip.format
    tolerance = 2e-3 if clip.format.bits_per_sample == 16 else 1e-4  # of chroma that was reduced
    assert largest_difference(pictures_of(found)[0], pictures_of(clip)[0]) < tolerance


def test_floating_point_keeps_what_lies_beyond_black_and_white() -> None:
    luma = np.linspace(-0.5, 1.5, 48 * 32, dtype=np.float32).reshape(32, 48)
    chroma = np.linspace(-0.6, 0.6, 48 * 32, dtype=np.float32).reshape(32, 48)
    clip = clip_of([[luma, chroma, chroma.T.reshape(32, 48)]], vs.YUV444PS, _Matrix=1)
    (found,) = pictures_of(fast(clip, "identity"))
    assert largest_difference(found, pictures_of(clip)[0]) < 1e-5


def test_numbers_that_are_none_do_not_spread() -> None:
    luma = np.full((32, 48), 0.5, np.float32)
    luma[4, 4], luma[9, 9] = np.nan, np.inf
    chroma = np.zeros((32, 48), np.float32)
    (found,) = pictures_of(fast(clip_of([[luma, chroma, chroma]], vs.YUV444PS, _Matrix=1)))
    assert np.isfinite(found[0][:4]).all()
    assert np.isfinite(found[0][40:]).all()


@pytest.mark.parametrize("matrix", [1, 4, 5, 6, 7, 9])
@pytest.mark.parametrize("whole_range", [0, 1])
def test_matrix_and_range_are_read(matrix: int, whole_range: int) -> None:
    clip = texture(vs.YUV444P16).std.SetFrameProps(_Matrix=matrix, _Range=whole_range)
    theirs = clip.resize.Bicubic(format=vs.RGBS)
    ours = fast(clip, "identity", format=vs.RGBS)
    assert largest_difference(pictures_of(ours)[0], pictures_of(theirs)[0]) < 1e-4
    props = ours.get_frame(0).props
    assert (props["_Matrix"], props["_Range"]) == (0, 1)


@pytest.mark.parametrize("location", range(6))
def test_the_chroma_location_is_read(location: int) -> None:
    """Chroma that lies elsewhere is a picture whose colours are moved."""
    clip = texture(vs.YUV420P16).std.SetFrameProps(_ChromaLocation=location, _Range=1)
    theirs = pictures_of(clip.resize.Bicubic(format=vs.RGBS, filter_param_a_uv=0,
                                             filter_param_b_uv=0.5))[0]  # fmt: skip
    ours = pictures_of(fast(clip, "identity", format=vs.RGBS))[0]
    inner = (slice(6, -6), slice(6, -6))  # zimg mirrors at borders
    assert largest_difference([p[inner] for p in ours], [p[inner] for p in theirs]) < 2e-3


def test_the_old_colour_range_is_understood() -> None:
    clip = texture(vs.YUV444P8).std.RemoveFrameProps("_Range")
    with pytest.warns(DeprecationWarning, match="_ColorRange"):
        old = clip.std.SetFrameProps(_ColorRange=0)  # full
    new = clip.std.SetFrameProps(_Range=1)
    other = clip.std.SetFrameProps(_Range=0)
    pixels = [pictures_of(fast(c, "identity", format=vs.RGB48))[0] for c in (old, new, other)]
    assert largest_difference(pixels[0], pixels[1]) == 0
    assert largest_difference(pixels[0], pixels[2]) > 1000


@pytest.mark.parametrize(
    ("form", "to"),
    [(vs.YUV420P8, vs.YUV444P16), (vs.YUV420P16, vs.YUV420PS), (vs.RGB48, vs.YUV444P16),
     (vs.YUV444PS, vs.YUV444P16), (vs.GRAYS, vs.GRAY16), (vs.GRAY16, vs.GRAYS),
     (vs.YUV444P16, vs.GRAY16), (vs.GRAY8, vs.YUV444P8), (vs.RGBS, vs.RGB48)],
)  # fmt: skip
def test_another_format_holds_the_same_picture(form: int, to: int) -> None:
    """Whatever the result is, with its own tags it shows what the source shows."""
    clip = texture(form)
    seen = pictures_of(clip.resize.Bicubic(format=vs.RGBS, matrix_in_s=_unless_tagged(clip)))[0]
    found = fast(clip, "identity", format=to)
    assert found.format.id == to
    shown = pictures_of(found.resize.Bicubic(format=vs.RGBS, matrix_in_s=_unless_tagged(found)))[0]
    if found.format.color_family == vs.GRAY != clip.format.color_family:
        luma = clip.resize.Bicubic(format=vs.GRAY16).resize.Bicubic(format=vs.RGBS, matrix_in=1)
        seen = pictures_of(luma)[0]
    subsampled = clip.format.subsampling_w or found.format.subsampling_w
    inner = (slice(6, -6), slice(6, -6))
    tolerance = 0.05 if subsampled else 0.005
    pairs = ([np.clip(p[inner], 0, 1) for p in planes] for planes in (shown, seen))
    assert largest_difference(*pairs) < tolerance


def steps(form: int, **props: int) -> Node:
    """All codes of 8 bits in blocks, the same in each plane, and no tags but ``props``."""
    codes = np.arange(256).reshape(16, 16).repeat(2, 0).repeat(2, 1)
    depth, floating = vs.core.get_video_format(form).bits_per_sample, form in FLOATING
    plane = codes / 255 if floating else codes << (depth - 8)
    planes = vs.core.get_video_format(form).num_planes
    return clip_of([[plane] * planes], form, **props)


GRAYS = [vs.GRAY8, vs.GRAY10, vs.GRAY16, vs.GRAYS]


@pytest.mark.parametrize("to", GRAYS)
@pytest.mark.parametrize("form", GRAYS)
@pytest.mark.parametrize("props", [{}, {"_Range": 0}, {"_Range": 1}])
def test_gray_is_read_as_vapoursynth_reads_it(form: int, to: int, props: dict[str, int]) -> None:
    """Without a tag, of limited range; and that is written to the result."""
    clip = steps(form, **props)
    ours, theirs = fast(clip, "identity", format=to), clip.resize.Point(format=to)
    tolerance = 1e-6 if to == vs.GRAYS else 1  # what lies between two codes
    assert largest_difference(pictures_of(ours)[0], pictures_of(theirs)[0]) <= tolerance
    assert ours.get_frame(0).props["_Range"] == props.get("_Range", 0)
    assert ours.get_frame(0).props["_Range"] == theirs.get_frame(0).props["_Range"]


RGBS = [vs.RGB24, vs.RGB30, vs.RGB48, vs.RGBH, vs.RGBS]


@pytest.mark.parametrize("to", [*RGBS, vs.YUV444P8, vs.YUV444P16, vs.GRAY8, vs.GRAYS])
@pytest.mark.parametrize("form", RGBS)
@pytest.mark.parametrize("props", [{}, {"_Range": 0}, {"_Range": 1}])
def test_rgb_of_limited_range_is_what_it_is_to_vapoursynth(
    form: int, to: int, props: dict[str, int]
) -> None:
    """From black at 16 to black at 4096; floating point has none, but hands it on."""
    clip = steps(form, **props)
    own = vs.core.get_video_format(to).color_family == vs.RGB
    ours = fast(clip, "identity", format=to)
    theirs = clip.resize.Point(format=to, **({} if own else {"matrix": 1}))
    tolerance: float = {vs.RGBH: 1e-3, vs.RGBS: 2e-6, vs.GRAYS: 2e-6}.get(to, 1)
    if form == vs.RGBH:  # whose 11 bits are not zimg's where it goes on in float32
        tolerance = max(tolerance, 1e-3 if to in FLOATING else 1)
    assert largest_difference(pictures_of(ours)[0], pictures_of(theirs)[0]) <= tolerance
    ranges = [made.get_frame(0).props["_Range"] for made in (ours, theirs)]
    assert ranges[0] == ranges[1] == (props.get("_Range", 1) if own else 0)


def test_gray_of_yuv_of_full_range_stays_full() -> None:
    """Other than in resize, as docs/vapoursynth.md says."""
    clip = texture(vs.YUV444P8).std.SetFrameProps(_Matrix=1, _Range=1)
    gray = fast(clip, "identity", format=vs.GRAY8)
    back = fast(gray, "identity", format=vs.YUV444P8)
    for found in (gray, back):
        assert found.get_frame(0).props["_Range"] == 1
        assert largest_difference(planes_of(found.get_frame(0))[:1], pictures_of(clip)[0][:1]) == 0
    assert clip.resize.Bicubic(format=vs.GRAY8).get_frame(0).props["_Range"] == 0


@pytest.mark.parametrize("refused", [0, 2])
def test_an_error_takes_its_batch_with_it_and_no_other(clip: Node, refused: int) -> None:
    frames = [clip.std.SetFrameProps(_FieldBased=int(number == refused)) for number in range(4)]
    found = fast(vs.core.std.Splice(frames), batch_size=2)
    for number in range(4):
        if number // 2 == refused // 2:
            with pytest.raises(vs.Error, match=f"frame {refused}: interlaced"):
                found.get_frame(number)
        else:
            assert found.get_frame(number).width == 96


def test_the_luma_plane_of_a_clip_is_gray_of_limited_range() -> None:
    clip = clip_of([[np.full((32, 32), code) for code in (235, 128, 128)]], vs.YUV444P8)
    luma = clip.std.ShufflePlanes(0, vs.GRAY)
    said = said_while(lambda: pictures_of(fast(luma, format=vs.GRAYS)))
    assert "vsr: colour range not tagged: taken as limited" in said
    (white,) = pictures_of(fast(luma, format=vs.GRAYS))[0]
    assert white == pytest.approx(1.0, abs=1e-6)


def _unless_tagged(clip: Node) -> str | None:
    """The matrix that zimg wants to be told of gray and what says nothing."""
    tagged = "_Matrix" in clip.get_frame(0).props
    return None if tagged or clip.format.color_family == vs.RGB else "709"


# Properties.


def test_properties_are_kept_and_guesses_written() -> None:
    clip = texture(vs.YUV420P8, 64, 576)
    clip = clip.std.RemoveFrameProps(
        ["_Matrix", "_Range", "_ChromaLocation", "_Primaries", "_Transfer"]
    )
    clip = clip.std.SetFrameProps(
        _SARNum=16, _SARDen=15, _PictType="I", mine=[1, 2, 3], MasteringDisplayMaxLuminance=1000.0
    )
    before, after = dict(clip.get_frame(0).props), dict(fast(clip).get_frame(0).props)
    assert {name: after[name] for name in before} == before
    written = {name: int(after[name]) for name in after.keys() - before.keys()}
    # 576 lines are BT.601 by the rule; twice as many would be taken for BT.709.
    assert written == {
        "_Matrix": 5, "_Range": 0, "_Primaries": 5, "_Transfer": 6, "_ChromaLocation": 0
    }  # fmt: skip


@pytest.mark.parametrize("form", [vs.GRAY8, vs.GRAYS, vs.RGB24, vs.RGBS])
def test_properties_of_gray_and_rgb_stay_as_they_are(form: int) -> None:
    clip = texture(form).std.SetFrameProps(_Range=0, _Transfer=8)
    assert dict(fast(clip).get_frame(0).props) == dict(clip.get_frame(0).props)


@pytest.mark.parametrize("form", [vs.YUV420P8, vs.GRAY8, vs.RGB24])
def test_properties_that_cannot_be_meant_are_not_handed_on(form: int) -> None:
    """What reads them next might take them for something, or stumble over them."""
    senseless = {"_Primaries": 99, "_Transfer": 99, "_FieldBased": 3, "_Matrix": 999}
    clip = texture(form).std.RemoveFrameProps(["_Primaries", "_Transfer", "_Matrix"])
    found, expected = (
        dict(fast(one).get_frame(0).props) for one in (clip.std.SetFrameProps(**senseless), clip)
    )
    assert found == expected


def test_the_aspect_ratio_follows_the_shape() -> None:
    clip = texture(vs.YUV420P8, 72, 48).std.SetFrameProps(_SARNum=8, _SARDen=9)

    def ratio(found: Node) -> Fraction:
        props = found.get_frame(0).props
        return Fraction(props["_SARNum"], props["_SARDen"])

    assert ratio(fast(clip)) == Fraction(8, 9)
    assert ratio(fast(clip, size=(144, 108))) == 1  # 4:3 in square pixels
    assert ratio(fast(clip, size=(144, 96))) == Fraction(8, 9)
    bare = clip.std.RemoveFrameProps(["_SARNum", "_SARDen"])
    assert "_SARNum" not in fast(bare).get_frame(0).props
    assert ratio(fast(bare, size=(144, 48))) == Fraction(1, 2)


def test_alpha_of_the_old_size_is_left_out() -> None:
    clip = texture(vs.RGB24)
    clip = clip.std.ClipToProp(texture(vs.GRAY8), prop="_Alpha")
    assert "_Alpha" in clip.get_frame(0).props
    assert "_Alpha" not in fast(clip).get_frame(0).props


def test_tags_may_change_in_the_middle() -> None:
    """Each frame is read by its own tags, whatever came before, in batches too."""
    clip = texture(vs.YUV444P8, count=6)
    parts = [clip[:3].std.SetFrameProps(_Matrix=1), clip[3:].std.SetFrameProps(_Matrix=9)]
    whole = pictures_of(fast(parts[0] + parts[1], batch_size=4, format=vs.RGB48))
    alone = [*pictures_of(fast(parts[0], format=vs.RGB48)),
             *pictures_of(fast(parts[1], format=vs.RGB48))]  # fmt: skip
    assert [largest_difference(*pair) for pair in zip(whole, alone, strict=True)] == [0] * 6
    props = [int(f.props["_Matrix"]) for f in fast(parts[0] + parts[1], batch_size=4).frames()]
    assert props == [1, 1, 1, 9, 9, 9]


# Frames and their order.


@pytest.mark.parametrize("count", [1, 4, 7])
@pytest.mark.parametrize("batch", [1, 2, 3, 8, 100_000])
def test_batches_change_nothing(count: int, batch: int) -> None:
    clip = texture(vs.YUV420P8, count=count).std.SetFrameProps(_DurationNum=3, _DurationDen=7)
    expected, found = fast(clip, "span"), fast(clip, "span", batch_size=batch)
    assert (found.num_frames, found.fps) == (count, clip.fps)
    for ours, theirs in zip(found.frames(), expected.frames(), strict=True):
        assert largest_difference(planes_of(ours), planes_of(theirs)) <= 1
        assert dict(ours.props) == dict(theirs.props)


def test_formats_go_by_number_name_and_themselves() -> None:
    clip = texture(vs.YUV420P8)
    wanted = clip.resize.Bicubic(format=vs.YUV444P16).format
    for form in (vs.YUV444P16, int(vs.YUV444P16), np.int64(vs.YUV444P16), "YUV444P16", wanted):
        assert fast(clip, "identity", format=form).format.id == vs.YUV444P16
    for form in ([1], 3.5, "YUV"):
        with pytest.raises(vs.Error, match="is not known; give one of VapourSynth's"):
            fast(clip, "identity", format=form)


@pytest.mark.parametrize("batch", [1, 3])
def test_frames_may_be_asked_for_in_any_order(batch: int) -> None:
    clip = texture(vs.YUV420P8, count=11)
    expected = [pictures_of(fast(clip[n]))[0] for n in range(11)]
    found = fast(clip, batch_size=batch)
    order = [*random.Random(1).sample(range(11), 11), 10, 0, 0, 5, 5, 9]
    for n in order:
        assert largest_difference(planes_of(found.get_frame(n)), expected[n]) == 0
    found = fast(clip, batch_size=batch)
    futures = [(n, found.get_frame_async(n)) for n in order]
    for n, future in futures:
        assert largest_difference(planes_of(future.result(timeout=60)), expected[n]) == 0


def test_several_filters_in_one_script() -> None:
    clip = texture(vs.YUV420P8, 32, 24, count=5)
    chained = fast(fast(clip), size=(96, 80))
    beside = vs.core.std.StackHorizontal([fast(clip), fast(clip, format=vs.YUV420P8)])
    again = [fast(clip[n]) for n in range(5)]
    stacked, twice = pictures_of(beside), pictures_of(chained)
    for n, one in enumerate(again):
        (single,) = pictures_of(one)
        halves = [np.hsplit(plane, 2) for plane in stacked[n]]
        assert largest_difference([half[0] for half in halves], single) == 0
        assert largest_difference([half[1] for half in halves], single) == 0
        assert largest_difference(twice[n], pictures_of(fast(one, size=(96, 80)))[0]) == 0


_HANGS = """
import vapoursynth as vs
import vsr.vapoursynth
vs.core.num_threads = int({threads})
clip = vs.core.std.BlankClip(format=vs.YUV420P8, width=32, height=24, length=40, keep=True)
for step in range(3):
    clip = vsr.vapoursynth.upscale(clip, "identity", batch_size={batch}, num_streams=2)
clip = vs.core.std.Interleave([clip, clip[::-1]])
pending = [clip.get_frame_async(n) for n in range(79, -1, -1)]
print(sum(p.result().width for p in pending))
clip.get_frame_async(3)  # left open at the end
"""


@pytest.mark.parametrize(("threads", "batch"), [(1, 1), (1, 3), (5, 2)])
def test_nothing_hangs(threads: int, batch: int) -> None:
    code = _HANGS.format(threads=threads, batch=batch)
    done = subprocess.run(
        [*PYTHON, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"{80 * 32}\n"), done.stderr


def test_weights_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By all filters that live, and by the next one after the last."""
    loaded: list[str] = []

    def load(name: str, **options: Any) -> Network:
        loaded.append(f"{name} {options['scale']}")
        return load_network(name, **options)

    monkeypatch.setattr(streams, "load_network", load)
    clip = texture(vs.YUV420P8)
    fast(clip, "identity")
    assert len(pools()) == 1
    first = fast(clip, "span")
    other = fast(clip, "span", scale=4, tile=64)
    again = fast(texture(vs.RGBS, 80, 60), "span", batch_size=2)
    padded = fast(clip, "span", scale=4, tile=64, tile_pad=40)
    wanted = ["identity None", "span None", "span 4"]
    assert loaded == wanted
    assert len(pools()) == 3  # tiles with another pad are other streams
    del first, again, other, padded
    fast(clip, "span", scale=4, tile=64, tile_pad=40)
    assert (loaded, len(pools())) == (wanted, 1)


def pools() -> list[streams.Pool]:
    """Those that live."""
    gc.collect()
    return list(streams._pools.values())


def assert_threads_of(count: int) -> None:
    """Soon there are only threads of so many pools."""
    wanted, deadline = count * min(2, torch.get_num_threads()), time.monotonic() + 20
    names = ["vsr-stream"]
    while len(names) != wanted and time.monotonic() < deadline:
        time.sleep(0.01)
        names = [t.name for t in threading.enumerate() if t.name.startswith("vsr-stream")]
    assert len(names) == wanted


def test_what_no_filter_uses_goes() -> None:
    """As a previewer reads a script again and again, with other settings."""
    clip = texture(vs.YUV420P8, 32, 24, count=2)
    kept = fast(clip, "identity", tile=64)
    pictures_of(kept)
    (before,) = pools()
    assert_threads_of(1)
    for tile in range(16, 22):
        found = fast(clip, "identity", tile=tile)
        pictures_of(found)
        assert len(pools()) == 2
        del found
    (latest,) = (pool for pool in pools() if pool is not before)
    assert_threads_of(2)
    fast(clip, "identity", tile=21)
    assert latest in pools()
    del latest, before
    fast(clip, "identity", tile=16)
    assert len(pools()) == 2
    assert_threads_of(2)
    pictures_of(kept)


_ENVIRONMENTS = """
import gc
import threading
import vapoursynth as vs

class Policy(vs.EnvironmentPolicy):
    def on_policy_registered(self, api):
        self.api, self.here, self.alive = api, threading.local(), []
    def on_policy_cleared(self):
        pass
    def get_current_environment(self):
        return getattr(self.here, "environment", None)
    def set_environment(self, environment):
        before = self.get_current_environment()
        self.here.environment = environment
        return before
    def is_alive(self, environment):
        return environment in self.alive
    def make(self):
        self.alive.append(self.api.create_environment(0))
        return self.alive[-1]
    def destroy(self, environment):
        self.alive.remove(environment)
        self.api.destroy_environment(environment)

policy = Policy()
vs.register_policy(policy)
from vsr.vapoursynth import streams, upscale
from vsr.stdout import printing_aside

def read(environment, tile):
    with policy.api.wrap_environment(environment).use():
        clip = vs.core.std.BlankClip(format=vs.YUV420P8, width=32, height=24, length=9)
        upscale(clip, "identity", tile=tile, batch_size=2).set_output()
        return sum(frame.width for frame in vs.get_output(0).clip.frames())

environments = [policy.make() for _ in range(4)]
widths = [read(environment, 16 + index) for index, environment in enumerate(environments)]
results = []
threads = [
    threading.Thread(target=lambda index=index: results.append(read(environments[index], 30)))
    for index in range(4)
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sorted(widths + results), len(streams._pools))
for index in (1, 3, 0):
    policy.destroy(environments[index])
gc.collect()
print(len(streams._pools), read(environments[2], 17))
"""


def test_threads_that_read_scripts_leave_standard_output_as_it_was() -> None:
    """The first of two is done before the second."""
    before = sys.stdout
    one, other = ExitStack(), ExitStack()
    one.enter_context(printing_aside())
    other.enter_context(printing_aside())
    one.close()
    assert sys.stdout is sys.stderr
    other.close()
    assert sys.stdout is before


def test_properties_that_cannot_be_meant_are_told_once(clip: Node) -> None:
    said: list[str] = []
    handle = vs.core.add_log_handler(lambda kind, text: said.append(text))
    try:
        pictures_of(fast((clip * 3).std.SetFrameProps(_Matrix="709", _Range=7)))
    finally:
        vs.core.remove_log_handler(handle)
    assert [text for text in said if text.endswith("ignored")] == [
        "vsr: _Matrix '709' is no whole number: ignored",
        "vsr: _Range 7 is neither 0 (limited) nor 1 (full): ignored",
    ]


def test_levels_of_the_log_are_left_to_the_program() -> None:
    assert logging.getLogger("vsr").level == logging.NOTSET


def test_the_network_is_told_by_the_name_that_was_asked_for(clip: Node) -> None:
    said: list[str] = []
    handle = vs.core.add_log_handler(lambda kind, text: said.append(text))
    try:
        upscale(clip, "span-fast", device="cpu")
        upscale(clip, "lanczos", device="cpu")
    finally:
        vs.core.remove_log_handler(handle)
    assert [text.partition(" on ")[0] for text in said if "vsr: " in text] == [
        "vsr: span-fast (spanf) x2", "vsr: lanczos x2",
    ]  # fmt: skip


def test_environments_may_go_in_any_order() -> None:
    done = subprocess.run(
        [*PYTHON, "-c", _ENVIRONMENTS], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"{[9 * 32] * 8} 1\n1 {9 * 32}\n"), done.stderr


def test_a_checkpoint_that_changed_is_loaded_anew(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    clip = texture(vs.YUV420P8, 32, 24)
    widths = []
    for name in ("span-x2", "span-x4"):
        path.write_bytes((root / "models" / f"{name}.safetensors").read_bytes())
        widths.append(fast(clip, weights=path).width)
    assert widths == [64, 128]


def test_a_tile_excludes_its_pad() -> None:
    clip = texture(vs.YUV444P16, 96, 64)
    whole = pictures_of(fast(clip, "span"))[0]
    for options in ({"tile": 32}, {"tile": 32, "tile_pad": 30}):
        found = pictures_of(fast(clip, "span", **options))[0]
        assert largest_difference(found, whole) <= 40  # of 65535


# The model is chosen.


def said_while(make: Callable[[], Any]) -> list[str]:
    """What the filter says, in VapourSynth's log, while a script is read."""
    said: list[str] = []
    handle = vs.core.add_log_handler(lambda _, text: said.append(text))
    try:
        make()
    finally:
        vs.core.remove_log_handler(handle)
    return said


def test_the_model_is_chosen_by_the_noise_of_the_first_frames() -> None:
    rng = np.random.default_rng(0)
    flat = np.full((64, 96), 128.0)

    def clip(noise: float, form: int) -> Node:
        depth = vs.core.get_video_format(form).bits_per_sample
        pictures = [
            [((flat + rng.normal(0, noise, flat.shape)) * 2 ** (depth - 8)).astype(int)]
            for _ in range(3)
        ]
        return clip_of(pictures, form)

    for noise in (1.0, 6.0):
        for form in (vs.GRAY8, vs.GRAY16):
            made = clip(noise, form)
            said = said_while(lambda made=made: upscale(made, "auto", scale=2))  # type: ignore[misc]
            (note,) = (text for text in said if "(auto)" in text)
            assert note.startswith("vsr: model span")
            measured = float(note.split("noise ")[1].split(":")[0])
            assert measured == pytest.approx(noise, rel=0.25)
            assert ("noisy" in note) == (noise > 3)


def test_a_chosen_model_renders_as_by_name() -> None:
    clip = texture(vs.YUV420P8, count=2)
    said = said_while(lambda: fast(clip, "auto", size=(150, 100)))
    (name,) = (text.split()[2] for text in said if "(auto)" in text)
    chosen, named = (pictures_of(fast(clip, model, size=(150, 100))) for model in ("auto", name))
    for ours, theirs in zip(chosen, named, strict=True):
        assert largest_difference(ours, theirs) == 0


def test_numbers_may_be_numpys() -> None:
    clip, two, tile = texture(vs.GRAY8, 80, 60, count=3), np.int64(2), np.int32(64)
    numbers: dict[str, Any] = {
        "scale": two, "size": (np.int16(120), np.uint8(90)), "tile": tile, "tile_pad": tile,
        "num_streams": two, "batch_size": two, "device_index": np.int64(0),
        "format": np.int64(int(vs.GRAY16)),
    }  # fmt: skip
    found = fast(clip, "span", **numbers)
    expected = fast(
        clip, "span", scale=2, size=(120, 90), tile=64, tile_pad=64, num_streams=2, batch_size=2,
        format=vs.GRAY16,
    )  # fmt: skip
    for ours, theirs in zip(pictures_of(found), pictures_of(expected), strict=True):
        assert largest_difference(ours, theirs) == 0


# What is refused.


@pytest.fixture
def clip() -> Node:
    return texture(vs.YUV420P8)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model": "nothing"}, "no model is called 'nothing'"),
    (
        {"model": "span", "scale": 7},
        "has no scale 7; it has 2, 4 (for another, give size=(width, height))",
    ),
    ({"scale": 1.5}, "has no scale 1.5; it has 2, 3, 4 (for another, give size=(width, height))"),
    ({"model": None}, "model must be the name of a model, not None"),
    ({"weights": ""}, "weights must be the name of a file, not ''"),
    ({"model": "auto", "scale": 7}, "model auto has no scale 7"),
    ({"model": "mine.pth"}, "called 'mine.pth'; if it is a file, give it as weights instead"),
    ({"runtime": "triton", "device": "cpu"}, "runtime triton: the kernels are for CUDA"),
    ({"scale": "much"}, "scale must be a number"),
    ({"scale": 0.5}, "scale must be 1 or more"),
    ({"size": (101, 80)}, "101x80 is no size of YUV420P8"),
    ({"size": (0, 80)}, "size must be positive"),
    ({"weights": "/nowhere/model.pth"}, "/nowhere/model.pth"),
    ({"device": "tpu"}, "device 'tpu'"),
    ({"device": "cpu", "device_index": 1}, "device_index 1"),
    ({"device_index": -1}, "device_index must be a whole number, 0 or more, not -1"),
    ({"device": None}, "device must be auto, cpu, cuda or cuda:N, not None"),
    ({"device": "cuda:99"}, "CUDA device"),
    ({"num_streams": 0}, "num_streams must be a whole number, 1 or more, not 0"),
    ({"batch_size": 1.5}, "batch_size must be a whole number, 1 or more, not 1.5"),
    ({"tile": "64"}, "tile must be a whole number, not '64'"),
    ({"tile": 64, "tile_pad": "8"}, "tile_pad must be a whole number, 0 or more, not '8'"),
    ({"size": "96x64"}, "size must be (width, height), not '96x64'"),
    ({"size": (96, 64.0)}, "size must be a whole number, not 64.0"),
    ({"weights": "hf:no/such/file.pth"}, "no/such"),
    ({"tile": 4}, "tile must be at least 16"),
    ({"tile": 64, "tile_pad": 3, "model": "span"}, "tile_pad 3 would leave seams"),
    ({"precision": "int8"}, "precision must be one of"),
    ({"runtime": "magic"}, "runtime must be one of"),
    ({"format": "YUV999"}, "format 'YUV999' is not known"),
    ({"format": 12345}, "format 12345 is not known"),
    ({"format": vs.GRAY32}, "more than 16 bits"),
    ({"dither": "random"}, "dither must be one of"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_settings_are_refused_at_once(clip: Node, options: dict[str, Any], message: str) -> None:
    with pytest.raises(vs.Error) as caught:
        upscale(clip, **{"model": "lanczos"} | options)
    text = str(caught.value)
    assert message in text
    assert text.startswith("vsr: ")
    assert "\n" not in text
    assert "--" not in text  # of the command line


@pytest.mark.parametrize(
    ("options", "words"),
    [({"device_id": 0}, "device_index"), ({"fp16": True}, 'precision="fp16"'),
     ({"tilesize": 256}, "tile, which"), ({"overlap": 8}, "tile_pad, of"),
     ({"num_streams": 1, "backend": None}, "device and runtime")],
)  # fmt: skip
def test_arguments_of_other_filters_are_answered(
    clip: Node, options: dict[str, Any], words: str
) -> None:
    *_, name = options
    with pytest.raises(TypeError) as caught:
        fast(clip, **options)
    assert str(caught.value).startswith(f"upscale() takes no {name}: it is {words}")
    assert str(caught.value).endswith(" here")


def test_other_arguments_are_refused_as_python_does(clip: Node) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'denoise'"):
        fast(clip, denoise=1)


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda clip: None, "not NoneType"), (lambda clip: clip.get_frame(0), "not VideoFrame"),
     (lambda clip: clip.std.BlankClip(varsize=1), "size varies"),
     (lambda clip: clip.std.BlankClip(varformat=1), "format varies"),
     (lambda clip: clip.std.BlankClip(format=vs.GRAY32), "more than 16 bits"),
     (lambda clip: vs.core.std.BlankAudio(), "not AudioNode")],
)  # fmt: skip
def test_clips_are_refused_at_once(clip: Node, make: Callable[[Node], Any], message: str) -> None:
    with pytest.raises(vs.Error, match=message) as caught:
        upscale(make(clip), "lanczos")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(
    ("props", "message"),
    [({"_FieldBased": 1}, "interlaced"), ({"_FieldBased": 2}, "deinterlace the clip first"),
     ({"_Matrix": 10}, r"colour matrix 10 \(H.273, BT.2020 of constant luminance\)")],
)  # fmt: skip
def test_frames_are_refused_by_name(
    clip: Node, batch: int, props: dict[str, int], message: str
) -> None:
    """Only those that are so; the last line of what VapourSynth reports says which."""
    found = fast(clip * 3 + clip.std.SetFrameProps(**props), batch_size=batch)
    assert found.get_frame(0).width == 96
    with pytest.raises(vs.Error) as caught:
        found.get_frame(3)
    last = str(caught.value).strip().splitlines()[-1]
    assert "vsr: frame 3: " in last
    with pytest.raises(vs.Error, match=message):
        raise vs.Error(last)


def test_yuv_that_is_tagged_as_rgb_is_refused_as_by_resize() -> None:
    clip = texture(vs.YUV444P8).std.SetFrameProps(_Matrix=0)
    with pytest.raises(vs.Error, match="cannot have RGB matrix"):
        clip.resize.Bicubic(format=vs.RGB24).get_frame(0)
    with pytest.raises(vs.Error, match=r"vsr: frame 0: _Matrix is 0 \(RGB\) on a YUV clip"):
        fast(clip).get_frame(0)


def test_an_error_upstream_comes_through(clip: Node) -> None:
    def breaks(n: int, f: Any) -> Any:
        if n == 4:
            raise RuntimeError("the tape is torn")
        return f

    source = clip * 6
    found = fast(source.std.ModifyFrame(source, breaks))
    assert found.get_frame(3).width == 96
    with pytest.raises(vs.Error, match="the tape is torn"):
        found.get_frame(4)
    assert found.get_frame(5).width == 96


# On a GPU.


@pytest.mark.cuda
@pytest.mark.parametrize(("streams", "batch"), [(1, 1), (3, 1), (2, 4)])
def test_gpu_equals_cpu(streams: int, batch: int) -> None:
    clip = texture(vs.YUV420P10, 160, 96, count=13)
    expected = pictures_of(upscale(clip, "span", device="cpu", precision="fp32", runtime="torch"))
    found = upscale(
        clip, "span", device="cuda", precision="fp32", num_streams=streams, batch_size=batch
    )
    pending = [found.get_frame_async(n) for n in range(13)]
    for future, theirs in zip(pending, expected, strict=True):
        assert largest_difference(planes_of(future.result()), theirs) <= 1
    assert torch.cuda.memory_allocated() > 0


def test_frames_that_cannot_be_right_are_done_again_and_said(tmp_path: Path) -> None:
    """Weights that overflow in half precision, as a checkpoint: the log names the frame."""
    network = load_network("span-x2")
    state = dict(network.module.state_dict())
    for name in ("weight", "bias"):
        state[f"conv_2.eval_conv.{name}"] = state[f"conv_2.eval_conv.{name}"] * 1e6
    fusion = state["conv_cat.weight"].clone()
    fusion[:, 48:96] /= 1e6
    save_file({**state, "conv_cat.weight": fusion}, tmp_path / "wild.safetensors")
    said: list[tuple[int, str]] = []
    handle = vs.core.add_log_handler(lambda kind, text: said.append((int(kind), text)))
    try:
        clip = texture(vs.YUV420P8, count=3)
        options: Any = {"weights": tmp_path / "wild.safetensors", "runtime": "torch"}
        found = pictures_of(upscale(clip, precision="fp16", **options))
    finally:
        vs.core.remove_log_handler(handle)
    expected = pictures_of(upscale(clip, precision="fp32", **options))
    for ours, theirs in zip(found, expected, strict=True):
        assert largest_difference(ours, theirs) == 0
    warnings = sorted(text for kind, text in said if kind == int(vs.MESSAGE_TYPE_WARNING))
    assert warnings == [
        f"vsr: frame {number} holds NaN or infinity: done again in float32" for number in range(3)
    ]
