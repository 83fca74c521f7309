"""The file and its name: when it appears, and what is left when something goes wrong."""

import errno
import os
import resource
import stat
import subprocess
import tempfile
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import pytest

from vsr.encoding.stills import find_stills
from vsr.errors import SinkError
from vsr.sinks import FrameMd5Sink, NullSink
from vsr.sinks.staging import Staging


def test_name_appears_only_when_the_file_is_complete(tmp_path, tools):
    path, info = tmp_path / "out.mp4", tools.info()
    with tools.open(path, info) as sink:
        sink.write(tools.frame(info, 0))
        assert not path.exists()
        assert len(list(tmp_path.iterdir())) == 1
        assert sink.finish() == path
        assert list(tmp_path.iterdir()) == [path]
        assert sink.finish() == path
        sink.abort()
    assert list(tmp_path.iterdir()) == [path]
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def interrupt(tools, path, info, frame) -> None:
    with tools.open(path, info, overwrite=True) as sink:
        sink.write(frame)
        raise KeyboardInterrupt


def test_error_leaves_nothing_and_harms_nothing(tmp_path, tools):
    path, info = tmp_path / "out.mp4", tools.info()
    path.write_bytes(b"precious")
    with pytest.raises(KeyboardInterrupt):
        interrupt(tools, path, info, tools.frame(info, 0))
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"precious"


def test_overwriting_replaces_the_target_of_a_link(tmp_path, tools):
    (tmp_path / "disk").mkdir()
    target, link = tmp_path / "disk" / "real.mp4", tmp_path / "out.mp4"
    target.write_bytes(b"old")
    link.symlink_to(target)
    sink = tools.write(link, tools.info(), [(0, 40)], overwrite=True)
    assert sink.finish() == link
    assert link.is_symlink()
    assert tools.probe(target).video


def test_what_is_left_of_a_link_to_another_folder_is_there(tmp_path, tools, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("a", "b"):
        Path(folder).mkdir()
    link, info = Path("a", "out.mkv"), tools.info()
    link.symlink_to(tmp_path / "b" / "real.mkv")
    with FrameMd5Sink(tools.open(link, info, codec="ffv1"), info) as sink:
        sink.write(tools.frame(info, 0))
        kept = sink.keep_partial()
    assert kept == (tmp_path / "b" / "real.partial.mkv").resolve()
    names = sorted(p.name for p in Path("b").iterdir())
    assert names == ["real.partial.mkv", "real.partial.mkv.framemd5"]
    Path("c").symlink_to("b")  # what a user said is said to the user, where it leads there
    with tools.open(Path("c", "out.mkv"), info) as sink:
        sink.write(tools.frame(info, 0))
        assert sink.keep_partial() == Path("c", "out.partial.mkv")


def test_file_that_appeared_meanwhile_is_not_replaced(tmp_path, tools):
    path, info = tmp_path / "out.mp4", tools.info()
    sink = tools.open(path, info)
    sink.write(tools.frame(info, 0))
    path.write_bytes(b"precious")
    with pytest.raises(SinkError, match=r"appeared meanwhile.*out\.partial\.mp4"):
        sink.finish()
    assert path.read_bytes() == b"precious"
    assert tools.probe(tmp_path / "out.partial.mp4").video


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_what_replaces_a_private_file_is_private(tmp_path, tools, mode):
    path, info = tmp_path / "out.mkv", tools.info()
    path.write_bytes(b"old")
    owner = (65534, 65534) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(path, *owner)
    path.chmod(mode)
    with FrameMd5Sink(tools.open(path, info, codec="ffv1", overwrite=True), info) as sink:
        (hidden,) = tmp_path.glob(".*.part")
        assert stat.S_IMODE(hidden.stat().st_mode) & ~mode & 0o077 == 0
        sink.write(tools.frame(info, 0))
    for written in (path, tmp_path / "out.mkv.framemd5"):
        found = written.stat()
        assert stat.S_IMODE(found.st_mode) == mode
        assert (found.st_uid, found.st_gid) == owner
    assert tools.probe(path).video


def test_a_result_that_cannot_have_its_name_is_kept(tmp_path, tools, monkeypatch):
    path, info, replace = tmp_path / "out.mkv", tools.info(), os.replace
    path.write_bytes(b"precious")

    def replacing_others(source, target):
        if target == path:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        replace(source, target)

    monkeypatch.setattr(os, "replace", replacing_others)
    sink = tools.open(path, info, overwrite=True)
    sink.write(tools.frame(info, 0))
    with pytest.raises(SinkError, match=r"not permitted.*; the result is in .*out\.partial\.mkv$"):
        sink.finish()
    assert path.read_bytes() == b"precious"
    assert tools.probe(tmp_path / "out.partial.mkv").video
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_a_file_of_somebody_else_in_a_sticky_folder_is_refused_at_once(tools):
    with tempfile.TemporaryDirectory() as name:  # pytest's own are closed to other users
        folder = Path(name)
        folder.chmod(0o1777)
        path = folder / "out.mkv"
        path.write_bytes(b"precious")
        (folder / "1.png").write_bytes(b"precious")
        os.seteuid(65534)
        try:
            refused(tools, path, tools.info(), "somebody else's", overwrite=True)
            stills = find_stills(folder / "%d.png", None)
            assert stills is not None
            with pytest.raises(SinkError, match=r"1\.png: is somebody else's"):
                Staging(folder / "%d.png", stills, overwrite=True)
            assert len(list(folder.iterdir())) == 2
            mine = folder / "mine.mkv"
            mine.write_bytes(b"old")
            tools.write(mine, tools.info(), [(0, 40)], overwrite=True)
        finally:
            os.seteuid(0)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_interrupted_run_leaves_a_playable_part(tmp_path, tools, suffix):
    path, info = tmp_path / f"out.{suffix}", tools.info(sar=Fraction(16, 15))
    for name in (f"out.partial.{suffix}", f"out.partial2.{suffix}"):
        with tools.open(path, info) as sink:
            for pts, duration in tools.schedule([40] * 5):
                sink.write(tools.frame(info, pts, duration))
            assert sink.keep_partial() == tmp_path / name
        found = tools.probe(tmp_path / name)
        assert tools.milliseconds(found.duration) == 200
        assert found.video[0]["sample_aspect_ratio"] == "16:15"
    assert not path.exists()


def test_strange_names(tmp_path, tools):
    for name in ("a:b.mkv", "pipe:1.mkv", "ü %d ' \".mkv", "x" * 240 + ".mkv"):
        tools.write(tmp_path / name, tools.info(), [(0, 40)], codec="ffv1")
        assert sorted(p.name for p in tmp_path.iterdir()) == [name]
        (tmp_path / name).unlink()


def refused(tools, path, info, match, **kw) -> None:
    with pytest.raises(SinkError, match=match) as error:
        tools.open(path, info, **kw)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_outputs_that_cannot_be(tmp_path, tools):
    info = tools.info()
    (tmp_path / "there.mp4").write_bytes(b"x")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "device.mkv").symlink_to("/dev/null")
    refused(tools, tmp_path / "there.mp4", info, "already exists; -y replaces it")
    refused(tools, tmp_path / "folder.mp4", info, "is a directory", overwrite=True)
    refused(tools, tmp_path / "device.mkv", info, "not a regular file", overwrite=True)
    refused(tools, tmp_path / "missing" / "a.mp4", info, "there is no directory")
    refused(tools, Path("/proc/a.mp4"), info, "cannot be created")
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"there.mp4", "folder.mp4", "device.mkv"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(tmp_path, tools):
    tmp_path.chmod(0o500)
    refused(tools, tmp_path / "a.mp4", tools.info(), "Permission denied")
    tmp_path.chmod(0o700)


@contextmanager
def file_size_limit(size: int):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))  # Python ignores the signal: EFBIG
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_full_disk_while_writing(tmp_path, tools, suffix):
    path, info = tmp_path / f"out.{suffix}", tools.info(width=320, height=240)
    expected = pytest.raises(SinkError, match=r"out\.\w+: cannot be written: File too large$")
    with expected as error, file_size_limit(200_000):
        tools.write(path, info, tools.schedule([40] * 50), codec="ffv1")
    assert str(error.value).count("\n") == 0
    names = {(Path(entry.path).name, entry.name) for entry in error.traceback}
    assert ("media.py", "write") in names  # not only at the end
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_full_disk_at_the_end(tmp_path, tools, suffix):
    """All frames fit into buffers: closing the file is what fails."""
    path, info = tmp_path / f"out.{suffix}", tools.info()
    with tools.open(path, info, codec="libx264", preset="medium") as sink:
        for pts, duration in tools.schedule([40] * 8):
            sink.write(tools.frame(info, pts, duration))
        with file_size_limit(4096), pytest.raises(SinkError, match="File too large"):
            sink.finish()
    assert list(tmp_path.iterdir()) == []


def test_full_disk_at_the_end_of_raw_frames(tmp_path, tools):
    info = tools.info()
    with tools.open(tmp_path / "out.y4m", info) as sink:
        sink.write(tools.frame(info, 0))
        with file_size_limit(4096), pytest.raises(SinkError, match="File too large"):
            sink.finish()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_really_full_disk(tmp_path, tools):
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        info = tools.info(width=320, height=240)
        with pytest.raises(SinkError, match=r"No space left on device$"):
            tools.write(tmp_path / "out.mp4", info, tools.schedule([40] * 20), codec="ffv1")
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_null_sink_counts(tools):
    with NullSink() as sink:
        sink.write(tools.frame(tools.info(), 0))
        sink.finish()
    assert (sink.frames, sink.notes) == (1, [])
