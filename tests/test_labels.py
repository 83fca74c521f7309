"""Metadata and dispositions: what each container keeps, found out by writing and ffprobing it."""

import json
import shutil
import subprocess
from fractions import Fraction
from typing import Any

import av
import pytest
from av.stream import Disposition

from vsr.sinks.labels import (
    _MOV_LANGUAGES,
    holds_timecode,
    is_undescribed,
    kept_metadata,
    lost_chapter_tags,
    lost_dispositions,
    lost_tags,
    metadata_flags,
    stream_metadata,
)

SUFFIXES = {
    "matroska": "mkv", "webm": "webm", "mp4": "mp4", "mov": "mov", "avi": "avi", "nut": "nut",
    "mpegts": "ts",
}  # fmt: skip
TAGS = {
    "title": "T", "artist": "A", "album_artist": "B", "composer": "C", "album": "D", "date": "2001",
    "comment": "E", "genre": "F", "copyright": "G", "grouping": "H", "lyrics": "I",
    "description": "J", "synopsis": "K", "show": "L", "episode_id": "M", "network": "N",
    "keywords": "O", "episode_sort": "3", "season_number": "2", "media_type": "9", "hd_video": "1",
    "gapless_playback": "1", "compilation": "1", "track": "3/4", "disc": "1/2",
    "location": "+27.5900+086.9300/", "creation_time": "2020-01-02T03:04:05.000000Z",
    "performer": "P", "make": "Q", "model": "R", "publisher": "S",
    "encoded_by": "U", "custom": "W",
}  # fmt: skip
needs_ffprobe = pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not here")


def written(path, muxer, *, file=None, stream=None, disposition=0, chapter=None):
    """A tiny file with these labels, as ffprobe reads it."""
    codec = "libvpx-vp9" if muxer == "webm" else "mpeg4"
    with av.open(str(path), "w", format=muxer) as out:
        out.metadata.update(file or {})
        if chapter is not None:
            span = {"id": 1, "start": 0, "end": 40, "time_base": Fraction(1, 1000)}
            described: Any = {**span, "metadata": chapter}
            out.set_chapters([described])
        video = out.add_stream(codec, rate=25, width=64, height=48, pix_fmt="yuv420p")
        assert isinstance(video, av.VideoStream)
        video.metadata.update(stream or {})
        video.disposition = Disposition(disposition)
        picture = av.VideoFrame(64, 48, "yuv420p")
        picture.pts = 0
        out.mux([*video.encode(picture), *video.encode(None)])
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_format", "-show_streams"]
    command += ["-show_chapters", str(path)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def lower(tags):
    return {key.lower(): value for key, value in tags.items()}


@needs_ffprobe
@pytest.mark.parametrize("muxer", SUFFIXES)
class TestAgainstFfprobe:
    def test_tags_of_the_file(self, muxer, tmp_path):
        found = written(tmp_path / f"f.{SUFFIXES[muxer]}", muxer, file=TAGS)["format"]
        tags = lower(found.get("tags", {}))
        missing = {key for key, value in TAGS.items() if tags.get(key) != value}
        assert missing == set(lost_tags(TAGS, muxer))

    def test_tags_of_a_stream(self, muxer, tmp_path):
        tags = {**TAGS, "language": "fra"}
        given = stream_metadata(tags, muxer)
        (found,) = written(tmp_path / f"s.{SUFFIXES[muxer]}", muxer, stream=given)["streams"]
        read = lower(found.get("tags", {}))
        if muxer in ("mp4", "mov"):
            read["title"] = read["handler_name"]  # this ffprobe does not know the box "name"
        missing = {key for key, value in tags.items() if read.get(key) != value}
        assert missing == set(lost_tags(given, muxer, of_file={}, undescribed=True))

    def test_tags_of_a_chapter(self, muxer, tmp_path):
        path = tmp_path / f"c.{SUFFIXES[muxer]}"
        found = written(path, muxer, chapter=TAGS)["chapters"]
        assert len(found) == (muxer not in ("avi", "mpegts"))  # which have none
        tags = lower(found[0].get("tags", {})) if found else {}
        missing = {key for key, value in TAGS.items() if tags.get(key) != value}
        assert missing == set(lost_chapter_tags(TAGS, muxer, of_file={}))

    def test_dispositions(self, muxer, tmp_path):
        names = ("default", "forced", "comment", "original", "hearing_impaired", "lyrics")
        for name in names:
            bit = int(Disposition[name])
            path = tmp_path / f"{name}.{SUFFIXES[muxer]}"
            (found,) = written(path, muxer, disposition=bit)["streams"]
            kept = bool(found["disposition"][name])
            assert kept == (lost_dispositions(bit, muxer, alone=False) == []), name


@needs_ffprobe
@pytest.mark.parametrize("codec", ["hdmv_pgs_subtitle", "dvb_subtitle", "mp2", "aac", "ac3"])
def test_whose_language_mpeg_ts_tells(tmp_path, codec):
    path = tmp_path / "l.ts"
    options = {"mpegts_m2ts_mode": "0" if codec == "dvb_subtitle" else "1"}  # where each may be
    with av.open(str(path), "w", format="mpegts", options=options) as out:
        picture = out.add_stream("mpeg2video", rate=25, width=64, height=48)
        stream = out.add_mux_stream(codec, **({} if "subtitle" in codec else {"rate": 48000}))
        stream.metadata["language"] = "fra"
        black = av.VideoFrame(64, 48, "yuv420p")
        black.pts = 0
        out.mux([*picture.encode(black), *picture.encode(None)])
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", str(path)]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    kept = found["streams"][1].get("tags", {}).get("language") == "fra"
    undescribed = is_undescribed(found["streams"][1]["codec_type"], codec)
    lost = lost_tags({"language": "fra"}, "mpegts", of_file={}, undescribed=undescribed)
    assert lost == ([] if kept else ["language"])


@needs_ffprobe
def test_matroska_marks_subtitles_that_describe(tmp_path):
    text, path = tmp_path / "a.srt", tmp_path / "a.mkv"
    text.write_text("1\n00:00:00,000 --> 00:00:01,000\nA door\n")
    bit = Disposition.descriptions
    with av.open(str(text)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams[0])
        stream.disposition = bit
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", str(path)]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    kept = bool(found["streams"][0]["disposition"]["descriptions"])
    assert kept
    assert lost_dispositions(bit, "matroska", alone=True, kind="subtitle") == []
    assert lost_dispositions(bit, "matroska", alone=True) == ["descriptions"]


AUDIO_MARKS = ("default", "dub", "original", "comment", "hearing_impaired", "visual_impaired",
               "clean_effects", "captions", "descriptions")  # fmt: skip


def ts_marks(path, mark, add):
    """The dispositions that come back of the one stream of MPEG-TS that ``add`` adds."""
    with av.open(str(path), "w", format="mpegts") as out:
        stream = add(out)
        stream.disposition = mark
        packet = av.Packet(bytes(64))
        packet.stream, packet.time_base = stream, Fraction(1, 90000)
        packet.pts = packet.dts = 0
        out.mux(packet)
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", str(path)]
    read = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    with av.open(str(path)) as container:
        found = {d.name for d in Disposition if container.streams[0].disposition & d}
    assert found == {name for name, is_set in read["streams"][0]["disposition"].items() if is_set}
    return found


@needs_ffprobe
@pytest.mark.parametrize("codec", ["mp2", "aac", "ac3", "eac3"])
def test_what_mpeg_ts_says_of_sound(tmp_path, codec):
    pairs = [("hearing_impaired", "clean_effects"), ("visual_impaired", "descriptions"),
             ("hearing_impaired", "visual_impaired"), ("hearing_impaired", "captions")]  # fmt: skip
    for names in (*((name,) for name in AUDIO_MARKS), *pairs):
        mark = sum(Disposition[name] for name in names)
        lost = lost_dispositions(mark, "mpegts", alone=False, kind="audio")
        found = ts_marks(
            tmp_path / "a.ts", Disposition(mark),
            lambda out: out.add_stream(codec, rate=48000, layout="stereo"),
        )  # fmt: skip
        assert set(names) - found == set(lost), names


@needs_ffprobe
@pytest.mark.parametrize("header", [b"", b"\0\1\0\1", b"\0\1\0\1\x10", b"\0\1\0\1\x24"])
def test_what_mpeg_ts_says_of_subtitles(tmp_path, header):
    ts_marks(tmp_path / "in.ts", 0, lambda out: out.add_mux_stream("dvb_subtitle"))

    def add(out):
        with av.open(str(tmp_path / "in.ts")) as container:
            template = container.streams.subtitles[0]
            template.codec_context.extradata = header or None
            stream = out.add_stream_from_template(template, opaque=True)
            stream.codec_context.extradata = header or None
        return stream

    for name in ("default", "forced", "hearing_impaired", "captions"):
        mark = Disposition[name]
        found = ts_marks(tmp_path / "out.ts", mark, add)
        lost = lost_dispositions(mark, "mpegts", alone=False, kind="subtitle", header=header)
        assert (name in found) == (lost == []), name


def test_keys_of_cameras_survive_in_mov_only():
    tags = {"com.apple.quicktime.make": "Apple", "custom": "x"}
    assert metadata_flags(tags, "mov") == "+use_metadata_tags"
    assert lost_tags(tags, "mov") == []
    assert metadata_flags({"title": "T"}, "mov") == metadata_flags(tags, "mp4") == ""
    assert lost_tags(tags, "mp4") == ["com.apple.quicktime.make", "custom"]


def test_metadata_of_the_old_file_is_left_out():
    tags = {
        "title": "T", "ENCODER": "x", "DURATION": "1", "_STATISTICS_TAGS": "b", "BPS-eng": "1",
        "NUMBER_OF_FRAMES": "3", "major_brand": "isom", "handler_name": "Sound", "language": "eng",
    }  # fmt: skip
    assert kept_metadata(tags, "matroska") == {"title": "T", "language": "eng"}
    assert kept_metadata(tags, "mp4") == {"title": "T", "language": "eng", "handler_name": "Sound"}


def test_what_has_written_the_source_is_not_carried_over():
    assert kept_metadata({"software": "Lavf59.27.100"}, "avi") == {}
    assert kept_metadata({"software": "Lavf59.27.100"}, "matroska") == {}
    assert kept_metadata({"software": "VirtualDub"}, "avi") == {}
    named = {"software": "VirtualDub", "encoded_by": "Archive"}
    assert kept_metadata(named, "matroska") == named
    assert kept_metadata(named, "avi") == {"encoded_by": "Archive"}


def test_title_of_a_stream_goes_by_the_containers_name_for_it():
    there = stream_metadata({"title": "Commentary"}, "mp4")
    assert there == {"title": "Commentary", "handler_name": "Commentary"}
    back = stream_metadata({"name": "Commentary", "handler_name": "Commentary"}, "matroska")
    assert back == {"title": "Commentary"}
    kept = stream_metadata({"title": "T", "handler_name": "H"}, "mov")
    assert kept == {"title": "T", "handler_name": "H"}


def test_what_a_stream_only_repeats_is_not_lost():
    date = {"creation_time": "2020-01-02T03:04:05.000000Z"}
    assert lost_tags(date, "matroska", of_file=date) == []
    assert lost_tags(date, "matroska", of_file={}) == ["creation_time"]
    assert lost_tags({"language": "und"}, "avi", of_file={}) == []


def test_what_a_chapter_only_repeats_or_says_of_the_old_file_is_not_lost():
    tags = {"title": "One", "COMPOSER": "Bach", "ARTIST": "A", "ENCODER": "x", "language": "und"}
    assert lost_chapter_tags(tags, "mp4", of_file={"ARTIST": "A"}) == ["COMPOSER"]
    assert lost_chapter_tags(tags, "mp4", of_file={"ARTIST": "B"}) == ["COMPOSER", "ARTIST"]
    assert lost_chapter_tags(tags, "matroska", of_file={}) == []


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("2020-01-02T03:04:05Z", True), ("2020-01-02 03:04:05", True),
        ("2020-01-02T05:04:05+0200", True), ("2020-01-02T03:04:06Z", False),
        ("last Tuesday", False), ("2020-01-02T03:04:05.5Z", False),
        ("2020-01-02T03:04:05.000000Z;2020-01-02T03:04:05Z", True),
    ],
)  # fmt: skip
def test_a_time_that_is_written_otherwise_is_repeated_all_the_same(other, same):
    date = {"creation_time": "2020-01-02T03:04:05.000000Z"}
    for one, two in ((date, {"creation_time": other}), ({"creation_time": other}, date)):
        assert (lost_tags(one, "matroska", of_file=two) == []) == same


def test_only_stream_of_its_kind_is_the_default_anyway():
    assert lost_dispositions(int(Disposition.default), "avi", alone=True) == []
    assert lost_dispositions(int(Disposition.default), "avi", alone=False) == ["default"]
    assert lost_dispositions(int(Disposition.attached_pic), "avi", alone=False) == []


def test_mark_of_mp4_that_reads_as_two_is_one():
    both = int(Disposition.hearing_impaired | Disposition.captions)
    assert lost_dispositions(both, "matroska", alone=False) == []
    assert lost_dispositions(both, "mov", alone=False) == ["hearing_impaired", "captions"]


def test_timecode_needs_a_rate_that_has_one():
    assert holds_timecode("mov", Fraction(30000, 1001))
    assert not holds_timecode("mov", Fraction(17))
    assert holds_timecode("matroska", Fraction(17))


@needs_ffprobe
@pytest.mark.parametrize("muxer", ["mp4", "mov", "matroska"])
@pytest.mark.parametrize("language", ["pt-BR", "por", "POR", "hr ", "hrv"])
def test_languages_without_a_code_are_named_where_they_are_lost(muxer, language, tmp_path):
    given = {"language": language}
    path = tmp_path / f"l.{SUFFIXES[muxer]}"
    (found,) = written(path, muxer, stream=given)["streams"]
    kept = lower(found.get("tags", {})).get("language") == language
    assert kept == (lost_tags(given, muxer, of_file={}) == [])


TWO_NAMES = (
    "alb/sqi arm/hye baq/eus bur/mya chi/zho cze/ces dut/nld fre/fra geo/kat ger/deu gre/ell "
    "ice/isl mac/mkd mao/mri may/msa per/fas rum/ron slo/slk tib/bod wel/cym"
)
"""The languages that have two in ISO 639-2."""


def test_of_two_names_of_a_language_mov_gets_the_one_that_is_written(tmp_path):
    for pair in TWO_NAMES.split():
        for name in pair.split("/"):
            given = stream_metadata({"language": name}, "mov")
            found = language_in_mov(tmp_path / "a.mov", given["language"])
            assert (found in pair.split("/")) == (lost_tags(given, "mov", of_file={}) == []), name
            assert (found is None) == (pair == "mao/mri"), name
            assert stream_metadata({"language": name}, "mp4") == {"language": name}


def test_every_language_that_mov_holds_is_known(tmp_path):
    """Of all that may be: most of the 17576 words of three letters are no language."""
    for name in [*sorted(_MOV_LANGUAGES), "bar", "gsw", "hrv", "swe", "nob", "mul", "zxx"]:
        held = language_in_mov(tmp_path / "a.mov", name) == name
        assert held == (lost_tags({"language": name}, "mov", of_file={}) == []), name


@pytest.mark.parametrize(
    ("name", "number"),
    [("eng", 0), ("deu", 2), ("swe", 5), ("hrv", 18), ("fao", 30), ("fas", 31), ("gle", 35),
     ("srp", 42), ("pan", 70)],
)  # fmt: skip
def test_mov_numbers_languages_as_quicktime_does(name, number, tmp_path):
    """By the table of the QuickTime File Format; FFmpeg names some of them as nothing else does."""
    given = stream_metadata({"language": name}, "mov")
    assert lost_tags(given, "mov", of_file={}) == []
    assert language_in_mov(tmp_path / "a.mov", given["language"]) == given["language"]
    data = (tmp_path / "a.mov").read_bytes()
    place = data.index(b"mdhd") + 24  # behind version, two dates, time base and duration
    assert int.from_bytes(data[place : place + 2], "big") == number


@pytest.mark.parametrize(("read", "proper"), [("sve", "swe"), ("hr ", "hrv"), ("ger", "ger")])
def test_names_that_only_mov_has_stay_there(read, proper):
    for muxer in ("matroska", "mp4", "mpegts"):
        assert stream_metadata({"language": read}, muxer) == {"language": proper}
    assert stream_metadata({"language": read}, "mov") == {"language": read}


def language_in_mov(path, language):
    """What comes back of it, from a file of one frame."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4", rate=25, width=64, height=48, pix_fmt="yuv420p")
        video.metadata["language"] = language
        out.mux([*video.encode(av.VideoFrame(64, 48, "yuv420p")), *video.encode(None)])
    with av.open(str(path)) as written:
        return written.streams.video[0].metadata.get("language")
