"""Every real file at hand through the command, checked against ffprobe's own reading."""

import json
import shutil
import subprocess
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from vsr.cli import main

MEDIA = Path(__file__).resolve().parents[2] / "shared" / "media"
FILES = sorted(p for p in MEDIA.rglob("*") if p.is_file() and p.suffix != ".md")
FRAMES = 8

# Files that deserve to fail, and the words that say why.
BROKEN = {
    "invalid-bitstream.webm": "could be decoded",
    "trunc_base.mp4": "not a media file",
}
# Timestamps that ffprobe and the repair rule read differently; tests/sources holds what is right.
REPAIRED = {"SampleVideo_1280x720_1mb.mkv", "0239.mpg", "pal.dv"}

needs_ffprobe = pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not here")


def names(path):
    return path.name


def probe(path, *arguments):
    command = ["ffprobe", "-v", "error", "-of", "json", *arguments, str(path)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def video_of(path):
    """ffprobe's facts about the video stream that is no cover."""
    streams = probe(path, "-show_streams")["streams"]
    return next(
        s for s in streams
        if s["codec_type"] == "video" and not s["disposition"]["attached_pic"]
    )  # fmt: skip


def timestamps(path, index):
    shown = probe(
        path, "-select_streams", str(index), "-show_entries", "frame=best_effort_timestamp_time",
        "-read_intervals", f"%+#{FRAMES + 24}",
    )  # fmt: skip
    found = (frame.get("best_effort_timestamp_time") for frame in shown["frames"])
    return sorted(Fraction(value) for value in found if value is not None)[:FRAMES]


def _without_adts(packet):
    """AAC in MPEG-TS has a header of 7 bytes a packet, which no other container keeps."""
    return packet[7:] if packet[:2] in (b"\xff\xf1", b"\xff\xf9") else packet


def audio_of(path):
    """Packets of each audio stream that has a decoder."""
    with av.open(str(path)) as container:
        streams = [s for s in container.streams.audio if s.codec_context is not None]
        packets: dict[int, list[bytes]] = {s.index: [] for s in streams}
        for packet in container.demux(streams) if streams else ():
            if packet.size:
                packets[packet.stream.index].append(_without_adts(bytes(packet)))
    return list(packets.values())


@pytest.fixture
def upscaled(tmp_path, capsys):
    """Run a file through the command; returns the result's path and what was said."""

    def run(path, suffix=".mkv"):
        target = tmp_path / f"out{suffix}"
        with av.open(str(path)) as container:
            large = container.streams.video[0].height >= 500
        model = ["--model", "identity" if large else "lanczos"]
        fast = [] if path.name == "png.mov" else ["--preset", "ultrafast"]  # ffv1 has no presets
        code = main([str(path), str(target), *model, *fast, "--frames", str(FRAMES)])
        err = capsys.readouterr().err
        assert code == 0, err
        assert [p.name for p in tmp_path.iterdir()] == [target.name]
        return target, err

    return run


def playable():
    return [path for path in FILES if path.name not in BROKEN]


@pytest.mark.skipif(not FILES, reason=f"reference media are not here ({MEDIA})")
@needs_ffprobe
class TestEveryFile:
    @pytest.mark.parametrize("path", playable(), ids=names)
    def test_comes_through(self, path, upscaled):
        target, _ = upscaled(path)
        before, after = video_of(path), video_of(target)
        self.check_frames(path, target, before, after)
        self.check_picture(before, after)
        self.check_audio(path, target)

    def check_frames(self, path, target, before, after):
        out = timestamps(target, after["index"])
        expected = min(FRAMES, len(out)) if path.name in REPAIRED else None
        read = timestamps(path, before["index"])
        assert len(out) == (expected or len(read))
        if path.name in REPAIRED:
            assert all(b > a for a, b in pairwise(out))
            return
        shift = read[0] - out[0]
        start = probe(path, "-show_format")["format"].get("start_time")
        if start is not None:  # what is subtracted is the container's start, no more
            assert abs(shift - Fraction(start)) <= Fraction(1, 1000)
        for a, b in zip(read, out, strict=True):  # Matroska counts milliseconds
            assert abs(a - b - shift) <= Fraction(1, 1000)

    def check_picture(self, before, after):
        for tag in ("color_space", "color_primaries", "color_transfer", "color_range"):
            known = before.get(tag, "unknown")
            if known not in ("unknown", "reserved", "gbr"):
                assert after.get(tag) == known, tag
        ratio = before.get("sample_aspect_ratio", "0:1")
        if ratio not in ("0:1", "1:1"):
            assert after["sample_aspect_ratio"] == ratio
        scale = Fraction(after["width"], before["width"])
        assert scale in (1, 2)
        assert after["height"] == scale * before["height"]
        # ffv1 codes RGB with alpha from 10 bit on; everything else keeps its depth
        deeper = before["pix_fmt"] == "rgba"
        assert ("10" in after["pix_fmt"]) == ("10" in before["pix_fmt"] or deeper)

    def check_audio(self, path, target):
        read, written = audio_of(path), audio_of(target)
        assert len(written) == len(read)
        for source, copy in zip(read, written, strict=True):
            assert copy == source[: len(copy)] or path.name in REPAIRED
            assert copy

    @pytest.mark.parametrize("name", sorted(BROKEN))
    def test_or_fails_as_it_deserves(self, name, tmp_path, capsys):
        (path,) = MEDIA.rglob(name)
        assert main([str(path), str(tmp_path / "out.mkv"), "--model", "identity"]) == 1
        err = capsys.readouterr().err
        assert BROKEN[name] in err
        assert err.count("\n") == 1
        assert list(tmp_path.iterdir()) == []
