"""Film on NTSC's discs: progressive frames that are shown for two and three fields in turn."""

from fractions import Fraction
from itertools import count, pairwise

import pytest

from vsr.sources import open_source

FILM = Fraction(24000, 1001)
FIELD = Fraction(1001, 60000)
FRAMES = 96
_PICTURE, _GROUP, _SEQUENCE, _EXTENSION = 0x00, 0xB8, 0xB3, 0xB5
_OF_SEQUENCE, _OF_PICTURE = 1, 8
_TOP_FIRST, _REPEAT, _PROGRESSIVE, _30000_1001 = 0x80, 0x02, 0x80, 4


def start_codes(stream: bytes):
    """Where the parts of an MPEG-2 stream begin, behind their prefix."""
    at = -3
    for _ in count():
        if (at := stream.find(b"\0\0\1", at + 3)) < 0:
            return
        yield at + 3


def pull_down(film: bytes) -> bytes:
    """An elementary stream of film with the flags that make it NTSC: no picture is changed."""
    stream = bytearray(film)
    begin = shown = seen = 0
    for at in start_codes(film):
        kind, of = film[at], film[at + 1] >> 4
        if kind == _SEQUENCE:
            stream[at + 4] = film[at + 4] & 0xF0 | _30000_1001
        elif kind == _GROUP:
            begin = seen
        elif kind == _PICTURE:  # its number in the group, in the order in which they are shown
            shown = begin + (film[at + 1] << 2 | film[at + 2] >> 6)
            seen = max(seen, shown + 1)
        elif kind == _EXTENSION and of == _OF_SEQUENCE:
            stream[at + 2] &= ~0x08  # not progressive as a whole
        elif kind == _EXTENSION and of == _OF_PICTURE:
            top, repeat = ((True, True), (False, False), (False, True), (True, False))[shown % 4]
            stream[at + 4] = film[at + 4] & 0x7D | top * _TOP_FIRST | repeat * _REPEAT
            stream[at + 5] |= _PROGRESSIVE
    return bytes(stream)


@pytest.fixture(scope="module")
def disc(ffmpeg):
    drawn = f"testsrc2=s=96x64:r={FILM},trim=end_frame={FRAMES}"
    film = ffmpeg.run("-f", "lavfi", "-i", drawn, "-c:v", "mpeg2video", "-bf", 2, "-f",
                      "mpeg2video", "-")  # fmt: skip
    (ffmpeg.folder / "soft.m2v").write_bytes(pull_down(film))
    sound = ("-f", "lavfi", "-i", "sine=d=4:r=48000", "-map", 0, "-map", 1, "-c:a", "mp2")
    return ffmpeg.make("soft.vob", "-fflags", "+genpts", "-i", "soft.m2v", *sound, "-c:v", "copy")


def test_every_frame_keeps_its_time(disc):
    with open_source(disc) as source:
        times = [frame.pts * frame.time_base for frame in source]
    spacings = [round((after - before) / FIELD) for before, after in pairwise(times)]
    assert spacings[:-1] == [3, 2] * (FRAMES // 2 - 1)  # ffmpeg writes the last one wrongly
    assert source.info.rate == FILM
    assert source.info.frames == pytest.approx(FRAMES, abs=1)  # by the length of the file
    assert source.report.lines() == []


def test_outputs_that_count_frames_count_those_of_film(disc, ffmpeg, command, tmp_path):
    assert command(disc, tmp_path / "out.avi", "-c:v", "ffv1")[0] == 0
    stream = ffmpeg.stream(tmp_path / "out.avi")
    assert Fraction(stream["r_frame_rate"]) == FILM
    times = ffmpeg.times(tmp_path / "out.avi")
    assert len(times) == FRAMES
    # The disc's picture begins a little late, which is the first frame's in AVI.
    assert {after - before for before, after in pairwise(times[1:])} == {1 / FILM}
    assert float(stream["duration"]) == pytest.approx(4, abs=0.1)

    assert command(disc, tmp_path / "out.y4m")[0] == 0
    assert b" F24000:1001 " in (tmp_path / "out.y4m").read_bytes()[:100]
