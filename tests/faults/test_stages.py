"""What fails inside a run, at a chosen frame: decoder, network, encoder, threads and clocks."""

import ctypes
import errno
import os
import threading
import time

import av
import pytest

from vsr.engine import Engine
from vsr.resume.coding import SegmentCoder
from vsr.sinks.media import MediaSink
from vsr.sources.decoder import Decoder

WHEN = 30  # of 60 frames
LOST = OSError(errno.EIO, os.strerror(errno.EIO))


def failing(monkeypatch, kind, name, error):
    """Let ``kind.name`` raise ``error`` when it is called for that time."""
    real, calls = getattr(kind, name), iter(range(1, 10_000))

    def fail(self, *arguments, **named):
        if next(calls) == WHEN:
            raise error
        return real(self, *arguments, **named)

    monkeypatch.setattr(kind, name, fail)


@pytest.mark.parametrize(
    ("kind", "name", "error", "words"),
    [
        (Decoder, "decode", LOST, "Input/output error"),
        (Decoder, "decode", MemoryError("no memory for a picture"), "no memory for a picture"),
        (Decoder, "decode", RuntimeError("the decoder is lost"), "the decoder is lost"),
        (Engine, "collect", RuntimeError("the driver was reset"), "the driver was reset"),
        (SegmentCoder, "encode", LOST, "Input/output error"),
        (SegmentCoder, "encode", av.error.ExternalError(0, "lost"), "out.mkv"),
    ],
)
def test_a_stage_that_raises(film, monkeypatch, kind, name, error, words):
    with monkeypatch.context() as patch:
        failing(patch, kind, name, error)
        if kind is Decoder:  # what is finished by then depends on how far it was ahead
            film.fail(words, keeps=None, may_keep=film.work)
        else:
            text = film.fail(words, keeps=film.work)
            assert "24 frames are finished: --resume goes on" in text
    film.go_on()


@pytest.mark.parametrize(
    ("kind", "name"), [(Decoder, "decode"), (Engine, "collect"), (MediaSink, "write")]
)
def test_a_stage_that_raises_in_a_run_in_one_go(film, monkeypatch, kind, name):
    film.target.write_bytes(b"precious")
    failing(monkeypatch, kind, name, RuntimeError("all is lost"))
    film.fail("all is lost", options=("--segment-seconds", "0", "-y"), keeps=film.target)
    assert film.target.read_bytes() == b"precious"


@pytest.mark.parametrize("stage", ["decode", "upscale"])
def test_a_thread_that_dies(film, at_frame, stage):
    """SystemExit ends a thread without a word; a process that it reached would end with code 0."""

    def end() -> None:
        thread = next(t for t in threading.enumerate() if t.name == f"vsr-{stage}")
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit)
        )

    at_frame(WHEN, end)
    film.fail(f"the thread of stage '{stage}' has died of SystemExit", keeps=film.work)


@pytest.mark.parametrize("jump", [-(10.0**9), 10.0**9])
def test_a_clock_that_jumps(film, at_frame, monkeypatch, jump):
    def leap() -> None:
        for name in ("time", "monotonic", "perf_counter"):
            real = getattr(time, name)
            monkeypatch.setattr(time, name, lambda real=real: real() + jump)

    at_frame(WHEN, leap)
    assert film.run("--progress", "json", "--stats")[0] == 0
    assert film.is_whole()
