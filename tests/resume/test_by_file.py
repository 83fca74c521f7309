"""Sequences of pictures are gone on with file by file; groups of frames begin with segments."""

import itertools
import logging
import os
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
import torch

from vsr.config import UpscaleConfig
from vsr.engine.batching import in_groups
from vsr.errors import ConfigError, SinkError, SourceError
from vsr.frame import Colour, Frame, pixel_format
from vsr.pipeline import upscale
from vsr.resume.feed import Done, Feed
from vsr.resume.gaps import fill_gaps
from vsr.resume.picture_files import PictureWriter
from vsr.reuse import mark_repeats
from vsr.sinks.still_coder import StillCoder
from vsr.sources import open_source

FRAMES, SEGMENT = 26, 10


def config_for(clip: Path, output: Path) -> UpscaleConfig:
    return UpscaleConfig(
        input=clip, output=output, model="identity", device="cpu", segment_seconds=SEGMENT / 25
    )


def stop_after(config: UpscaleConfig, frames: int) -> Path:
    """Run ``config``, and stop it after so many frames; returns the work folder."""
    count = itertools.count(1)
    report = upscale(config, should_stop=lambda: next(count) >= frames)
    assert (report.output, report.kept_frames) == (None, frames)
    assert report.kept is not None
    return report.kept


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def whole(clip: Path, tmp_path: Path) -> dict[str, bytes]:
    upscale(config_for(clip, tmp_path / "whole" / "%03d.png"))
    return contents(tmp_path / "whole")


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Filled with the time of each frame that is encoded as a picture."""
    times: list[int] = []
    encode = StillCoder.encode

    def spy(self: StillCoder, frame: Frame, number: int) -> list[object]:
        times.append(frame.pts)
        return list(encode(self, frame, number))

    monkeypatch.setattr(StillCoder, "encode", spy)
    return times


def test_what_is_finished_is_not_made_again(clip, tmp_path, whole, encoded):
    config = config_for(clip, tmp_path / "out" / "%03d.png")
    encoded.clear()
    work = stop_after(config, 14)
    assert not (tmp_path / "out").exists()
    assert len(list((work / "pictures").iterdir())) == 14
    encoded.clear()
    report = upscale(replace(config, resume=True))
    assert (report.frames_before, report.frames, len(encoded)) == (14, FRAMES, FRAMES - 14)
    assert contents(tmp_path / "out") == whole
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "whole"]


def test_single_pictures_are_made_again(clip, tmp_path, whole, encoded, caplog):
    config = config_for(clip, tmp_path / "out" / "%03d.png")
    pictures = stop_after(config, 17) / "pictures"
    (pictures / "003.png").unlink()
    os.truncate(pictures / "008.png", 90)
    altered = bytearray((pictures / "014.png").read_bytes())
    altered[70] ^= 1
    (pictures / "014.png").write_bytes(altered)
    (pictures / "018.png").write_bytes(b"half")  # not entered when the run was killed
    encoded.clear()
    with caplog.at_level(logging.INFO, "vsr"):
        report = upscale(replace(config, resume=True))
    assert (report.frames_before, len(encoded)) == (14, 3 + FRAMES - 17)
    assert "picture 003.png is made again: it is missing" in caplog.text
    assert "picture 008.png is made again: it has 90 bytes instead of" in caplog.text
    assert "picture 014.png is made again: it has been altered" in caplog.text
    assert contents(tmp_path / "out") == whole


def test_a_log_that_is_cut_short(clip, tmp_path, whole, encoded):
    config = config_for(clip, tmp_path / "out" / "%03d.png")
    log = stop_after(config, 14) / "000001.log"
    log.write_bytes(log.read_bytes()[:-5] + b"\xff[[{")
    encoded.clear()
    assert upscale(replace(config, resume=True)).frames_before == 13
    assert len(encoded) == FRAMES - 13
    assert contents(tmp_path / "out") == whole


@pytest.mark.parametrize(("segment", "made"), [(0, 10), (1, 20), (2, FRAMES)])
def test_killed_before_a_segment_is_entered(
    clip, tmp_path, whole, encoded, monkeypatch, segment, made
):
    complete = PictureWriter._complete_index

    def kill(self: PictureWriter) -> None:
        if self.index.number == segment:
            raise KeyboardInterrupt
        complete(self)

    config = config_for(clip, tmp_path / "out" / "%03d.png")
    with monkeypatch.context() as patch:
        patch.setattr(PictureWriter, "_complete_index", kill)
        with pytest.raises(KeyboardInterrupt):
            upscale(config)
    encoded.clear()
    assert upscale(replace(config, resume=True)).frames_before == made
    assert len(encoded) == FRAMES - made
    assert contents(tmp_path / "out") == whole


@pytest.mark.parametrize("exists", [False, True])
def test_killed_while_pictures_get_their_names(clip, tmp_path, whole, encoded, monkeypatch, exists):
    config = config_for(clip, tmp_path / "out" / "%03d.png")
    if exists:
        (tmp_path / "out").mkdir()
    moved = itertools.count(1)
    replace_file, rename = os.replace, Path.rename

    def fail(source: Path, target: Path) -> None:
        if Path(target).suffix == ".png" and next(moved) > 7:
            raise OSError(5, os.strerror(5))
        replace_file(source, target)

    def fail_after(self: Path, target: Path) -> Path:
        rename(self, target)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        patch.setattr(Path, "rename", fail_after)
        with pytest.raises(SinkError if exists else KeyboardInterrupt):
            upscale(config)
    assert len(list((tmp_path / "out").glob("*.png"))) == (7 if exists else FRAMES)
    encoded.clear()
    assert upscale(replace(config, resume=True)).frames_before == FRAMES
    assert encoded == []
    assert contents(tmp_path / "out") == whole


def test_pictures_that_appeared_meanwhile_stay(clip, tmp_path):
    config = config_for(clip, tmp_path / "out" / "%03d.png")
    stop_after(config, 14)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "001.png").write_text("mine")
    with pytest.raises(SinkError, match=r"001\.png: already exists; -y replaces it"):
        upscale(replace(config, resume=True))
    assert (tmp_path / "out" / "001.png").read_text() == "mine"
    assert upscale(replace(config, resume=True, overwrite=True)).frames_before == 14
    assert len(list((tmp_path / "out").iterdir())) == FRAMES


# Groups of frames that go through the network together.


def frame(value: int, pts: int) -> Frame:
    plane = torch.full((4, 4), value, dtype=torch.uint8)
    return Frame(
        planes=(plane,), format=pixel_format("gray"), colour=Colour(), width=4, height=4,
        pts=pts, duration=1, time_base=Fraction(1, 25),
    )  # fmt: skip


def fresh_of(frames: Iterable[Frame], size: int) -> list[list[int]]:
    """Times of the frames that go through the network, group by group."""
    groups = ([f.pts for f in g if not f.repeats] for g in in_groups(frames, lambda _: size))
    return [group for group in groups if group]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_gone_on_with_in_the_same_groups(clip, size):
    mark = partial(mark_repeats, threshold=0)
    with open_source(clip) as source:
        frames = list(source)
    with open_source(clip) as source:
        all_groups = fresh_of(Feed(source, {}, SEGMENT, None).frames(mark), size)
    first = frames[:SEGMENT]
    done = Done(
        pts=array("q", [f.pts for f in first]), durations=array("q", [f.duration for f in first]),
        anchor="", timing=None,
    )  # fmt: skip
    with open_source(clip) as source:
        groups = fresh_of(Feed(source, {0: done}, SEGMENT, None).frames(mark), size)
    assert groups == [group for group in all_groups if group[0] >= frames[SEGMENT].pts]
    assert sum(map(len, all_groups)) < FRAMES  # some repeat others
    assert not any(g[0] < frames[SEGMENT].pts <= g[-1] for g in all_groups)


def marked(values: list[int]) -> Iterator[Frame]:
    return mark_repeats(frame(value, pts) for pts, value in enumerate(values))


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("seed", range(20))
def test_gaps_are_filled_in_the_same_groups(size, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 3, (24,), generator=generator).tolist()
    kept = set(torch.randperm(24, generator=generator)[: 2 + seed].tolist())
    whole = fresh_of(marked(values), size)
    filled = list(fill_gaps(marked(values), kept, lambda _: size))
    assert {place for place, _ in filled} >= set(range(24)) - kept
    if size == 1:
        assert {place for place, _ in filled} == set(range(24)) - kept
    groups = fresh_of((one for _, one in filled), size)
    alone = [g for g in groups if g not in whole]  # repeats of what is finished
    assert all(len(group) == 1 and values[group[0]] == values[group[0] - 1] for group in alone)
    shown = None
    for place, one in filled:
        if not one.repeats:
            shown = int(one.planes[0][0, 0])
        assert shown == values[place]


# Pictures as the input.


@pytest.fixture
def scans(clip: Path, tmp_path: Path) -> Path:
    """A folder of pictures from ``a`` to ``z``."""
    upscale(config_for(clip, tmp_path / "scans" / "%03d.png"))
    for path in (tmp_path / "scans").iterdir():
        path.rename(path.with_stem(chr(ord("a") + int(path.stem) - 1)))
    return tmp_path / "scans"


def broken_off(config: UpscaleConfig, scan: Path) -> bytes:
    """Run ``config`` up to ``scan``, which is damaged; returns what it was."""
    sound = scan.read_bytes()
    scan.write_bytes(sound[:200])
    with pytest.raises(SourceError, match=f"{scan.name}: cannot be decoded.* --resume goes on"):
        upscale(config)
    return sound


@pytest.mark.parametrize("output", ["out/%03d.png", "out.mkv"])
def test_a_damaged_picture_may_be_mended(scans, tmp_path, output, caplog):
    config = config_for(scans, tmp_path / output)
    sound = broken_off(config, scans / "r.png")
    (scans / "r.png").write_bytes(sound)
    with caplog.at_level(logging.INFO, "vsr"):
        report = upscale(replace(config, resume=True))
    assert "1 picture of those that are not finished changed, first r.png" in caplog.text
    assert (report.frames, report.frames_before > 0) == (FRAMES, True)
    if output.endswith("png"):
        made = contents(tmp_path / "out")
        assert [made[name] for name in sorted(made)] == [
            path.read_bytes() for path in sorted(scans.iterdir())
        ]


@pytest.mark.parametrize("filters", ["", "hflip"])
def test_a_picture_that_is_finished_must_not_change(scans, tmp_path, filters):
    config = replace(config_for(scans, tmp_path / "out" / "%03d.png"), filters=filters)
    sound = broken_off(config, scans / "r.png")
    (scans / "r.png").write_bytes(sound)
    changed = "r.png" if filters else "d.png"
    if not filters:
        os.utime(scans / "d.png")
    with pytest.raises(ConfigError, match=f"{changed} has changed since it was enlarged"):
        upscale(replace(config, resume=True))


def test_pictures_are_counted_from_the_start_of_a_part(scans, tmp_path):
    config = replace(config_for(scans, tmp_path / "out" / "%03d.png"), start=Fraction(10, 25))
    sound = broken_off(config, scans / "r.png")
    (scans / "r.png").write_bytes(sound)
    os.utime(scans / "c.png")  # of which nothing was made
    assert upscale(replace(config, resume=True)).frames == FRAMES - 10


def test_names_must_stay(scans, tmp_path):
    config = config_for(scans, tmp_path / "out" / "%03d.png")
    broken_off(config, scans / "r.png")
    (scans / "zz.png").write_bytes((scans / "a.png").read_bytes())
    with pytest.raises(ConfigError, match=f"input was {FRAMES} pictures, is {FRAMES + 1}"):
        upscale(replace(config, resume=True))
    (scans / "a.png").unlink()
    with pytest.raises(ConfigError, match=f"input was {FRAMES} pictures of other names; with"):
        upscale(replace(config, resume=True))
