"""Files that appear whole or not at all."""

import shutil
import subprocess
from pathlib import Path

import pytest

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
