"""Standard output carries the stream and nothing else, whoever prints."""

import os
import pty
import subprocess
import sys
import textwrap

import pytest

from vsr.stdout import ReaderGone, Stdout

PRINT_EVERYWHERE = """
import ctypes, os, sys
from vsr.stdout import reserve_stdout
print("before")
libc = ctypes.CDLL(None)
with reserve_stdout() as stream:
    stream.write(b"<stream")
    print("by python")
    libc.printf(b"by C\\n")
    os.system("echo by a child")
    os.write(1, b"by number\\n")
    stream.write(b"ends>\\n")
print("after")
"""


def run(code: str, **kw) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **kw)


def test_only_the_stream_arrives():
    result = run(PRINT_EVERYWHERE)
    assert result.stdout == "before\n<streamends>\nafter\n"
    lines = sorted(result.stderr.splitlines())
    assert lines == ["by C", "by a child", "by number", "by python"]
    assert result.returncode == 0


def test_terminal_is_refused():
    controller, terminal = pty.openpty()
    code = "from vsr.stdout import reserve_stdout\nwith reserve_stdout(): pass"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=terminal, stderr=subprocess.PIPE, text=True
    ) as process:
        _, errors = process.communicate(timeout=60)
    os.close(terminal)
    os.close(controller)
    assert "ConfigError: standard output is a terminal" in errors.splitlines()[-1]


def test_closed_output_is_refused():
    result = run("""
        import os
        os.close(1)
        from vsr.stdout import reserve_stdout
        reserve_stdout().__enter__()
    """)
    assert "ConfigError: standard output is closed" in result.stderr.splitlines()[-1]


def test_reader_that_goes_away():
    reading, writing = os.pipe()
    stream = Stdout(writing)
    assert stream.write(b"abc") == 3
    os.close(reading)
    with pytest.raises(ReaderGone):
        stream.write(b"d")
    assert stream.gone
    os.close(writing)


def test_slow_reader_of_a_pipe_that_does_not_block():
    """All arrives, although the pipe takes 64 KiB at a time and says so."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    data = os.urandom(1_000_000)
    with subprocess.Popen(
        ["cksum"], stdin=reading, stdout=subprocess.PIPE, text=True
    ) as process:  # fmt: skip
        os.close(reading)
        assert Stdout(writing).write(memoryview(data)) == len(data)
        os.close(writing)
        found, _ = process.communicate(timeout=60)
    expected = subprocess.run(["cksum"], input=data, capture_output=True, check=True).stdout
    assert found == expected.decode()
