"""The aspect ratio is exact in every container, with every encoder, in files and in pipes."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from vsr.config import PIPE, EncoderConfig
from vsr.encoding import choose_encoding
from vsr.encoding.muxers import PIPED
from vsr.sinks import open_sink
from vsr.sinks.aspect import PatchedOutput, Place
from vsr.stdout import Stdout

EXTENSIONS = {"matroska": "mkv", "mpegts": "ts", "yuv4mpegpipe": "y4m"}
COMBINATIONS = [
    ("matroska", "libx264", "yuv420p"), ("matroska", "libx265", "yuv420p10le"),
    ("matroska", "ffv1", "yuv422p10le"), ("matroska", "libsvtav1", "yuv420p10le"),
    ("matroska", "libvpx-vp9", "yuv420p"), ("matroska", "prores_ks", "yuv422p10le"),
    ("matroska", "rawvideo", "yuv420p"), ("matroska", "mpeg4", "yuv420p"),
    ("webm", "libvpx-vp9", "yuv420p"), ("webm", "libsvtav1", "yuv420p10le"),
    ("mp4", "libx264", "yuv420p"), ("mp4", "libx265", "yuv420p10le"),
    ("mp4", "libsvtav1", "yuv420p10le"), ("mov", "prores_ks", "yuv422p10le"),
    ("mov", "libx264", "yuv420p"), ("mov", "libx265", "yuv420p10le"),
    ("mov", "v210", "yuv422p10le"),
    ("mpegts", "libx264", "yuv420p"), ("mpegts", "libx265", "yuv420p10le"),
    ("mpegts", "mpeg2video", "yuv420p"), ("mpegts", "mpeg4", "yuv420p"),
    ("nut", "rawvideo", "yuv422p10le"), ("nut", "ffv1", "yuv420p"), ("nut", "libx264", "yuv420p"),
    ("nut", "libx265", "yuv420p10le"),
    ("avi", "libx264", "yuv420p"), ("avi", "ffv1", "yuv422p10le"), ("avi", "mpeg4", "yuv420p"),
    ("yuv4mpegpipe", "rawvideo", "yuv420p10le"),
]  # fmt: skip
QUICK = {"libx264": "ultrafast", "libx265": "ultrafast", "libsvtav1": "12"}


@contextmanager
def file_as_stdout(path: Path) -> Iterator[Stdout]:
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        yield Stdout(descriptor)
    finally:
        os.close(descriptor)


def write(tools, path, info, muxer, codec, pix_fmt, *, piped) -> list[str]:
    """Write five frames; returns the notes."""
    config = EncoderConfig(codec=codec, pix_fmt=pix_fmt, preset=QUICK.get(codec))
    where = PIPE if piped else path
    encoding = choose_encoding(where, info, info.width, info.height, config, muxer=muxer)
    output = replace(info, format=encoding.format, colour=encoding.colour)
    with (
        file_as_stdout(path) as stdout,
        open_sink(where, encoding, output, overwrite=True, stdout=stdout) as sink,
    ):
        for number in range(5):
            sink.write(tools.frame(output, number, 1, seed=number))
    return sink.notes


def hashes(path) -> list[str]:
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "framemd5", "-"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stderr == ""
    lines = [line for line in result.stdout.splitlines() if not line.startswith("#")]
    return [line.replace(" ", "") for line in lines]


def ratio_for(muxer: str, codec: str) -> Fraction:
    """One that the combination can hold."""
    if codec == "mpeg4":
        return Fraction(118, 81)
    if (muxer, codec) == ("mpegts", "mpeg2video"):
        return Fraction(12, 11)  # pictures of 4:3
    return Fraction(1216, 1215)


ONE_OF_EACH = {muxer: codec for muxer, codec, _ in reversed(COMBINATIONS)}
IN_FILES_AND_PIPES = [
    pytest.param(
        *combination, piped, id="-".join((*combination, "pipe" if piped else "file")),
        marks=[pytest.mark.slow] * (piped and ONE_OF_EACH[combination[0]] != combination[1]),
    )
    for combination in COMBINATIONS
    for piped in (False, True)
    if combination[0] in PIPED or not piped
]  # fmt: skip


@pytest.mark.parametrize(("muxer", "codec", "pix_fmt", "piped"), IN_FILES_AND_PIPES)
def test_exact_everywhere(tools, tmp_path, muxer, codec, pix_fmt, piped):
    sar = ratio_for(muxer, codec)
    results = []
    for ratio in (None, sar):
        path = tmp_path / f"{ratio is None}.{EXTENSIONS.get(muxer, muxer)}"
        info = tools.info(pix_fmt, width=176, height=144, sar=ratio, time_base=Fraction(1, 25))
        assert write(tools, path, info, muxer, codec, pix_fmt, piped=piped) == []
        results.append(hashes(path))
    found = tools.probe(path).video[0]["sample_aspect_ratio"]
    assert found == f"{sar.numerator}:{sar.denominator}"
    assert len(results[0]) == 5
    if codec in ("ffv1", "rawvideo", "prores_ks", "v210"):  # the others hold it in the bitstream
        assert results[0] == results[1]


@pytest.mark.parametrize(
    ("codec", "sar", "exact"),
    [
        ("mpeg2video", Fraction(12, 11), True),
        ("mpeg2video", Fraction(59, 54), False),
        ("mpeg4", Fraction(255, 254), True),
        ("mpeg4", Fraction(257, 256), False),
        ("libx264", Fraction(65535, 65534), True),
        ("libx264", Fraction(65537, 65536), False),
    ],
)
def test_ratio_that_a_bitstream_cannot_say_is_said(tools, tmp_path, codec, sar, exact):
    info = tools.info(width=176, height=144, sar=sar, time_base=Fraction(1, 25))
    notes = write(tools, tmp_path / "a.ts", info, "mpegts", codec, "yuv420p", piped=False)
    found = tools.probe(tmp_path / "a.ts").video[0]["sample_aspect_ratio"]
    assert (found == f"{sar.numerator}:{sar.denominator}") == exact
    name = {"libx264": "h264"}.get(codec, codec)
    expected = f"the aspect ratio {sar} is rounded or lost: {name} cannot say it"
    assert notes == ([] if exact else [expected])


def test_ratio_that_avi_cannot_hold_is_said(tools, tmp_path):
    info = tools.info(sar=Fraction(100_003, 100_000), time_base=Fraction(1, 25))
    notes = write(tools, tmp_path / "a.avi", info, "avi", "ffv1", "yuv420p", piped=False)
    assert len(notes) == 1
    assert notes[0].startswith("the aspect ratio 100003/100000 is not in the container: the")


class Collector:
    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes | memoryview, /) -> int:
        self.data += data
        return len(data)


def test_head_that_is_not_understood_passes_unchanged():
    collector = Collector()
    output = PatchedOutput(collector)
    output.place = Place("nut", 0, 1, Fraction(1))
    for part in (b"nut/multi", b"something else", b" and more"):
        assert output.write(part) == len(part)
    assert collector.data == b"nut/multisomething else and more"
    assert output.problem == "not a NUT file"


def test_output_that_ends_within_its_head_says_so():
    collector = Collector()
    output = PatchedOutput(collector)
    output.place = Place("matroska", 0, 1, Fraction(1))
    head = b"\x1a\x45\xdf\xa3\x08\xff\xff\xff\xff\xff\xff\xfe"
    output.write(head)
    assert (collector.data, output.problem) == (b"", None)
    output.finish()
    assert (collector.data, output.problem) == (head, "the output ends within its headers")
    output.finish()
    assert collector.data == head


def test_head_that_never_ends_is_let_go():
    collector = Collector()
    output = PatchedOutput(collector)
    output.place = Place("matroska", 0, 1, Fraction(1))
    head = b"\x1a\x45\xdf\xa3\x08\xff\xff\xff\xff\xff\xff\xfe"
    for _ in range(5):
        output.write(head + bytes(1 << 20))
    assert len(collector.data) == 5 * (len(head) + (1 << 20))
    assert output.problem == "its headers are too long"
    output.finish()
    assert len(collector.data) == 5 * (len(head) + (1 << 20))
