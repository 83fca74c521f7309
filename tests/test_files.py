"""Files that appear whole or not at all."""

import errno
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from vsr.converting.writing import new_file
from vsr.errors import SinkError
from vsr.files import file_sha256, hidden_name, written_whole


def test_what_is_written_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("before")
    with written_whole(path) as part:
        part.write_text("after")
        assert path.read_text() == "before"
        assert part.name.startswith(".")
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


def test_what_outlasts_a_power_cut_is_on_the_disk_before_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, steps, synced = tmp_path / "out.json", list[str](), set[int]()
    fsync, rename = os.fsync, os.replace

    def note_sync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def note_rename(source: Path, target: Path) -> None:
        steps.append("name")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_rename)
    with written_whole(path) as part:
        part.write_text("passing")
    assert steps == ["name"]
    with written_whole(path, durable=True) as part:
        part.write_text("lasting")
    assert steps == ["name", "file", "name", "folder"]
    assert synced == {path.stat().st_ino, tmp_path.stat().st_ino}


def test_what_cannot_be_brought_to_the_disk_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    path = tmp_path / "out.json"
    path.write_text("before")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"), written_whole(path, durable=True) as part:
        part.write_text("after")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()], ids=["full", "Ctrl-C"])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    def fail() -> None:
        with written_whole(path) as part:
            part.write_text("half")
            raise error

    path = tmp_path / "out.json"
    path.write_text("before")
    with pytest.raises(type(error)):
        fail()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), written_whole(tmp_path / "out.json"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_converted_model_that_cannot_be_written(tmp_path: Path) -> None:
    """What the block itself fails at is not said of the output."""
    with (
        pytest.raises(SinkError, match=r"none/out: No such file or directory"),
        new_file(tmp_path / "none" / "out", overwrite=False),
    ):
        pytest.fail("the block was entered")
    with (
        pytest.raises(FileNotFoundError, match="weights"),
        new_file(tmp_path / "out", overwrite=False),
    ):
        (tmp_path / "weights").read_bytes()
    assert not list(tmp_path.iterdir())
    with (
        pytest.raises(SinkError, match=r"out: Is a directory"),
        new_file(tmp_path / "out", overwrite=False),
    ):
        (tmp_path / "out").mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_hidden_names_are_short_and_differ(tmp_path: Path) -> None:
    path = tmp_path / f"{'long' * 60}.mkv"
    names = {hidden_name(path) for _ in range(100)}
    assert len(names) == 100
    assert {name.parent for name in names} == {tmp_path}
    for name in names:
        name.touch()  # no file system takes more than 255 bytes


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
def test_a_hash_is_that_of_sha256sum(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(range(256)) * 999)
    said = subprocess.run(["sha256sum", str(path)], check=True, capture_output=True, text=True)
    assert file_sha256(path) == said.stdout.split()[0]
