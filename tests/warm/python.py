"""In place of ``python`` where a test starts a command: the same, without importing PyTorch again.

Asks ``server.py`` for a copy of itself with this process's files, folder and environment that runs
what ``python`` was told to; hands signals on and ends as the copy ends. Where no server runs, it
becomes ``python``. What has to be ``python`` itself (its process number, the terminal that controls
it, options, variables that are read while modules are imported) is to be started as that.
"""

import contextlib
import json
import os
import signal
import socket
import sys

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def main() -> None:
    with socket.socket(socket.AF_UNIX) as server:
        if not is_served(server):
            os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
        # What comes before the copy is known waits: tests send signals at its first line of output.
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
        ask(server)
        hand_on_signals(copy=int.from_bytes(receive(server, 4)))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        end_as(int.from_bytes(receive(server, 4)))


def is_served(server: socket.socket) -> bool:
    """Whether the server has greeted."""
    path = os.environ.get("VSR_WARM_PYTHON")
    if path is None:
        return False
    try:
        server.connect(path)
        return server.recv(1) == b"?"
    except OSError:
        return False


def ask(server: socket.socket) -> None:
    """Hand over arguments, folder, environment and the standard files, which are closed here."""
    files = [number for number in range(3) if is_open(number)]
    request = {
        "arguments": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ),
        "files": files,
    }  # fmt: skip
    data = json.dumps(request).encode()
    socket.send_fds(server, [len(data).to_bytes(4)], files)
    server.sendall(data)
    for number in files:  # a pipe is to end when the copy ends it
        os.close(number)


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def hand_on_signals(copy: int) -> None:
    def hand_on(number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(copy, number)

    for number in FORWARDED:
        signal.signal(number, hand_on)


def receive(server: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = server.recv(size - len(data))
        if not part:
            raise SystemExit("the server of warm processes has gone")
        data += part
    return data


def end_as(status: int) -> None:
    """End with the exit status or by the signal of ``status``, as ``waitpid`` tells it."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        if -code in FORWARDED or -code == signal.SIGPIPE:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main()
