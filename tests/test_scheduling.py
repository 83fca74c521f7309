"""An encoder that asks for real-time priority does not get it."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import pytest

import vsr
from vsr.encoding.scheduling import usual_scheduling

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's policies")


def policies() -> set[int]:
    found = set()
    for path in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):  # a thread may end meanwhile
            found.add(os.sched_getscheduler(int(path.name)))
    return found


def test_every_thread_of_a_run_is_scheduled_as_before(
    make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    before, seen = policies(), set[int]()
    config = vsr.UpscaleConfig(
        input=make_clip("in.mkv", frames=30), output=tmp_path / "out.mkv", model="identity",
        encoder=vsr.EncoderConfig(codec="libsvtav1", preset="12"),
    )  # fmt: skip
    vsr.upscale(config, on_progress=lambda _: seen.update(policies()))
    assert seen == policies() == before


def test_the_policy_is_the_callers() -> None:
    context = av.CodecContext.create("libsvtav1", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = 64, 64, "yuv420p"
    context.time_base, context.framerate = Fraction(1, 25), 25
    usual, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        others = policies()
        with usual_scheduling("libsvtav1"):
            context.open()
        assert policies() == others
    finally:
        os.sched_setscheduler(0, usual, priority)
