"""Audio, subtitles, attachments, cover art, chapters, tags: what arrives on the other side."""

import hashlib
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from vsr.config import EncoderConfig
from vsr.encoding import choose_encoding
from vsr.encoding.streams import output_chapters
from vsr.sinks import MediaSink


def texts(path: Path, kind: str) -> list[bytes]:
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams.subtitles if s.codec_context.name == kind)
        return [bytes(packet) for packet in container.demux(stream) if packet.size]


def titles(chapters) -> list[tuple[float, float, str]]:
    return [(float(c["start_time"]), float(c["end_time"]), c["tags"]["title"]) for c in chapters]


def test_matroska_to_matroska_carries_everything(rich, remux, tools, tmp_path):
    sink = remux(rich, tmp_path / "out.mkv")
    before, after = tools.probe(rich), tools.probe(tmp_path / "out.mkv")
    assert sink.notes == []
    kinds = [(s["codec_type"], s["codec_name"]) for s in after.streams]
    assert kinds == [
        ("audio", "aac"),
        ("audio", "flac"),
        ("video", "h264"),
        ("subtitle", "subrip"),
        ("subtitle", "ass"),
        ("attachment", "ttf"),
        ("video", "png"),
    ]
    for old, new in zip(before.streams, after.streams, strict=True):
        assert new["shown"] == old["shown"]
        assert new["tags"].get("language") == old["tags"].get("language")
        assert new["tags"].get("title") == old["tags"].get("title")
        if old["codec_name"] != "mpeg4":
            assert new["hashes"] == old["hashes"]
            assert new["pts"] == old["pts"]
    assert titles(after.chapters) == [(0, 0.4, "One"), (0.4, 1, "Zwei")]
    assert (after.tags["title"], after.tags["artist"]) == ("Global", "Somebody")
    assert after.attachment[0]["tags"]["filename"] == "font.ttf"
    assert after.attachment[0]["extradata_hash"] == before.attachment[0]["extradata_hash"]


@pytest.mark.parametrize(
    ("suffix", "kept"), [("mkv", "Lavc59 flac"), ("nut", "Lavc59 flac"), ("mp4", None)]
)
def test_who_encoded_a_copied_stream_is_kept(make_clip, remux, tmp_path, suffix, kept):
    source, output = tmp_path / "in.mkv", tmp_path / f"out.{suffix}"
    with av.open(make_clip("a.mkv")) as given, av.open(source, "w") as container:
        video, audio = (container.add_stream_from_template(s) for s in given.streams)
        video.metadata["ENCODER"], audio.metadata["ENCODER"] = "Lavc59 libx264", "Lavc59 flac"
        audio.metadata["_STATISTICS_TAGS"] = audio.metadata["BPS"] = "of the file that it was in"
        for packet in given.demux():
            if packet.dts is not None:
                packet.stream = (video, audio)[packet.stream.index]
                container.mux(packet)
    assert remux(source, output).notes == []
    with av.open(output) as container:
        tags = [{k.lower(): v for k, v in s.metadata.items()} for s in container.streams]
        assert tags[1].get("encoder") == kept
        assert "libx264" not in tags[0].get("encoder", "")
        assert not {"bps", "_statistics_tags"} & {*tags[1]}


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_matroska_to_mp4(rich, remux, tools, tmp_path, suffix):
    output = tmp_path / f"out.{suffix}"
    sink = remux(rich, output)
    before, after = tools.probe(rich), tools.probe(output)
    copied = 2 if suffix == "mp4" else 1  # mov has no flac
    hashes = [s["hashes"] for s in before.audio]
    assert [s["hashes"] for s in after.audio][:copied] == hashes[:copied]
    assert [s["codec_name"] for s in after.audio] == ["aac", "flac" if suffix == "mp4" else "alac"]
    assert "comment" in after.audio[1]["shown"] if suffix == "mp4" else True
    assert [s["tags"]["language"] for s in after.audio] == ["eng", "fra"]
    assert [s["codec_name"] for s in after.subtitle] == ["mov_text"]
    assert after.subtitle[0]["tags"]["language"] == "eng"
    assert after.subtitle[0]["extradata_size"] > 30  # a style for the text to refer to
    assert b"\0\x0bHello world" in texts(output, "mov_text")  # players would show the tags
    assert titles(after.chapters) == [(0, 0.4, "One"), (0.4, 1, "Zwei")]
    assert after.tags["title"] == "Global"
    covers = [s for s in after.video if "attached_pic" in s["shown"]]
    assert len(covers) == (suffix == "mp4")
    cannot = f" is dropped: {suffix} cannot hold it (mkv can)"
    assert f"attachment stream 5 (font.ttf){cannot}" in sink.notes
    dropped = {note.split(" is dropped")[0] for note in sink.notes}
    wanted = {
        "subtitle stream 4 (ass, ger)", "attachment stream 5 (font.ttf)",
        f"subtitle stream 3 (subrip, eng): 2 texts lose style, colour or place: {suffix} gets "
        "plain text",
    }  # fmt: skip
    if suffix == "mov":
        wanted |= {
            "audio stream 1 (flac, fra) becomes alac: mov cannot hold it as it is (mkv can)",
            "cover art stream 6 (png)",
            "dispositions are dropped, mov has no place for them: comment (audio stream 1), "
            "hearing_impaired (subtitle stream 3)",
        }
    assert dropped == wanted


def test_there_and_back_again(rich, remux, tools, tmp_path):
    """mov_text becomes srt, the cover an attachment; the text track of chapters is no stream."""
    remux(rich, tmp_path / "there.mp4")
    sink = remux(tmp_path / "there.mp4", tmp_path / "back.mkv")
    before, after = tools.probe(rich), tools.probe(tmp_path / "back.mkv")
    assert sink.notes == []
    plain = [text.replace(b"<i>", b"").replace(b"</i>", b"") for text in texts(rich, "srt")]
    assert texts(tmp_path / "back.mkv", "srt") == plain
    assert after.subtitle[0]["pts"] == before.subtitle[0]["pts"]
    assert [s["hashes"] for s in after.audio] == [s["hashes"] for s in before.audio]
    assert after.video[1]["hashes"] == before.video[1]["hashes"]
    assert titles(after.chapters) == titles(before.chapters)
    assert "major_brand" not in after.tags
    assert not after.data


def test_mp4_to_mp4_makes_the_chapter_track_once(rich, remux, tools, tmp_path):
    remux(rich, tmp_path / "one.mp4")
    sink = remux(tmp_path / "one.mp4", tmp_path / "two.mp4")
    assert sink.notes == []
    one, two = tools.probe(tmp_path / "one.mp4"), tools.probe(tmp_path / "two.mp4")
    assert len(one.data) == len(two.data) == 1
    assert [s["hashes"] for s in one.subtitle] == [s["hashes"] for s in two.subtitle]


@pytest.mark.parametrize(
    ("suffix", "kept"),
    [("webm", 2), ("avi", 2), ("nut", 2), ("ts", 2)],
)
def test_other_containers_take_what_they_can(rich, remux, tools, tmp_path, suffix, kept):
    output = tmp_path / f"out.{suffix}"
    sink = remux(rich, output)
    after = tools.probe(output)
    assert len(after.audio) == kept
    assert len(after.video) == 1
    streams = len(after.audio) + len(after.subtitle)
    dropped = [note for note in sink.notes if "stream" in note and "is dropped" in note]
    assert streams + len(dropped) == 6
    has_chapters = bool(after.chapters)
    assert has_chapters != any("chapters are dropped" in note for note in sink.notes)


def test_everything_counts_from_the_start_of_the_source(rich, remux, tools, tmp_path):
    """An MPEG-TS starts at 1.4 s; what comes of it starts at 0, audio and video alike."""
    remux(rich, tmp_path / "in.ts")
    first, source = tmp_path / "in.ts", tools.probe(tmp_path / "in.ts")
    shift = Fraction(3, 2)
    sink = remux(first, tmp_path / "late.mkv", start_time=-shift)  # as if it started late
    late = tools.probe(tmp_path / "late.mkv")
    assert late.video[0]["pts"][0] == pytest.approx(1.5 + source.video[0]["pts"][0], abs=2e-3)
    early = remux(tmp_path / "late.mkv", tmp_path / "early.mkv", start_time=shift)
    after = tools.probe(tmp_path / "early.mkv")
    for before, now in zip((*late.video, *late.audio), (*after.video, *after.audio), strict=True):
        assert now["pts"] == pytest.approx([t - 1.5 for t in before["pts"]], abs=1e-6)
    assert len(sink.notes) == len(early.notes) == 0


@pytest.mark.parametrize(("cut_short", "end"), [(False, 1000), (True, 700)])
def test_chapters_end_with_what_is_cut_short(rich, tools, cut_short, end):
    source = tools.stand_in(rich, cut_short=cut_short)
    with source.container:
        chapters = output_chapters(source, Fraction(7, 10))
        assert len(output_chapters(source, Fraction(2, 5))) == (1 if cut_short else 2)
    spans = [(c["start"] * c["time_base"], c["end"] * c["time_base"]) for c in chapters]
    assert spans == [(0, Fraction(2, 5)), (Fraction(2, 5), Fraction(end, 1000))]


@pytest.fixture
def with_chapter_tags(make_clip, tmp_path) -> Path:
    """A film of three chapters, all of an artist, one of a composer; the file repeats a genre."""
    described = tmp_path / "chapters.txt"
    path: Path = tmp_path / "film.mkv"
    lines = [";FFMETADATA1", "GENRE=Opera"]
    for number in range(3):
        start = number * 100
        lines += ["[CHAPTER]", "TIMEBASE=1/1000", f"START={start}", f"END={start + 99}"]
        lines += [f"title=Act {number}", "ARTIST=Someone", "GENRE=Opera"]
        lines += ["COMPOSER=Bach"] * (number == 1)
    described.write_text("\n".join(lines))
    command = ["ffmpeg", "-v", "error", "-i", make_clip("a.mkv"), "-i", described, "-c", "copy"]
    subprocess.run([*command, "-map_metadata", "1", "-map_chapters", "1", path], check=True)
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mov", "webm", "mkv", "nut", "avi"])
def test_tags_of_chapters_are_named_where_they_are_lost(
    with_chapter_tags, remux, tools, tmp_path, suffix
):
    output = tmp_path / f"out.{suffix}"
    sink = remux(with_chapter_tags, output)
    kept = [chapter["tags"].get("COMPOSER") for chapter in tools.probe(output).chapters]
    said = [note for note in sink.notes if "(chapter" in note or "chapters)" in note]
    if suffix in ("mkv", "nut"):
        assert (kept, said) == ([None, "Bach", None], [])
    elif suffix == "avi":  # they go with the chapters, of which another line tells
        assert (kept, said) == ([], [])
        assert "3 chapters are dropped: avi has none" in sink.notes
    else:
        assert kept == [None] * 3
        lost = "ARTIST (3 chapters), COMPOSER (chapter 2)"
        assert said == [f"tags are dropped, {suffix} has no place for them: {lost}"]


def test_packets_before_the_start_are_cut(rich, remux, tools, tmp_path):
    sink = remux(rich, tmp_path / "out.mkv", start_time=Fraction(1, 2))
    before, after = tools.probe(rich), tools.probe(tmp_path / "out.mkv")
    assert after.video[0]["pts"][0] == 0.02  # the first at or after 0.5 s is at 0.52 s
    for old, new in zip(before.audio, after.audio, strict=True):
        assert 0 < len(new["hashes"]) < len(old["hashes"])
        assert new["hashes"] == old["hashes"][-len(new["hashes"]) :]
        assert -0.0215 < new["pts"][0] < 0.1  # AAC may warm up for 21 ms
    # shown from 200 to 500: over; from 600 to 900: 100 ms in
    assert after.subtitle[0]["pts"] == pytest.approx([0.1])
    assert titles(after.chapters) == [(0, 0.5, "Zwei")]
    cut = [note for note in sink.notes if "cut, ahead of the start" in note]
    assert len(cut) == 4
    assert any("packets were cut, ahead of the start, with 0.50 s of sound that" in n for n in cut)
    assert any("): 1 packet was cut, ahead of the start" in n and "sound" not in n for n in cut)


def test_metadata_tracks_of_a_phone_are_named_in_one_line(make_clip, remux, tmp_path):
    """Apple's are called ``mebx``, which FFmpeg has no name for: here by another's four letters."""
    (tmp_path / "a.srt").write_text("1\n00:00:00,000 --> 00:00:00,100\nA\n")
    command = ["ffmpeg", "-v", "error", "-i", make_clip("a.mov"), "-i", tmp_path / "a.srt"]
    command += ["-map", "0", *["-map", "1"] * 3, "-c", "copy", "-c:s", "mov_text"]
    command += ["-metadata:s:s", "handler_name=Core Media Metadata", tmp_path / "b.mov"]
    subprocess.run(command, check=True)
    data = (tmp_path / "b.mov").read_bytes()
    for old, new in ((b"mhlrtext", b"mhlrmeta"), (b"mhlrsbtl", b"mhlrmeta"), (b"text", b"mebx"),
                     (b"tx3g", b"mebx")):  # fmt: skip
        data = data.replace(old, new)
    (tmp_path / "in.mov").write_bytes(data)
    sink = remux(tmp_path / "in.mov", tmp_path / "out.mp4")
    said = "3 data streams, 2, 3, 4 (Core Media Metadata), are dropped: data cannot be carried"
    assert [note for note in sink.notes if "data" in note] == [said]


def test_of_packets_that_are_cut_the_hidden_ones_are_not_missed(make_clip, remux, tmp_path):
    """By an edit list, as phones write it where a film was cut."""
    clip, trimmed = make_clip("whole.mov", frames=50, audio=True), tmp_path / "in.mov"
    command = ["ffmpeg", "-v", "error", "-ss", "1.2", "-i", clip, "-c", "copy", trimmed]
    subprocess.run(command, check=True)
    sink = remux(trimmed, tmp_path / "out.mkv")
    (cut,) = [note for note in sink.notes if "cut, ahead of the start" in note]
    assert cut.endswith("where the input hides them: players leave them out as well")


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "nut"])
def test_further_video_with_b_frames_keeps_its_times(remux, tools, tmp_path, suffix):
    """Of Matroska, FFmpeg has no dts for the first packets."""
    with av.open(str(tmp_path / "in.mkv"), "w") as out:
        for codec in ("mpeg4", "libx264"):
            out.add_stream(codec, rate=25, width=64, height=48, pix_fmt="yuv420p")
        first, second = out.streams.video
        for stream in (first, second):
            for pts in range(20):
                picture = av.VideoFrame(64, 48, "yuv420p")
                picture.planes[0].update(bytes([12 * pts]) * picture.planes[0].buffer_size)
                picture.pts = pts
                out.mux(stream.encode(picture))
            out.mux(stream.encode(None))
    sink = remux(tmp_path / "in.mkv", tmp_path / f"out.{suffix}")
    before, after = tools.probe(tmp_path / "in.mkv"), tools.probe(tmp_path / f"out.{suffix}")
    assert not any("repaired" in note for note in sink.notes)
    shift = after.video[0]["pts"][0] - before.video[0]["pts"][0]  # NUT has no dts below 0
    assert after.video[1]["pts"] == pytest.approx(
        [time + shift for time in before.video[1]["pts"]], abs=0.001
    )
    assert after.video[1]["hashes"] == before.video[1]["hashes"] or suffix == "nut"


def test_subtitle_that_is_on_screen_at_the_start_stays(rich, remux, tools, tmp_path):
    remux(rich, tmp_path / "out.mkv", start_time=Fraction(3, 10))
    after = tools.probe(tmp_path / "out.mkv")
    first = after.subtitle[0]["packets"][0]
    assert (float(first["pts_time"]), float(first["duration_time"])) == (0, 0.2)


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_clock_that_falls_back_goes_on_where_it_was(rich, remux, tools, tmp_path, suffix):
    """From 0.6 s on the source counts from 0 again; the sound goes on without a gap."""

    def fall_back(packet):
        if packet.stream.type == "audio" and packet.pts * packet.time_base >= 0.6:
            packet.pts -= 600
            packet.dts -= 600

    sink = remux(rich, tmp_path / f"out.{suffix}", alter=fall_back)
    before, after = tools.probe(rich), tools.probe(tmp_path / f"out.{suffix}")
    for old, new in zip(before.audio, after.audio, strict=True):
        assert new["hashes"] == old["hashes"]
        assert new["pts"] == pytest.approx(old["pts"], abs=0.003)
    repairs = [note for note in sink.notes if "timestamps were repaired" in note]
    assert len(repairs) == 2


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_packets_without_times_behind_a_clock_that_fell_back(rich, remux, tools, tmp_path, suffix):
    """Each follows the one before; the jump is not made once more for each."""

    def fall_back(packet):
        if packet.stream.type != "audio":
            return
        time = packet.pts * packet.time_base
        if time >= 0.6:
            packet.pts -= 600
            packet.dts -= 600
        if time >= 0.7:
            packet.pts = packet.dts = None

    remux(rich, tmp_path / f"out.{suffix}", alter=fall_back)
    before, after = tools.probe(rich), tools.probe(tmp_path / f"out.{suffix}")
    for old, new in zip(before.audio, after.audio, strict=True):
        assert new["hashes"] == old["hashes"]
        assert new["pts"] == pytest.approx(old["pts"], abs=0.03)


def test_stumbling_clock_is_levelled(rich, remux, tools, tmp_path):
    """One packet 50 ms too early: it alone moves."""

    def stumble(packet):
        if packet.stream.index == 0 and 500 <= packet.pts < 521:
            packet.pts -= 50
            packet.dts -= 50

    sink = remux(rich, tmp_path / "out.mp4", alter=stumble)
    before, after = tools.probe(rich), tools.probe(tmp_path / "out.mp4")
    old, new = before.audio[0], after.audio[0]
    assert new["hashes"] == old["hashes"]
    moved = [abs(a - b) > 0.003 for a, b in zip(old["pts"], new["pts"], strict=True)]
    assert sum(moved) == 1
    assert sum("1 timestamp was repaired" in note for note in sink.notes) == 1


def test_missing_timestamps_are_filled(rich, remux, tools, tmp_path):
    def forget(packet):
        if packet.stream.type == "audio" and packet.pts > 300:
            packet.pts = packet.dts = None

    sink = remux(rich, tmp_path / "out.mkv", alter=forget)
    before, after = tools.probe(rich), tools.probe(tmp_path / "out.mkv")
    for old, new in zip(before.audio, after.audio, strict=True):
        assert new["hashes"] == old["hashes"]
        assert new["pts"] == pytest.approx(old["pts"], abs=0.03)
    assert any("timestamps were repaired" in note for note in sink.notes)


def test_timecode_survives_without_its_track(remux, tools, tmp_path, media):
    source = media("generated/tc.mov")
    for suffix in ("mov", "mp4", "mkv"):
        sink = remux(source, tmp_path / f"out.{suffix}")
        assert sink.notes == []
        video = tools.probe(tmp_path / f"out.{suffix}").video[0]
        tags = {key.lower(): value for key, value in video["tags"].items()}
        assert tags["timecode"] == "01:00:00:00"


def test_timecode_counts_from_the_first_frame_of_a_part(remux, tools, tmp_path, media):
    source = media("generated/tc.mov")
    remux(source, tmp_path / "out.mov", start_time=Fraction(1, 2))
    (before,) = {s["tags"]["timecode"] for s in tools.probe(source).video}
    (after,) = {s["tags"]["timecode"] for s in tools.probe(tmp_path / "out.mov").video}
    assert (before, after) == ("01:00:00:00", "01:00:00:13")  # at the stand-in's 25


def write_one(tools, source: Path, output: Path, rate: Fraction) -> list[str]:
    """One frame at ``rate`` beside the streams of ``source``; what was noted."""
    stand_in, info = tools.stand_in(source), tools.info(rate=rate)
    encoding = choose_encoding(output, info, 64, 48, EncoderConfig(preset="ultrafast"))
    with MediaSink(output, encoding, info, source=stand_in, overwrite=False) as sink:
        sink.write(tools.frame(info, 0))
    stand_in.close()
    return list(sink.notes)


def labelled_timecode(tools, path: Path, timecode: str, **more: str) -> Path:
    """A film of 30000/1001 frames a second whose first one has that name."""
    with av.open(path, "w") as out:
        stream = out.add_stream("mpeg4", rate=Fraction(30000, 1001), width=64, height=48)
        stream.metadata.update(timecode=timecode, **more)
        for pts in range(3):
            picture = av.VideoFrame(64, 48, "yuv420p")
            picture.pts = pts
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    return path


def timecodes(tools, path: Path) -> set[str]:
    tags = [stream["tags"] for stream in tools.probe(path).streams]
    return {v for found in tags for key, v in found.items() if key.lower() == "timecode"}


@pytest.mark.parametrize("source", ["in.mov", "in.mkv"])
@pytest.mark.parametrize("output", ["out.mov", "out.mkv"])
def test_timecode_counts_at_the_rate_of_the_output(tools, tmp_path, source, output):
    """Matroska writes the name of the tag in capitals."""
    given = labelled_timecode(tools, tmp_path / source, "01:00:00;08")
    notes = write_one(tools, given, tmp_path / f"a-{output}", Fraction(24000, 1001))
    assert timecodes(tools, tmp_path / f"a-{output}") == {"01:00:00:06"}
    assert notes == [
        "timecode 01:00:00;08 goes on as 01:00:00:06, which drops no numbers: there is no timecode"
        " that does at 23.976 frames/s"
    ]
    assert write_one(tools, given, tmp_path / f"b-{output}", Fraction(60000, 1001)) == []
    assert timecodes(tools, tmp_path / f"b-{output}") == {"01:00:00;16"}


def test_the_date_of_a_file_that_says_it_twice_is_kept(tools, tmp_path):
    """FFmpeg writes it so beside the keys of cameras, and reads both as one text."""
    given, date = tmp_path / "in.mov", "2023-05-09T11:48:30.000000Z"
    with av.open(given, "w", options={"movflags": "use_metadata_tags"}) as out:
        stream = out.add_stream("mpeg4", rate=25, width=64, height=48)
        out.metadata.update({"com.apple.quicktime.make": "Apple", "creation_time": date})
        picture = av.VideoFrame(64, 48, "yuv420p")
        picture.pts = 0
        out.mux([*stream.encode(picture), *stream.encode(None)])
    with av.open(given) as container:
        assert container.metadata["creation_time"] == f"{date};{date}"
    for suffix in ("mp4", "mkv"):
        write_one(tools, given, tmp_path / f"out.{suffix}", Fraction(25))
        assert tools.probe(tmp_path / f"out.{suffix}").tags["creation_time"] == date


@pytest.mark.parametrize(
    ("key", "way"),
    [("com.apple.quicktime.make", True), ("com.android.version", True), ("publisher", False)],
)
def test_keys_that_a_flag_keeps_are_not_called_lost(tools, tmp_path, key, way):
    given = tmp_path / "in.mov"
    with av.open(given, "w", options={"movflags": "use_metadata_tags"}) as out:
        stream = out.add_stream("mpeg4", rate=25, width=64, height=48)
        out.metadata[key] = "Apple"
        picture = av.VideoFrame(64, 48, "yuv420p")
        picture.pts = 0
        out.mux([*stream.encode(picture), *stream.encode(None)])
    found = {}
    for name, flags in (
        ("a.mp4", "faststart"), ("b.mp4", "faststart+use_metadata_tags"), ("c.mov", "faststart"),
        ("d.mp4", "faststart-use_metadata_tags"),
    ):  # fmt: skip
        stand_in, info = tools.stand_in(given), tools.info()
        output = tmp_path / name
        config = EncoderConfig(preset="ultrafast", muxer_options={"movflags": flags})
        encoding = choose_encoding(output, info, 64, 48, config)
        with MediaSink(output, encoding, info, source=stand_in, overwrite=False) as sink:
            sink.write(tools.frame(info, 0))
        stand_in.close()
        found[name] = [note for note in sink.notes if key in note]
        assert (key in tools.probe(output).tags) == (found[name] == [])
    (lost,) = found["a.mp4"]
    hint = f"{key} (file); mov keeps the camera's own, and so does mp4 with -movflags use_meta"
    assert (hint in lost) == way
    assert (found["b.mp4"], found["c.mov"] == []) == ([], way)


def test_the_name_of_the_reel_goes_where_it_can(tools, tmp_path):
    given = labelled_timecode(tools, tmp_path / "in.mov", "10:00:00:00", reel_name="TAPE0042")
    rate, notes = Fraction(30000, 1001), {}
    for suffix in ("mov", "mkv", "mp4"):
        notes[suffix] = write_one(tools, given, tmp_path / f"out.{suffix}", rate)
    lost = "tags are dropped, mp4 has no place for them: reel_name (data stream 1)"
    assert notes == {"mov": [], "mkv": [], "mp4": [lost]}
    for suffix in ("mov", "mkv"):
        tags = [stream["tags"] for stream in tools.probe(tmp_path / f"out.{suffix}").streams]
        named = {v for found in tags for key, v in found.items() if key.lower() == "reel_name"}
        assert named == {"TAPE0042"}


def test_timecode_at_a_rate_without_timecode_is_dropped(tools, tmp_path, media):
    path = tmp_path / "out.mov"
    notes = write_one(tools, media("generated/tc.mov"), path, Fraction(17))
    assert [note for note in notes if "timecode is dropped" in note]
    assert tools.probe(path).data == []


# Real files. "extra" is what the container adds or takes from packets (ADTS headers).
REAL = [
    ("generated/rich.mkv", "mkv"),
    ("generated/rich.mkv", "mp4"),
    ("generated/cov.mp4", "mkv"),
    ("generated/cov.mp4", "mp4"),
    ("androidx/bt601.mov", "mp4"),
    ("androidx/sample.flv", "mkv"),
    ("androidx/sample.avi", "mp4"),
    ("androidx/sample_with_vobsub.mkv", "mkv"),
    ("androidx/sample_with_vobsub.mkv", "mp4"),
    ("androidx/sample_with_ass_subtitles.mkv", "mkv"),
    ("androidx/sample_with_chapters.mp4", "mp4"),
    ("androidx/sample_h262_mpeg_audio.ps", "mkv"),
    ("androidx/sample_scte35.ts", "mp4"),
    ("androidx/dolbyVision-hdr.MOV", "mov"),
    ("androidx/sample_missing_stsd.mp4", "mp4"),
    ("androidx/sowt-with-video.mov", "mov"),
    ("archivematica/SampleVideo_1280x720_1mb.mkv", "mkv"),
    ("archivematica/SampleVideo_1280x720_1mb.mkv", "mp4"),
    ("mdn/friday.mp4", "mkv"),
]


@pytest.mark.parametrize(("name", "suffix"), REAL)
def test_real_file(media, remux, tools, tmp_path, name, suffix):
    source, output = media(name), tmp_path / f"out.{suffix}"
    sink = remux(source, output)
    before, after = tools.probe(source), tools.probe(output)
    audio = [s for s in before.audio if "codec_name" in s]
    assert [s["hashes"] for s in after.audio] == [s["hashes"] for s in audio]
    for old, new in zip(audio, after.audio, strict=True):
        assert sum(map(len, new["hashes"])) > 0
        if not any("repaired" in note for note in sink.notes):
            shift = old["pts"][0] - new["pts"][0]
            assert new["pts"] == pytest.approx([t - shift for t in old["pts"]], abs=0.002)
    covers = [s["hashes"] for s in before.video if "attached_pic" in s["shown"]]
    assert [s["hashes"] for s in after.video if "attached_pic" in s["shown"]] == covers
    named = [note for note in sink.notes if "is dropped" in note]
    silent = sum(s["codec_name"] == "bin_data" for s in before.data if "codec_name" in s)
    silent += sum("timecode" in s["tags"] for s in before.data)
    streams = [s for s in after.streams if s["codec_type"] != "data"]
    hdr = sum("HDR" in note for note in named)
    lines = [note.split() for note in sink.notes if " data streams, " in note]
    together = sum(int(count) for count, *_ in lines)
    assert len(streams) + len(named) + together - hdr + silent == len(before.streams)


def test_cameras_metadata_survives_from_mov_to_mov(media, remux, tools, tmp_path):
    source = media("androidx/dolbyVision-hdr.MOV")
    remux(source, tmp_path / "out.mov")
    before, after = tools.probe(source).tags, tools.probe(tmp_path / "out.mov").tags
    kept = {key: value for key, value in before.items() if key.startswith("com.apple")}
    assert len(kept) > 4
    assert kept.items() <= after.items()


def test_attachments_are_the_same_bytes(rich, remux, tmp_path):
    remux(rich, tmp_path / "out.mkv")

    def digests(path):
        with av.open(str(path)) as container:
            attached: list[Any] = [s for s in container.streams if s.type == "attachment"]
            return [(s.name, s.mimetype, hashlib.sha256(s.data).hexdigest()) for s in attached]

    assert digests(tmp_path / "out.mkv") == digests(rich)
    assert len(digests(rich)) == 1


def test_a_cover_keeps_its_description(make_clip, remux, tools, tmp_path):
    source, picture = tmp_path / "in.mkv", tmp_path / "cover.png"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "color=s=16x16", "-frames:v", "1", picture],
        check=True,
    )
    attaching = ["-attach", picture, "-metadata:s:t", "mimetype=image/png"]
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", make_clip("a.mkv"), "-c", "copy", *attaching,
         "-metadata:s:t", "title=The cover", source],
        check=True,
    )  # fmt: skip
    remux(source, tmp_path / "out.mkv")
    titles = [
        [s["tags"].get("title") for s in tools.probe(path).streams if "filename" in s["tags"]]
        for path in (source, tmp_path / "out.mkv")
    ]
    assert titles == [["The cover"]] * 2


def test_the_place_of_a_phones_video_is_told_where_mp4_tells_it(tools, tmp_path):
    given, place = tmp_path / "in.mov", "+37.7700-122.4200/"
    with av.open(given, "w", options={"movflags": "use_metadata_tags"}) as out:
        stream: Any = out.add_stream("mpeg4", rate=25, width=64, height=48)
        out.metadata["com.apple.quicktime.location.ISO6709"] = place
        picture = av.VideoFrame(64, 48, "yuv420p")
        picture.pts = 0
        out.mux([*stream.encode(picture), *stream.encode(None)])
    notes = write_one(tools, given, tmp_path / "out.mp4", Fraction(25))
    assert tools.probe(tmp_path / "out.mp4").tags["location"] == place
    assert not any("location" in note for note in notes)
