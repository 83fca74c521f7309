"""Text subtitles from one container's form into the other's: the text stays, its style is said."""

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import pytest

from vsr.config import UpscaleConfig
from vsr.pipeline import upscale
from vsr.sinks.plain_text import as_webvtt
from vsr.sources.companion import Companion

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")

SRT = """1
00:00:00,100 --> 00:00:00,400
<i>Héllo</i> {\\an8}<font color="#ff0000">you</font>

2
00:00:00,500 --> 00:00:00,800
1 < 2 and 3 > 2 {not a style} <3
"""
VTT = """WEBVTT

first
00:00:00.100 --> 00:00:00.400 line:0 align:left
<v Bob><i>Héllo</i></v> <c.y>you</c> &amp;lt; &lt;3

00:00:00.500 --> 00:00:00.600 align:left
placed

00:00:00.600 --> 00:00:00.800
one
two
"""
OVERLAPPING = """1
00:00:00,000 --> 00:00:00,600
long

2
00:00:00,200 --> 00:00:00,400
short

3
00:00:00,400 --> 00:00:00,600
other

4
00:00:00,700 --> 00:00:00,800
left

5
00:00:00,700 --> 00:00:00,800
right
"""
FAR_APART = """1
00:00:00,100 --> 00:00:00,400
one

2
00:45:00,000 --> 01:45:00,000
long

3
01:45:00,001 --> 01:45:02,003
three
"""
LASTING = """1
00:00:00,000 --> 00:00:00,900
over

2
00:00:01,000 --> 00:00:07,000
spoken

3
00:00:07,500 --> 00:30:00,000
beyond
"""
LENGTHLESS = """1
00:00:00,300 --> 00:00:00,300
none

2
00:00:00,300 --> 00:00:00,600
some

3
00:00:00,600 --> 00:00:00,600
last
"""
PLAIN = ["Héllo you", "1 < 2 and 3 > 2 {not a style} <3"]


def make(path: Path, words: str, kind: str, codec: str) -> Path:
    """A film of a second with these subtitles."""
    beside = path.with_suffix(f".{kind}")
    beside.write_text(words, encoding="utf-8")
    inputs = ["-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=1", "-i", str(beside)]
    subprocess.run(["ffmpeg", "-v", "error", *inputs, "-c:s", codec, str(path)], check=True)
    return path


def spans(path: Path) -> list[tuple[int, int, str]]:
    """Begin and end, in milliseconds, and text of the subtitles as FFmpeg reads them."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "srt", "-"]
    read = (
        subprocess.run(command, check=True, capture_output=True).stdout.decode().replace("\r", "")
    )
    found = []
    for _, times, *lines in (cue.split("\n") for cue in read.strip().split("\n\n")):
        begin, end = (
            ((int(t[:2]) * 60 + int(t[3:5])) * 60 + int(t[6:8])) * 1000 + int(t[9:])
            for t in times.split(" --> ")
        )
        found.append((begin, end, "\n".join(lines)))
    return found


@pytest.fixture
def films(tmp_path: Path) -> dict[str, Path]:
    """One with styled subtitles, in SubRip and in MP4's timed text."""
    words = tmp_path / "words.srt"
    words.write_text(SRT, encoding="utf-8")
    found = {}
    for muxer, codec in (("mkv", "subrip"), ("mp4", "mov_text")):
        found[muxer] = tmp_path / f"in.{muxer}"
        inputs = ["-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=1", "-i", str(words)]
        command = ["ffmpeg", "-v", "error", *inputs, "-c:s", codec, str(found[muxer])]
        subprocess.run(command, check=True)
    return found


def texts(path: Path) -> list[str]:
    """What is shown: FFmpeg reads the style of mov_text, and writes it as SubRip's."""
    with av.open(str(path)) as container:
        (stream,) = container.streams.subtitles
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size > 2]
        if stream.codec_context.name == "mov_text":
            packets = [data[2 : 2 + int.from_bytes(data[:2], "big")] for data in packets]
    return [data.decode() for data in packets]


@pytest.mark.parametrize(("source", "muxer"), [("mkv", "mp4"), ("mkv", "mov"), ("mp4", "mkv")])
def test_style_that_is_lost_is_said_and_not_shown(
    films: dict[str, Path], tmp_path: Path, source: str, muxer: str
) -> None:
    output = tmp_path / f"out.{muxer}"
    report = upscale(UpscaleConfig(input=films[source], output=output, model="identity"))
    assert texts(output) == PLAIN
    (note,) = [note for note in report.notes if "loses style" in note]
    assert ": 1 text loses style" in note


@pytest.mark.parametrize("muxer", ["mkv", "mp4"])
def test_style_stays_in_the_same_form(films: dict[str, Path], tmp_path: Path, muxer: str) -> None:
    output = tmp_path / f"out.{muxer}"
    report = upscale(UpscaleConfig(input=films[muxer], output=output, model="identity"))
    assert texts(output) == texts(films[muxer])
    assert not [note for note in report.notes if "style" in note]


@pytest.mark.parametrize("muxer", ["mp4", "mov"])
def test_webvtt_becomes_plain_text(tmp_path: Path, muxer: str) -> None:
    source, output = make(tmp_path / "in.mkv", VTT, "vtt", "copy"), tmp_path / f"out.{muxer}"
    report = upscale(UpscaleConfig(input=source, output=output, model="identity"))
    assert spans(output) == [
        (100, 400, "Héllo you &lt; <3"), (500, 600, "placed"), (600, 800, "one\ntwo"),
    ]  # fmt: skip
    (note,) = [note for note in report.notes if "style" in note]
    assert note.endswith(
        "(webvtt): 2 texts lose style, colour or place: " + muxer + " gets plain text"
    )


@pytest.mark.parametrize(
    ("source", "first"),
    [("mkv", "<i>Héllo</i> you"), ("mp4", "Héllo you")],
)
def test_webm_gets_webvtt(films: dict[str, Path], tmp_path: Path, source: str, first: str) -> None:
    output = tmp_path / "out.webm"
    report = upscale(UpscaleConfig(input=films[source], output=output, model="identity"))
    assert texts(output) == [first, "1 &lt; 2 and 3 &gt; 2 {not a style} &lt;3"]
    with av.open(str(output)) as container:
        (stream,) = container.streams.subtitles
        assert stream.codec_context.name == "webvtt"
        times = [(p.pts, p.duration) for p in container.demux(stream) if p.size]
    assert times == [(100, 300), (500, 300)]
    (note,) = [note for note in report.notes if "style" in note]
    assert "1 text loses style" in note
    assert note.endswith("webm gets italics, bold and underline alone")


def test_nut_does_not_say_when_texts_end(tmp_path: Path) -> None:
    source, output = make(tmp_path / "in.mkv", SRT, "srt", "ass"), tmp_path / "out.nut"
    report = upscale(UpscaleConfig(input=source, output=output, model="identity"))
    with av.open(str(output)) as container:
        lasting = {p.duration for p in container.demux(subtitles=0) if p.size}
    assert lasting <= {None, 0}
    lines = [note for note in report.notes if "how long texts stay" in note]
    assert [line.partition(", of ")[2] for line in lines] == ["subtitle stream 1 (ass)"]


def test_texts_at_the_same_time_are_shown_together_in_mp4(tmp_path: Path) -> None:
    """There, a text lasts until the next one begins."""
    source, output = make(tmp_path / "in.mkv", OVERLAPPING, "srt", "srt"), tmp_path / "out.mp4"
    upscale(UpscaleConfig(input=source, output=output, model="identity"))
    assert spans(output) == [
        (0, 200, "long"), (200, 400, "long\nshort"), (400, 600, "long\nother"),
        (700, 800, "left\nright"),
    ]  # fmt: skip


@pytest.mark.parametrize("source", ["mkv", "mp4"])
@pytest.mark.parametrize("muxer", ["mp4", "mov"])
def test_texts_far_apart_stay_where_they_are(tmp_path: Path, source: str, muxer: str) -> None:
    """In microseconds, FFmpeg's muxer lets nothing last for 36 minutes."""
    film = make(tmp_path / "in.mkv", FAR_APART, "srt", "srt")
    if source == "mp4":
        film = film.rename(tmp_path / "made.mkv")
        upscale(UpscaleConfig(input=film, output=tmp_path / "in.mp4", model="identity"))
    output = tmp_path / f"out.{muxer}"
    upscale(UpscaleConfig(input=tmp_path / f"in.{source}", output=output, model="identity"))
    assert spans(output) == [
        (100, 400, "one"), (2_700_000, 6_300_000, "long"), (6_300_001, 6_302_003, "three"),
    ]  # fmt: skip


def with_empty_texts(path: Path, made: Path, last: int) -> None:
    """An MP4 like ``path``, its last text at ``last`` µs behind texts that show nothing."""
    with av.open(str(path)) as source, av.open(str(made), "w") as container:
        streams = [container.add_stream_from_template(one) for one in source.streams]
        for packet in [one for one in source.demux() if one.size > 2]:
            index = packet.stream_index
            if index == 1 and packet.pts is not None and packet.pts > 300_000:
                for pts in (400_000, 1_400_000_000):
                    empty = av.Packet(b"\0\0")
                    empty.pts = empty.dts = pts
                    empty.duration, empty.time_base = 1_300_000_000, packet.time_base
                    empty.stream = streams[1]
                    container.mux(empty)
                packet.pts = packet.dts = last
            packet.stream = streams[index]
            container.mux(packet)


def test_copied_texts_count_as_before_where_their_steps_fit(tmp_path: Path) -> None:
    """What shows nothing divides a gap in the source, and is made anew."""
    film, source = make(tmp_path / "in.mkv", SRT, "srt", "srt"), tmp_path / "in.mp4"
    upscale(UpscaleConfig(input=film, output=source, model="identity"))
    with_empty_texts(source, tmp_path / "wide.mp4", 2_700_400_000)
    bases = []
    for name in ("in.mp4", "wide.mp4"):
        output = tmp_path / f"of_{name}"
        upscale(UpscaleConfig(input=tmp_path / name, output=output, model="identity"))
        with av.open(str(output)) as container:
            bases.append(container.streams.subtitles[0].time_base)
    assert bases[0] == Fraction(1, 1_000_000)
    assert bases[1] > bases[0]
    assert [begin for begin, *_ in spans(output)] == [100, 2_700_400]


@pytest.mark.parametrize("start", [0, 6])
def test_a_text_is_not_the_beginning(tmp_path: Path, start: int) -> None:
    """FFmpeg says that it is, where the picture before it has no time of decoding."""
    source, output = tmp_path / "in.mkv", tmp_path / "out.mp4"
    (tmp_path / "words.srt").write_text("1\n00:00:01,000 --> 00:00:09,000\nwords\n")
    inputs = ["-f", "lavfi", "-i", "testsrc2=s=32x32:r=1/4:d=20", "-i", str(tmp_path / "words.srt")]
    command = ["ffmpeg", "-v", "error", *inputs, "-bf", "0", "-c:s", "copy", str(source)]
    subprocess.run(command, check=True)
    with av.open(str(source)) as container:
        assert container.start_time == 1_000_000
    report = upscale(
        UpscaleConfig(input=source, output=output, model="identity", start=Fraction(start))
    )
    assert not [note for note in report.notes if "by its own clock" in note]
    assert spans(output) == [(0, 3000, "words") if start else (1000, 9000, "words")]
    with av.open(str(output)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times == ([2, 6, 10] if start else [0, 4, 8, 12, 16])


def test_a_last_text_of_no_length_stays_in_mp4(tmp_path: Path) -> None:
    """FFmpeg reads this one where its muxer has moved another text, so that the track is longer."""
    source, output = make(tmp_path / "in.mp4", LENGTHLESS, "srt", "mov_text"), tmp_path / "out.mp4"
    with av.open(str(source)) as container:
        last = [p for p in container.demux(subtitles=0) if p.size > 2][-1]
        assert (last.pts, last.duration) == (600_000, 0)
    upscale(UpscaleConfig(input=source, output=output, model="identity"))
    assert texts(output) == ["none", "some", "last"]


@pytest.fixture
def lasting(tmp_path: Path) -> Path:
    """Texts that are shown for long; there is a key frame in each second."""
    source = tmp_path / "in.mkv"
    picture = ["-f", "lavfi", "-i", "testsrc2=s=32x32:r=5:d=10"]
    (tmp_path / "words.srt").write_text(LASTING, encoding="utf-8")
    options = [*picture, "-i", str(tmp_path / "words.srt"), "-g", "5", "-c:s", "srt"]
    subprocess.run(
        ["ffmpeg", "-v", "error", *options, "-cluster_time_limit", "1000", str(source)], check=True
    )
    return source


@pytest.mark.parametrize("kind", ["mkv", "mp4"])
def test_a_text_ends_with_the_part(lasting: Path, tmp_path: Path, kind: str) -> None:
    output = tmp_path / f"out.{kind}"
    part = UpscaleConfig(
        input=lasting, output=output, model="identity", start=Fraction(6), end=Fraction(9)
    )
    upscale(part)
    assert spans(output)[-1] == (1500, 3000, "beyond")


def test_what_is_said_when_a_part_begins_is_found_without_decoding(lasting: Path) -> None:
    """As streams are read beside segments; pictures begin at the last key frame before it."""
    companion = Companion(lasting)
    companion.trim(Fraction(6), Fraction(9))
    companion.relay.add(1)
    companion.start()
    companion.advance(Fraction(3))
    assert [bytes(packet) for packet in companion.packets] == [b"spoken", b"beyond"]
    companion.close()


@pytest.mark.parametrize(
    ("text", "made", "styled"),
    [
        ("<I>a</I><b>b</B>", "<i>a</i><b>b</b>", False),
        ("<s>a</s>", "a", True),
        ("a & <3 &amp; -->", "a &amp; &lt;3 &amp;amp; --&gt;", False),
        ("a\r\n\r\nb\n", "a\nb", False),
        ("{\\an8}a", "a", True),
    ],
)
def test_subrip_as_webvtt(text: str, made: str, styled: bool) -> None:
    packet, lost = as_webvtt(av.Packet(text.encode()), "subrip")
    assert (bytes(packet).decode(), lost) == (made, styled)
