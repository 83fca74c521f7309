"""Signals, and ears that close."""

import _thread
import os
import pty
import signal
import subprocess
import sys
import threading
import time

import pytest

from vsr.prefetch import prefetch
from vsr.progress import Boundary

SLOW = ("--model", "lanczos", "--scale", 4, "-c:v", "ffv1", "--segment-seconds", 0.25)
FRAMES = 30
FEW = ("--frames", FRAMES)


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)],
)
def test_one_signal_keeps_what_is_done(start, tools, long_clip, tmp_path, number):
    target = tmp_path / "out.mkv"
    target.write_bytes(b"precious")
    run = start(long_clip, target, *SLOW, "-y").wait_for(20).send(number)
    assert run.end() == 130
    run.check_words()
    assert target.read_bytes() == b"precious"
    left = tools.tell_all(tmp_path, run.text, "out.mkv", "out.mkv.parts")
    assert len(left) == 2, left  # and the work folder
    assert len(run.said) > 1


@pytest.mark.parametrize(
    "second", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_second_signal_aborts(start, tools, long_clip, tmp_path, second):
    # Tiles of 16 pixels make a frame last long enough for a second signal to fall into it.
    run = start(long_clip, tmp_path / "out.mkv", *SLOW, "--tile", 16).wait_for(1)
    run.send(signal.SIGINT).wait_for_words("again to abort").send(second)
    assert run.end() == 130
    run.check_words()
    assert tools.tell_all(tmp_path, run.text) == []


def test_a_second_signal_while_threads_are_waited_for():
    """None may outlive the interpreter: from within C++, that aborts the process."""
    busy, go_on = threading.Event(), threading.Event()

    def items():
        yield 1
        busy.set()
        go_on.wait(10)
        yield 2

    reading = prefetch(items(), depth=1, boundary=Boundary("slow"))
    assert next(reading) == 1
    assert busy.wait(10)
    threading.Timer(0.1, _thread.interrupt_main).start()
    threading.Timer(0.3, go_on.set).start()
    with pytest.raises(KeyboardInterrupt):
        reading.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "vsr-slow"]


def test_a_terminal_that_closes(start, tools, long_clip, tmp_path):
    ours, theirs = pty.openpty()
    run = start(
        long_clip, tmp_path / "out.mkv", *SLOW, stderr=theirs, stdin=theirs, stdout=theirs,
        preexec_fn=lambda: os.close(os.open(os.ttyname(theirs), os.O_RDWR)),  # its terminal
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while b'"frames": 20,' not in seen:
        seen += os.read(ours, 4096)
    os.close(ours)
    assert run.process.wait(timeout=60) == 130
    left = [path.name for path in tmp_path.iterdir()]
    assert len(left) == 1, left  # a part, or the work folder
    assert not left[0].startswith(".")
    assert left[0] != "out.mkv"


def test_a_terminal_that_closes_behind_nohup(start, tools, long_clip, tmp_path):
    ours, theirs = pty.openpty()

    def prepare() -> None:
        os.close(os.open(os.ttyname(theirs), os.O_RDWR))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    target = tmp_path / "out.mkv"
    run = start(long_clip, target, *SLOW, *FEW, stderr=theirs, stdin=theirs, preexec_fn=prepare)
    os.close(theirs)
    seen = b""
    while b'"frames": 20,' not in seen:
        seen += os.read(ours, 4096)
    os.close(ours)
    assert run.process.wait(timeout=60) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out.mkv"]
    assert tools.count(target) == FRAMES


def test_nobody_reads_the_messages(start, tools, long_clip, tmp_path):
    """``2>&1 | head -1``."""
    target = tmp_path / "out.mkv"
    run = start(long_clip, target, *SLOW, *FEW).wait_for(3)
    run.process.stderr.close()
    assert run.process.wait(timeout=60) == 0
    assert tools.count(target) == FRAMES


def test_nobody_reads_the_stream(start, tools, long_clip, tmp_path):
    """SIGPIPE's case: the reader of standard output leaves."""
    run = start(long_clip, "-", *SLOW, "-f", "nut", stdout=subprocess.PIPE, text=False)
    run.process.stdout.read(100_000)
    run.process.stdout.close()
    _, text = run.process.communicate(timeout=60)
    assert run.process.returncode == 0
    assert b"has gone" in text
    assert b"Traceback" not in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--version", "--list-models"])
def test_nobody_reads_a_list(tools, option):
    read, write = os.pipe()
    os.close(read)
    command = [*tools.command, option]
    run = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (run.returncode, run.stderr) == (0, b"")


@pytest.mark.parametrize("option", ["--version", "--list-models"])
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_a_list_that_finds_no_room(tools, option):
    with open("/dev/full", "wb") as full:
        run = subprocess.run(
            [*tools.command, option], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert run.returncode == 1
    line = "vsr-upscale: error: standard output: cannot be written: No space left on device\n"
    assert run.stderr == line


@pytest.mark.parametrize("fed", [0, 230])
def test_input_that_falls_silent_is_not_waited_for(start, tools, long_clip, tmp_path, fed):
    """Of a pipe whose writer hangs: what waits for it within FFmpeg heeds no signal."""
    stream = y4m(long_clip, fed) if fed else b""
    read, write = os.pipe()
    feeder = threading.Thread(target=os.write, args=(write, stream), daemon=True)
    feeder.start()
    run = start("-", tmp_path / "out.mkv", *SLOW, stdin=read)
    os.close(read)
    if fed:
        feeder.join()
        run.wait_for(fed - 101)  # so many are looked at before the first
    else:
        time.sleep(3)
    run.send(signal.SIGTERM)
    assert run.end() == 130
    run.check_words()
    os.close(write)
    left = tools.tell_all(tmp_path, run.text)
    assert left == (["out.partial.mkv"] if fed else [])
    if fed:
        assert tools.count(tmp_path / left[0]) >= fed - 101


STUCK = """
import time
import vapoursynth as vs
clip = vs.core.std.BlankClip(width=64, height=48, length=200, keep=True)
def stuck(n):
    if n >= {first}:
        time.sleep(1000)
    return clip
clip.std.FrameEval(stuck).set_output()
"""


@pytest.mark.parametrize("first", [0, 120])  # before and after those that are looked at first
def test_a_script_whose_frame_never_comes_is_not_waited_for(start, tools, tmp_path, first):
    """Nor by what ends VapourSynth, or Python."""
    pytest.importorskip("vapoursynth", exc_type=ImportError)
    script, folder = tmp_path / "stuck.vpy", tmp_path / "out"
    script.write_text(STUCK.format(first=first))
    folder.mkdir()
    run = start(script, folder / "out.mkv", "--model", "identity", "-c:v", "ffv1", "--frames", 150)
    if first:
        run.wait_for(1)
    else:
        time.sleep(3)
    run.send(signal.SIGTERM)
    assert run.end() == 130
    run.check_words()
    left = tools.tell_all(folder, run.text)
    assert left == (["out.partial.mkv"] if first else [])


def y4m(clip, frames: int) -> bytes:
    command = ["ffmpeg", "-v", "error", "-i", str(clip), "-frames:v", str(frames)]
    return subprocess.run(
        [*command, "-f", "yuv4mpegpipe", "-"], stdout=subprocess.PIPE, check=True
    ).stdout


@pytest.mark.parametrize("signals", [1, 2])
def test_a_reader_that_reads_nothing_is_not_waited_for(start, long_clip, tmp_path, signals):
    read, write = os.pipe()
    run = start(long_clip, "-", *SLOW, "-f", "nut", stdout=write).wait_for(1)
    os.close(write)
    time.sleep(1)  # the pipe is full by now
    for _ in range(signals):
        run.send(signal.SIGTERM)
        time.sleep(0.3)
    assert run.end() == 130
    run.check_words()
    os.close(read)
    assert list(tmp_path.iterdir()) == []


# Ctrl-C when all frames are done.

PRESSING = """
import atexit, importlib, signal, sys
from vsr.cli import main

def press(times):
    for _ in range(times):
        signal.raise_signal(signal.SIGINT)

def pressing_at(place, times):
    module, _, name = place.rpartition(".")
    room = importlib.import_module(module)
    usual = getattr(room, name)
    def pressed(*arguments, **named):
        try:
            return usual(*arguments, **named)
        finally:
            press(times)
    setattr(room, name, pressed)

for place, times in {places}.items():
    atexit.register(press, times) if place == "atexit" else pressing_at(place, times)
sys.exit(main())
"""
PLAIN = ("--model", "identity", "--device", "cpu", "--segment-seconds", "0.5", "-c:v", "ffv1")


def run_pressing(film, places, *options):
    """Exit code and what was said by the command.

    SIGINT comes when functions end, as often as ``places`` says of each.
    """
    code = PRESSING.replace("{places}", repr(places))
    command = [sys.executable, "-c", code, str(film.source), str(film.target), *PLAIN, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "Traceback" not in done.stderr, done.stderr
    assert "stopping after this frame" not in done.stderr, done.stderr
    return done.returncode, done.stderr


def test_a_signal_while_segments_are_joined_lets_the_film_be_completed(film):
    code, said = run_pressing(film, {"vsr.resume.join.verify": 1})
    assert code == 0, said
    assert "all frames are done: completing the output; press Ctrl-C again to abort\n" in said
    assert said.endswith("all frames were done: the output is complete\n")
    assert film.is_whole()
    assert list(film.target.parent.iterdir()) == [film.target]


def test_a_second_signal_while_segments_are_joined_keeps_them(film):
    code, said = run_pressing(film, {"vsr.resume.join.verify": 2})
    assert code == 130, said
    assert said.endswith(f"{film.frames} frames are finished: --resume goes on\naborted\n")
    assert list(film.target.parent.iterdir()) == [film.work]
    film.go_on()


@pytest.mark.parametrize("option", ["--segment-seconds=0.5", "--segment-seconds=0"])
def test_no_signal_disturbs_a_run_whose_film_is_complete(film, option):
    """Nor Python, which is killed by one at its end, or says what it has interrupted."""
    places = (
        "vsr.resume.join.sync_folder", "vsr.pipeline._conclude", "vsr.pipeline.upscale",
        "vsr.cli.upscale.run_command", "atexit",
    )  # fmt: skip
    code, said = run_pressing(film, dict.fromkeys(places, 2), option)
    assert code == 0, said
    assert "Ctrl-C" not in said
    assert "aborted" not in said
    assert film.is_whole()
    assert list(film.target.parent.iterdir()) == [film.target]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_command_that_ends_heeds_no_more(number):
    """A signal while Python ends itself would replace the exit code."""
    code = (
        "import atexit, os, sys; from vsr.cli.interrupts import heed_no_more; heed_no_more(); "
        "atexit.register(os.kill, os.getpid(), int(sys.argv[1])); sys.exit(130)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code, str(int(number))], check=False).returncode
        == 130
    )
