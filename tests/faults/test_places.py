"""Where a film goes: disks that fill up, folders that vanish, names that are something else."""

import os
import shutil
import stat
import subprocess

import pytest

from vsr.beside import lock_path


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a MiB, empty."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("name", ["out.mkv", "out.mp4"])
def test_a_disk_that_fills_up(film, small_disk, name):
    codec = ("-c:v", "libx264", "--crf", "0", "--preset", "ultrafast")
    options = (*codec, "--size", "640x480", "--segment-seconds", "0.25")
    target = small_disk / name
    text = film.fail("No space left on device", target=target, options=options, keeps=None)
    left = {path.name for path in small_disk.iterdir()}
    assert left <= {f"{name}.parts"}, left
    assert ("--resume goes on" in text) == bool(left)
    assert not list(small_disk.rglob("*.part")), "half-written files take up the room"


def test_a_full_disk_in_one_go(film, small_disk):
    options = ("--size", "320x240", "--segment-seconds", "0")
    target = small_disk / "out.mkv"
    film.fail("No space left on device", target=target, options=options, keeps=None)
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize("seconds", ["0", "0.5"])
def test_a_folder_that_disappears(film, at_frame, seconds):
    at_frame(20, lambda: shutil.rmtree(film.target.parent))
    film.fail("out.mkv", options=("--segment-seconds", seconds), keeps=None)
    assert not film.target.parent.exists()


def test_a_name_that_is_a_fifo(film):
    os.mkfifo(film.target)
    film.fail("is not a regular file", keeps=film.target)
    film.fail("is not a regular file", options=("-y",), keeps=film.target)
    assert stat.S_ISFIFO(film.target.stat().st_mode)


def test_a_name_that_is_a_folder(film):
    film.target.mkdir()
    film.fail("out.mkv", options=("-y",), keeps=film.target)
    assert list(film.target.iterdir()) == []


def test_a_device_that_is_full(film):
    film.target.symlink_to("/dev/full")
    film.fail("is not a regular file", options=("-y",), keeps=film.target)
    before = set(os.listdir("/dev"))
    film.fail("is not a regular file", target="/dev/full", keeps=film.target)
    options = ("-f", "nut", "-y")
    film.fail("is not a regular file", target="/dev/full", options=options, keeps=film.target)
    assert set(os.listdir("/dev")) == before


def test_a_link_stays_one(film, tmp_path):
    """Only with -y, which was asked for."""
    real = tmp_path / "elsewhere" / "real.mkv"
    real.parent.mkdir()
    real.write_bytes(b"precious")
    film.target.symlink_to(real)
    film.fail("already exists; -y replaces it", code=3, keeps=film.target)
    assert real.read_bytes() == b"precious"
    assert film.run("-y")[0] == 0
    assert film.target.is_symlink()
    assert film.is_whole()
    assert [path.name for path in real.parent.iterdir()] == ["real.mkv"]


@pytest.mark.parametrize("options", [(), ("-y",), ("--resume",)])
def test_a_link_that_leads_nowhere(film, tmp_path, options):
    film.target.symlink_to(tmp_path / "not-there.mkv")
    film.fail("is a link that leads nowhere", options=options, keeps=film.target)
    assert not (tmp_path / "not-there.mkv").exists()


@pytest.mark.parametrize(
    ("link", "name", "words"),
    [
        ("out.mkv", "out.mkv", "out.mkv: is a link that leads nowhere"),
        ("loop", "loop/out.mkv", "there is no directory"),
    ],
)
def test_a_link_that_leads_to_itself(film, link, name, words):
    folder = film.target.parent
    (folder / link).symlink_to(link)
    assert "internal" not in film.fail(words, target=folder / name, keeps=folder / link)


def test_links_in_place_of_what_a_run_makes_are_not_followed(film, tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    lock = lock_path(film.target)
    lock.symlink_to(victim)
    film.fail("out.mkv: cannot be created", keeps=lock)
    lock.unlink()
    film.work.symlink_to(tmp_path, target_is_directory=True)
    for option in ("--restart", "--resume"):
        film.fail("is no work folder", options=(option,), keeps=film.work)
    film.work.unlink()
    beside = [film.target.with_name(f"out.mkv.{kind}") for kind in ("json", "framemd5")]
    for path in beside:
        path.symlink_to(victim)
    assert film.run("-y", "--record", "--framemd5")[0] == 0
    assert not any(path.is_symlink() for path in beside)
    assert victim.read_bytes() == b"precious"
