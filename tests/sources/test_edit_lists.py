"""MOV's edit lists: what was cut out stays out, and sound goes on beside its picture."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vsr.cli import main
from vsr.sources import open_source

RATE, SECONDS = 48000, 6
VIDEO_CLOCK = 12800
Edit = tuple[float, float | None]
"""Seconds that it lasts, and where it begins in the media; None: nothing is shown."""


def boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    found = []
    while data:
        size, kind = struct.unpack(">I4s", data[:8])
        found.append((kind, data[8:size]))
        data = data[size:]
    return found


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def edit_list(edits: Sequence[Edit], film: int, clock: int, delay: int) -> bytes:
    entries = b"".join(
        struct.pack(">IiI", round(film * lasts), -1 if at is None else round(at * clock) + delay,
                    1 << 16)
        for lasts, at in edits
    )  # fmt: skip
    return box(b"edts", box(b"elst", struct.pack(">II", 0, len(edits)) + entries))


def with_edits(source: Path, target: Path, edits: Sequence[Edit]) -> Path:
    """The film with another edit list for picture and sound alike."""

    def rebuilt_track(body: bytes) -> bytes:
        sound = b"smhd" in body
        delay = 1024 if sound and b"mp4a" in body else 0
        new = edit_list(edits, film_clock, RATE if sound else VIDEO_CLOCK, delay)
        parts = [(kind, part) for kind, part in boxes(body) if kind != b"edts"]
        return b"".join(box(k, part) + (new if k == b"tkhd" else b"") for k, part in parts)

    def rebuilt(body: bytes) -> bytes:
        return b"".join(
            box(kind, rebuilt_track(part) if kind == b"trak" else part)
            for kind, part in boxes(body)
        )

    data = source.read_bytes()
    at = data.rindex(b"mvhd") + 4 + 12
    film_clock = int.from_bytes(data[at : at + 4])
    top = boxes(data)
    assert [kind for kind, _ in top][-1] == b"moov"  # no position in the file moves
    target.write_bytes(
        b"".join(box(kind, rebuilt(part) if kind == b"moov" else part) for kind, part in top)
    )
    return target


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A flash and a tone of a tenth of a second at the start of each second."""
    return make_film(tmp_path / "film.mp4", "aac")


def make_film(path: Path, codec: str, rate: int = RATE) -> Path:
    with av.open(path, "w", options={"video_track_timescale": str(VIDEO_CLOCK)}) as out:
        video: Any = out.add_stream("mpeg4", rate=25, width=64, height=48, pix_fmt="yuv420p")
        video.codec_context.gop_size = 5
        sound: Any = out.add_stream(codec, rate=rate, layout="mono")
        out.start_encoding()
        for pts in range(25 * SECONDS):
            shade = 235 if pts % 25 < 2 else 16
            plane = np.full((48, 64, 3), shade, np.uint8)
            picture = av.VideoFrame.from_ndarray(plane, "rgb24").reformat(format="yuv420p")
            picture.pts = pts
            out.mux(video.encode(picture))
        out.mux(video.encode(None))
        time = np.arange(rate * SECONDS) / rate
        wave = np.where(time % 1 < 0.1, 0.5 * np.sin(2 * np.pi * 1000 * time), 0)
        kind, values = (
            ("fltp", wave.astype(np.float32)) if codec == "aac"
            else ("s16", (wave * 32767).astype(np.int16))
        )  # fmt: skip
        for begin in range(0, len(time), 1024):
            part = values[None, begin : begin + 1024]
            frame = av.AudioFrame.from_ndarray(part, format=kind, layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), begin
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    return path


def flashes(path: Path) -> list[float]:
    """Seconds at which the picture grows bright."""
    with av.open(path) as container:
        frames = [(float(f.time or 0), f.to_ndarray(format="gray").mean() > 128)
                  for f in container.decode(video=0)]  # fmt: skip
    return [t for i, (t, on) in enumerate(frames) if on and (i == 0 or not frames[i - 1][1])]


def tones(path: Path) -> list[float]:
    """Seconds at which a tone begins."""
    times, loud = [], []
    with av.open(path) as container:
        form = av.AudioResampler("flt", "mono", RATE)
        for frame in container.decode(audio=0):
            for part in form.resample(frame):
                values = np.abs(part.to_ndarray().reshape(-1))
                start = float(part.time or 0)
                for index in range(0, len(values) - 47, 48):
                    times.append(start + index / RATE)
                    loud.append(values[index : index + 48].max() > 0.1)
    return [t for i, t in enumerate(times) if loud[i] and not any(loud[max(0, i - 200) : i])]


CUT_IN_THE_MIDDLE = [(1.0, 0.0), (1.5, 3.0)]
BEGINS_LATER = [(2.5, 2.32)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize("edits", [CUT_IN_THE_MIDDLE, BEGINS_LATER], ids=["middle", "start"])
def test_what_was_cut_out_stays_out(film, tmp_path, edits, suffix):
    given = with_edits(film, tmp_path / "cut.mp4", edits)
    out = tmp_path / f"out.{suffix}"
    assert main([str(given), str(out), "--model", "identity"]) == 0
    expected = flashes(given)
    assert len(expected) == (3 if edits is CUT_IN_THE_MIDDLE else 2)
    assert flashes(out) == pytest.approx(expected, abs=0.002)
    assert tones(out) == pytest.approx(expected, abs=0.015)
    with av.open(out) as container:
        assert (container.duration or 0) / av.time_base == pytest.approx(2.5, abs=0.03)


@pytest.mark.parametrize("suffix", ["mov", "mkv"])
@pytest.mark.parametrize("edits", [CUT_IN_THE_MIDDLE, BEGINS_LATER], ids=["middle", "start"])
def test_so_do_samples(tmp_path, edits, suffix):
    film = make_film(tmp_path / "film.mov", "pcm_s16le")
    given, out = with_edits(film, tmp_path / "cut.mov", edits), tmp_path / f"out.{suffix}"
    assert main([str(given), str(out), "--model", "identity"]) == 0
    near = 0.022 if edits is CUT_IN_THE_MIDDLE else 0.003  # packets at the cut are whole
    assert tones(out) == pytest.approx(flashes(given), abs=near)
    assert flashes(out) == pytest.approx(flashes(given), abs=0.002)


@pytest.mark.parametrize("rate", [RATE, 8000])
def test_the_delay_of_an_encoder_stays(tmp_path, rate):
    """It is sent as what is cut off, too; decoders warm up with it."""
    film, out = make_film(tmp_path / "film.mp4", "aac", rate), tmp_path / "out.mkv"
    assert main([str(film), str(out), "--model", "identity"]) == 0

    def packets(path: Path) -> list[bytes]:
        with av.open(path) as container:
            return [bytes(p) for p in container.demux(audio=0) if p.size]

    assert packets(out) == packets(film)
    assert tones(out) == pytest.approx(tones(film), abs=0.0015)


@pytest.mark.parametrize("end", [5.0, 2.0])
def test_an_empty_edit_is_no_missing_end(film, tmp_path, end):
    given = with_edits(film, tmp_path / "late.mp4", [(0.7, None), (end, 0.0)])
    with open_source(given) as source:
        frames = list(source)
    assert source.report.missing_duration == 0
    assert float(frames[-1].pts * frames[-1].time_base) == pytest.approx(end - 0.04, abs=0.01)
