"""The lock of an output, where it is another user's or another machine's, or cannot be had."""

import errno
import os
import platform
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vsr.beside import lock_path
from vsr.errors import SinkError
from vsr.resume import lock
from vsr.resume.lock import leave_note, locked, read_note


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.mkv"


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lock files that exist are another user's, also if the tests run as root."""
    opened = os.open

    def open_as_another(path: Path, flags: int, mode: int = 0o777) -> int:
        if Path(path).suffix == ".lock" and flags & os.O_RDWR and os.path.lexists(path):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", open_as_another)


@pytest.mark.usefixtures("others")
def test_another_user_s_run_is_named(output: Path) -> None:
    with locked(output):
        words = rf"out\.mkv: another run is writing it \(process {os.getpid()}\)"
        with pytest.raises(SinkError, match=words), locked(output):
            pytest.fail("locked twice")
    with locked(output):
        pass


@pytest.mark.usefixtures("others")
def test_what_another_user_s_run_has_left_is_named(output: Path) -> None:
    lock_path(output).write_text("7\n")
    words = r"/\.out\.mkv\.lock: cannot be written: Permission denied; .* another user's run"
    with pytest.raises(SinkError, match=words), locked(output):
        pytest.fail("locked without a lock")
    assert lock_path(output).read_text() == "7\n"


@pytest.mark.usefixtures("others")
def test_a_pipe_in_its_place_is_not_waited_for(output: Path) -> None:
    os.mkfifo(lock_path(output))
    with pytest.raises(SinkError, match=r"/\.out\.mkv\.lock: cannot be written"), locked(output):
        pytest.fail("locked by a pipe")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to(output: Path) -> None:
    output.parent.chmod(0o500)
    words = r"/out\.mkv: cannot be created: Permission denied"
    with pytest.raises(SinkError, match=words), locked(output):
        pytest.fail("locked without a lock")


# Locks that do not work.


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats and patience are a hundred times as short."""
    monkeypatch.setattr(lock, "_BEAT", 0.05)
    monkeypatch.setattr(lock, "_PATIENCE", 0.3)


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A share whose server has none."""

    def fail(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", fail)


def sign_as_another(output: Path, host: str = "render7") -> Path:
    """Leave a lock's file as of a run on another machine."""
    path = lock_path(output)
    path.write_text(f"{f'4711 11111111-2222-3333-4444-555555555555 {host}':<120}\n")
    return path


@pytest.fixture
def at_work(output: Path) -> Iterator[Path]:
    """A run of another machine, whose lock does not hold on this one."""
    path, over = sign_as_another(output), threading.Event()

    def work() -> None:
        while not over.wait(0.05):
            os.utime(path)

    thread = threading.Thread(target=work)
    thread.start()
    yield path
    over.set()
    thread.join()


@pytest.mark.usefixtures("hasty")
def test_a_run_of_another_machine_is_seen_though_its_lock_is_not(
    output: Path, at_work: Path
) -> None:
    before = at_work.read_bytes()
    words = r"out\.mkv: another run is writing it \(process 4711 on render7\)$"
    with pytest.raises(SinkError, match=words), locked(output):
        pytest.fail("locked twice")
    assert at_work.read_bytes() == before


@pytest.mark.usefixtures("hasty")
def test_a_dead_run_of_another_machine_blocks_nobody(output: Path) -> None:
    path = sign_as_another(output)
    with locked(output) as alone:
        assert alone
        assert path.read_text().startswith(f"{os.getpid()} ")
    assert not path.exists()


def test_a_lock_that_was_left_long_ago_is_not_waited_for(output: Path) -> None:
    os.utime(sign_as_another(output), (1, 1))
    began = time.monotonic()
    with locked(output):
        assert time.monotonic() - began < 1


@pytest.mark.usefixtures("hasty", "without_locks")
def test_without_locks_it_is_said_and_a_run_is_seen(
    output: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with locked(output) as alone:
        assert not alone
        assert "its disk has no locks (No locks available): do not begin another" in caplog.text
        words = rf"another run is writing it \(process {os.getpid()}\)$"
        with pytest.raises(SinkError, match=words), locked(output):
            pytest.fail("locked twice")
        assert lock_path(output).exists()
    assert not lock_path(output).exists()


@pytest.mark.usefixtures("hasty")
def test_a_run_that_ends_while_it_is_watched(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file is gone then: the lock is to be on one that has the name."""
    path = sign_as_another(output)
    monkeypatch.setattr(time, "sleep", lambda seconds: path.unlink(missing_ok=True))
    with locked(output):
        assert path.read_text().split()[::2] == [str(os.getpid()), platform.node()]


def test_a_note_stands_behind_the_longest_line(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "node", lambda: "long" * 50)
    with locked(output):
        leave_note(output, "{}")
        assert read_note(output) == "{}"
