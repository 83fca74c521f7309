"""SIGKILL at moments that nobody chose, and at those that matter: then --resume."""

import shutil
import signal
import subprocess
import sys

import pytest

from vsr.beside import find_unfinished, unfinished_name
from vsr.cli import main
from vsr.resume import locked


def soak(root, *options):
    """A process of its own, since it forks the runs that it kills."""
    command = [sys.executable, root / "scripts" / "soak.py", "kills", *options]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_a_killed_run_goes_on_to_the_same_film(root):
    said = soak(root, "--times", "4", "--seed", "1", "--container", "mp4")
    assert said.endswith("4 runs killed, 4 with the same result\n")


@pytest.mark.parametrize("steps", [4, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_while_it_tidies_up(root, steps):
    """Before each of the last steps: joining, naming, and removing what nobody needs."""
    said = soak(root, "--last", str(steps), "--container", "mkv", "--", "-c:v", "ffv1")
    assert said.endswith(f"{steps} runs killed, {steps} with the same result\n")


def test_another_frame_or_time_would_be_noticed(scripts, tmp_path):
    kills = scripts("soak_kills")
    clip, cut = kills.make_clip(tmp_path / "in.mkv"), tmp_path / "cut.mkv"
    later = tmp_path / "later.mkv"
    copy = ["ffmpeg", "-v", "error", "-i", str(clip), "-c", "copy"]
    subprocess.run([*copy, "-frames:v", "47", str(cut)], check=True)
    subprocess.run([*copy, "-bsf:v", "setts=pts=PTS+1", str(later)], check=True)
    for changed in (cut, later):
        assert kills.packets(changed) != kills.packets(clip)


@pytest.mark.parametrize("name", ["out.y4m", "out/p%03d.png"])
def test_what_a_killed_run_had_begun_goes_with_the_next(name, long_clip, start, tmp_path):
    folder = tmp_path / "there"
    folder.mkdir()
    options = ("--model", "identity", "--segment-seconds", "0")
    run = start(long_clip, folder / name, *options).wait_for(4)
    run.send(signal.SIGKILL).end()
    left = [path.name for path in folder.iterdir()]
    assert any(path.endswith(".part") for path in left), left
    short = [*options, "--device", "cpu", "--frames", "2"]
    assert main([str(long_clip), str(folder / name), *short]) == 0
    assert [path.name for path in folder.iterdir()] == [name.split("/", maxsplit=1)[0]]


def test_only_what_the_holder_of_the_lock_can_know_is_left_over(tmp_path):
    """Whatever else is hidden there may be of a run at work, or somebody's own."""
    output = tmp_path / "out.mkv"
    with locked(output) as alone:
        assert alone
        left = [unfinished_name(output, tmp_path), tmp_path / ".out.mkv.0123abcd.part"]
        others = [
            unfinished_name(tmp_path / name, tmp_path)
            for name in ("out.y4m", "out.mkv.json", "out", "out.mk", "OUT.mkv", "x.out.mkv")
        ]
        others += [
            tmp_path / name
            for name in (".out.mkv.0123abcd", ".out.mkv.0123ABCD.part", ".out.mkv.part",
                         "out.mkv.0123abcd.part", ".out.mkv.0123abcd.parts",
                         ".out.mkv.00123abcd.part", ".out.mkv.0123abcd.part.part")
        ]  # fmt: skip
        for path in left + others:
            path.touch()
        assert sorted(find_unfinished(output)) == sorted(left)


def test_a_link_is_tidied_up_beside_it_and_beside_what_it_leads_to(tmp_path):
    real, link = tmp_path / "there" / "real.mkv", tmp_path / "here" / "link.mkv"
    for path in (real, link):
        path.parent.mkdir()
    link.symlink_to(real)
    left = [unfinished_name(link, path.parent) for path in (real, link)]
    # Of another run, whose output lies beside the link and is called like what that leads to.
    other = unfinished_name(link.with_name("real.mkv"), link.parent)
    with locked(link):
        for path in (*left, other):
            path.touch()
        assert find_unfinished(link) == left


def test_a_link_made_meanwhile_is_not_that_of_the_run_at_work(tmp_path):
    there, output = tmp_path / "there", tmp_path / "out.mkv"
    there.mkdir()
    with locked(output):
        at_work = unfinished_name(output, tmp_path)
        at_work.touch()
        output.symlink_to(there / "film.mkv")
        with locked(output) as alone:
            assert alone
            assert find_unfinished(output) == []
    assert find_unfinished(output) == [at_work]


@pytest.mark.parametrize("option", ["", "--audio-from"])
def test_what_a_run_reads_is_not_left_over(long_clip, tmp_path, option):
    """As where the unfinished file of a killed run is gone on from."""
    left, output = tmp_path / ".out.mkv.0123abcd.part", tmp_path / "out.mkv"
    shutil.copy(long_clip, left)
    read = [long_clip, output, option, left] if option else [left, output]
    options = ["--model", "identity", "--frames", "2"]
    assert main([*map(str, read), *options]) == 0
    assert sorted(tmp_path.iterdir()) == [left, output]
    assert left.read_bytes() == long_clip.read_bytes()


@pytest.mark.parametrize("name", ["new/%04d.png", "old/%04d.png", "old", "old/a.png"])
def test_pictures_are_begun_where_their_lock_tells_of_them(name, tmp_path):
    (tmp_path / "old").mkdir()
    output = tmp_path / name
    with locked(output):
        place = tmp_path if name.startswith("new") else tmp_path / "old"
        left = unfinished_name(output, place)
        left.mkdir()
        assert find_unfinished(output) == [left]
