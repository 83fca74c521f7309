"""VapourSynth scripts as sources: what their frames say is what arrives; errors are one line."""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest

from tests.warm import PYTHON
from vsr.config import FieldsConfig, InputConfig, ScriptConfig
from vsr.errors import ConfigError, SourceError, VsrError
from vsr.frame import FieldOrder, Frame, Matrix, Range, Siting
from vsr.sources import SourceConfig, VideoSource, open_source
from vsr.sources.props import hdr_of

vs = pytest.importorskip("vapoursynth", exc_type=ImportError)

HEAD = "import vapoursynth as vs\ncore = vs.core\n"
CLIP = "clip = core.std.BlankClip(width=64, height=48, format=vs.{format}, length={length})\n"

Script = Callable[..., Path]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Write a script: its head, a clip of ``format`` and ``length``, ``body``, its output."""

    def write(
        body: str = "", *, name: str = "s.vpy", format: str = "YUV420P8", length: int = 8
    ) -> Path:
        path = tmp_path / name
        clip = CLIP.format(format=format, length=length)
        path.write_text(f"{HEAD}{clip}{textwrap.dedent(body)}\nclip.set_output()\n")
        return path

    return write


def read(path: Path, **options: object) -> tuple[VideoSource, list[Frame]]:
    with open_source(path, SourceConfig(**options)) as source:  # type: ignore[arg-type]
        return source, list(source)


def times(frames: list[Frame]) -> list[Fraction]:
    return [frame.pts * frame.time_base for frame in frames]


def durations(frames: list[Frame]) -> list[Fraction]:
    return [frame.duration * frame.time_base for frame in frames]


def sums(steps: list[Fraction]) -> list[Fraction]:
    return [*accumulate(steps, initial=Fraction(0))][:-1]


# Samples.


@pytest.mark.parametrize(
    ("format", "name", "colour"),
    [
        ("YUV420P8", "yuv420p", (20, 30, 40)),
        ("YUV422P10", "yuv422p10le", (900, 30, 500)),
        ("YUV444P16", "yuv444p16le", (65535, 1, 32768)),
        ("YUV411P8", "yuv411p", (16, 128, 240)),
        ("YUV440P8", "yuv440p", (16, 128, 240)),
        ("GRAY8", "gray", (77,)),
        ("GRAY12", "gray12le", (4000,)),
        ("GRAYS", "grayf32le", (0.25,)),
        ("GRAYH", "grayf16le", (0.25,)),
        ("RGB24", "gbrp", (10, 20, 30)),
        ("RGB30", "gbrp10le", (1000, 20, 30)),
        ("RGBS", "gbrpf32le", (0.5, 1.25, -0.25)),
        ("RGBH", "gbrpf16le", (0.5, 1.25, -0.25)),
    ],
)
def test_every_format_arrives_as_it_is(script, format: str, name: str, colour) -> None:
    path = script(f"clip = core.std.BlankClip(clip, color={list(colour)})", format=format)
    source, frames = read(path)
    assert source.info.format.name == name
    assert len(frames) == 8
    for frame in (frames[0], frames[-1]):
        assert [c.unique().tolist() for c in frame.components] == [[value] for value in colour]


@pytest.mark.parametrize(
    ("format", "alpha", "name", "last"),
    [
        ("YUV420P8", ("GRAY8", 77), "yuva420p", 77),
        ("YUV444P10", ("GRAY10", 1023), "yuva444p10le", 1023),
        ("YUV422P12", ("GRAY8", 51), "yuva422p12le", 819),
        ("YUV444PS", ("GRAYS", 0.2), "yuva444p16le", 13107),
        ("RGB48", ("GRAYS", 1.5), "gbrap16le", 65535),
        ("RGBS", ("GRAY16", 13107), "gbrapf32le", 0.2),
        ("GRAY8", ("GRAY8", 9), "ya8", 9),
        ("GRAY16", ("GRAY16", 999), "ya16le", 999),
    ],
)
def test_alpha_of_a_frame_is_part_of_it(script, format, alpha, name, last) -> None:
    kind, value = alpha
    flat = f"clip.std.BlankClip(format=vs.{kind}, color={value})"
    source, frames = read(
        script(f'clip = clip.std.ClipToProp({flat}, prop="_Alpha")', format=format)
    )
    assert source.info.format.name == name
    assert len(frames) == 8
    for frame in (frames[0], frames[-1]):
        assert frame.components[-1].unique().tolist() == [pytest.approx(last)]


def test_alpha_of_an_output_is_read(tmp_path: Path) -> None:
    path, clip = tmp_path / "s.vpy", CLIP.format(format="YUV420P10", length=8)
    alpha = "clip.std.BlankClip(format=vs.GRAY10, color=700)"
    path.write_text(f"{HEAD}{clip}clip.set_output(alpha={alpha})\n")
    source, frames = read(path)
    assert source.info.format.name == "yuva420p10le"
    assert all(frame.components[-1].unique().tolist() == [700] for frame in frames)


def test_frames_without_alpha_among_others_are_opaque(script) -> None:
    body = """
    with_alpha = clip.std.ClipToProp(clip.std.BlankClip(format=vs.GRAY8, color=3), prop="_Alpha")
    clip = core.std.Interleave([with_alpha, clip])
    """
    _, frames = read(script(body))
    assert [f.components[-1].unique().tolist() for f in frames[:4]] == [[3], [255], [3], [255]]


def test_alpha_that_no_format_holds_is_said(script) -> None:
    alpha = "clip.std.BlankClip(format=vs.GRAY8, width={})"
    body = "clip = clip.std.ClipToProp(" + alpha + ', prop="_Alpha")'
    source, frames = read(script(body.format(64), format="YUV411P8"))
    assert len(frames[0].components) == 3
    assert "alpha is dropped: FFmpeg has no yuv411p with it" in source.notes
    with pytest.raises(SourceError, match=r"s.vpy: frame 0: its alpha is Gray8 of 32x48"):
        read(script(body.format(32)))


@pytest.mark.parametrize(
    ("format", "name", "given", "found"),
    [
        ("YUV444PS", "yuv444p16le", (0.5, 0.25, -0.25), (32128, 47104, 18432)),
        ("YUV420PH", "yuv420p16le", (1.0, 0.0, 0.5), (60160, 32768, 61440)),
        ("YUV422P11", "yuv422p12le", (2000, 3, 1024), (4000, 6, 2048)),
        ("YUV440P9", "yuv440p10le", (500, 3, 256), (1000, 6, 512)),
    ],
)
def test_formats_that_ffmpeg_lacks_become_the_nearest(script, format, name, given, found) -> None:
    body = f"clip = core.std.BlankClip(clip, color={list(given)})"
    if odd := {"YUV422P11": "11, 1, 0", "YUV440P9": "9, 0, 1"}.get(format):  # without a constant
        odd = f"core.query_video_format(vs.YUV, vs.INTEGER, {odd}).id"
        body = f"clip = core.std.BlankClip(clip, format={odd}, color={list(given)})"
        format = "YUV422P8"
    source, frames = read(script(body, format=format))
    assert source.info.format.name == name
    samples = [component.unique().tolist() for component in frames[0].components]
    assert samples == [[pytest.approx(value, abs=1)] for value in found]
    assert any("is converted to" in note for note in source.notes)


@pytest.mark.parametrize(
    ("format", "name"),
    [("vs.YUV, vs.INTEGER, 10, 2, 0", "YUV411P10"), ("vs.YUV, vs.FLOAT, 32, 2, 2", "YUV410PS"),
     ("vs.YUV, vs.INTEGER, 14, 0, 1", "YUV440P14"), ("vs.YUV, vs.FLOAT, 16, 0, 1", "YUV440PH"),
     ("vs.YUV, vs.INTEGER, 8, 2, 1", "YUV"), ("vs.GRAY, vs.INTEGER, 32, 0, 0", "Gray32")],
)  # fmt: skip
def test_a_format_like_none_of_ffmpegs_is_refused(script, format: str, name: str) -> None:
    body = f"clip = core.std.BlankClip(clip, format=core.query_video_format({format}).id)"
    with pytest.raises(SourceError, match=f"s.vpy: FFmpeg has no format like {name}"):
        read(script(body))


@pytest.mark.parametrize(
    ("body", "reason"),
    [("clip = core.std.BlankClip(clip, format="
      "core.query_video_format(vs.YUV, vs.INTEGER, 8, 2, 1).id)", "FFmpeg has no format like YUV"),
     ("clip = core.std.FrameEval(clip, lambda n: 1 / 0)", "frame 0: ZeroDivisionError")],
)  # fmt: skip
def test_a_clip_that_is_refused_leaves_no_environment(
    script, body: str, reason: str, monkeypatch
) -> None:
    from vsr.sources.environment import Environment  # which imports vapoursynth

    close, closed = Environment.close, list[Environment]()

    def noted(environment: Environment) -> None:
        closed.append(environment)
        close(environment)

    monkeypatch.setattr(Environment, "close", noted)
    with pytest.raises(SourceError, match=reason):
        read(script(body))
    assert closed


def test_rows_and_columns_stay_in_place(script) -> None:
    body = """
    import numpy as np
    def draw(n, f):
        out = f.copy()
        for p in range(3):
            plane = np.asarray(out[p])
            plane[:] = np.arange(plane.size).reshape(plane.shape) % (200 + p) + n
        return out
    clip = core.std.BlankClip(clip, width=62, height=46)
    clip = core.std.ModifyFrame(clip, clip, draw)
    """
    _, frames = read(script(body))
    for number, frame in enumerate(frames):
        for plane, component in enumerate(frame.components):
            shape = tuple(component.shape)
            assert shape == ((46, 62), (23, 31), (23, 31))[plane]
            wanted = np.arange(component.numel()).reshape(shape) % (200 + plane) + number
            assert np.array_equal(component.numpy(), wanted)


# Time.


def test_a_constant_rate_is_exact(script) -> None:
    body = "clip = core.std.AssumeFPS(clip, fpsnum=24000, fpsden=1001)"
    source, frames = read(script(body, length=40))
    step = Fraction(1001, 24000)
    assert source.info.rate == 1 / step
    assert source.info.frames == 40
    assert times(frames) == [number * step for number in range(40)]
    assert durations(frames) == [step] * 40


UNEVEN = [Fraction(1, 3), Fraction(1, 7), Fraction(1001, 30000), Fraction(1, 1000)] * 10
VFR = f"""
steps = {[(d.numerator, d.denominator) for d in UNEVEN]}
def tell(n, f):
    out = f.copy()
    out.props["_DurationNum"], out.props["_DurationDen"] = steps[n]
    return out
clip = core.std.ModifyFrame(clip, clip, tell)
"""


def test_a_variable_rate_is_the_exact_sum_of_the_durations(script) -> None:
    source, frames = read(script(VFR, length=40))
    assert times(frames) == sums(UNEVEN)
    assert durations(frames) == UNEVEN
    assert not any("rounded" in note for note in source.notes)


def test_milliseconds_that_come_late_still_fit(script) -> None:
    body = VFR.replace("steps[n]", "(33, 1000) if n > 30 else (1, 25)")
    _, frames = read(script(body, length=40))
    wanted = [Fraction(1, 25)] * 31 + [Fraction(33, 1000)] * 9
    assert durations(frames) == wanted


def test_times_beyond_every_time_base_are_rounded_and_counted(script) -> None:
    primes = [(1, 7919), (1, 7907), (1, 7901), (1, 7883)]
    body = VFR.replace("steps[n]", f"{primes}[n % 4]")
    source, frames = read(script(body, length=8))
    exact = sums([Fraction(*primes[n % 4]) for n in range(8)])
    worst = max(abs(a - b) for a, b in zip(times(frames), exact, strict=True))
    assert 0 < worst <= frames[0].time_base / 2 < Fraction(1, 10**9)
    assert any(note.startswith("7 timestamps are rounded") for note in source.notes)


def test_frames_without_a_duration(script) -> None:
    body = """
    clip = core.std.Splice([clip, core.std.AssumeFPS(clip, fpsnum=50, fpsden=1)])
    clip = core.std.RemoveFrameProps(clip, ["_DurationNum", "_DurationDen"])
    """
    source, frames = read(script(body))
    assert durations(frames) == [Fraction(1, 25)] * 16
    assert any("taken as 25 a second" in note for note in source.notes)
    _, again = read(script(body), input=InputConfig(rate=Fraction(12)))
    assert times(again) == [Fraction(number, 12) for number in range(16)]


FILM = "clip = core.std.AssumeFPS(clip, fpsnum=24000, fpsden=1001)\n"
NO_RATE = "clip = core.std.Splice([clip[:20], core.std.AssumeFPS(clip, fpsnum=50)[:20]])\n"
SILENT = 'clip = core.std.RemoveFrameProps(clip, ["_DurationNum", "_DurationDen"])\n'
THIRDS = VFR.replace("(n, f):", "(n, f):\n    if n % 3:\n        return f")


@pytest.mark.parametrize(
    ("body", "repaired"),
    [(SILENT, False), (FILM + SILENT, False), (NO_RATE + SILENT, False),
     (NO_RATE + SILENT + THIRDS, True)],
)  # fmt: skip
def test_a_missing_duration_is_a_repair_where_it_was_not_to_be_expected(
    script, body: str, repaired: bool
) -> None:
    source, frames = read(script(body, length=40))
    assert len(frames) == 40
    assert any("which was repaired" in line for line in source.report.lines()) == repaired


@pytest.mark.parametrize("body", ["", VFR], ids=["constant", "variable"])
def test_a_part_is_what_lies_between(script, body: str) -> None:
    path = script(body, length=40)
    start, end = Fraction(2, 5), Fraction(13, 10)
    _, every = read(path)
    wanted = [(t - start, f.duration) for t, f in zip(times(every), every, strict=True)
              if start <= t < end]  # fmt: skip
    source, part = read(path, start=start, end=end)
    found = list(zip(times(part), [frame.duration for frame in part], strict=True))
    assert len(found) > 3
    # A start between two units of the time base is that far off, as with files.
    assert all(abs(a[0] - b[0]) <= part[0].time_base for a, b in zip(found, wanted, strict=True))
    assert source.report.frames == len(wanted)
    _, few = read(path, start=start, frames=2)
    assert len(few) == 2


def numbered(body: str) -> str:
    """Frames that hold their number as their luma."""
    return f"""{body}
def number(n, f):
    import numpy as np
    out = f.copy()
    np.asarray(out[0])[:] = n
    return out
clip = core.std.ModifyFrame(clip, clip, number)
"""


def numbers(frames: list[Frame]) -> list[int]:
    return [int(frame.components[0][0, 0]) for frame in frames]


MIXED = [Fraction(*step) for step in ((1, 24), (1, 30), (1001, 24000), (1, 1000))] * 10
LATE = [Fraction(1, 25)] * 30 + [Fraction(1, prime) for prime in (7919, 7907, 7901, 7883)] * 3


@pytest.mark.parametrize("steps", [MIXED, LATE], ids=["mixed", "late"])
def test_a_part_begins_and_ends_at_the_very_frame(script, steps: list[Fraction]) -> None:
    """Whatever time base is chosen, and however few frames are wanted: sums are exact."""
    body = VFR.replace(str([(d.numerator, d.denominator) for d in UNEVEN]),
                       str([(d.numerator, d.denominator) for d in steps]))  # fmt: skip
    path = script(numbered(body), length=len(steps))
    starts = sums(steps)
    for number in (1, 3, 24, 33, 39):
        _, first = read(path, start=starts[number], frames=1)
        assert numbers(first) == [number]
        end = starts[number + 1] if number + 1 < len(steps) else None
        _, alone = read(path, start=starts[number], end=end)
        assert numbers(alone) == [number]


def test_the_part_of_a_constant_clip_is_not_reached_by_way_of_all_before(script) -> None:
    body = """
    def one(n, f):
        if 100 < n < 3000:
            raise ValueError(f"frame {n} is not needed")
        return f.copy()
    clip = core.std.ModifyFrame(clip, clip, one)
    """
    _, frames = read(script(body, length=4000), start=Fraction(3100, 24), frames=3)
    assert times(frames) == [Fraction(number, 24) for number in range(3)]


def test_a_start_beyond_the_end(script) -> None:
    with pytest.raises(SourceError, match=r"s.vpy: the start, 99 s, lies beyond its end"):
        read(script(), start=Fraction(99))


# Properties.


def test_colour_and_shape_come_from_the_properties(script) -> None:
    body = """
    clip = core.std.SetFrameProps(
        clip, _Matrix=9, _Primaries=9, _Transfer=16, _Range=1, _ChromaLocation=2, _SARNum=10,
        _SARDen=11)
    """
    info = read(script(body))[0].info
    colour = info.colour
    assert (colour.matrix, colour.primaries, colour.transfer) == (9, 9, 16)
    assert (colour.range, colour.siting) == (Range.FULL, Siting.TOP_LEFT)
    assert info.sar == Fraction(10, 11)


@pytest.mark.parametrize(
    ("props", "range_"),
    [
        ("_ColorRange=0", Range.FULL),
        ("_ColorRange=1", Range.LIMITED),
        ("_Range=0", Range.LIMITED),
        ("_Range=1", Range.FULL),
    ],
)
def test_the_range_has_had_two_names(script, props: str, range_: Range) -> None:
    body = f"""
    import warnings
    clip = core.std.RemoveFrameProps(clip, ["_Range"])
    with warnings.catch_warnings(action="ignore"):  # of the old name
        clip = core.std.SetFrameProps(clip, {props})
    """
    assert read(script(body))[0].info.colour.range == range_


@pytest.mark.parametrize(("props", "range_"), [("", Range.LIMITED), ("_Range=1", Range.FULL)])
@pytest.mark.parametrize("format", ["GRAY8", "GRAY16"])
def test_gray_without_a_tag_is_limited_as_in_vapoursynth(script, format, props, range_) -> None:
    body = f"clip = core.std.SetFrameProps(clip, {props})" if props else ""
    source, frames = read(script(body, format=format))
    assert source.info.colour.range == range_
    assert all(frame.colour.range == range_ for frame in frames)
    assert ("colour range not tagged: taken as limited" in source.notes) == (not props)


@pytest.mark.parametrize(
    ("format", "props", "range_"),
    [("RGB24", "_Range=0", Range.LIMITED), ("RGB48", "_Range=0", Range.LIMITED),
     ("RGB24", "_Range=1", Range.FULL), ("RGB24", "", Range.FULL),
     ("RGBS", "_Range=0", Range.FULL)],
)  # fmt: skip
def test_rgb_of_a_clip_is_taken_at_its_word(script, format, props, range_) -> None:
    body = f"clip = core.std.SetFrameProps(clip, {props})" if props else ""
    source, frames = read(script(body, format=format))
    assert source.info.colour.range == frames[0].colour.range == range_
    assert not any("range" in note for note in source.notes)
    full = InputConfig(range=Range.FULL)
    assert read(script(body, format=format), input=full)[0].info.colour.range == Range.FULL


@pytest.mark.parametrize("name", ["o.mkv", "o.png"])
def test_rgb_of_limited_range_is_written_as_full(script, tmp_path, command, name) -> None:
    """Readers take RGB of files for full, whatever its tag."""
    path = script(
        "clip = core.std.BlankClip(clip, color=[235, 16, 126], length=1)\n"
        "clip = core.std.SetFrameProps(clip, _Range=0)", format="RGB24"
    )  # fmt: skip
    codec = () if name == "o.png" else ("-c:v", "ffv1")
    code, lines = command(path, tmp_path / name, "--model", "identity", *codec)
    assert code == 0, lines
    assert any("range becomes full" in line for line in lines)
    source, (frame,) = read(tmp_path / name)
    assert (source.info.colour.range, source.notes) == (Range.FULL, [])
    top = (1 << source.info.format.depth) - 1
    colour = [component.unique().tolist() for component in frame.components]
    assert colour == [[top], [0], [pytest.approx(top * 110 / 219, abs=1)]]


@pytest.mark.parametrize(("props", "matrix"), [("", 9), (", _Matrix=1", 1)])
def test_the_matrix_has_had_two_names(script, props: str, matrix: int) -> None:
    body = f"""
    clip = core.std.RemoveFrameProps(clip, ["_Matrix"])
    clip = core.std.SetFrameProps(clip, _ColorSpace=9{props})
    """
    assert read(script(body))[0].info.colour.matrix == matrix


@pytest.mark.parametrize(
    ("props", "line"),
    [("_Matrix='709'", "_Matrix '709' is no whole number: ignored"),
     ("_Matrix=[1, 6]", "_Matrix [1, 6] is no whole number: ignored"),
     ("_Matrix=300", "_Matrix 300 is without meaning in H.273: ignored"),
     ("_Matrix=0", "_Matrix 0 means RGB, which has no subsampled chroma: ignored"),
     ("_Primaries=99", "_Primaries 99 is without meaning in H.273: ignored"),
     ("_Transfer=3", "_Transfer 3 is without meaning in H.273: ignored"),
     ("_Range=7", "_Range 7 is neither 0 (limited) nor 1 (full): ignored"),
     ("_ChromaLocation=9", "_ChromaLocation 9 is not among 0 to 5: ignored"),
     ("_FieldBased=3", "_FieldBased 3 is not among 0 to 2: ignored")],
)  # fmt: skip
def test_properties_that_cannot_be_meant_are_ignored_with_a_line(script, props, line) -> None:
    plain, wanted = read(script())
    late = f"clip = core.std.SetFrameProps(clip, {props})"
    source, frames = read(script(late))
    assert source.notes.count(line) == 1
    assert [note for note in source.notes if note != line] == plain.notes
    assert [frame.colour for frame in frames] == [frame.colour for frame in wanted]
    late = f"clip = clip[:-1] + core.std.SetFrameProps(clip[-1], {props})"
    assert line in read(script(late))[0].notes


@pytest.mark.parametrize("matrix", [3, 99])
def test_a_matrix_that_nobody_knows_is_one_line(script, tmp_path, command, matrix: int) -> None:
    path = script(f"clip = core.std.SetFrameProps(clip, _Matrix={matrix})")
    code, lines = command(path, tmp_path / "o.mkv")
    assert (code, len(lines)) == (2, 1)
    assert lines[0].startswith(
        f"vsr-upscale: error: {path}: frame 0: _Matrix {matrix} is not known"
    )
    read(script(f"clip = core.std.SetFrameProps(clip, _Matrix={matrix})", format="RGB24"))


def test_what_the_user_says_overrules_the_properties(script) -> None:
    body = "clip = core.std.SetFrameProps(clip, _Matrix=1)"
    stated = InputConfig(matrix=Matrix.SMPTE170M, sar=Fraction(16, 15))
    info = read(script(body), input=stated)[0].info
    assert info.colour.matrix == Matrix.SMPTE170M
    assert info.sar == Fraction(16, 15)


HDR = """
clip = core.std.SetFrameProps(
    clip, _Transfer=16, _Primaries=9, _Matrix=9,
    MasteringDisplayPrimariesX=[0.708, 0.17, 0.131],
    MasteringDisplayPrimariesY=[0.292, 0.797, 0.046],
    MasteringDisplayWhitePointX=0.3127, MasteringDisplayWhitePointY=0.329,
    MasteringDisplayMinLuminance=0.0001, MasteringDisplayMaxLuminance={bright},
    ContentLightLevelMax=1000, ContentLightLevelAverage=400, HDR10Plus=b"x")
"""


def test_hdr_metadata_come_from_the_properties(script) -> None:
    source, _ = read(script(HDR.format(bright=1000.0), format="YUV420P10"))
    hdr = source.info.hdr
    assert hdr is not None
    assert hdr.mastering is not None
    assert hdr.light is not None
    units = hdr.mastering.in_units()
    assert units == (8500, 39850, 6550, 2300, 35400, 14600, 15635, 16450, 10_000_000, 1)
    assert (hdr.light.max_cll, hdr.light.max_fall) == (1000, 400)
    assert "HDR10+ dynamic metadata is dropped" in source.notes


def test_hdr_metadata_that_cannot_be_are_ignored_with_a_line(script) -> None:
    source, _ = read(script(HDR.format(bright=0.00001), format="YUV420P10"))
    assert source.info.hdr is not None
    assert source.info.hdr.mastering is None
    assert any("mastering display metadata of the frames" in note for note in source.notes)


@pytest.mark.parametrize(
    ("props", "note"),
    [
        (
            {"MasteringDisplayMinLuminance": 0.005, "MasteringDisplayMaxLuminance": 1000.0},
            "mastering display metadata of the frames is ignored: its primaries are not set",
        ),
        (
            {
                "MasteringDisplayPrimariesX": [0.708, 0.17, 0.131],
                "MasteringDisplayPrimariesY": [0.292, 0.797, 0.046],
                "MasteringDisplayWhitePointX": 0.3127, "MasteringDisplayWhitePointY": 0.329,
            },
            "mastering display metadata of the frames is ignored: its luminance is not set",
        ),
        (
            {"ContentLightLevelMax": 1000.0},
            "content light level of the frames is ignored: it is no whole number",
        ),
    ],
)  # fmt: skip
def test_hdr_metadata_that_are_incomplete_say_what_lacks(props, note: str) -> None:
    assert hdr_of(props) == (None, [note])


@pytest.mark.parametrize(("value", "order"), [(1, FieldOrder.BB), (2, FieldOrder.TT)])
def test_fields_stop_the_run_as_those_of_files_do(script, value: int, order: FieldOrder) -> None:
    path = script(f"clip = core.std.SetFrameProps(clip, _FieldBased={value})")
    with pytest.raises(ConfigError, match=r"s.vpy: is interlaced \(8 of 8 frames flagged"):
        read(path, fields=FieldsConfig())
    source, frames = read(path, fields=FieldsConfig(progressive=True))
    assert source.info.field_order == order
    assert len(frames) == 8
    source, frames = read(path, fields=FieldsConfig(deinterlace="bwdif", field_rate=True))
    assert source.info.field_order == FieldOrder.PROGRESSIVE
    assert times(frames) == [Fraction(number, 48) for number in range(16)]


WOVEN = """
    bars = [core.std.StackHorizontal([
        core.std.BlankClip(width=16 + 16 * n, height=480, length=1, format=vs.GRAY8),
        core.std.BlankClip(width=32, height=480, length=1, format=vs.GRAY8, color=235),
        core.std.BlankClip(width=688 - 16 * n, height=480, length=1, format=vs.GRAY8)])
        for n in range(40)]
    fields = core.std.SeparateFields(core.std.Splice(bars), tff=True)
    fields = core.std.SelectEvery(fields, 4, [0, 3])
    clip = core.std.DoubleWeave(fields, tff=True)[::2]
    clip = core.std.AssumeFPS(clip, fpsnum=25)
    clip = core.std.RemoveFrameProps(clip, "_FieldBased")
"""


def test_a_script_is_believed_that_says_that_its_frames_are_whole(script) -> None:
    with pytest.raises(ConfigError, match=r"s.vpy: is interlaced \(0 of 20 frames flagged"):
        read(script(WOVEN), fields=FieldsConfig())
    whole = WOVEN + "    clip = core.std.SetFrameProps(clip, _FieldBased=0)"
    source, frames = read(script(whole), fields=FieldsConfig())
    assert source.info.field_order == FieldOrder.PROGRESSIVE
    assert len(frames) == 20
    (note,) = [note for note in source.notes if note.startswith("fields: ")]
    assert "the script says that its frames are whole (0 of 20" in note
    assert "look combed" in note


def test_filters_work_on_scripts(script) -> None:
    _, frames = read(script(), filters="crop=32:24,fps=12")
    assert [(f.width, f.height) for f in frames] == [(32, 24)] * 4


# Scripts are programs.


def test_arguments_are_global_strings_and_the_folder_is_the_scripts(script, tmp_path) -> None:
    body = """
    import os, sys
    assert sys.argv == [""]  # as under vspipe
    sys.argv = ["mine"]
    assert __name__ == "__vapoursynth__" and os.path.isabs(__file__)
    assert os.path.samefile(os.getcwd(), os.path.dirname(__file__))
    clip = clip[: int(count)]
    """
    given = ScriptConfig(arguments={"count": "3"})
    before = Path.cwd(), sys.argv
    _, frames = read(script(body), script=given)
    assert len(frames) == 3
    assert (Path.cwd(), sys.argv) == before


def test_the_output_is_chosen_by_its_index(script) -> None:
    path = script("core.std.BlankClip(clip, length=2).set_output(5)")
    source, frames = read(path, script=ScriptConfig(output=5))
    assert len(frames) == 2
    assert "output 5 is read, of 0, 5" in source.notes
    with pytest.raises(ConfigError, match=r"sets no output 1: choose by --output-index from 0, 5"):
        read(path, script=ScriptConfig(output=1))


def test_what_a_script_prints_is_not_the_stream(script, capfd: pytest.CaptureFixture[str]) -> None:
    read(script("print('good morning')"))
    out, err = capfd.readouterr()
    assert out == ""
    assert "good morning" in err


BAD = {
    "x = = 3": "line 4: invalid syntax",
    "clip = core.nothere.Filter(clip)":
        "line 4: AttributeError: No attribute with the name nothere",
    "clip = core.std.BlankClip(length=0)": "line 4: BlankClip: invalid length",
    "clip = clip[8:]": "line 4: ",
    "raise SystemExit(3)": "line 4: the script exits (3)",
    "import no_such_module": "line 4: ModuleNotFoundError: No module named 'no_such_module'",
    "open('no_such_file')": "line 4: FileNotFoundError",
    "clip = core.std.Splice([clip, core.std.BlankClip(length=2)], mismatch=True)": "size varies",
    "clip = core.std.Splice([clip, core.std.BlankClip(clip, format=vs.GRAY8)], mismatch=True)":
        "format varies",
    "clip = core.std.BlankAudio()": "output 0 is sound",
}  # fmt: skip


@pytest.mark.parametrize("body", BAD)
def test_a_bad_script_is_one_telling_line(script, body: str) -> None:
    path = script(body)
    with pytest.raises(VsrError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert BAD[body] in message
    assert "\n" not in message


def test_no_output(tmp_path: Path) -> None:
    path = tmp_path / "none.vpy"
    path.write_text(HEAD)
    with pytest.raises(SourceError, match=r"none.vpy: sets no output: end it with"):
        read(path)


RAISES = """
def one(n, f):
    if n == 100:
        raise ValueError("frame hundred is bad")
    return f.copy()
clip = core.std.ModifyFrame(clip, clip, one)
"""


def test_a_frame_that_fails_ends_the_run_and_leaves_nothing(script, tmp_path, command) -> None:
    output = tmp_path / "out.mkv"
    code, lines = command(script(RAISES, length=200), output)
    assert code == 1
    wanted = "s.vpy: frame 100: ValueError: frame hundred is bad"
    assert lines[-1].startswith("vsr-upscale: error: ")
    assert lines[-1].endswith(wanted)
    assert [path.name for path in tmp_path.iterdir()] == ["s.vpy"]


@pytest.mark.parametrize(
    ("error", "told"),
    [('ValueError("boom\\nsecond")', "ValueError: boom"),
     ('core.std.FrameEval(clip, one).get_frame(0)', "ValueError: deep")],
)  # fmt: skip
def test_an_error_of_several_lines_is_told_by_its_first(script, error: str, told: str) -> None:
    body = f"""
    def one(n):
        raise ValueError("deep\\ndown")
    def two(n):
        raise {error}
    clip = core.std.FrameEval(clip, two)
    """
    with pytest.raises(SourceError) as caught:
        read(script(body))
    assert str(caught.value).endswith(f"s.vpy: frame 0: {told}")


def test_stopping_early_does_not_wait_for_the_rest(script) -> None:
    body = """
    import time
    def one(n, f):
        time.sleep(0.05)
        return f.copy()
    clip = core.std.ModifyFrame(clip, clip, one)
    """
    started = time.perf_counter()
    _, frames = read(script(body, length=5000), frames=3)
    assert len(frames) == 3
    assert time.perf_counter() - started < 20


# Options.


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("in.mkv", "-a", "x=1"), 2, "in.mkv: -a and --output-index are for VapourSynth scripts"),
        (("in.mkv", "--output-index", "1"), 2, "in.mkv: -a and --output-index are for"),
        (("s.vpy", "-a", "__name__=x"), 2, "-a __name__=…: names like this are Python's own"),
        (("s.vpy", "--output-index", "-1"), 2, "the output's index must be 0 or more"),
        (("s.vpy", "--source", "bestsource"), 2, "s.vpy: --source bestsource is for media files"),
        (("-", "--source", "bestsource"), 2, "--source bestsource is for media files"),
        (("s.vpy", "--audio-from", "-"), 2, "--audio-from takes a file"),
        (("s.vpy", "--audio-from", "no.mkv"), 1, "no.mkv: no such file"),
        (("no.vpy",), 1, "no.vpy: no such file"),
    ],
)
def test_options_that_do_not_fit(
    script, make_clip, monkeypatch, tmp_path, command, arguments, code, message
) -> None:  # fmt: skip
    script()
    (tmp_path / "in.mkv").symlink_to(make_clip("in.mkv", frames=2))
    monkeypatch.chdir(tmp_path)
    found, lines = command(*arguments, "out.mkv")
    assert (found, message in lines[-1]) == (code, True), lines
    assert not (tmp_path / "out.mkv").exists()


def test_the_output_must_not_be_what_goes_beside(script, make_clip, command) -> None:
    beside = make_clip("beside.mkv", frames=2)
    code, lines = command(script(), beside, "--audio-from", beside, "-y")
    assert code == 2
    assert lines[-1].endswith("input and output are the same file")


# Environments; in a process of its own, since VapourSynth has one policy in each.

APART = """
import sys
from pathlib import Path
import vapoursynth as vs
from vsr.sources import SourceConfig, open_source
from vsr.config import ScriptConfig
{before}
path = Path(sys.argv[1])
one = open_source(path, SourceConfig(script=ScriptConfig(arguments={{"tag": "one"}})))
two = open_source(path, SourceConfig(script=ScriptConfig(arguments={{"tag": "two"}})))
frames = [len(list(zip(one, range(2)))), len(list(two))]
one.close(); two.close()
with open_source(path, SourceConfig(script=ScriptConfig(arguments={{"tag": "three"}}))) as three:
    frames.append(len(list(three)))
session = vs.core.std.BlankClip(length=2)
print(frames, dict(vs.get_outputs()).keys(), session.get_frame(1).width, *three.notes)
"""


@pytest.mark.parametrize("before", ["", "vs.core.std.BlankClip().set_output(7)"])
def test_scripts_live_beside_each_other_and_a_session(script, before: str) -> None:
    path = script("core.max_cache_size = 64\nassert tag in ('one', 'two', 'three')", length=5)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", APART.format(before=before), str(path)],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    shared = "the script runs in the VapourSynth environment that is there already"
    assert done.stdout.startswith(f"[2, 5, 5] dict_keys([{'7' if before else ''}]) 640")
    assert (shared in done.stdout) == bool(before)


FOREIGN = """
import sys
import threading
from fractions import Fraction
from pathlib import Path
import vapoursynth as vs
from vsr.errors import SourceError
from vsr.sources import SourceConfig, open_source

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

policy = Policy()
vs.register_policy(policy)
path = Path(sys.argv[1])
try:
    open_source(path)
except SourceError as error:
    print(error)
environment = policy.api.create_environment(0)
policy.alive.append(environment)
with policy.api.wrap_environment(environment).use():
    source = open_source(path)

def read():
    source.skip(3, 0, [], lambda frame: True)
    print(len(list(source)))

thread = threading.Thread(target=read)
thread.start()
thread.join()
policy.alive.remove(environment)
policy.api.destroy_environment(environment)
source.close()
"""


def test_an_environment_of_another_program(script) -> None:
    """There has to be one; what was opened in it is read on any thread, and closed after it."""
    path = script(length=5)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FOREIGN, str(path)],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    refusal, count = done.stdout.splitlines()
    assert refusal.startswith(f"{path}: another program has set VapourSynth's environment policy")
    assert refusal.endswith("no environment is active: open it inside of one")
    assert count == "2"


# BestSource.


@pytest.mark.parametrize(
    "name",
    ["generated/vfr_irregular.mkv", "generated/rot.mp4", "androidx/sd-hls0000000000.ts",
     "format-corpus/dv-pal-interlaced.mov", "generated/il.mpg", "generated/tc.mpg",
     "format-corpus/png.mov"],
)  # fmt: skip
@pytest.mark.parametrize("start", [None, Fraction(1, 2)])
def test_bestsource_gives_the_same_frames_at_the_same_times(shared, name, start) -> None:
    if not hasattr(vs.core, "bs"):
        pytest.skip("the plugin BestSource (vapoursynth-bestsource) is not installed")
    path = shared / "media" / name
    both = [read(path, decoder=decoder, start=start) for decoder in ("pyav", "bestsource")]
    (ours, frames), (theirs, again) = both
    assert times(frames) == times(again)
    assert len(frames) == len(again) > 10
    for one, other in zip(frames, again, strict=True):
        pairs = zip(one.components, other.components, strict=True)
        assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in pairs)
    assert ours.info.format.as_planar() == theirs.info.format
    for fact in ("width", "height", "colour", "sar", "rate", "display_matrix", "hdr"):
        assert getattr(ours.info, fact) == getattr(theirs.info, fact), fact


def test_what_bestsource_leaves_behind_is_said(shared) -> None:
    if not hasattr(vs.core, "bs"):
        pytest.skip("the plugin BestSource (vapoursynth-bestsource) is not installed")
    said = {
        "androidx/bear-vp9-odd-dimensions.webm": "BestSource cuts the picture: 161x121 to 160x120",
        "androidx/dolbyVision-hdr.MOV": "Dolby Vision metadata (profile 8.4) is dropped",
    }
    for name, line in said.items():
        with open_source(shared / "media" / name, SourceConfig(decoder="bestsource")) as source:
            assert any(note.startswith(line) for note in source.notes), name


def test_a_missing_bestsource_is_one_line(make_clip, tmp_path: Path) -> None:
    """VapourSynth without its plugins: in a process whose core loads none."""
    code = """
import sys
import vapoursynth as vs
from vsr.sources import environment
create = environment._Policy.create
def bare(self):
    made = self.api.create_environment(int(vs.DISABLE_AUTO_LOADING))
    self._alive.append(made)
    return made
environment._Policy.create = bare
from vsr.cli import main
sys.exit(main(sys.argv[1:]))
"""
    arguments = [make_clip("in.mkv"), tmp_path / "o.mkv", "--source", "bestsource"]
    done = subprocess.run(
        [*PYTHON, "-c", code, *map(str, arguments), "--model", "identity"],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.endswith("BestSource is not installed: pip install vapoursynth-bestsource")


COUNTING = """
def one(n, f):
    with open({made!r}, "a") as file:
        file.write(".")
    return f.copy()
clip = core.std.ModifyFrame(clip, clip, one)
"""


def test_only_so_many_frames_are_made_ahead(script, tmp_path) -> None:
    """What is made before anybody asks is bounded, however long it takes to be asked for."""
    path = script(COUNTING.format(made=str(tmp_path / "made")), length=5000)
    with open_source(path) as source:
        frames = iter(source)
        for _ in range(30):
            next(frames)
        time.sleep(0.5)
        made = (tmp_path / "made").stat().st_size
    assert 30 < made <= 30 + 24 + 2 * (os.cpu_count() or 1) + 2


def test_of_huge_frames_fewer_are_held(script, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("vsr.sources.clip_frames._AHEAD_BYTES", 3 * 64 * 48 * 3)
    path = script(COUNTING.format(made=str(tmp_path / "made")), length=500)
    with open_source(path):
        time.sleep(0.5)
        made = (tmp_path / "made").stat().st_size
    assert 3 <= made <= 3 + 2 * 3 + 2
