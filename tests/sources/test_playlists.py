"""HLS playlists and ffconcat lists whose parts are missing or cut short."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import av
import pytest

from tests.warm import PYTHON

GOP = 10
RATE = 25
SHORT = GOP / RATE  # seconds of a segment


@pytest.fixture
def playlist(ffmpeg, tmp_path):
    """Four segments of ten frames."""
    film = ffmpeg.from_film(
        "for_playlists.mp4", "scale=96:64", "-c:v", "libx264", "-g", GOP, "-bf", 0, "-sc_threshold",
        0, rate=RATE, count=4 * GOP,
    )  # fmt: skip
    path = ffmpeg.folder / "hls" / "list.m3u8"
    if not path.exists():
        path.parent.mkdir()
        ffmpeg.run("-i", film, "-c", "copy", "-hls_time", SHORT, "-hls_playlist_type", "vod", path)
    shutil.copytree(path.parent, tmp_path / "hls")
    return tmp_path / "hls" / "list.m3u8"


def lost(lines):
    """What is said of segments."""
    return [line for line in lines if "the segment" in line]


def test_nothing_is_said_of_a_whole_playlist(command, playlist, tmp_path):
    code, lines = command(playlist, tmp_path / "out.mkv")
    assert code == 0
    assert not [line for line in lines if line.startswith("warning")]


@pytest.mark.parametrize(
    ("number", "at"),
    [(0, "0.00 to 0.40"), (2, "0.80 to 1.20"), (3, "1.20 to 1.60")],
)
def test_a_missing_segment(command, playlist, tmp_path, number, at):
    segment = playlist.with_name(f"list{number}.ts")
    segment.unlink()
    output = tmp_path / "out.mkv"
    code, lines = command(playlist, output, "--record")
    line = f"the segment {segment}, from {at} s, cannot be opened: what it held is lost"
    assert (code, lost(lines)) == (0, [f"warning: {line}"])
    record = json.loads((tmp_path / "out.mkv.json").read_text())
    assert {"kind": "warning", "text": line} in record["notes"]
    assert record["output"]["frames"] == 3 * GOP
    last = [line for line in lines if "the last" in line]
    assert bool(last) == (number == 3)  # of what is missing at the start, that would be wrong


def test_a_playlist_without_an_end_is_read_from_its_start_and_not_awaited(
    command, playlist, tmp_path
):
    playlist.write_text(playlist.read_text().replace("#EXT-X-ENDLIST", ""))
    code, lines = command(playlist, tmp_path / "out.mkv", "--record")
    assert code == 0
    assert [line for line in lines if line.startswith("warning")] == [
        f"warning: the playlist {playlist} says of no end (#EXT-X-ENDLIST): if it grows still, "
        "what comes later is missing"
    ]
    assert json.loads((tmp_path / "out.mkv.json").read_text())["output"]["frames"] == 4 * GOP


def test_the_sound_of_a_playlist_without_an_end_is_there_from_its_start(
    command, ffmpeg, playlist, tmp_path
):
    film, sound = ffmpeg.folder / "for_playlists.mp4", tmp_path / "sound.m3u8"
    tone = ("-f", "lavfi", "-i", "sine=sample_rate=48000:duration=1.6", "-c:a", "aac")
    ffmpeg.run(*tone, "-hls_time", SHORT, "-hls_list_size", 0, sound)
    sound.write_text(sound.read_text().replace("#EXT-X-ENDLIST", ""))
    out = tmp_path / "out.mkv"
    code, _ = command(film, out, "--audio-from", sound)
    assert code == 0
    with av.open(str(out)) as container:
        times = [packet.pts or 0 for packet in container.demux(audio=0) if packet.size]
    assert times[0] < 100  # milliseconds
    assert len(times) > 60  # of 1024 samples


@pytest.mark.parametrize("keep", [0, 1000])
def test_a_segment_that_is_cut_short(command, playlist, tmp_path, keep):
    segment = playlist.with_name("list1.ts")
    segment.write_bytes(segment.read_bytes()[:keep])
    code, lines = command(playlist, tmp_path / "out.mkv")
    line = (
        f"warning: the segment {segment}, from 0.40 to 0.80 s, is cut short: what it lacks is lost"
    )
    assert (code, lost(lines)) == (0, [line])


def test_a_segment_beyond_the_part_that_is_wanted(command, playlist, tmp_path):
    playlist.with_name("list3.ts").unlink()
    code, lines = command(playlist, tmp_path / "out.mkv", "-t", "0.6")
    assert (code, lost(lines)) == (0, [])


@pytest.fixture
def parts(playlist):
    """A folder with films ``a.ts`` and ``b.ts`` of ten frames."""
    folder = playlist.parent
    (folder / "list0.ts").rename(folder / "a.ts")
    (folder / "list1.ts").rename(folder / "b.ts")
    return folder


def write_list(folder, *names, head="ffconcat version 1.0"):
    path = folder / "films.ffconcat"
    path.write_text("\n".join([head, *(f"file {name}" for name in names)]) + "\n")
    return path


def test_a_list_of_films(command, ffmpeg, parts, tmp_path):
    code, lines = command(write_list(parts, "a.ts", "b.ts"), tmp_path / "out.mkv")
    assert code == 0
    assert not [line for line in lines if line.startswith("warning")]
    assert len(ffmpeg.times(tmp_path / "out.mkv")) == 2 * GOP


def test_a_list_whose_part_is_missing(command, ffmpeg, parts, tmp_path):
    path = write_list(parts, "a.ts", "none.ts", "b.ts")
    code, lines = command(path, tmp_path / "out.mkv")
    assert code == 1
    (error,) = [line for line in lines if line.startswith("vsr-upscale: error")]
    assert error.startswith(
        f"vsr-upscale: error: {path}: its part {parts}/none.ts cannot be opened (no such file): "
        "what it lists breaks off there, at 0.40 s (what came before it, 10 frames, is in "
    )
    assert "warning" not in " ".join(lines)
    assert not (tmp_path / "out.mkv").exists()
    assert len(ffmpeg.times(tmp_path / "out.partial.mkv")) == GOP


def test_a_part_of_a_list_ahead_of_what_is_missing(command, parts, tmp_path):
    path = write_list(parts, "a.ts", "none.ts")
    code, lines = command(path, tmp_path / "out.mkv", "-t", "0.2")
    assert code == 0, lines


@pytest.mark.parametrize(
    ("names", "head", "words"),
    [
        (["none.ts"], "ffconcat version 1.0", "none.ts cannot be opened (no such file)"),
        (["/a.ts"], "ffconcat version 1.0", "/a.ts is refused by FFmpeg: a list names files"),
        (["a.ts"], "# films", "a list of files begins with the line ffconcat version 1.0"),
    ],
)
def test_a_list_that_cannot_be_opened(command, parts, tmp_path, names, head, words):
    code, (line,) = command(write_list(parts, *names, head=head), tmp_path / "out.mkv")
    assert code == 1
    assert words in line


@pytest.fixture(scope="module")
def camera(ffmpeg):
    """Two clips of a camera, with sound and timecode; one also with less, or another sound."""
    folder = ffmpeg.folder / "camera"
    folder.mkdir()
    for name in ("a", "b"):
        ffmpeg.run(
            "-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.48", "-f", "lavfi",
            "-i", "sine=r=48000:d=0.48", "-c:v", "mpeg4", "-c:a", "aac", "-timecode",
            "01:00:00:00", folder / f"{name}.mp4",
        )  # fmt: skip
    bare = ("-i", folder / "b.mp4", "-c:v", "copy", "-write_tmcd", 0)
    ffmpeg.run("-i", folder / "b.mp4", "-an", "-c:v", "copy", folder / "nosound.mp4")
    ffmpeg.run(*bare, "-an", folder / "bare.mp4")
    ffmpeg.run(*bare, "-c:a", "ac3", folder / "other.mp4")
    ffmpeg.run(*bare, "-c:a", "copy", "-map", "0:a", "-map", "0:v", folder / "turned.mp4")
    return folder


def unlike(lines):
    """What is said of parts that are not like the first."""
    return [line.partition(": the part ")[2] for line in lines if ": the part " in line]


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("nosound.mp4", "data as stream 1, where the list has audio: it is left out"),
        ("bare.mp4", "nothing as stream 1, where the list has audio"),
    ],
)
def test_a_part_of_a_list_that_has_no_sound(command, camera, tmp_path, part, said):
    path, out = write_list(camera, "a.mp4", part, "b.mp4"), tmp_path / "out.mkv"
    code, lines = command(path, out)
    assert (code, unlike(lines)) == (0, [f"{part}, from 0.48 s, has {said}"])
    assert "repaired" not in " ".join(lines)
    with av.open(str(out)) as container:
        times = [packet.pts or 0 for packet in container.demux(audio=0) if packet.size]
    assert not [time for time in times if 530 < time < 950]  # milliseconds
    assert min(time for time in times if time > 530) in range(955, 986)  # FFmpeg: the same


def test_a_part_of_a_list_that_has_no_sound_beside_the_pictures(command, camera, tmp_path):
    out = tmp_path / "out.mkv"
    film = write_list(camera, "a.mp4", "bare.mp4", "bare.mp4").rename(camera / "film.ffconcat")
    path = write_list(camera, "a.mp4", "nosound.mp4", "b.mp4")
    code, lines = command(film, out, "--audio-from", path)
    assert (code, [line for line in lines if "repaired" in line]) == (0, [])
    with av.open(str(out)) as container:
        times = [packet.pts or 0 for packet in container.demux(audio=0) if packet.size]
    assert not [time for time in times if 530 < time < 950]


def test_parts_of_a_list_with_other_codecs_or_in_another_order(command, camera, tmp_path):
    path = write_list(camera, "a.mp4", "other.mp4")
    code, lines = command(path, tmp_path / "out.mkv")
    assert code == 0
    path = write_list(camera, "a.mp4", "turned.mp4")
    code, more = command(path, tmp_path / "turned.mkv")
    assert code == 0
    assert unlike([*lines, *more]) == [
        "other.mp4, from 0.48 s, has ac3 as stream 1, where the list has aac: decoders of the one "
        "do not read the other",
        "turned.mp4, from 0.48 s, has audio as stream 0, where the list has video: it is left out",
        "turned.mp4, from 0.48 s, has video as stream 1, where the list has audio: it is left out",
    ]


def test_parts_of_a_list_that_says_which_streams_belong_together(command, camera, tmp_path):
    path = write_list(camera, "a.mp4", "b.mp4")
    path.write_text(f"{path.read_text()}stream\nexact_stream_id 0x1\n")
    code, lines = command(path, tmp_path / "out.mkv")
    assert (code, unlike(lines)) == (0, [])


# What is read beside the input.


@pytest.mark.parametrize("kind", ["m3u8", "mp4"])
def test_what_names_other_files_is_refused_where_that_is_asked_for(
    command, playlist, make_clip, tmp_path, kind
):
    path = playlist
    if kind == "mp4":
        path = write_list(playlist.parent, "list0.ts").rename(playlist.with_suffix(".mp4"))
    out = tmp_path / "out.mkv"
    code, lines = command(make_clip("a.mkv"), out, "--self-contained", "--audio-from", path)
    assert code == 1
    assert "as --self-contained asks: it is a list of other files" in lines[-1]
    code, lines = command(path, out, "--self-contained")
    refusal = f"{path}: refused, as --self-contained asks: it is a list of other files"
    assert (code, lines) == (1, [f"vsr-upscale: error: {refusal}"])
    assert not out.exists()


def test_a_script_is_refused_where_that_is_asked_for(command, tmp_path):
    script, proof = tmp_path / "in.vpy", tmp_path / "executed"
    script.write_text(f"open({str(proof)!r}, 'w')")
    code, lines = command(script, tmp_path / "out.mkv", "--self-contained")
    assert (code, proof.exists()) == (2, False)
    assert "--self-contained: a script is executed" in lines[-1]


SESSION = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=x
c=IN IP4 127.0.0.1
t=0 0
m=video 5906 RTP/AVP 96
a=rtpmap:96 H264/90000
"""
LIST = "ffconcat version 1.0\nfile a.ts\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [(SESSION, "'rtp' not on whitelist 'crypto,data'"), (LIST, "its part a.ts cannot be opened")],
    ids=["network", "file"],
)
def test_standard_input_opens_neither_files_nor_connections(parts, tmp_path, text, reason):
    root, out = Path(__file__).parents[2], tmp_path / "out.mkv"
    run = subprocess.run(
        [*PYTHON, "-m", "vsr", "-", str(out), "--model", "identity", "--progressive"],
        input=text, capture_output=True, cwd=parts, timeout=60, check=False, text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert run.returncode == 1
    assert reason in run.stderr
    assert not out.exists()


@pytest.fixture
def chapters_of_a_camera(tmp_path):
    """A list of two films as cameras split them: with a date and a track of timecode."""
    for name, minute in (("a.mp4", 1), ("b.mp4", 2)):
        command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=0.4"]
        command += ["-f", "lavfi", "-i", "sine=r=48000:d=0.4", "-c:a", "aac"]
        command += ["-metadata", f"creation_time=2024-01-02T03:0{minute}:00Z"]
        command += ["-timecode", f"01:0{minute}:00:00", "-write_tmcd", "1"]
        subprocess.run([*command, str(tmp_path / name)], check=True)
    return write_list(tmp_path, "a.mp4", "'b.mp4'")


@pytest.mark.parametrize("extension", ["mp4", "mov", "mkv"])
def test_a_list_keeps_date_and_timecode_of_its_first_film(
    command, chapters_of_a_camera, tmp_path, extension
):
    """Of either FFmpeg tells less than of the first film alone."""
    output = tmp_path / f"out.{extension}"
    code, lines = command(chapters_of_a_camera, output)
    assert code == 0
    assert not [line for line in lines if "dropped" in line]
    with av.open(str(output)) as container:
        assert container.metadata["creation_time"] == "2024-01-02T03:01:00.000000Z"
        stream = container.streams.video[0]
        tags = {key.lower(): value for key, value in stream.metadata.items()}
        assert tags["timecode"] == "01:01:00:00"


def test_what_else_is_unknown_in_a_list_is_named(command, chapters_of_a_camera, tmp_path):
    """Telemetry, say: a track of the first film that no timecode is."""
    path = tmp_path / "a.mp4"
    data = path.read_bytes()
    assert data.count(b"tmcd") > 1
    path.write_bytes(data.replace(b"tmcd", b"abcd"))
    code, lines = command(chapters_of_a_camera, tmp_path / "out.mkv")
    assert code == 0
    assert [line for line in lines if "unknown stream 2" in line and "is dropped" in line]


def test_a_list_to_what_holds_the_picture_alone(command, chapters_of_a_camera, tmp_path):
    code, lines = command(chapters_of_a_camera, tmp_path / "out.y4m")
    assert code == 0
    dropped = [line for line in lines if "is dropped" in line]
    assert ["audio stream 1" in line for line in dropped] == [True]
