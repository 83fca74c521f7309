"""--audio-from: what goes beside pictures that come without sound, checked by ffprobe."""

import io
import json
import subprocess
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from tests.warm import PYTHON
from vsr.errors import SourceError
from vsr.sources import SourceConfig, open_source
from vsr.sources.companion import Companion

RICH = "generated/rich.mkv"
"""Two sounds, two subtitles, a font, cover art, two chapters; one video."""


@pytest.fixture
def rich(shared: Path) -> Path:
    return shared / "media" / RICH


def probe(path: Path, *entries: str) -> dict[str, Any]:
    line = ["ffprobe", "-v", "error", "-of", "json", *entries, str(path)]
    found: dict[str, Any] = json.loads(subprocess.run(line, capture_output=True, check=True).stdout)
    return found


def packets(path: Path) -> dict[int, list[tuple[str, str, str]]]:
    """Every packet but the picture's and the attachments': times, and the hash of its content."""
    kinds = {s["index"]: s["codec_type"] for s in probe(path, "-show_streams")["streams"]}
    found: dict[int, list[tuple[str, str, str]]] = {}
    for packet in probe(path, "-show_packets", "-show_data_hash", "md5")["packets"]:
        if kinds[packet["stream_index"]] in ("audio", "subtitle"):
            seen = packet["pts_time"], packet.get("duration_time", ""), packet["data_hash"]
            found.setdefault(packet["stream_index"], []).append(seen)
    return found


def described(path: Path) -> list[Any]:
    """Streams with all that is said of them but when and by what they were written; chapters."""
    written = ("ENCODER", "DURATION", "_STATISTICS")
    streams: list[Any] = []
    for s in probe(path, "-show_streams")["streams"]:
        tags = {k: v for k, v in s.get("tags", {}).items() if not k.startswith(written)}
        streams.append((s["codec_type"], tags, s["disposition"]))
    return [*streams, probe(path, "-show_chapters"), probe(path, "-show_entries", "format_tags")]


def beside_picture(path: Path) -> dict[tuple[int, str], float]:
    """When each packet of sound and subtitles comes after the first picture, by its content."""
    shown = probe(path, "-select_streams", "v:0", "-show_entries", "packet=pts_time")["packets"]
    first = min(float(packet["pts_time"]) for packet in shown)
    streams = packets(path).items()
    return {(s, digest): float(time) - first for s, rows in streams for time, _, digest in rows}


PART = ("-ss", "1", "-to", "2")


@pytest.mark.parametrize("part", [(), PART], ids=["all", "part"])
def test_beside_segments_it_is_as_if_there_were_none(rich, command, tmp_path, part) -> None:
    for name, seconds in (("one.mkv", 0), ("many.mkv", 0.4)):
        code, _ = command(rich, tmp_path / name, *part, "--segment-seconds", seconds)
        assert code == 0
    assert packets(tmp_path / "many.mkv") == packets(tmp_path / "one.mkv")
    assert described(tmp_path / "many.mkv") == described(tmp_path / "one.mkv")


@pytest.mark.parametrize("part", [(), PART], ids=["all", "part"])
def test_beside_a_pipe_it_is_as_if_the_file_had_been_read(
    rich, ffmpeg, command, tmp_path, monkeypatch, part
) -> None:  # fmt: skip
    """The picture through y4m, all else beside it: what comes out is what the file gives."""
    code, _ = command(rich, tmp_path / "file.mkv", *part)
    assert code == 0
    # rich.mkv's picture starts 23 ms after its sound, which y4m cannot say: a frame is 40 ms.
    y4m = ffmpeg.run("-i", rich, "-f", "yuv4mpegpipe", "-")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(y4m)))
    code, _ = command("-", tmp_path / "pipe.mkv", "--audio-from", rich, *part, "--record")
    assert code == 0
    record = json.loads((tmp_path / "pipe.mkv.json").read_text())
    assert record["input"]["duration"] is None  # what was asked for is not what came
    ours, theirs = beside_picture(tmp_path / "pipe.mkv"), beside_picture(tmp_path / "file.mkv")
    common = {key for key in ours.keys() & theirs.keys() if not part or theirs[key] > 0.05}
    assert len(common) > 0.9 * len(theirs)  # those at the cuts may differ
    assert part or len(common) == len(theirs) == len(ours)
    assert all(ours[key] == pytest.approx(theirs[key], abs=0.0021) for key in common)


@pytest.mark.parametrize(
    ("sound", "picture", "part", "suffix"),
    [
        (0, 0.64, (), "mkv"), (0, 0.64, (), "mov"), (0, 0.64, ("-ss", "0.4"), "mkv"),
        (0.52, 0, (), "mkv"), (0.52, 0, ("-ss", "0.4"), "mov"), (0.32, 0.32, (), "mkv"),
    ],
)  # fmt: skip
def test_pictures_without_times_begin_where_those_of_the_file_do(
    ffmpeg, command, tmp_path, sound, picture, part, suffix
) -> None:  # fmt: skip
    path = ffmpeg.make(
        f"{sound}-{picture}.mkv", "-itsoffset", picture, "-f", "lavfi", "-i", "testsrc=s=64x48:d=2",
        "-itsoffset", sound, "-f", "lavfi", "-i", "sine=d=2", "-c:a", "pcm_s16le", "-c:v", "ffv1",
    )  # fmt: skip
    (tmp_path / "frames").mkdir()
    ffmpeg.run("-i", path, "-vsync", "passthrough", tmp_path / "frames/%03d.png")
    output = tmp_path / f"out.{suffix}"
    segments = ("--segment-seconds", "0.5") if suffix == "mkv" else ()
    code, lines = command(tmp_path / "frames", output, "--audio-from", path, *part, *segments)
    assert code == 0
    assert any("and so does ours" in line for line in lines) == (picture > sound and not part)
    before, after = beside_picture(path), beside_picture(output)
    common = before.keys() & after.keys()
    assert len(common) >= len(before) * (0.4 if part else 1)
    shown = 0.4 if part else 0
    assert all(after[key] == pytest.approx(before[key] - shown, abs=0.0011) for key in common)


@pytest.mark.parametrize("part", [(), PART], ids=["all", "part"])
def test_bestsource_brings_the_other_streams_of_its_file(rich, command, tmp_path, part) -> None:
    vs = pytest.importorskip("vapoursynth")
    if not hasattr(vs.core, "bs"):
        pytest.skip("the plugin BestSource (vapoursynth-bestsource) is not installed")
    for decoder in ("pyav", "bestsource"):
        code, _ = command(rich, tmp_path / f"{decoder}.mkv", "--source", decoder, *part)
        assert code == 0
    one, other = tmp_path / "pyav.mkv", tmp_path / "bestsource.mkv"
    assert packets(one) == packets(other)
    assert described(one) == described(other)
    times = [probe(path, "-select_streams", "v:0", "-show_entries", "packet=pts_time")
             for path in (one, other)]  # fmt: skip
    assert times[0] == times[1]


def test_pictures_with_sound(rich, ffmpeg, command, tmp_path) -> None:
    (tmp_path / "frames").mkdir()
    ffmpeg.run("-i", rich, "-frames:v", "50", tmp_path / "frames/%03d.png")
    code, lines = command(tmp_path / "frames", tmp_path / "out.mov", "-r", "25",
                          "--audio-from", rich, "--frames", "25")  # fmt: skip
    assert code == 0
    kinds = [s["codec_type"] for s in probe(tmp_path / "out.mov", "-show_streams")["streams"]]
    assert kinds.count("audio") == 2
    sounds = [packets(tmp_path / "out.mov")[index] for index in (1, 2)]
    assert all(0.9 < float(times[-1][0]) < 1.04 for times in sounds)  # with the last picture
    assert any("subtitle stream" in line and "dropped" in line for line in lines)


def test_a_file_without_video(ffmpeg, command, tmp_path, make_clip) -> None:
    sound = ffmpeg.make("tone.flac", "-f", "lavfi", "-i", "sine=d=0.5:r=48000", "-metadata",
                        "title=A tone")  # fmt: skip
    silent = make_clip("silent.mkv", audio=False)
    code, lines = command(silent, tmp_path / "out.mkv", "--audio-from", sound, "--record")
    assert code == 0, lines
    streams = probe(tmp_path / "out.mkv", "-show_streams")["streams"]
    assert [s["codec_type"] for s in streams] == ["video", "audio"]
    assert probe(tmp_path / "out.mkv", "-show_entries", "format_tags")["format"]["tags"][
        "title"
    ] == "A tone"  # fmt: skip
    assert len(packets(tmp_path / "out.mkv")[1]) == len(packets(sound)[0])
    record = json.loads((tmp_path / "out.mkv.json").read_text())
    assert [(s["index"], s["kind"]) for s in record["streams"]] == [(1, "video"), (0, "audio")]
    assert record["sync"]["audio"][0]["end_in"] == pytest.approx(0.5, abs=0.06)
    assert "--audio-from" in record["run"]["command"]


def test_its_streams_are_instead_of_the_inputs(rich, command, tmp_path, make_clip) -> None:
    code, lines = command(make_clip("in.mkv"), tmp_path / "out.mkv", "--audio-from", rich)
    assert code == 0
    assert any("other streams come from" in line and "not from the input" in line for line in lines)
    streams = probe(tmp_path / "out.mkv", "-show_streams")["streams"]
    assert [s["codec_name"] for s in streams[1:5]] == ["aac", "ac3", "ass", "subrip"]


def test_what_goes_on_after_the_pictures_is_said(rich, make_clip) -> None:
    config = SourceConfig(audio_from=rich)
    with open_source(make_clip("in.mkv"), config) as source:
        assert source.others is not None
        source.others.relay.update({1, 2})
        assert len(list(source)) == 12
        assert source.notes[-1] == f"{rich} goes on for 2.5 s after the pictures"
        assert {packet.stream_index for packet in source.others.packets} == {1, 2}


def test_packets_come_as_the_pictures_do(rich, make_clip) -> None:
    """Neither all at once at the start nor all at the end."""
    with open_source(make_clip("in.mkv", frames=48), SourceConfig(audio_from=rich)) as source:
        assert source.others is not None
        source.others.relay.add(1)
        counts = [len(source.others.packets) for _ in source]
    assert 0 < counts[0] <= 3
    assert counts == sorted(counts)
    assert max(b - a for a, b in pairwise(counts)) <= 3


def test_the_start_of_the_file_is_taken_off(shared) -> None:
    path = shared / "media/androidx/sample_h262_mpeg_audio.ps"
    with_own = open_source(path)
    companion = Companion(path)
    companion.trim(Fraction(1, 20), None)
    assert companion.begin == with_own.start_time > Fraction(9, 10)
    assert companion.start_time == companion.begin + Fraction(1, 20)
    companion.close()
    with_own.close()


@pytest.mark.parametrize("content", [b"", b"no media at all, but long enough to look at" * 9])
def test_what_is_no_media_file(tmp_path, make_clip, content: bytes) -> None:
    bad = tmp_path / "bad.mkv"
    bad.write_bytes(content)
    with pytest.raises(SourceError, match=r"bad.mkv: "):
        open_source(make_clip("in.mkv"), SourceConfig(audio_from=bad))


def test_the_command_line_of_a_run_says_it_again() -> None:
    code = "from vsr.cli.options import *; from vsr.cli.configuration import *;" \
        "from vsr.flags import command_line as c; import sys;" \
        "print(c(make_config(build_parser().parse_intermixed_args(sys.argv[1:]))))"  # fmt: skip
    given = ["-i", "s.vpy", "-o", "o.mkv", "-a", "x=1=2", "--output-index", "3",
             "--source", "bestsource", "--audio-from", "a.mkv"]  # fmt: skip
    done = subprocess.run([*PYTHON, "-c", code, *given], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(given)[:-1])


def test_the_pictures_keep_their_timecode(ffmpeg, command, tmp_path):
    pictures = ("-f", "lavfi", "-i", "testsrc2=s=96x64:r=30000/1001,trim=end_frame=60")
    tone = ("-f", "lavfi", "-i", "sine=duration=2")
    film = ffmpeg.make("named.mov", *pictures, "-c:v", "mpeg4", "-timecode", "01:00:00;02")
    other = ffmpeg.make(
        "mix.mov", *pictures, *tone, "-c:v", "mpeg4", "-timecode", "10:00:00:00"
    )  # fmt: skip
    sound, matroska = ffmpeg.make("mix.wav", *tone), tmp_path / "named.mkv"
    assert command(film, matroska)[0] == 0
    for source, beside in ((film, other), (film, sound), (matroska, sound)):
        for name, arguments, expected in [
            ("a.mov", (), "01:00:00;02"), ("a.mkv", ("-ss", 1), "01:00:01;02"),
        ]:  # fmt: skip
            out = tmp_path / name
            assert command(source, out, "--audio-from", beside, "-y", *arguments)[0] == 0
            with av.open(str(out)) as container:
                tags = container.streams.video[0].metadata
                assert {name.lower(): tag for name, tag in tags.items()}["timecode"] == expected
                assert len(container.streams.audio) == 1
        code, said = command(source, tmp_path / "a.avi", "--audio-from", beside, "-y")
        assert code == 0
        assert any("timecode (of the input)" in line for line in said)
