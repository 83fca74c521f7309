"""Sources that change, end or vanish while they are read."""

import os
import re
import shutil
import subprocess
import threading

import pytest

from vsr.config import EncoderConfig, UpscaleConfig
from vsr.pipeline import upscale


@pytest.fixture
def raw(film):
    """The film as y4m, of which the reader holds only a little: what changes is seen."""
    path = film.source.with_name("in.y4m")
    command = ["ffmpeg", "-v", "error", "-i", str(film.source), "-an", "-s", "320x240"]
    subprocess.run([*command, "-pix_fmt", "yuv420p", str(path)], check=True)
    film.source = path
    return path


def test_a_source_that_is_truncated(film, raw, at_source):
    at_source(30, lambda: os.truncate(raw, raw.stat().st_size // 2))
    film.fail("in.y4m: was changed while it was read: input was of", keeps=film.work)


def test_a_source_that_is_overwritten(film, raw, at_source):
    def overwrite() -> None:
        with raw.open("r+b") as file:
            file.seek(raw.stat().st_size // 2)
            file.write(bytes(100_000))

    at_source(30, overwrite)
    said = "in.y4m: was changed while it was read: input was last changed"
    film.fail(said, "frames are finished: with all as it was --resume goes on", keeps=film.work)
    film.fail("cannot be resumed: input was", options=("--resume",), code=2, keeps=film.work)


def test_a_source_that_grows_ends_the_run_at_once(film, raw, at_source):
    """Nothing that may have been made of something else is kept, nor is anything else lost."""
    before, grows = raw.stat(), iter([True])

    def grow() -> None:
        if next(grows, False):
            with raw.open("ab") as file:
                file.write(b"FRAME\n")

    at_source(30, grow)
    said = f"in.y4m: was changed while it was read: input was of {before.st_size} bytes"
    text = film.fail(said, keeps=film.work)
    finished = int(re.findall(r"(\d+) frames are finished: with all as it was", text)[0])
    assert finished in (12, 24)
    os.truncate(raw, before.st_size)
    os.utime(raw, ns=(before.st_atime_ns, before.st_mtime_ns))
    code, text = film.run("--resume")
    assert code == 0, text
    assert f"{finished} frames are finished; going on" in text


def test_before_a_segment_is_finished_nothing_is_kept(film, raw, at_source):
    at_source(5, lambda: os.truncate(raw, raw.stat().st_size - 1))
    text = film.fail("in.y4m: was changed while it was read: input was of", keeps=None)
    assert "--re" not in text


def test_a_source_that_is_overwritten_under_a_run_in_one_go(film, raw, at_source):
    at_source(5, lambda: os.utime(raw, (1, 1)))
    code, text = film.run("--segment-seconds", "0")
    assert code == 0
    assert "in.y4m: was changed while it was read: frames may be of either version" in text
    assert film.count(film.target) == film.frames


def test_a_source_that_is_replaced(film, raw, at_source):
    def replace() -> None:
        other = raw.with_name("other.y4m")
        shutil.copy(raw, other)
        os.utime(other, (1, 1))
        os.replace(other, raw)

    at_source(30, replace)
    film.fail("in.y4m: was changed while it was read", keeps=film.work)


def test_a_source_that_is_deleted(film, raw, at_source):
    at_source(5, raw.unlink)
    text = film.fail("in.y4m: cannot be read again: No such file", keeps=film.work)
    assert text.count("in.y4m: cannot be found any more (No such file or directory): it mu") == 1


def test_a_source_that_comes_back(film, raw, at_source):
    away = raw.with_name("away")
    at_source(5, lambda: raw.rename(away))
    at_source(45, lambda: away.rename(raw))
    code, text = film.run()
    assert code == 0, text
    assert "in.y4m: cannot be found any more" in text
    assert film.count(film.target) == film.frames


def test_a_source_that_is_a_fifo(film, raw, tmp_path):
    """``<(…)`` of a shell: it can be read once, so nothing may look into it before."""
    fifo = tmp_path / "fifo.y4m"
    os.mkfifo(fifo)

    def feed() -> None:
        with fifo.open("wb") as file:
            file.write(raw.read_bytes())

    thread = threading.Thread(target=feed)
    thread.start()
    film.source = fifo
    code, text = film.run()
    thread.join()
    assert code == 0, text
    assert film.count(film.target) == film.frames


def test_a_change_is_in_the_report(film, raw, at_source):
    at_source(5, lambda: os.utime(raw, (1, 1)))
    config = UpscaleConfig(
        input=raw, output=film.target, model="identity", segment_seconds=0,
        encoder=EncoderConfig(codec="ffv1"),
    )  # fmt: skip
    assert any("was changed while" in line for line in upscale(config).warnings)
