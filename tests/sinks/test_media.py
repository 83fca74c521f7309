"""What is in the written file: times, colour, shape, samples."""

import random
import struct
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from vsr.frame import Colour, Range, Siting

IRREGULAR = [random.Random(1).choice([17, 33, 34, 40, 67, 100, 250]) for _ in range(40)]


# -- Time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [
        ("libx264", "mkv"),
        ("libx264", "mp4"),
        ("libx264", "mov"),
        ("libx264", "ts"),
        ("libx264", "nut"),
        ("libx265", "mkv"),
        ("libx265", "mp4"),
        ("libsvtav1", "mkv"),
        ("libsvtav1", "mp4"),
        ("ffv1", "mkv"),
        ("libvpx-vp9", "webm"),
        ("prores_ks", "mov"),
    ],
)
@pytest.mark.parametrize("durations", [[40] * 30, IRREGULAR], ids=["cfr", "vfr"])
def test_every_pts_and_the_total_are_exact(tmp_path, tools, codec, suffix, durations):
    path, info = tmp_path / f"out.{suffix}", tools.info()
    config = {"options": {"bf": "3"}} if codec.startswith("libx26") and suffix != "nut" else {}
    sink = tools.write(path, info, tools.schedule(durations), codec=codec, **config)
    found = tools.probe(path)
    shown = list(map(tools.milliseconds, found.video[0]["pts"]))
    if suffix == "ts":  # has no negative decoding times: everything moves by the same
        shown = [time - shown[0] for time in shown]
    assert shown == [time for time, _ in tools.schedule(durations)]
    if suffix not in ("ts", "nut"):  # those have no durations
        assert tools.milliseconds(found.duration) == sum(durations)
    assert sink.frames == len(durations)
    assert not any("timestamps" in note for note in sink.notes)


def test_mp4_with_b_frames_and_vfr_counts_the_right_average_rate(tmp_path, tools):
    """Durations in mp4 are distances of decoding times; their sum must still be the length."""
    path = tmp_path / "out.mp4"
    tools.write(path, tools.info(), tools.schedule(IRREGULAR), codec="libx264", preset="medium")
    video = tools.probe(path).video[0]
    assert Fraction(video["avg_frame_rate"]) == Fraction(len(IRREGULAR) * 1000, sum(IRREGULAR))
    assert video["has_b_frames"] > 0


@pytest.mark.parametrize("codec", ["libx264", "libsvtav1", "ffv1"])
def test_durations_survive_in_matroska(tmp_path, tools, codec):
    path = tmp_path / "out.mkv"
    tools.write(path, tools.info(), tools.schedule(IRREGULAR), codec=codec)
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    shown = sorted((p.pts, p.duration) for p in packets)
    assert shown == tools.schedule(IRREGULAR)


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov"])
def test_first_frame_may_come_late(tmp_path, tools, suffix):
    path = tmp_path / f"out.{suffix}"
    tools.write(path, tools.info(), tools.schedule([40] * 10, start=500), codec="libx264")
    found = tools.probe(path)
    assert tools.milliseconds(found.video[0]["pts"][0]) == 500
    assert tools.milliseconds(found.duration) == 900


@pytest.mark.parametrize("base", [Fraction(1, 90000), Fraction(1001, 30000), Fraction(1, 10**6)])
def test_time_base_of_the_source_is_no_loss_in_mp4(tmp_path, tools, base):
    info = tools.info(time_base=base, rate=Fraction(30000, 1001))
    step = Fraction(1001, 30000) / base
    times = [(round(i * step), round((i + 1) * step) - round(i * step)) for i in range(20)]
    tools.write(tmp_path / "out.mp4", info, times, codec="libx264")
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        unit = Fraction(stream.time_base.numerator, stream.time_base.denominator)
        pts = sorted((p.pts or 0) * unit for p in container.demux(stream) if p.size)
    assert pts == [i * Fraction(1001, 30000) for i in range(20)]  # what microseconds round, too


def test_avi_counts_frames_and_says_so(tmp_path, tools):
    path = tmp_path / "out.avi"
    sink = tools.write(path, tools.info(), tools.schedule([33, 33, 34] * 5), codec="libx264")
    assert any("timestamps were rounded" in note for note in sink.notes)
    assert len(tools.probe(path).video[0]["packets"]) == 15
    even = tools.write(tmp_path / "b.avi", tools.info(), tools.schedule([40] * 9), codec="libx264")
    assert not any("rounded" in note for note in even.notes)


def test_single_frame(tmp_path, tools):
    for suffix in ("mp4", "mkv"):
        tools.write(tmp_path / f"out.{suffix}", tools.info(), [(0, 500)], codec="libx264")
        assert tools.milliseconds(tools.probe(tmp_path / f"out.{suffix}").duration) == 500


# -- Colour, shape, content ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "suffix", "colour"),
    [
        ("libx264", "mkv", Colour(matrix=5, range=Range.LIMITED, primaries=5, transfer=6)),
        ("libx264", "mp4", Colour(matrix=1, range=Range.FULL, primaries=1, transfer=1)),
        ("libx265", "mp4", Colour(matrix=9, range=Range.LIMITED, primaries=9, transfer=16)),
        ("ffv1", "mkv", Colour(matrix=6, range=Range.LIMITED, primaries=6, transfer=6)),
        ("libvpx-vp9", "webm", Colour(matrix=1, range=Range.LIMITED, primaries=1, transfer=1)),
        ("libsvtav1", "mkv", Colour(matrix=9, range=Range.LIMITED, primaries=9, transfer=18)),
        ("prores_ks", "mov", Colour(matrix=6, range=Range.LIMITED, primaries=6, transfer=6)),
    ],
)
def test_colour_tags(tmp_path, tools, codec, suffix, colour):
    path = tmp_path / f"out.{suffix}"
    info = tools.info(colour=replace(colour, siting=Siting.LEFT))
    tools.write(path, info, tools.schedule([40] * 3), codec=codec)
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        frame = next(container.decode(video=0))
    assert context.color_range == colour.range
    found = (frame.colorspace, frame.color_primaries, frame.color_trc)
    assert found == (colour.matrix, colour.primaries, colour.transfer)


def test_chroma_siting(tmp_path, tools):
    for siting, name in ((Siting.LEFT, "left"), (Siting.TOP_LEFT, "topleft")):
        info = tools.info("yuv420p10le", colour=replace(tools.info().colour, siting=siting))
        path = tmp_path / f"{name}.mp4"
        tools.write(path, info, tools.schedule([40] * 3), codec="libx265")
        assert tools.probe(path).video[0]["chroma_location"] == name


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [
        ("ffv1", "mkv"),
        ("libx264", "mkv"),
        ("libvpx-vp9", "mkv"),
        ("libvpx-vp9", "webm"),
        ("libsvtav1", "mkv"),
        ("libx264", "mp4"),
        ("prores_ks", "mov"),
    ],
)
@pytest.mark.parametrize("sar", [Fraction(16, 15), Fraction(59, 54), Fraction(1)])
def test_aspect_ratio(tmp_path, tools, codec, suffix, sar):
    path = tmp_path / f"out.{suffix}"
    info = tools.info(width=128, height=96, sar=sar)
    sink = tools.write(path, info, tools.schedule([40] * 5), codec=codec)
    video = tools.probe(path).video[0]
    assert video["sample_aspect_ratio"] == f"{sar.numerator}:{sar.denominator}"
    assert not any("aspect" in note for note in sink.notes)


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov"])
def test_display_matrix(tmp_path, tools, suffix):
    turned = struct.pack("<9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    path = tmp_path / f"out.{suffix}"
    tools.write(path, tools.info(display_matrix=turned), tools.schedule([40] * 3), codec="libx264")
    with av.open(str(path)) as container:
        side = container.streams.video[0].codec_context.coded_side_data
    assert side["display_matrix"] == turned


@pytest.mark.parametrize(("suffix", "lost"), [("mkv", 1), ("webm", 1), ("mp4", 0)])
def test_a_slant_is_named_where_it_is_lost(tmp_path, tools, suffix, lost):
    slanted = struct.pack("<9i", 65536, 32768, 0, 0, 65536, 0, 0, 0, 1 << 30)
    codec = "libvpx-vp9" if suffix == "webm" else "libx264"
    info = tools.info(display_matrix=slanted)
    sink = tools.write(tmp_path / f"out.{suffix}", info, [(0, 40)], codec=codec)
    assert sum("slant is lost" in note for note in sink.notes) == lost


def test_lost_rotation_is_named(tmp_path, tools):
    turned = struct.pack("<9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    path = tmp_path / "out.nut"
    sink = tools.write(path, tools.info(display_matrix=turned), [(0, 40)], codec="libx264")
    assert any("rotation is lost" in note for note in sink.notes)


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_hevc_is_tagged_for_apple(tmp_path, tools, suffix):
    path = tmp_path / f"out.{suffix}"
    tools.write(path, tools.info("yuv420p10le"), [(0, 40)])
    assert tools.probe(path).video[0]["codec_tag_string"] == "hvc1"


@pytest.mark.parametrize("size", [(64, 48), (65, 49)])
@pytest.mark.parametrize(
    "pix_fmt",
    ["yuv420p", "yuv422p10le", "yuv444p16le", "yuv411p", "gray", "gray16le", "gbrp16le",
     "yuva420p", "yuva444p10le", "gbrap12le"],
)  # fmt: skip
def test_lossless_codec_gives_the_samples_back(tmp_path, tools, pix_fmt, size):
    info = tools.info(pix_fmt, width=size[0], height=size[1])
    path = tmp_path / "out.mkv"
    tools.write(path, info, tools.schedule([40] * 3), codec="ffv1", pix_fmt=pix_fmt)
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 3
    for index, frame in enumerate(frames):
        assert frame.format.name == pix_fmt
        wanted = tools.planes(info, index)
        for plane, ours in zip(frame.planes, wanted, strict=True):
            assert np.array_equal(np.from_dlpack(plane)[: len(ours)], ours.numpy())


def test_padded_and_strided_planes(tmp_path, tools):
    info = tools.info()
    frame = tools.frame(info, 0)
    padded = tuple(torch.nn.functional.pad(p, (0, 24, 0, 8)) for p in frame.planes)
    with tools.open(tmp_path / "out.mkv", info, codec="ffv1") as sink:
        sink.write(replace(frame, planes=padded))
        sink.write(replace(frame, pts=40, planes=tuple(p.T.contiguous().T for p in frame.planes)))
    with av.open(str(tmp_path / "out.mkv")) as container:
        for decoded in container.decode(video=0):
            for plane, ours in zip(decoded.planes, frame.planes, strict=True):
                assert np.array_equal(np.from_dlpack(plane), ours.numpy())


# -- Misuse ----------------------------------------------------------------------------------------


def test_frames_that_were_not_announced_are_refused(tmp_path, tools):
    info = tools.info()
    frame = tools.frame(info, 40)
    with tools.open(tmp_path / "out.mkv", info, codec="ffv1") as sink:
        sink.write(frame)
        with pytest.raises(ValueError, match=r"yuv444p .*opened for yuv420p"):
            sink.write(tools.frame(tools.info("yuv444p"), 80))
        with pytest.raises(ValueError, match="32x48"):
            sink.write(tools.frame(tools.info(width=32), 80))
        with pytest.raises(ValueError, match="too small"):
            sink.write(replace(frame, pts=80, planes=tuple(p[:4] for p in frame.planes)))
        with pytest.raises(ValueError, match="comes after"):
            sink.write(tools.frame(info, 40))
        with pytest.raises(ValueError, match="main memory"):
            sink.write(replace(frame, planes=tuple(p.to("meta") for p in frame.planes)))
    with pytest.raises(ValueError, match="closed"):
        sink.write(tools.frame(info, 80))
    assert len(tools.probe(tmp_path / "out.mkv").video[0]["packets"]) == 1


def test_x264_keeps_pictures_whole(tmp_path, tools):
    """PyAV's default threading makes x264 cut each picture into slices."""
    path = tmp_path / "out.mkv"
    info = tools.info(width=320, height=240)
    tools.write(path, info, [(0, 40)], codec="libx264", options={"threads": "4"})
    assert b"sliced_threads=0" in path.read_bytes()
