"""Where the time went, and which stage is named for it."""

import pytest

from vsr.cli.console import print_stats
from vsr.progress import Boundary, Speedometer, stage_times
from vsr.report import Report


def boundaries() -> list[Boundary]:
    decode = Boundary("decode", producing=3.0, blocked_put=6.0, blocked_get=1.0)
    upscale = Boundary("upscale", producing=3.0, blocked_put=5.0, blocked_get=4.0)
    return [decode, upscale]


def test_each_stage_is_busy_or_waits() -> None:
    decode, upscale, encode = stage_times(boundaries(), 10.0)
    assert (decode.busy, decode.waited_for_input, decode.waited_for_output) == (3.0, 0.0, 6.0)
    assert (upscale.busy, upscale.waited_for_input, upscale.waited_for_output) == (2.0, 1.0, 5.0)
    assert (encode.busy, encode.waited_for_input, encode.waited_for_output) == (6.0, 4.0, 0.0)
    assert [stage.load for stage in (decode, upscale, encode)] == [3.0, 2.0, 6.0]


def test_a_gpu_works_for_the_stage_that_tells_it_to() -> None:
    stages = stage_times(boundaries(), 10.0, device=9.5)
    assert [stage.device for stage in stages] == [None, 9.5, None]
    assert [stage.load for stage in stages] == [3.0, 9.5, 6.0]


def test_speed_counts_from_the_start_until_the_window_is_full(monkeypatch) -> None:
    now = 100.0
    monkeypatch.setattr("vsr.progress.time.monotonic", lambda: now)
    speed, found = Speedometer(done=50), []
    for done, at in ((51, 101.0), (52, 101.001), (62, 106.0), (162, 111.0), (262, 116.0)):
        now = at
        found.append(speed.mark(done))
    assert found == pytest.approx([1, 2 / 1.001, 2, 112 / 11, 210 / 14.999], rel=0.01)


@pytest.mark.parametrize(("device", "slowest"), [(None, "encode"), (9.5, "upscale")])
def test_statistics_name_what_limits(
    capsys: pytest.CaptureFixture[str], device: float | None, slowest: str
) -> None:
    report = Report(
        frames=200, frames_before=100, reused=25, seconds=10.0,
        stages=stage_times(boundaries(), 10.0, device),
    )  # fmt: skip
    print_stats(report)
    lines = capsys.readouterr().err.splitlines()
    assert "25 of them (25.0 %) repeat the one before: not computed again" in lines
    (marked,) = [line for line in lines if "<- limits" in line]
    assert marked.startswith(slowest)
    assert any("9.5 s on the GPU, 95 %" in line for line in lines) == (device is not None)
