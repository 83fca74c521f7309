"""Relative paths lead where the caller meant them to, whatever scripts do to the process."""

import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import vsr
from vsr.errors import SourceError
from vsr.places import AnchoredPath, anchored, working_in

SCRIPT = """
import os, time
import vapoursynth as vs
before = os.getcwd()
for _ in range(20):
    time.sleep(0.02)
    assert os.getcwd() == before == os.path.dirname(__file__)
vs.core.std.BlankClip(width=64, height=48, length=3).set_output()
"""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """Another thread evaluates a script in this folder."""
    moved, over = threading.Event(), threading.Event()
    (folder := tmp_path / "elsewhere").mkdir()

    def evaluate() -> None:
        with working_in(folder):
            moved.set()
            over.wait(60)

    thread = threading.Thread(target=evaluate)
    thread.start()
    assert moved.wait(10)
    yield folder
    over.set()
    thread.join()


def test_runs_of_several_threads_write_where_they_were_told(
    make_clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("vapoursynth", exc_type=ImportError)
    (work := tmp_path / "work").mkdir()
    (work / "in.mkv").symlink_to(make_clip("in.mkv", frames=3))
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "s.vpy").write_text(SCRIPT)
    monkeypatch.chdir(work)
    before = sys.stdout

    def run(source: str, target: str) -> vsr.Report:
        config = vsr.UpscaleConfig(input=Path(source), output=Path(target), model="identity")
        return vsr.upscale(config)

    sources = ["../a/s.vpy", "../b/s.vpy", "in.mkv"]
    with ThreadPoolExecutor(3) as pool:
        reports = list(pool.map(run, sources, targets := ["a.mkv", "b.mkv", "c.mkv"]))
    assert (Path.cwd(), sys.stdout) == (work, before)
    assert [str(report.output) for report in reports] == targets
    assert sorted(os.listdir(work)) == ["a.mkv", "b.mkv", "c.mkv", "in.mkv"]
    assert [os.listdir(tmp_path / name) for name in "ab"] == [["s.vpy"]] * 2


def test_a_run_beside_a_script_goes_by_where_it_was(make_clip, elsewhere: Path) -> None:
    config = vsr.UpscaleConfig(input=Path("no.mkv"), output=Path("out.mkv"))
    (elsewhere / "no.mkv").symlink_to(make_clip("in.mkv", frames=3))
    with pytest.raises(SourceError, match=r"^no.mkv: no such file"):
        vsr.upscale(config)
    with pytest.raises(SourceError, match=r"^no.mkv: "):
        vsr.open_source("no.mkv")


def test_what_belongs_to_an_anchored_path_is_anchored(elsewhere: Path) -> None:
    home = elsewhere.parent
    path = AnchoredPath("a/b.mkv", folder=str(home))
    assert (str(path), os.fspath(path), path) == ("a/b.mkv", f"{home}/a/b.mkv", Path("a/b.mkv"))
    (home / "a").mkdir()
    path.with_name("c.mkv").write_text("c")
    assert [os.fspath(found) for found in path.parent.iterdir()] == [f"{home}/a/c.mkv"]
    assert [str(found) for found in path.parent.glob("*.mkv")] == ["a/c.mkv"]
    assert path.absolute() == home / "a" / "b.mkv"


def test_what_needs_no_anchor_has_none(elsewhere: Path, tmp_path: Path) -> None:
    for path in (Path("-"), tmp_path / "a.mkv"):
        assert anchored(path) is path
    assert isinstance(anchored(Path("a.mkv")), AnchoredPath)
    assert os.fspath(anchored(Path("a.mkv"))) != str(elsewhere / "a.mkv")


def test_a_script_within_a_script_comes_back_to_it(tmp_path: Path) -> None:
    before = Path.cwd()
    (inner := tmp_path / "inner").mkdir()
    with working_in(tmp_path):
        with working_in(inner):
            assert Path.cwd() == inner
        assert Path.cwd() == tmp_path
        with pytest.raises(FileNotFoundError), working_in(tmp_path / "nothing"):
            pass
        assert Path.cwd() == tmp_path
    assert Path.cwd() == before
