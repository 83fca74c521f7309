"""What is measured of our own command, and the loop that it is compared with."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import av
import numpy as np
import torch

from vsr.benchmarks.jobs import Job
from vsr.benchmarks.measures import peak_mib
from vsr.benchmarks.ways import Case, Run
from vsr.colour import FromRgb, ToRgb
from vsr.device import choose_device
from vsr.frame import Frame
from vsr.pipeline import upscale
from vsr.planning import Plan
from vsr.sinks import open_sink
from vsr.stopwatch import synchronise

__all__ = ["STAGES", "converter", "run_command", "run_serial", "run_stages"]

STAGES = ("decode", "to RGB", "network", "from RGB", "encode")


def run_command(job: Job) -> dict[str, Any]:
    """The whole command: seconds from its first frame to the finished file, and its stages."""
    report = upscale(job.config)
    return {
        "seconds": report.seconds, "frames": report.frames, "reused": report.reused,
        "busy": {stage.name: stage.busy for stage in report.stages},
        "mib": peak_mib(choose_device(job.device)),
    }  # fmt: skip


def converter(plan: Plan, device: torch.device) -> ToRgb:
    """From the source's planes to R'G'B'."""
    info = plan.source.info
    return ToRgb(info.format, info.colour, info.width, info.height, device)


class _Clock:
    """Sums the time of stages that run one at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        synchronise(self._device)
        started = time.perf_counter()
        yield
        synchronise(self._device)
        self.seconds[stage] += time.perf_counter() - started


def run_stages(job: Job, plan: Plan, case: Case, run: Run) -> dict[str, Any]:
    """Every stage alone: nothing else runs meanwhile. Upload and download are in conversions."""
    clock = _Clock(case.device)
    with clock.time("decode"):
        frames = list(plan.source)
    middle = _Middle(plan, case, run)
    middle(frames[0], _Clock(case.device))  # chooses, compiles and captures what it will need
    results = [middle(frame, clock) for frame in frames]
    path = job.file("out.mp4")
    with clock.time("encode"), open_sink(path, plan.encoding, plan.info, overwrite=True) as sink:
        for result in results:
            sink.write(result)
    return {
        "frames": len(frames), "seconds": clock.seconds,
        "bytes": _moved(frames[0], results[0]), "mib": peak_mib(case.device),
    }  # fmt: skip


class _Middle:
    """What is between decoding and encoding, one stage after another."""

    def __init__(self, plan: Plan, case: Case, run: Run) -> None:
        self._info, self._device, self._run = plan.info, case.device, run
        self._to_rgb = converter(plan, case.device)
        height, width = case.shape
        self._from_rgb = FromRgb(plan.info.format, plan.info.colour, width, height, case.device)

    @torch.inference_mode()
    def __call__(self, frame: Frame, clock: _Clock) -> Frame:
        with clock.time("to RGB"):
            planes = tuple(plane.to(self._device) for plane in frame.planes)
            picture = self._to_rgb(frame.format.views(planes, frame.width, frame.height))
        with clock.time("network"):
            out = self._run(picture)
        with clock.time("from RGB"):
            components = self._from_rgb(out)
            if self._info.format.alpha:
                components = (*components, self._from_rgb.alpha(torch.ones_like(out)))
            delivered = self._info.format.planes(tuple(plane.cpu() for plane in components))
        info = self._info
        return Frame(
            planes=delivered, format=info.format, width=info.width, height=info.height,
            colour=info.colour, pts=frame.pts, time_base=frame.time_base, duration=frame.duration,
        )  # fmt: skip


def _moved(frame: Frame, result: Frame) -> dict[str, int]:
    """Bytes that conversions read and write at least, by stage; RGB is in float32."""
    rgb = [12 * picture.width * picture.height for picture in (frame, result)]
    coded = [
        sum(plane.numel() * plane.element_size() for plane in picture.planes)
        for picture in (frame, result)
    ]
    return {"to RGB": rgb[0] + coded[0], "from RGB": rgb[1] + coded[1]}


def run_serial(job: Job, plan: Plan, case: Case, run: Run) -> dict[str, Any]:
    """The loop of existing tools: decode, network and encode in turn, RGB of 8 bits between.

    The decoder, the encoder and its options are those of the command; FFmpeg converts.
    """
    options, done = plan.encoding.options, 0
    started = time.perf_counter()
    with ExitStack() as stack:
        source = stack.enter_context(av.open(job.clip))
        target = stack.enter_context(av.open(str(job.file("serial.mp4")), "w"))
        source.streams.video[0].thread_type = "AUTO"
        encoder = target.add_stream(plan.encoding.codec, rate=plan.info.rate, options=options)
        assert isinstance(encoder, av.VideoStream)
        encoder.height, encoder.width = case.shape
        encoder.pix_fmt = plan.encoding.format.name
        for frame in source.decode(video=0):
            target.mux(encoder.encode(_enlarged(frame, run, case.device)))
            done += 1
            if done == job.frames:
                break
        target.mux(encoder.encode(None))
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "frames": done, "mib": peak_mib(case.device)}


def _enlarged(frame: av.VideoFrame, run: Run, device: torch.device) -> av.VideoFrame:
    pixels = torch.from_numpy(frame.to_ndarray(format="rgb24"))
    picture = pixels.permute(2, 0, 1)[None].float().div(255).contiguous().to(device)
    out = run(picture)[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu()
    made = av.VideoFrame.from_ndarray(np.ascontiguousarray(out.numpy()), format="rgb24")
    made.pts, made.time_base = frame.pts, frame.time_base
    return made
