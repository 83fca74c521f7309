"""What stands for ``python`` does as ``python`` does."""

import os
import signal
import subprocess
import sys

import pytest

from tests.warm import PYTHON

SAME = [
    "print('out'); import sys; print('err', file=sys.stderr)",
    "import sys; sys.exit(7)",
    "import sys; sys.exit('why')",
    "import os; os._exit(3)",
    "import os; os.kill(os.getpid(), 9)",
    "import os; os.kill(os.getpid(), 15)",
    "import os, sys; print(os.getcwd(), os.environ['WORD'], sys.argv, sys.stdin.read())",
    "import sys; print(sys.stdout.encoding, sys.stderr.errors, sys.stdout.isatty(), __name__)",
    "import atexit; atexit.register(print, 'at the end'); print('before')",
    "import threading, time; threading.Timer(0.2, print, ['last']).start()",
]


@pytest.fixture
def both(tmp_path):
    """Exit code, output and errors of ``python`` and of what stands for it."""

    def run(*arguments):
        return [
            subprocess.run(
                [*python, *arguments], input="word", text=True, capture_output=True, check=False,
                cwd=tmp_path, env={**os.environ, "WORD": "äö"}, timeout=60,
            )
            for python in ([sys.executable], PYTHON)
        ]  # fmt: skip

    return run


@pytest.mark.parametrize("code", SAME)
def test_it_ends_and_says_the_same(both, code) -> None:
    one, other = both("-c", code, "a", "b")
    assert (one.returncode, one.stdout, one.stderr) == (
        other.returncode, other.stdout, other.stderr
    )  # fmt: skip


def test_an_error_is_told(both) -> None:
    one, other = both("-c", "raise ValueError(3)")
    assert one.returncode == other.returncode == 1
    assert one.stderr.splitlines()[-1] == other.stderr.splitlines()[-1] == "ValueError: 3"


def test_files_and_modules(both, tmp_path) -> None:
    (tmp_path / "file.py").write_text("import sys, other; print(__name__, sys.argv, other.word)")
    (tmp_path / "other.py").write_text("word = 1")
    for arguments in (["file.py", "x"], ["-m", "file", "x"]):
        one, other = both(*arguments)
        assert one.returncode == 0
        assert (one.stdout, one.stderr) == (other.stdout, other.stderr)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_handed_on(number) -> None:
    code = f"""
import signal, sys, time
signal.signal({int(number)}, lambda number, _: sys.exit(40 + number))
print("ready", flush=True)
for _ in range(600):  # a signal that comes just ahead of signal.pause() is not waited for
    time.sleep(0.1)
"""
    with subprocess.Popen([*PYTHON, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.wait(60) == 40 + number


def test_it_dies_with_who_asked() -> None:
    code = "import sys; print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [*PYTHON, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
        assert process.stdout.read() == b""  # the last who could write has gone


def test_torch_is_there_already() -> None:
    if "VSR_WARM_PYTHON" not in os.environ:
        pytest.skip("no server runs: there is but one process of tests, or this is no Linux")
    code = "import sys; print('torch' in sys.modules)"
    done = subprocess.run([*PYTHON, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
