"""Which stream goes where, and how its tags, chapters and timecode are treated."""

import shutil
import subprocess
from collections import deque
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, cast

import av
import numpy as np
import pytest
from av.stream import Disposition

from vsr.encoding import Encoding
from vsr.encoding.routes import plan_route
from vsr.encoding.streams import cover_picture, dropped_data, output_chapters
from vsr.frame import Colour, pixel_format

MUXERS = ("matroska", "webm", "mp4", "mov", "avi", "nut", "mpegts")
PCM = bytes(4096)
SOUND = (
    "pcm_s16le",
    "pcm_mulaw",
    "adpcm_ima_wav",
    "flac",
    "aac",
    "libopus",
    "ac3",
    "eac3",
    "wmav2",
)


def make_input(path, *kinds) -> av.container.InputContainer:
    """A file with one stream of each kind, a few empty packets long."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4", rate=25, width=64, height=48)
        streams = [add_stream(out, kind) for kind in kinds]
        out.start_encoding()
        for stream in streams:
            packet = av.Packet(PCM)
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = 0
            out.mux(packet)
        picture = av.VideoFrame(64, 48, "yuv420p")
        picture.pts = 0
        out.mux([*video.encode(picture), *video.encode(None)])
    return av.open(str(path))


def add_stream(out, kind):
    if kind in SOUND:
        return out.add_stream(kind, rate=48000, bit_rate=128_000)
    return out.add_mux_stream(kind, time_base=Fraction(1, 1000))


def source_of(container, start=Fraction(0)):
    return SimpleNamespace(
        container=container,
        stream=container.streams.video[0],
        start_time=start,
        relay=set(),
        packets=deque(),
    )


def into(muxer: str, **changes: Any) -> Encoding:
    """What is known of an output in ``muxer``."""
    return Encoding(
        muxer=muxer, codec="ffv1", format=pixel_format("yuv420p"), colour=Colour(), options={},
        **changes,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "mp4", "webm"),
    [
        ("aac", None, "libopus"), ("libopus", None, None), ("flac", None, "libopus"),
        ("ac3", "aac", "libopus"), ("eac3", "aac", "libopus"), ("pcm_s16le", "aac", "libopus"),
        ("wmav2", "aac", "libopus"),
    ],
)  # fmt: skip
def test_what_browsers_do_not_play_becomes_what_they_do(tmp_path, kind, mp4, webm):
    with make_input(tmp_path / ("in.asf" if kind == "wmav2" else "in.mkv"), kind) as container:
        stream = container.streams[1]
        for muxer, encoder in (("mp4", mp4), ("webm", webm)):
            route = plan_route(source_of(container), stream, into(muxer, sound="web"))
            assert (route.codec.encoder if route.codec else None) == encoder
            assert bool(route.note) == (encoder is not None)


# What each container does, in the order of MUXERS: C copy, w wrap anew, e encode anew, - drop.
@pytest.mark.parametrize(
    ("kind", "suffix", "fates"),
    [
        ("aac", "mkv", "CeCCCCC"),
        ("ac3", "mkv", "CeCCCCC"),
        ("libopus", "mkv", "CCCeeCC"),
        ("flac", "mkv", "CeCeeCe"),
        ("eac3", "mkv", "CeCCeCC"),
        ("pcm_s16le", "mkv", "CeeCCCe"),
        ("wmav2", "asf", "eeeeCee"),
        ("adpcm_ima_wav", "avi", "eeeeCCe"),
        ("pcm_mulaw", "avi", "eeeCCCe"),
        ("subrip", "mkv", "Cwww---"),
        ("mov_text", "mp4", "wwCC---"),
        ("webvtt", "mkv", "CCww---"),
    ],
)
def test_fate_of_a_stream(tmp_path, kind, suffix, fates):
    names = {"copy": "C", "convert": "w", "encode": "e", "drop": "-"}
    with make_input(tmp_path / f"in.{suffix}", kind) as container:
        stream = container.streams[1]
        routes = [plan_route(source_of(container), stream, into(muxer)) for muxer in MUXERS]
    assert "".join(names[route.how] for route in routes) == fates
    for route, muxer in zip(routes, MUXERS, strict=True):
        assert bool(route.note) == (route.how in ("drop", "encode"))
        if (kind, muxer) == ("pcm_s16le", "mp4"):
            assert "becomes alac: few players read it in mp4 (mov and mkv keep it)" in route.note
        elif route.note:
            assert f"{muxer} cannot hold it" in route.note
            assert ("(mkv can)" in route.note) == (fates[0] in "Cw")


def test_what_sound_becomes(tmp_path):
    names = dict(
        zip(MUXERS, ("flac", "opus", "alac", "alac", "pcm_s24le", "flac", "aac"), strict=True)
    )
    for kind, suffix in (("wmav2", "asf"), ("libopus", "mkv"), ("flac", "mkv")):
        with make_input(tmp_path / f"in.{suffix}", kind) as container:
            for muxer in MUXERS:
                route = plan_route(source_of(container), container.streams[1], into(muxer))
                if route.how == "encode":
                    assert f"becomes {names[muxer]}" in route.note
                    lossy = "which loses a little" in route.note
                    assert lossy == (muxer in ("webm", "mpegts"))


@pytest.mark.parametrize("muxer", MUXERS)
def test_what_has_no_decoder_is_said_to_have_none(muxer):
    stream: Any = SimpleNamespace(
        type="subtitle", index=2, language="deu", codec_context=None, disposition=0, metadata={}
    )
    source = source_of(SimpleNamespace(streams=SimpleNamespace(video=[None])))
    route = plan_route(source, stream, into(muxer))
    assert route.note == (
        "subtitle stream 2 (unknown codec, deu) is dropped:"
        " PyAV has no decoder for it, and copies nothing that it has none for"
    )


@pytest.mark.parametrize("muxer", ["matroska", "mp4", "mov", "nut", "mpegts"])
def test_aac_without_a_header_waits_for_none(tmp_path, muxer):
    """FFmpeg makes it of the first packet, too late for what has left already."""
    for suffix, bare in (("ts", True), ("mp4", False)):
        path = tmp_path / f"in.{suffix}"
        with av.open(path, "w") as out:
            sound: Any = out.add_stream("aac", rate=48000, layout="stereo")
            for _ in range(40):
                silence = np.zeros((2, 1024), np.float32)
                frame = av.AudioFrame.from_ndarray(silence, "fltp", "stereo")
                frame.sample_rate = 48000
                out.mux(sound.encode(frame))
            out.mux(sound.encode(None))
        with av.open(path) as container:
            stream, source = container.streams[0], cast(Any, SimpleNamespace(container=container))
            assert bool(stream.codec_context.extradata) is not bare
            route = plan_route(source, stream, into(muxer, piped=True))
            late = bare and muxer in ("matroska", "mp4", "mov")
            assert route.how == ("encode" if late else "copy")
            assert plan_route(source, stream, into(muxer)).how == "copy"


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_professional_sound_of_transport_streams_stays(tmp_path):
    """SMPTE 302M may carry Dolby E, which only bits that stay as they are carry on."""
    path = tmp_path / "in.ts"
    source, codec = ("-f", "lavfi", "-i", "sine=r=48000:d=1"), ("-c:a", "s302m", "-strict", "-2")
    line = ["ffmpeg", "-v", "error", *source, "-ac", "2", *codec, str(path)]
    subprocess.run(line, check=True)
    with av.open(path) as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.name == "s302m"
        file: Any = SimpleNamespace(container=container)
        assert plan_route(file, stream, into("mpegts")).how == "copy"
        assert plan_route(file, stream, into("matroska")).how == "encode"


def test_latm_of_broadcasts_stays(tmp_path):
    path, copy = tmp_path / "in.ts", tmp_path / "copy.ts"
    source, codec = ("-f", "lavfi", "-i", "sine=d=1"), ("-c:a", "aac", "-mpegts_flags", "+latm")
    line = ["ffmpeg", "-v", "error", *source, *codec, str(path)]
    subprocess.run(line, check=True)
    with av.open(path) as container, av.open(copy, "w") as output:
        stream = container.streams.audio[0]
        assert stream.codec_context.name == "aac_latm"
        file: Any = SimpleNamespace(container=container)
        assert plan_route(file, stream, into("mpegts")).how == "copy"
        assert plan_route(file, stream, into("matroska")).how == "encode"
        target = output.add_stream_from_template(stream)
        for packet in container.demux(stream):
            if packet.dts is not None:
                packet.stream = target
                output.mux(packet)
    sums = [
        subprocess.run(["ffmpeg", "-v", "error", "-i", one, "-f", "md5", "-"], check=True,
                       capture_output=True).stdout
        for one in (path, copy)
    ]  # fmt: skip
    assert sums[0] == sums[1]


def test_subtitles_of_discs_go_where_discs_are_read(tmp_path):
    with make_input(tmp_path / "in.mkv", "hdmv_pgs_subtitle") as container:
        source, stream = source_of(container), container.streams[1]
        assert plan_route(source, stream, into("mpegts")).how == "drop"
        blu_ray = into("mpegts", muxer_options={"mpegts_m2ts_mode": "1"})
        assert plan_route(source, stream, blu_ray).how == "copy"


def test_what_discs_have_no_numbers_for_stays_behind(tmp_path):
    """FFmpeg's muxer would refuse the whole file."""
    blu_ray = into("mpegts", muxer_options={"mpegts_m2ts_mode": "1"})
    with make_input(tmp_path / "in.mkv", "dvb_subtitle", "ac3", "flac") as container:
        source = source_of(container)
        routes = [plan_route(source, stream, blu_ray) for stream in container.streams]
        assert [route.how for route in routes] == ["drop", "drop", "copy", "encode"]
        end = "is dropped: m2ts cannot hold it (mkv and ts can)"
        assert routes[0].note == f"video stream 0 (mpeg4) {end}"
        assert routes[1].note.startswith("subtitle stream 1 (dvb")
        assert routes[1].note.endswith(end)
        elsewhere = [plan_route(source, stream, into("mpegts")) for stream in container.streams]
        assert [route.how for route in elsewhere] == ["copy", "copy", "copy", "encode"]


def test_further_video_is_copied(tmp_path):
    with av.open(str(tmp_path / "in.mkv"), "w") as out:
        for _ in range(2):
            stream = out.add_stream("mpeg4", rate=25, width=64, height=48)
        for stream in out.streams.video:
            picture = av.VideoFrame(64, 48, "yuv420p")
            picture.pts = 0
            out.mux([*stream.encode(picture), *stream.encode(None)])
    with av.open(str(tmp_path / "in.mkv")) as container:
        second = container.streams[1]
        assert plan_route(source_of(container), second, into("mp4")).how == "copy"
        assert plan_route(source_of(container), second, into("webm")).how == "drop"


def test_trying_keeps_quiet(tmp_path, capfd, caplog):
    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with make_input(tmp_path / "in.mkv", "subrip") as container:
            for muxer in MUXERS:
                plan_route(source_of(container), container.streams[1], into(muxer))
    finally:
        av.logging.set_level(before)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def data_source(stream, chapters=()):
    return SimpleNamespace(container=SimpleNamespace(chapters=lambda: list(chapters)))


def data_stream(**changes):
    plain = {
        "type": "data", "index": 2, "name": None, "metadata": {}, "language": "eng",
        "codec_context": None, "disposition": Disposition(0),
    }  # fmt: skip
    return SimpleNamespace(**(plain | changes))


def test_data_stays_behind_with_a_note_unless_its_content_travels():
    timecode = data_stream(metadata={"timecode": "01:00:00:00"})
    chapters = data_stream(name="bin_data")
    other = data_stream(name="scte_35")
    for muxer in MUXERS:
        assert plan_route(data_source(timecode), timecode, into(muxer)).note == ""
        assert plan_route(data_source(chapters, [1]), chapters, into(muxer)).note == ""
        assert "bin_data, eng" in plan_route(data_source(chapters), chapters, into(muxer)).note
        note = plan_route(data_source(other), other, into(muxer)).note
        assert note == "data stream 2 (scte_35, eng) is dropped: data cannot be carried"


def test_several_streams_of_data_are_one_line():
    unknown = [data_stream(index=n, metadata={"handler_name": "Core Media Metadata"}) for n in "25"]
    streams = [*unknown, data_stream(index=6), data_stream(index=7, name="scte_35")]
    said = "4 data streams, 2, 5, 6, 7 (Core Media Metadata, unknown codec, scte_35), are dropped:"
    assert dropped_data(streams).startswith(said)
    name = "data stream 2 (Core Media Metadata, eng)"
    assert dropped_data(unknown[:1]) == f"{name} is dropped: data cannot be carried"


def chapters_source(*spans, start=Fraction(0), cut_short=False):
    base = Fraction(1, 1000)
    chapters = [
        {"id": i, "start": a, "end": b, "time_base": base, "metadata": {}}
        for i, (a, b) in enumerate(spans)
    ]
    container = SimpleNamespace(chapters=lambda: chapters)
    return SimpleNamespace(container=container, start_time=start, cut_short=cut_short)


@pytest.mark.parametrize(
    ("start", "duration", "expected"),
    [
        (0, None, [(0, 1000), (1000, 2000), (2000, 3000)]),
        (0, Fraction(3, 2), [(0, 1000), (1000, 2000), (2000, 3000)]),  # sound may go on
        (Fraction(1, 2), None, [(0, 500), (500, 1500), (1500, 2500)]),
        (1, None, [(0, 1000), (1000, 2000)]),
        (Fraction(1, 2), Fraction(3, 2), [(0, 500), (500, 1500), (1500, 2500)]),
    ],
)
def test_chapters_count_from_the_start_of_the_output(start, duration, expected):
    source = chapters_source((0, 1000), (1000, 2000), (2000, 3000), start=Fraction(start))
    found = output_chapters(source, duration)
    assert [(c["start"], c["end"]) for c in found] == expected


def test_the_last_chapter_ends_with_a_cut():
    source = chapters_source((0, 1000), (1000, 2000), start=Fraction(1, 2), cut_short=True)
    found = output_chapters(source, Fraction(3, 4))
    assert [(c["start"], c["end"]) for c in found] == [(0, 500), (500, 750)]


def test_cover_of_a_pipe_cannot_be_read_twice():
    source = SimpleNamespace(container=SimpleNamespace(name="pipe:0"))
    assert cover_picture(source, data_stream()) is None
