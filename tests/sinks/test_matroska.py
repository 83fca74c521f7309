"""The aspect ratio patched into a file: only that changes, and every pointer stays right."""

import struct
import subprocess
import zlib
from fractions import Fraction

import av
import pytest

from vsr.cli import main
from vsr.sinks.matroska import set_aspect_ratio

SEGMENT, SEEK_HEAD, VOID, CLUSTER = 0x18538067, 0x114D9B74, 0xEC, 0x1F43B675


def elements(data, position=0, end=None):
    """A parser of its own: (id, start of the element, start and end of its content)."""
    end = len(data) if end is None else end
    while position < end:
        start = position
        width = 9 - data[position].bit_length()
        identifier = int.from_bytes(data[position : position + width])
        position += width
        width = 9 - data[position].bit_length()
        size = int.from_bytes(data[position : position + width]) & ((1 << 7 * width) - 1)
        position += width
        yield identifier, start, position, position + size
        position += size


def segment(data):
    return next((a, b) for i, _, a, b in elements(data) if i == SEGMENT)


def check_structure(data) -> list[int]:
    """Every checksum and every pointer holds; returns the identifiers on the top level."""
    start, end = segment(data)
    top = list(elements(data, start, end))
    places = {place - start: identifier for identifier, place, _, _ in top}
    checked = 0
    for identifier, _, first, last in top:
        children = [] if identifier in (VOID, CLUSTER) else list(elements(data, first, last))
        if children and children[0][0] == 0xBF:
            stored = struct.unpack("<I", data[children[0][2] : children[0][3]])[0]
            assert stored == zlib.crc32(data[children[0][3] : last]), hex(identifier)
            checked += 1
        if identifier == SEEK_HEAD:
            for _, _, a, b in (c for c in children if c[0] == 0x4DBB):
                values = {i: int.from_bytes(data[x:y]) for i, _, x, y in elements(data, a, b)}
                assert places[values[0x53AC]] == values[0x53AB]
    assert checked >= 3
    return [identifier for identifier, *_ in top]


def packets(path):
    with av.open(str(path)) as container:
        return [(p.stream_index, p.pts, bytes(p)) for p in container.demux() if p.size]


@pytest.fixture
def plain(tools, tmp_path):
    """FFV1 without an aspect ratio."""
    path = tmp_path / "plain.mkv"
    tools.write(path, tools.info(), tools.schedule([40] * 30), codec="ffv1")
    return path


@pytest.mark.parametrize(
    "sar", [Fraction(16, 15), Fraction(59, 54), Fraction(1), Fraction(3, 4), Fraction(4001, 3999)]
)
def test_only_the_head_changes(plain, tools, sar):
    before, old_packets = plain.read_bytes(), packets(plain)
    top = check_structure(before)
    set_aspect_ratio(plain, 1, sar)
    after = plain.read_bytes()
    assert check_structure(after) == top
    assert len(after) == len(before)
    first_cluster = next(p for i, p, _, _ in elements(after, *segment(after)) if i == CLUSTER)
    assert after[first_cluster:] == before[first_cluster:]
    assert packets(plain) == old_packets
    found = tools.probe(plain).video[0]["sample_aspect_ratio"]
    assert found == f"{sar.numerator}:{sar.denominator}"


def test_patching_twice_replaces(plain, tools):
    for sar in (Fraction(59, 54), Fraction(16, 15)):
        set_aspect_ratio(plain, 1, sar)
        check_structure(plain.read_bytes())
    assert tools.probe(plain).video[0]["sample_aspect_ratio"] == "16:15"


def test_seeking_still_works(plain):
    set_aspect_ratio(plain, 1, Fraction(16, 15))
    with av.open(str(plain)) as container:
        container.seek(800, stream=container.streams.video[0])
        assert next(container.decode(video=0)).pts == 800


def test_the_right_track_among_many(rich, remux, tools, tmp_path):
    remux(rich, tmp_path / "out.mkv")  # two sound tracks before the picture
    set_aspect_ratio(tmp_path / "out.mkv", 3, Fraction(10, 11))
    after = tools.probe(tmp_path / "out.mkv")
    check_structure((tmp_path / "out.mkv").read_bytes())
    assert after.video[0]["sample_aspect_ratio"] == "10:11"
    assert len(after.attachment) == 1


@pytest.mark.parametrize(
    "content", [b"", b"no Matroska at all", bytes(100), b"\x1a\x45\xdf\xa3\xa3"], ids=repr
)
def test_other_files_are_refused_untouched(tmp_path, content):
    (tmp_path / "a.mkv").write_bytes(content)
    with pytest.raises(ValueError, match=r"not|cut off|behind the bytes"):
        set_aspect_ratio(tmp_path / "a.mkv", 1, Fraction(16, 15))
    assert (tmp_path / "a.mkv").read_bytes() == content


def test_no_room_is_refused_untouched(plain):
    """Without the gap in front of the tracks nothing can move."""
    data = plain.read_bytes()
    start, end = segment(data)
    gap = next((p, a, b) for i, p, a, b in elements(data, start, end) if i == VOID)
    data = data[: gap[0]] + b"\xbf" + data[gap[0] + 1 :]  # another identifier of one byte
    plain.write_bytes(data)
    with pytest.raises(ValueError, match="not laid out"):
        set_aspect_ratio(plain, 1, Fraction(16, 15))
    assert plain.read_bytes() == data


@pytest.mark.parametrize("track", [1, 9])
def test_only_video_has_an_aspect_ratio(rich, remux, tmp_path, track):
    remux(rich, tmp_path / "out.mkv")
    with pytest.raises(ValueError, match=f"no video track {track}"):
        set_aspect_ratio(tmp_path / "out.mkv", track, Fraction(10, 11))


@pytest.mark.parametrize("mode", ["left_right", "top_bottom", "row_interleaved_lr"])
def test_pixels_of_a_stereoscopic_pair_keep_their_shape(tmp_path, mode, capsys):
    """What is displayed is what one eye sees."""
    source, out = tmp_path / "in.mkv", tmp_path / "out.mkv"
    drawn = ["-f", "lavfi", "-i", "testsrc2=s=160x90:r=25:d=0.2,setsar=3/2"]
    command = ["ffmpeg", "-v", "error", *drawn, "-c:v", "libx264"]
    subprocess.run([*command, "-metadata:s:v:0", f"stereo_mode={mode}", str(source)], check=True)
    assert main([str(source), str(out), "--model", "identity"]) == 0
    assert "stereo" not in capsys.readouterr().err
    shapes = []
    for path in (source, out):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            shapes.append((stream.sample_aspect_ratio, stream.metadata.get("stereo_mode")))
    assert shapes[0] == shapes[1]
    assert [*map(str, shapes[1])] == ["3/2", mode]
