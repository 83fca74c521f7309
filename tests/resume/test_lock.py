"""The lock of an output, where it is another user's: what is in the way has a name."""

import os
from pathlib import Path

import pytest

from vsr.beside import lock_path
from vsr.errors import SinkError
from vsr.resume.lock import locked


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
