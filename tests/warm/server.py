"""A process that has imported what commands import, and forks for each; see ``python.py``.

``python server.py SOCKET`` serves until its standard input ends.
"""

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MODULES = ("torch", "av", "numpy", "vsr.cli.upscale", "vsr.pipeline", "vsr.runtimes.winograd")
"""Imported beforehand, with all that they import; none of them starts a thread."""


@dataclass
class Server:
    """Runs requests that come through ``listener``, each in a copy of this process."""

    listener: socket.socket
    _copies: dict[int, socket.socket] = field(default_factory=dict)
    """Who waits for which copy, by the handle of its process."""

    def serve(self) -> dict[str, Any] | None:
        """In a copy, what it is to run; None when standard input has ended."""
        with selectors.DefaultSelector() as events:
            events.register(self.listener, selectors.EVENT_READ, self._begin)
            events.register(sys.stdin, selectors.EVENT_READ)
            while True:
                for key, _ in events.select():
                    if key.fileobj is sys.stdin:
                        return None
                    if events.get_map().get(key.fd) is not key:
                        continue  # it went with the event before
                    request = key.data(events, key.fd)
                    if request is not None:
                        return request  # type: ignore[no-any-return]

    def _begin(self, events: selectors.BaseSelector, _: int) -> dict[str, Any] | None:
        asking, _address = self.listener.accept()
        try:
            asking.sendall(b"?")
            request, files = receive(asking)
        except OSError:  # who asked was killed
            asking.close()
            return None
        copy = os.fork()
        if copy == 0:
            for other in (asking, self.listener, *self._copies.values()):
                other.close()
            for handle in self._copies:
                os.close(handle)
            take(files, request["files"])
            return request
        for number in files:
            os.close(number)
        handle = os.pidfd_open(copy)
        self._copies[handle] = asking
        events.register(handle, selectors.EVENT_READ, self._end)
        events.register(asking, selectors.EVENT_READ, self._abandon)
        with contextlib.suppress(OSError):
            asking.sendall(copy.to_bytes(4))
        return None

    def _end(self, events: selectors.BaseSelector, handle: int) -> None:
        """A copy has ended: tell who waits."""
        ended = os.waitid(os.P_PIDFD, handle, os.WEXITED)
        assert ended is not None
        by_signal = ended.si_code != os.CLD_EXITED
        status = ended.si_status if by_signal else ended.si_status << 8
        asking = self._copies.pop(handle)
        with contextlib.suppress(OSError):
            asking.sendall(status.to_bytes(4))
        for file in (handle, asking):
            with contextlib.suppress(KeyError):
                events.unregister(file)
        asking.close()
        os.close(handle)

    def _abandon(self, events: selectors.BaseSelector, asking: int) -> None:
        """Who waits was killed: so is the copy."""
        for handle, waiting in self._copies.items():
            if waiting.fileno() == asking:
                events.unregister(waiting)
                signal.pidfd_send_signal(handle, signal.SIGKILL)


def receive(asking: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """A request and the files that come with it."""
    head, files, _, _ = socket.recv_fds(asking, 4, 3)
    if len(head) < 4:
        raise ConnectionResetError
    size, data = int.from_bytes(head), b""
    while len(data) < size:
        part = asking.recv(size - len(data))
        if not part:
            raise ConnectionResetError
        data += part
    return json.loads(data), files


def take(files: list[int], numbers: list[int]) -> None:
    """Make ``files`` the standard ones of these numbers; those that did not come are closed."""
    high = [os.dup2(file, 100 + number) for file, number in zip(files, numbers, strict=True)]
    for file in {0, 1, 2, *files}:
        os.close(file)
    for file, number in zip(high, numbers, strict=True):
        os.dup2(file, number)
        os.close(file)


def open_standard_files() -> None:
    """Python's own view of standard input, output and errors, as it begins with it."""
    for number, name, errors in (
        (0, "stdin", "strict"), (1, "stdout", "strict"), (2, "stderr", "backslashreplace"),
    ):  # fmt: skip
        try:
            raw = io.open(number, "wb" if number else "rb", closefd=False)  # noqa: UP020, SIM115
        except OSError:
            setattr(sys, name, None)
            continue
        lines = number == 2 or raw.isatty()
        stream = io.TextIOWrapper(raw, "utf-8", errors, line_buffering=lines)
        stream.mode = "w" if number else "r"  # type: ignore[misc]
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def run(request: dict[str, Any]) -> None:
    """What ``python ARGUMENTS`` runs: ``-c CODE``, ``-m MODULE`` or a file."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    open_standard_files()
    kind, *rest = request["arguments"]
    if kind in ("-c", "-m"):
        what, *rest = rest
        sys.argv, sys.path[0] = [kind, *rest], "" if kind == "-c" else os.getcwd()
        if kind == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            main = type(sys)("__main__")
            sys.modules["__main__"] = main
            exec(compile(what, "<string>", "exec"), main.__dict__)
    else:
        sys.argv, sys.path[0] = [kind, *rest], str(Path(kind).resolve().parent)
        runpy.run_path(kind, run_name="__main__")


def run_to_the_end(request: dict[str, Any]) -> int:
    """Run ``request`` and what is to happen at its end; the exit status as Python has it."""
    code: object = 0
    try:
        run(request)
    except SystemExit as end:
        code = end.code or 0
        if not isinstance(code, int):
            sys.stderr.write(f"{code}\n")
            code = 1
    except BaseException:  # noqa: BLE001 - told, as Python tells it
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            traceback.print_exc()
            code = 120
    assert isinstance(code, int)
    return code


def main() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen(100)  # asked before all is imported, it answers afterwards
        for name in MODULES:
            importlib.import_module(name)
        threads = os.listdir("/proc/self/task")
        assert len(threads) == 1, "only a process of one thread may be forked"
        gc.collect()
        gc.freeze()  # so that pages stay shared
        request = Server(listener).serve()
    # A copy does not free, page by page, all that is shared.
    os._exit(0 if request is None else run_to_the_end(request))


if __name__ == "__main__":
    main()
