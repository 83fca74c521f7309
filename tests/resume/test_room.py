"""What a run needs on its disk is guessed within reason, and said only if it may not fit."""

import logging
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vsr.config import EncoderConfig, UpscaleConfig
from vsr.pipeline import upscale
from vsr.planning import Plan, make_plan
from vsr.resume.room import estimate_bytes, tell_of_room

FRAMES = 48

Planner = Callable[..., Plan]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds as cameras give them: grain over what moves, at 2 Mbit/s."""
    path = tmp_path_factory.mktemp("clip") / "in.mp4"
    picture = f"testsrc2=s=160x120:r=24:d={FRAMES / 24},noise=alls=6:allf=t"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", picture, "-pix_fmt", "yuv420p"]
    subprocess.run([*command, "-c:v", "mpeg4", "-b:v", "2M", str(path)], check=True)
    return path


@pytest.fixture
def plan(clip: Path, tmp_path: Path) -> Iterator[Planner]:
    """Plans a run of the clip; the output's name chooses the container."""
    with ExitStack() as stack:

        def make(name: str = "out.mkv", codec: str | None = None, **kw: Any) -> Plan:
            encoder = EncoderConfig(codec=codec) if codec else EncoderConfig()
            plain: dict[str, Any] = {"input": clip, "model": "identity", "device": "cpu"}
            config = UpscaleConfig(**(plain | kw), output=tmp_path / name, encoder=encoder)
            return make_plan(config, stack)

        yield make


def guess(plan: Plan) -> int:
    size = estimate_bytes(plan)
    assert size is not None
    return size


@pytest.mark.parametrize(
    ("name", "codec"), [("out.mkv", "ffv1"), ("out.mov", "prores_ks"), ("out/%03d.png", None)]
)
def test_what_the_samples_tell(plan, name, codec):
    """The guess and what is written differ by a factor of four at most."""
    planned = plan(name, codec)
    config = planned.config
    upscale(config)
    written = config.output.parent.glob(config.output.name.replace("%03d", "*"))
    size = sum(path.stat().st_size for path in written)
    assert size / 4 < guess(planned) < 4 * size


def test_of_raw_video_the_guess_is_exact(plan):
    assert guess(plan("out.mkv", "rawvideo")) == FRAMES * 160 * 120 * 3 // 2


def test_what_the_bit_rate_tells(plan, clip):
    """As many bits for a pixel as the source has: of four times the pixels, four times as many."""
    same, twice = guess(plan()), guess(plan(model="lanczos", scale=2))
    assert same == pytest.approx(clip.stat().st_size, rel=0.05)
    assert twice == pytest.approx(4 * same, rel=0.001)


def test_a_part_needs_less(plan):
    assert guess(plan(frames=12)) == pytest.approx(guess(plan()) / 4, rel=0.001)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Of the room; planning talks, too, where a test before has asked for it."""
    return [one.getMessage() for one in caplog.records if one.name.startswith("vsr.resume")]


def test_what_nothing_tells(plan, tmp_path, clip, caplog, disk):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    command = ["ffmpeg", "-v", "error", "-i", str(clip), "-frames:v", "2"]
    subprocess.run([*command, str(pictures / "%d.png")], check=True)
    planned = plan(input=pictures / "%d.png")
    assert estimate_bytes(planned) is None  # pictures have no bit rate
    with caplog.at_level(logging.INFO, "vsr.resume"):
        raw = 2 * 160 * 120 * 3
        disk(2 * raw)
        tell_of_room(planned, tmp_path, copies=2)
        assert said(caplog) == []
        disk(raw)
        tell_of_room(planned, tmp_path, copies=2)
    assert said(caplog) == [
        "how much room is needed is not known before the first segment is finished"
    ]


@pytest.mark.parametrize(("seconds", "told"), [(0.5, True), (5, False)])
def test_a_source_of_unknown_length_is_told_of_if_it_is_longer_than_a_segment(
    tmp_path, clip, caplog, seconds, told
):
    live, line = tmp_path / "live.mkv", "not known: nothing says how long the source is"
    command = ["ffmpeg", "-v", "error", "-i", str(clip), "-c", "copy", "-f", "matroska"]
    subprocess.run([*command, "-live", "1", str(live)], check=True)
    config = UpscaleConfig(
        input=live, output=tmp_path / "out.mkv", model="identity", device="cpu",
        segment_seconds=seconds,
    )  # fmt: skip
    with caplog.at_level(logging.INFO, "vsr.resume"):
        upscale(config)
    assert len([one for one in said(caplog) if "how much room" in one]) == told
    assert (line in caplog.text) == told


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], None]:
    """Make the disk have so many bytes free."""
    usage = shutil.disk_usage(tmp_path)
    return lambda free: monkeypatch.setattr(
        shutil, "disk_usage", lambda path: usage._replace(free=free)
    )


@pytest.mark.parametrize("copies", [1, 2])
def test_a_disk_that_may_be_too_small(plan, tmp_path, disk, caplog, copies):
    planned = plan()
    needed = copies * guess(planned)
    with caplog.at_level(logging.INFO, "vsr.resume"):
        disk(needed)
        tell_of_room(planned, tmp_path, copies=copies)
        assert said(caplog) == []
        disk(needed - 1)
        tell_of_room(planned, tmp_path, copies=copies)
    twice = ": segments and the finished file are there at once" if copies == 2 else ""
    amount = f"{needed / 1e3:.1f} kB"
    assert said(caplog) == [
        f"the disk of {tmp_path} has {amount} free, and about {amount} may be needed, guessed from "
        f"the source{twice}"
    ]


def test_large_amounts_are_said_in_gigabytes(plan, tmp_path, disk, caplog):
    disk(12_345_678_901)
    tell_of_room(plan(), tmp_path, copies=100_000)
    assert "has 12.3 GB free, and about " in caplog.text


def test_a_run_that_goes_on_says_nothing_of_it(plan, disk, caplog):
    """Its segments tell more than a guess."""
    disk(1000)
    config = plan(segment_seconds=0.5).config
    stopped = iter([False] * 20 + [True] * 100)
    upscale(config, should_stop=lambda: next(stopped))
    assert "guessed from the source" in caplog.text
    caplog.clear()
    upscale(replace(config, resume=True))
    assert "guessed" not in caplog.text
    assert "kB short" in caplog.text
