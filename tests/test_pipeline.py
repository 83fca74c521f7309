"""Whole runs through the library."""

import threading
import weakref
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
import torch

import vsr
from vsr.config import EncoderConfig, UpscaleConfig
from vsr.engine import Engine
from vsr.errors import ConfigError, SinkError, SourceError
from vsr.networks.classical import Identity
from vsr.pipeline import upscale
from vsr.progress import Boundary, Progress, stage_times


@pytest.fixture(autouse=True)
def no_thread_is_left():
    """Whatever happens to a run, its threads end; those of other tests are their own affair."""
    before = set(threading.enumerate())
    yield
    assert [t for t in threading.enumerate() if t.name.startswith("vsr-") and t not in before] == []


def test_stage_times_name_the_slow_stage():
    decode = Boundary("decode", producing=1.0, blocked_put=8.0, blocked_get=0.5)
    network = Boundary("upscale", producing=9.5, blocked_put=0.2, blocked_get=8.0)
    stages = stage_times([decode, network], elapsed=10.0)
    assert [(s.name, s.busy) for s in stages] == [
        ("decode", 1.0),
        ("upscale", 9.0),
        ("encode", 2.0),
    ]
    assert max(stages, key=lambda s: s.busy).name == "upscale"


# Whole runs.


def packets(path, kind):
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [(p.pts * p.time_base, bytes(p)) for p in container.demux(stream) if p.size]


def frames(path):
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def test_identity_keeps_every_pixel_and_timestamp(make_clip, tmp_path):
    source, target = make_clip("in.mkv", codec="ffv1"), tmp_path / "out.mkv"
    config = UpscaleConfig(
        input=source, output=target, model="identity", encoder=EncoderConfig(codec="ffv1")
    )
    seen: list[Progress] = []
    report = vsr.upscale(config, on_progress=seen.append)
    before, after = frames(source), frames(target)
    assert report.frames == len(before) == len(after) == len(seen) == 12
    assert [f.pts * f.time_base for f in before] == [f.pts * f.time_base for f in after]
    for a, b in zip(before, after, strict=True):
        assert (a.to_ndarray() == b.to_ndarray()).all()
    assert packets(source, "audio") == packets(target, "audio")
    assert report.output == target
    assert seen[-1].frames == 12


def test_lanczos_doubles_the_picture(make_clip, tmp_path):
    source, target = make_clip("in.mp4"), tmp_path / "out.mp4"
    paths: Any = {"input": str(source), "output": str(target)}  # as people write them
    upscale(UpscaleConfig(model="lanczos", **paths))
    small, large = frames(source)[3], frames(target)[3]
    assert (large.width, large.height) == (2 * small.width, 2 * small.height)
    reduced = large.reformat(small.width, small.height, interpolation="AREA").to_ndarray()
    assert abs(reduced.astype(int) - small.to_ndarray().astype(int)).mean() < 2


def test_size_chooses_the_scale_and_keeps_the_shape(make_clip, tmp_path):
    source, target = make_clip("in.mp4"), tmp_path / "out.mp4"  # 64x48
    config = UpscaleConfig(input=source, output=target, model="lanczos", size=(192, 108))
    report = upscale(config)
    assert any("lanczos x3" in note for note in report.notes)
    with av.open(str(target)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (192, 108)
        shape = Fraction(192, 108) * stream.sample_aspect_ratio
    assert shape == Fraction(4, 3)


def test_trim(make_clip, tmp_path):
    source, target = make_clip("in.mkv", frames=48), tmp_path / "out.mkv"
    config = UpscaleConfig(
        input=source, output=target, model="identity", start=Fraction(1, 2), frames=6
    )
    assert upscale(config).frames == 6
    assert frames(target)[0].pts == 0
    first, _ = packets(target, "audio")[0]
    assert 0 <= first < Fraction(1, 20)


def test_stopping_leaves_a_playable_part_and_no_output(make_clip, tmp_path):
    source, target = make_clip("in.mp4", frames=48), tmp_path / "out.mp4"
    done: list[Progress] = []
    config = UpscaleConfig(input=source, output=target, model="identity")
    report = upscale(config, on_progress=done.append, should_stop=lambda: len(done) >= 5)
    assert report.interrupted
    assert not target.exists()
    assert report.output is not None
    assert len(frames(report.output)) == report.frames == 5


def test_an_error_in_the_network_stops_everything(make_clip, tmp_path, monkeypatch):
    def fail(self, x):
        raise RuntimeError("the card fell off the bus")

    monkeypatch.setattr(Identity, "forward", fail)
    target = tmp_path / "out.mp4"
    config = UpscaleConfig(input=make_clip("in.mp4"), output=target, model="identity")
    with pytest.raises(RuntimeError, match="fell off the bus"):
        upscale(config)
    assert list(tmp_path.glob("*out*")) == []


def test_discarding_counts_frames(make_clip):
    config = UpscaleConfig(input=make_clip("in.mp4"), output=None, model="identity")
    report = upscale(config)
    assert report.frames == 12
    assert report.output is None


def test_existing_output_is_untouched(make_clip, tmp_path):
    target = tmp_path / "out.mp4"
    target.write_bytes(b"precious")
    with pytest.raises(SinkError, match="already exists"):
        upscale(UpscaleConfig(input=make_clip("in.mp4"), output=target, model="identity"))
    assert target.read_bytes() == b"precious"


def test_input_is_not_overwritten(make_clip):
    source = make_clip("in.mp4")
    before = source.read_bytes()
    with pytest.raises(ConfigError, match="same file"):
        upscale(UpscaleConfig(input=source, output=source, model="identity", overwrite=True))
    assert source.read_bytes() == before


def test_missing_input(tmp_path):
    with pytest.raises(SourceError, match="no such file"):
        upscale(UpscaleConfig(input=tmp_path / "no.mp4", output=tmp_path / "o.mp4"))


def test_public_names():
    assert vsr.__all__ == sorted(vsr.__all__)
    assert set(vsr.__all__) <= set(dir(vsr))
    for name in vsr.__all__:
        assert getattr(vsr, name) is not None
    with pytest.raises(AttributeError):
        _ = vsr.nothing  # type: ignore[attr-defined]


def test_a_run_holds_the_frames_in_flight_not_the_film(make_clip, monkeypatch):
    planes: list[weakref.ref[torch.Tensor]] = []
    submit = Engine.submit

    def spy(self, frames):
        def noted():
            for frame in frames:
                planes.append(weakref.ref(frame.planes[0]))
                yield frame

        return submit(self, noted())

    monkeypatch.setattr(Engine, "submit", spy)
    alive: list[int] = []
    config = UpscaleConfig(input=make_clip("in.mp4", frames=90), output=None, model="identity")
    upscale(config, on_progress=lambda _: alive.append(sum(ref() is not None for ref in planes)))
    assert len(planes) == 90
    assert max(alive) <= 8


def test_progress_is_a_path_of_growing_frames(make_clip, tmp_path):
    seen: list[Progress] = []
    config = UpscaleConfig(
        input=make_clip("in.mp4"), output=Path(tmp_path / "o.mkv"), model="identity"
    )
    upscale(config, on_progress=seen.append)
    assert [p.frames for p in seen] == list(range(1, 13))
    assert seen[0].total == 12
    assert seen[-1].eta == 0
    assert seen[-1].position == Fraction(11, 24)


@pytest.mark.parametrize(
    ("name", "stored"), [("a.mp4", (120, 80)), ("a.mkv", (120, 80)), ("a.ts", (80, 120))]
)
def test_the_size_that_is_asked_for_is_the_one_that_is_seen(tmp_path, name, stored):
    """Of a phone's video, which lies on its side; MPEG-TS has no rotation."""
    source = tmp_path / "phone.mp4"
    with av.open(str(source), "w") as out:
        stream = out.add_stream("mpeg4", rate=25, width=60, height=40, pix_fmt="yuv420p")
        stream.set_display_matrix((0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30))
        picture = av.VideoFrame(60, 40, "yuv420p")
        picture.pts = 0
        out.mux([*stream.encode(picture), *stream.encode(None)])
    upscale(UpscaleConfig(input=source, output=tmp_path / name, model="lanczos", size=(80, 120)))
    with av.open(str(tmp_path / name)) as container:
        video = container.streams.video[0].codec_context
        assert (video.width, video.height) == stored
        if name != "a.ts":
            assert video.sample_aspect_ratio in (None, 1)
