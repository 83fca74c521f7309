"""Processes for tests that need not import PyTorch again: a tenth of a second instead of two."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["PYTHON", "serve"]

_HERE = Path(__file__).parent

PYTHON = [sys.executable, "-SE", str(_HERE / "python.py")]
"""What a command of a test begins with, where it need not be ``python`` itself."""


@contextmanager
def serve() -> Iterator[None]:
    """Have a server for :data:`PYTHON`, where the system has what it needs."""
    if not _is_possible():
        yield
        return
    with tempfile.TemporaryDirectory(prefix="vsr-") as folder:
        path = Path(folder) / "python"
        server = subprocess.Popen(
            [sys.executable, str(_HERE / "server.py"), str(path)],
            stdin=subprocess.PIPE, start_new_session=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # threads do not survive a fork
        )  # fmt: skip
        os.environ["VSR_WARM_PYTHON"] = str(path)
        try:
            yield
        finally:
            del os.environ["VSR_WARM_PYTHON"]
            server.communicate()


def _is_possible() -> bool:
    """Whether the system has handles of processes: Linux since 5.4."""
    try:
        handle = os.pidfd_open(os.getpid())
        signal.pidfd_send_signal(handle, 0)
        os.close(handle)
    except (AttributeError, OSError):
        return False
    return True
