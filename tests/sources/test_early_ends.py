"""Recordings that a crash cut off, of formats that may be complete without saying how long."""

import re
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest

from vsr.ebml import CLUSTER, element_head
from vsr.sources import open_source
from vsr.sources.breaks import ends_amid_packet

EARLY = "it breaks off in the middle of a packet: the file ends early"
PICTURE = ["-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=2"]
SOUND = ["-f", "lavfi", "-i", "sine=r=48000:d=2"]


def lines(path: Path) -> list[str]:
    with open_source(path) as source:
        for _ in source:
            pass
        return source.report.lines()


def endless_clusters(data: bytes) -> bytes:
    """As Chrome's MediaRecorder writes them: clusters that do not say how long they are."""
    changed, at = bytearray(data), 0
    while (at := data.find(CLUSTER.to_bytes(4), at)) >= 0:
        head = element_head(data, at)
        assert head is not None
        width = head.bytes - 4
        changed[at + 4 : at + head.bytes] = ((2 << 7 * width) - 1).to_bytes(width)
        at += head.bytes
    return bytes(changed)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> dict[str, bytes]:
    """Complete films without a length in the header."""
    made = {}
    for name, muxer in (("live", ["-f", "matroska", "-live", "1"]), ("flv", ["-f", "flv"])):
        codecs = ["-c:v", "libx264", "-g", "12", "-bf", "0", "-c:a", "aac"]
        command = ["ffmpeg", "-v", "error", *PICTURE, *SOUND, *codecs, *muxer, "-"]
        made[name] = subprocess.run(command, capture_output=True, check=True).stdout
    made["endless"] = endless_clusters(made["live"])
    assert made["endless"] != made["live"]
    return made


@pytest.mark.parametrize("name", ["live", "endless", "flv"])
@pytest.mark.parametrize("part", [0.5, 0.8])
def test_a_crash_is_told(recordings, tmp_path, name, part):
    data, path = recordings[name], tmp_path / "cut.bin"
    path.write_bytes(data[: round(len(data) * part)])
    assert EARLY in lines(path)


@pytest.mark.parametrize("name", ["live", "endless", "flv"])
@pytest.mark.parametrize("more", [b"", bytes(100), b"\n", b"written by a recorder\r\n" * 40])
def test_what_is_complete_is_not_complained_of(recordings, tmp_path, name, more):
    path = tmp_path / "whole.bin"
    path.write_bytes(recordings[name] + more)
    assert EARLY not in lines(path)


def test_a_void_or_tags_behind_it_are_no_packet(recordings, tmp_path):
    path = tmp_path / "whole.mkv"
    for rest in (b"\xec\x84" + bytes(4), b"\x12\x54\xc3\x67\x84\xec\x82" + bytes(2), b"\xec\x88"):
        path.write_bytes(recordings["endless"] + rest)
        assert lines(path) == []


def test_an_end_between_packets_is_none(recordings, tmp_path):
    """A recorder that stops there has not crashed, as far as anybody can see."""
    data, path = recordings["flv"], tmp_path / "cut.flv"
    at = 13
    while at < len(data) // 2:
        at += 11 + int.from_bytes(data[at + 1 : at + 4]) + 4
    path.write_bytes(data[:at])
    assert EARLY not in lines(path)


@pytest.fixture(scope="module")
def fragments(tmp_path_factory) -> bytes:
    """A film of two seconds and one fragment: first its picture, then one sound, then another."""
    made: Path = tmp_path_factory.mktemp("fragments") / "in.mp4"
    sounds = [*SOUND, "-f", "lavfi", "-i", "sine=880:r=48000:d=2"]
    codecs = ["-map", "0", "-map", "1", "-map", "2", "-c:v", "libx264", "-bf", "0", "-c:a", "aac"]
    flags = ["-movflags", "frag_keyframe+empty_moov+default_base_moof", str(made)]
    subprocess.run(["ffmpeg", "-v", "error", *PICTURE, *sounds, *codecs, *flags], check=True)
    return made.read_bytes()


@pytest.mark.parametrize("start", [0, 1])
def test_pictures_behind_sound_that_is_missing_are_read(fragments, tmp_path, start):
    """A fragment holds each track's samples in one piece."""
    path = tmp_path / "cut.mp4"
    path.write_bytes(fragments[: round(len(fragments) * 0.72)])
    with open_source(path, start=Fraction(start)) as source:
        assert len([frame.pts for frame in source]) == 50 - 25 * start
        told = source.report.lines()
    assert len(told) == 1
    found = re.fullmatch(r"the last (.+) s of sound are missing: the file ends early", told[0])
    assert found is not None
    assert 0.5 < float(found[1]) < 2


def test_both_are_told_of_where_picture_and_sound_are_missing(fragments, tmp_path):
    path = tmp_path / "cut.mp4"
    path.write_bytes(fragments[: fragments.index(b"mdat") + 8_000])
    picture, sound = lines(path)[-2:]
    assert re.fullmatch(r"the last .+ s of 2\.\d+ s are missing: the file ends early", picture)
    assert re.fullmatch(r"the last 2\.0\d s of sound are missing: the file ends early", sound)
    path.write_bytes(fragments)
    assert lines(path) == []


def test_a_length_that_is_missed_is_said_once(tmp_path):
    path, cut = tmp_path / "in.mkv", tmp_path / "cut.mkv"
    command = ["ffmpeg", "-v", "error", *PICTURE, "-c:v", "libx264", "-g", "12", str(path)]
    subprocess.run(command, check=True)
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = lines(cut)
    assert [line for line in found if "the file ends early" in line] == found[-1:]
    assert found[-1].startswith("the last ")


def test_a_damaged_length_is_no_end(tmp_path, recordings):
    """Packets that follow show that it is not the file that ends there."""
    path = tmp_path / "damaged.mkv"
    data = recordings["endless"]
    block = data.rindex(CLUSTER.to_bytes(4))
    while data[block] != 0xA3:
        head = element_head(data, block)
        assert head is not None
        block += head.bytes + (0 if head.id == CLUSTER else head.length or 0)
    path.write_bytes(data[:block] + b"\xa3\x10\xff\xff\xff" + data[block + 5 :])
    assert ends_amid_packet(path, "matroska,webm", block + 4)
    assert not ends_amid_packet(path, "matroska,webm", len(data) - 10)
    assert not ends_amid_packet(tmp_path / "none.mkv", "matroska,webm", 0)
