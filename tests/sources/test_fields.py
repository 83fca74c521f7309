"""Interlaced and telecined pictures: seen, refused, and made whole as ffmpeg makes them."""

import subprocess
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from tests.warm import PYTHON
from vsr.config import FieldsConfig, InputConfig
from vsr.errors import ConfigError, UnsupportedFormatError
from vsr.frame import FieldOrder, Matrix
from vsr.sources import SourceConfig, open_source, steps
from vsr.sources.fields import Fields, field_steps

LOOK = FieldsConfig()
NTSC = Fraction(30000, 1001)
FILM = Fraction(24000, 1001)
IVTC = "fieldmatch=order=tff:combmatch=full,bwdif=send_frame:deint=interlaced,decimate"


def opened(path, fields=LOOK, **changes):
    return open_source(path, SourceConfig(fields=fields, **changes))


# Clips whose fields are consecutive frames of a film, so that they move as real ones do.


@pytest.fixture
def top_first(ffmpeg):
    vf = "scale=720:576,setsar=16/15,tinterlace=interleave_top"
    return ffmpeg.from_film("top.mkv", vf, "-c:v", "ffv1", rate=50, count=40)


@pytest.fixture
def bottom_first(ffmpeg):
    vf = "scale=720:576,setsar=16/15,tinterlace=interleave_bottom,setfield=bff"
    return ffmpeg.from_film("bottom.mkv", vf, "-c:v", "ffv1", rate=50, count=40)


@pytest.fixture
def film(ffmpeg):
    return ffmpeg.from_film(
        "film.mkv", "scale=720:480,setsar=8/9", "-c:v", "ffv1", rate=FILM, count=24
    )


@pytest.fixture
def telecined(ffmpeg, film):
    """24 frames of film in 30 of video, not flagged at all."""
    return ffmpeg.make("telecined.mkv", "-i", film, "-vf", "telecine=pattern=23", "-c:v", "ffv1")


def soften(stream: bytes) -> bytes:
    """Soft telecine of an MPEG-2 elementary stream of film without B-frames, H.262 6.2.2, 6.2.3.

    The frame rate becomes that of NTSC, the sequence not progressive, and ``top_field_first`` and
    ``repeat_first_field`` follow the 2:3 pattern.
    """
    data, number, at = bytearray(stream), 0, stream.find(b"\0\0\1")
    while at >= 0:
        code, extension = data[at + 3], data[at + 4] >> 4
        if code == 0xB3:
            data[at + 7] = data[at + 7] & 0xF0 | 4
        elif code == 0xB5 and extension == 1:
            data[at + 5] &= ~0x08
        elif code == 0xB5 and extension == 8:
            first, repeated = [(1, 1), (0, 0), (0, 1), (1, 0)][number % 4]
            data[at + 7] = data[at + 7] & ~0x82 | first << 7 | repeated << 1
            number += 1
        at = stream.find(b"\0\0\1", at + 4)
    return bytes(data)


@pytest.fixture
def soft(ffmpeg):
    """The film with flags for pulldown, as DVDs have it, in the container ``soft(name)``."""

    def make(name):
        path = ffmpeg.folder / "soft.m2v"
        vf = "scale=720:480,setsar=8/9"
        options = ("-c:v", "mpeg2video", "-b:v", "4M", "-bf", 0)
        hard = ffmpeg.from_film("hard.m2v", vf, *options, rate=FILM, count=24)
        path.write_bytes(soften(hard.read_bytes()))
        return ffmpeg.make(name, "-fflags", "+genpts", "-i", path, "-c", "copy")

    return make


# What is seen.


@pytest.mark.parametrize("transfer", ["log100", "log316", "smpte2084", "smpte428"])
def test_curves_do_not_hinder_looking(ffmpeg, transfer):
    coded = ("-c:v", "ffv1", "-color_trc", transfer)
    path = ffmpeg.from_film(f"{transfer}.mkv", "scale=64:48,format=yuv422p10le", *coded, count=8)
    with opened(path) as source:
        assert source.fields.kind == "progressive"
        assert len(list(source)) == 8


@pytest.mark.parametrize(
    ("name", "kind", "order"),
    [
        ("generated/il.mpg", "interlaced", FieldOrder.TT),
        ("generated/pal.dv", "interlaced", FieldOrder.BB),
        ("generated/tc.mpg", "telecined", FieldOrder.TT),
        # Both are flagged and show nothing that moves.
        ("format-corpus/dv-pal-interlaced.mov", "interlaced", FieldOrder.UNKNOWN),
        ("format-corpus/mpeg-imx-525-60.mov", "interlaced", FieldOrder.UNKNOWN),
    ],
)
def test_real_files_that_stop(shared, name, kind, order):
    path = shared / "media" / name
    with pytest.raises(ConfigError, match=rf"^{path}: is {kind} \(.*--progressive"):
        opened(path)
    with opened(path, FieldsConfig(progressive=True)) as source:
        assert (source.fields.kind, source.fields.order) == (kind, order)
        assert source.notes[0].startswith("fields: frames are taken as they are (")
        assert source.info.field_order.interlaced


@pytest.mark.parametrize(
    "name",
    ["mdn/flower.mp4", "mdn/friday.mp4", "androidx/sample.avi", "torchcodec/bt709_full_range.mp4",
     "intel/milk.mkv", "archivematica/0239.mpg", "androidx/iibbibb_editlist_videoonly.mp4"],
)  # fmt: skip
def test_real_files_that_do_not(shared, name):
    with opened(shared / "media" / name) as source:
        assert source.fields.kind == "progressive"
        assert source.filters == ""
        assert not any("fields" in note for note in source.notes)
        assert not source.info.field_order.interlaced


def test_high_definition_in_mpeg2(ffmpeg):
    vf = "scale=1440:1080,setsar=4/3,tinterlace=interleave_top"
    flags = ("-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-top", 1, "-b:v", "25M")
    path = ffmpeg.from_film("hdv.ts", vf, *flags, rate=50, count=16)
    with pytest.raises(ConfigError, match="8 of 8 frames flagged interlaced, 8 look combed, top"):
        opened(path)
    with opened(path, FieldsConfig(deinterlace="bwdif", field_rate=True)) as source:
        assert (source.info.rate, source.info.sar) == (50, Fraction(4, 3))
        assert len(list(source)) == 16


def test_flags_that_are_missing(ffmpeg):
    vf = "scale=720:480,tinterlace=interleave_top,setfield=prog"
    path = ffmpeg.from_film("unflagged.mp4", vf, "-c:v", "libx264", "-preset", "ultrafast",
                            rate=2 * NTSC, count=40)  # fmt: skip
    assert ffmpeg.stream(path)["field_order"] == "progressive"
    with pytest.raises(ConfigError, match=r"is interlaced .0 of 20 frames flagged interlaced, 20"):
        opened(path)


def test_combing_where_video_has_no_fields(ffmpeg):
    """Sizes and rates of which there is no interlaced video: a pattern, not fields."""
    vf = "scale=640:320,tinterlace=interleave_top,setfield=prog"
    path = ffmpeg.from_film("pattern.mp4", vf, "-c:v", "libx264", "-preset", "ultrafast",
                            rate=50, count=40)  # fmt: skip
    with opened(path) as source:
        assert source.fields.combed == 20
        assert source.fields.kind == "progressive"


def test_telecine_without_flags(telecined):
    with pytest.raises(ConfigError, match=r"is telecined .*, 12 repeat a field.*choose --ivtc"):
        opened(telecined)


def test_few_frames_are_wanted_and_more_are_looked_at(top_first):
    with pytest.raises(ConfigError, match="20 of 20 frames"):
        opened(top_first, frames=1)


def test_nobody_looks_unless_asked(top_first):
    with open_source(top_first) as source:
        assert source.fields is None
        assert len(list(source)) == 20


def test_refusal_is_one_line_and_nothing_is_written(shared, command, tmp_path):
    path = shared / "media/generated/tc.mpg"
    code, (line,) = command(path, tmp_path / "out.mkv")
    assert code == 2
    assert line == (
        f"vsr-upscale: error: {path}: is telecined (90 of 90 frames flagged interlaced, 90 look"
        " combed, top field first, 36 repeat a field): choose --ivtc for the film's own frames,"
        " --deinterlace bwdif (with --field-rate: a frame for every field), or --progressive to go"
        " on with the frames as they are"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--deinterlace", "bob"), ("bob", "bwdif", "yadif")),
        (("--ivtc", "--progressive"), ("--ivtc", "--progressive")),
        (("--field-rate",), ("--deinterlace",)),
        (("--flagged-only",), ("--deinterlace",)),
        (("-field_order", "ttf"), ("ttf", "tt")),
    ],
)
def test_flags_that_make_no_sense(top_first, capsys, command, tmp_path, flags, words):
    try:
        code, lines = command(top_first, tmp_path / "out.mkv", *flags)
    except SystemExit as stopped:  # argparse's own way
        code, lines = stopped.code, capsys.readouterr().err.splitlines()
    assert code == 2
    assert len(lines) == 1
    assert all(word in lines[0] for word in words)
    assert list(tmp_path.iterdir()) == []


# Deinterlacing.


@pytest.mark.parametrize("name", ["bwdif", "yadif"])
@pytest.mark.parametrize("field_rate", [False, True])
@pytest.mark.parametrize("order", ["tff", "bff"])
def test_same_frames_as_ffmpegs(ffmpeg, tools, request, name, field_rate, order):
    path = request.getfixturevalue({"tff": "top_first", "bff": "bottom_first"}[order])
    source = opened(path, FieldsConfig(deinterlace=name, field_rate=field_rate))
    info, rate = source.info, 50 if field_rate else 25
    frames, times = tools.read(source)
    mode = "send_field" if field_rate else "send_frame"
    expected = ffmpeg.frames(path, "yuv420p", (720, 576), "-vf", f"{name}={mode}:parity={order}")
    assert frames == expected
    assert (info.rate, info.frames, len(frames)) == (rate, rate * 4 // 5, rate * 4 // 5)
    assert times[0] == 0
    assert tools.even(times, Fraction(1, rate))
    assert (info.field_order, info.sar) == (FieldOrder.PROGRESSIVE, Fraction(16, 15))


@pytest.fixture
def mixed(ffmpeg, film, top_first):
    """12 whole frames, then 10 of fields, as they are broadcast."""

    def part(name, *arguments):
        return ffmpeg.make(name, *arguments, "-c:v", "mpeg2video", "-q:v", 2).read_bytes()

    whole = part("whole.ts", "-i", film, "-vf", "scale=720:576,trim=end_frame=12", "-r", 25)
    fields = part(
        "fields.ts", "-i", top_first, "-vf", "trim=end_frame=10,setfield=tff", "-flags",
        "+ildct+ilme", "-top", 1,
    )  # fmt: skip
    path = ffmpeg.folder / "mixed.ts"
    path.write_bytes(whole + fields)
    return path


@pytest.mark.parametrize(("stated", "parity"), [(None, "auto"), (FieldOrder.BB, "bff")])
def test_frames_that_are_not_flagged_may_stay(ffmpeg, tools, mixed, stated, parity):
    fields = FieldsConfig(deinterlace="bwdif", flagged_only=True)
    source = opened(mixed, fields, input=InputConfig(field_order=stated))
    frames, _ = tools.read(source)
    plain = ffmpeg.frames(mixed, "yuv420p", (720, 576))
    made = ffmpeg.frames(
        mixed, "yuv420p", (720, 576), "-vf", f"bwdif=send_frame:{parity}:interlaced"
    )
    assert frames == made
    assert [one == other for one, other in zip(frames, plain, strict=True)] == [
        index < 12 for index in range(22)
    ]
    assert source.info.field_order == FieldOrder.PROGRESSIVE
    assert any("not flagged interlaced stay" in note for note in source.notes)


def test_a_frame_for_every_field_only_where_there_are_fields(ffmpeg, tools, mixed):
    fields = FieldsConfig(deinterlace="bwdif", flagged_only=True, field_rate=True)
    frames, times = tools.read(opened(mixed, fields))
    vf = ("-vf", "bwdif=send_field:auto:interlaced", "-fps_mode", "passthrough")
    assert frames == ffmpeg.frames(mixed, "yuv420p", (720, 576), *vf)
    whole = [Fraction(number, 25) for number in range(12)]
    assert times == whole + [Fraction(24 + number, 50) for number in range(20)]


@pytest.mark.parametrize(("name", "order"), [("il.mpg", "tff"), ("pal.dv", "bff")])
def test_same_frames_as_ffmpegs_of_mpeg_and_dv(ffmpeg, tools, shared, name, order):
    path = shared / "media/generated" / name
    source = opened(path, FieldsConfig(deinterlace="bwdif", field_rate=True), frames=40)
    frames, times = tools.read(source)
    vf = f"bwdif=send_field:parity={order},trim=end_frame=40"
    assert frames == ffmpeg.frames(path, "yuv420p", (720, 576), "-vf", vf)
    assert tools.even(times, Fraction(1, 50))


def test_motion_goes_forward(ffmpeg, tools, bottom_first):
    """With the fields in the wrong order every other frame steps back."""
    original = ffmpeg.from_film("whole.mkv", "scale=720:576", "-c:v", "ffv1", rate=50, count=40)
    whole = ffmpeg.frames(original, "yuv420p", (720, 576))
    wanted = FieldsConfig(deinterlace="bwdif", field_rate=True)
    frames, _ = tools.read(opened(bottom_first, wanted))

    def nearest(frame: bytes, index: int) -> int:
        around = range(max(0, index - 2), min(len(whole), index + 3))
        return max(around, key=lambda n: tools.psnr(frame, whole[n]))

    assert [nearest(frames[n], n) for n in range(4, 36, 3)] == list(range(4, 36, 3))
    wrong = InputConfig(field_order=FieldOrder.TT)
    frames, _ = tools.read(opened(bottom_first, wanted, input=wrong))
    assert [nearest(frames[n], n) for n in range(4, 36, 3)] != list(range(4, 36, 3))


def test_motion_overrules_wrong_flags(ffmpeg, tools, bottom_first):
    path = ffmpeg.make("wrong.mkv", "-i", bottom_first, "-vf", "setfield=tff", "-c:v", "ffv1")
    assert ffmpeg.probe(path, "frame=top_field_first")["frames"][0]["top_field_first"] == 1
    source = opened(path, FieldsConfig(deinterlace="bwdif"))
    assert source.notes[0].endswith("bottom field first, as the motion shows")
    frames, _ = tools.read(source)
    vf = "bwdif=send_frame:parity=bff"
    assert frames == ffmpeg.frames(path, "yuv420p", (720, 576), "-vf", vf)


@pytest.fixture
def changing(ffmpeg, top_first, bottom_first, film, monkeypatch):
    """Joined transport streams of whole frames, top and bottom fields first; 20 are looked at."""
    monkeypatch.setattr(steps, "_EXAMINED_FRAMES", 20)
    monkeypatch.setattr(steps, "_FEWEST_EXAMINED", 20)
    sources = {"t": top_first, "b": bottom_first, "w": film}

    def make(*kinds):
        parts = []
        for kind in kinds:
            fields = () if kind == "w" else ("-flags", "+ilme+ildct", "-top", int(kind == "t"))
            size = ("-vf", "scale=720:576,fps=25,setsar=1") if kind == "w" else ()
            parts.append(ffmpeg.make(
                f"{kind}.ts", "-i", sources[kind], *size, "-frames:v", 20, "-an", "-c:v",
                "mpeg2video", "-b:v", "20M", "-bf", 0, *fields, "-r", 25,
            ))  # fmt: skip
        path = ffmpeg.folder / f"{''.join(kinds)}.ts"
        path.write_bytes(b"".join(part.read_bytes() for part in parts))
        return path

    return make


@pytest.mark.parametrize("kinds", ["tb", "bt", "tt"])
def test_right_flags_are_followed_where_they_change(ffmpeg, tools, changing, kinds):
    path = changing(*kinds)
    source = opened(path, FieldsConfig(deinterlace="bwdif", field_rate=True))
    assert "as the motion shows" in source.notes[0]
    frames, _ = tools.read(source)
    assert len(frames) == 80
    assert frames == ffmpeg.frames(path, "yuv420p", (720, 576), "-vf", "bwdif=send_field")


def test_fields_that_begin_later_are_said(changing):
    with opened(changing("w", "t")) as source:
        assert len(list(source)) == 40
        (line,) = [note for note in source.notes if "flagged interlaced from" in note]
        assert "from 0.80 s on" in line or "from 0.84 s on" in line
    with opened(changing("w", "t"), FieldsConfig(progressive=True)) as source:
        assert not any("flagged interlaced from" in note for _ in source for note in source.notes)


def test_field_order_overrules_flags_and_motion(ffmpeg, tools, bottom_first):
    stated = InputConfig(field_order=FieldOrder.TT)
    source = opened(bottom_first, FieldsConfig(deinterlace="bwdif"), input=stated)
    assert source.notes[0].endswith("top field first, as stated")
    frames, _ = tools.read(source)
    vf = "setfield=tff,bwdif=send_frame:parity=auto"
    assert frames == ffmpeg.frames(bottom_first, "yuv420p", (720, 576), "-vf", vf)


@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv420p10le"])
@pytest.mark.parametrize(("matrix", "kind"), [("ycgco", None), ("ictcp", UnsupportedFormatError)])
def test_a_matrix_that_swscale_has_not(ffmpeg, pix_fmt, matrix, kind):
    """Whether frames are combed is seen in their luma, whatever the matrix is."""
    path = ffmpeg.from_film(
        f"{matrix}-{pix_fmt}.mkv", "scale=320:240", "-pix_fmt", pix_fmt, "-c:v", "ffv1",
        "-colorspace", matrix,
    )  # fmt: skip
    if kind is not None:
        with pytest.raises(kind, match=r"colour matrix 14 \(H.273, ICtCp\) is not supported"):
            opened(path)
        return
    with opened(path) as source:
        assert source.fields.kind == "progressive"
        assert source.info.colour.matrix == Matrix.YCGCO
        assert len(list(source)) == 30


def test_stated_as_progressive(bottom_first):
    stated = InputConfig(field_order=FieldOrder.PROGRESSIVE)
    with opened(bottom_first, input=stated) as source:
        assert source.filters == ""
        assert source.info.field_order == FieldOrder.PROGRESSIVE


def test_stated_as_interlaced(film):
    stated = InputConfig(field_order=FieldOrder.BB)
    with pytest.raises(ConfigError, match="is interlaced"):
        opened(film, input=stated)


def test_deinterlacing_what_is_whole_is_said(film):
    with opened(film, FieldsConfig(deinterlace="bwdif")) as source:
        assert "fields: nothing looks interlaced, and the frames are deinterlaced as asked" in (
            source.notes
        )


@pytest.mark.parametrize("name", ["film", "top_first"])
def test_inverse_telecine_of_anything_else_is_said(request, name):
    with opened(request.getfixturevalue(name), FieldsConfig(ivtc=True)) as source:
        assert "fields: nothing looks telecined, and one frame of five goes as asked" in (
            source.notes
        )


def test_no_doubts_about_telecine(telecined):
    with opened(telecined, FieldsConfig(ivtc=True)) as source:
        assert not any("nothing looks" in note for note in source.notes)


def test_trim(ffmpeg, tools, top_first):
    wanted = FieldsConfig(deinterlace="bwdif", field_rate=True)
    source = opened(top_first, wanted, start=Fraction(2, 5), frames=5)
    assert source.info.frames == 5
    frames, times = tools.read(source)
    vf = "trim=start=0.4,bwdif=send_field:parity=tff,trim=end_frame=5"
    assert frames == ffmpeg.frames(top_first, "yuv420p", (720, 576), "-vf", vf)
    assert times == [Fraction(n, 50) for n in range(5)]


# Inverse telecine.


def test_every_film_frame_once(ffmpeg, tools, film, telecined):
    source = opened(telecined, FieldsConfig(ivtc=True))
    assert (source.info.rate, source.info.frames) == (FILM, 24)
    assert source.info.sar == Fraction(8, 9)
    frames, times = tools.read(source)
    assert frames == ffmpeg.frames(film, "yuv420p", (720, 480))
    assert times[0] == 0
    assert tools.even(times, 1 / FILM)


@pytest.mark.parametrize("late", ["0.020", "0.030"])
def test_film_that_begins_late_stays_so(ffmpeg, telecined, late):
    """By less than a frame of film, in which the filters count."""
    sound = ("-f", "lavfi", "-i", "anullsrc=r=8000", "-shortest", "-c:a", "pcm_s16le")
    path = ffmpeg.make(
        f"late{late}.mkv", "-itsoffset", late, "-i", telecined, *sound, "-c:v", "copy"
    )
    with opened(path, FieldsConfig(ivtc=True)) as source:
        times = [frame.pts * frame.time_base for frame in source]
    assert times == [Fraction(late) + number / FILM for number in range(len(times))]


def test_telecine_of_a_dvd(ffmpeg, tools, shared):
    path = shared / "media/generated/tc.mpg"
    source = opened(path, FieldsConfig(ivtc=True))
    assert source.info.rate == FILM
    frames, times = tools.read(source)
    assert len(frames) == 72
    assert frames == ffmpeg.frames(path, "yuv420p", (720, 480), "-vf", IVTC)
    assert tools.even(times, 1 / FILM)


def test_telecine_with_the_bottom_field_first(ffmpeg, tools, film):
    vf = "telecine=pattern=23:first_field=bottom"
    path = ffmpeg.make("bottom23.mkv", "-i", film, "-vf", vf, "-c:v", "ffv1")
    source = opened(path, FieldsConfig(ivtc=True))
    assert source.fields.order == FieldOrder.BB
    frames, _ = tools.read(source)
    assert frames == ffmpeg.frames(film, "yuv420p", (720, 480))


@pytest.mark.parametrize("order", ["soft, hard", "hard, soft"])
@pytest.mark.parametrize("kind", ["mkv", "mpg"])
def test_film_of_a_disc_that_changes_its_telecine(ffmpeg, tools, film, soft, order, kind):
    """Pictures flagged to be shown for three fields, and pictures of mixed fields, in turn."""
    soft("soft.m2v")
    coded = ("-c:v", "mpeg2video", "-q:v", 2, "-bf", 0)
    vf = "telecine=pattern=23,setfield=tff"
    hard = ffmpeg.make("hard23.m2v", "-i", film, "-vf", vf, *coded, "-flags", "+ildct+ilme")
    joined = ffmpeg.folder / f"{order}.m2v"
    parts = {"soft": ffmpeg.folder / "soft.m2v", "hard": hard}
    joined.write_bytes(b"".join(parts[part].read_bytes() for part in order.split(", ")))
    path = ffmpeg.make(
        f"{order}.{kind}", "-fflags", "+genpts", "-r", NTSC, "-i", joined, "-c", "copy"
    )
    with opened(path, FieldsConfig(ivtc=True)) as source:
        assert source.info.rate == FILM
        frames, times = tools.read(source)
    assert len(frames) == 48
    assert tools.even(times, 1 / FILM)
    wanted = ffmpeg.frames(film, "yuv420p", (720, 480))
    for number, frame in enumerate(frames[:-1]):  # what the last is matched with is missing
        near = [(number + step) % 24 for step in (-1, 0, 1)]
        assert min(near, key=lambda one: distance(frame, wanted[one])) == number % 24


def distance(one: bytes, other: bytes) -> float:
    """Mean absolute difference of two frames."""
    planes = [np.frombuffer(frame, np.uint8).astype(np.int16) for frame in (one, other)]
    return float(np.abs(planes[0] - planes[1]).mean())


def test_frames_that_a_capture_has_dropped_take_no_time_away(ffmpeg, tools, film):
    vf = "telecine=pattern=23,select='not(between(n,11,13))'"
    path = ffmpeg.make(
        "dropped.mkv", "-i", film, "-vf", vf, "-vsync", "passthrough", "-c:v", "ffv1"
    )
    with opened(path, FieldsConfig(ivtc=True)) as source:
        frames, times = tools.read(source)
    assert len(times) == 24
    assert tools.even(times, 1 / FILM)
    assert frames[13:] == ffmpeg.frames(film, "yuv420p", (720, 480))[13:]


@pytest.mark.parametrize("name", ["soft.m2v", "soft.mpg", "soft.ts", "soft.mkv"])
def test_soft_telecine_keeps_its_steps(ffmpeg, soft, name):
    path = soft(name)
    assert ffmpeg.probe(path, "frame=repeat_pict")["frames"][0]["repeat_pict"] == 1
    with opened(path) as source:
        assert source.fields.kind == "progressive"
        frames = list(source)
    base = source.info.time_base
    steps = [round((b.pts - a.pts) * base * 2 * NTSC) for a, b in pairwise(frames)]
    assert steps[:-1] == [3, 2] * 11  # behind the last picture a parser sees no next one
    assert source.report.repaired_pts == 0
    if name != "soft.m2v":  # ffprobe gives no times of a raw stream
        expected = ffmpeg.times(path)
        assert [frame.pts * base for frame in frames] == [time - expected[0] for time in expected]


# Through the command.


def packets(path: Path, kind: str) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as container:
        begin = Fraction(container.start_time, av.time_base)
        stream = getattr(container.streams, kind)[0]
        found = [p for p in container.demux(stream) if p.size]
        return [(p.pts * stream.time_base - begin, bytes(p)) for p in found]


def test_sound_stays_in_step(ffmpeg, tools, command, tmp_path, top_first):
    tone = ("-f", "lavfi", "-i", "sine=440:sample_rate=48000:duration=0.8")
    coded = ("-c:v", "copy", "-c:a", "ac3")
    path = ffmpeg.make("sound.mkv", "-i", top_first, *tone, *coded)
    out = tmp_path / "out.mkv"
    code, lines = command(path, out, "--deinterlace", "bwdif", "--field-rate", "-c:v", "ffv1")
    assert code == 0
    assert any("top field first, as the motion shows" in line for line in lines)
    vf = "bwdif=send_field:parity=tff"
    expected = ffmpeg.frames(path, "yuv420p", (720, 576), "-vf", vf)
    assert ffmpeg.frames(out, "yuv420p", (720, 576)) == expected
    assert tools.even(ffmpeg.times(out), Fraction(1, 50))
    probed = ffmpeg.stream(out)
    assert (probed["r_frame_rate"], probed["sample_aspect_ratio"]) == ("50/1", "16:15")
    assert probed["field_order"] == "progressive"
    assert packets(out, "audio") == packets(path, "audio")


def test_film_of_a_dvd_in_mp4(ffmpeg, tools, command, tmp_path, shared):
    out = tmp_path / "out.mp4"
    arguments = ("--ivtc", "--preset", "ultrafast", "--frames", 30)
    code, _ = command(shared / "media/generated/tc.mpg", out, *arguments)
    assert code == 0
    assert tools.even(ffmpeg.times(out), 1 / FILM)
    probed = ffmpeg.stream(out)
    assert probed["nb_frames"] == "30"
    assert probed["r_frame_rate"] == probed["avg_frame_rate"] == "24000/1001"


def test_progressive_keeps_the_fields_as_they_are(ffmpeg, command, tmp_path, bottom_first):
    out = tmp_path / "out.mkv"
    code, lines = command(bottom_first, out, "--progressive", "-c:v", "ffv1")
    assert code == 0
    assert "fields: frames are taken as they are (20 of 20 frames" in lines[0]
    size = (720, 576)
    assert ffmpeg.frames(out, "yuv420p", size) == ffmpeg.frames(bottom_first, "yuv420p", size)
    assert ffmpeg.stream(out)["field_order"] in ("bb", "bt")


def test_from_a_pipe(ffmpeg, tools, root, tmp_path, bottom_first):
    y4m = ffmpeg.run("-i", bottom_first, "-f", "yuv4mpegpipe", "-")
    out = tmp_path / "out.mkv"
    line = [*PYTHON, "-m", "vsr", "-", str(out), "--model", "identity", "-c:v", "ffv1"]
    refused = subprocess.run(line, input=y4m, capture_output=True, check=False)
    assert refused.returncode == 2
    assert b"standard input: is interlaced" in refused.stderr
    line += ["--deinterlace", "yadif"]
    subprocess.run(line, input=y4m, capture_output=True, check=True)
    expected = ffmpeg.frames(bottom_first, "yuv420p", (720, 576), "-vf", "yadif=parity=bff")
    assert ffmpeg.frames(out, "yuv420p", (720, 576)) == expected


# The verdict, from numbers.


def seen(**changes: int) -> Fields:
    numbers = dict.fromkeys(("flagged", "top", "bottom", "whole", "repeated"), 0)
    return Fields(frames=100, plausible=True, **(numbers | changes))


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        (seen(whole=100), "progressive"),
        (seen(whole=90, top=4), "progressive"),
        (seen(whole=90, flagged=5), "progressive"),
        (seen(whole=50, top=25, bottom=25), "progressive"),
        (seen(whole=100, flagged=100), "interlaced"),
        (seen(whole=10, top=80), "interlaced"),
        (seen(top=100, repeated=40), "telecined"),
        (seen(whole=60, bottom=40, repeated=40), "telecined"),
    ],
)
def test_verdict(fields, kind):
    assert fields.kind == kind


def test_flags_stay_where_nothing_tells():
    steps, notes = field_steps(
        "a", seen(flagged=100), Fraction(25), None, FieldsConfig(deinterlace="yadif")
    )
    assert steps == [("yadif", "mode=send_frame:parity=auto:deint=all")]
    assert notes == ["fields: 100 of 100 frames flagged interlaced; field order as flagged"]
