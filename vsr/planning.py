"""The decisions of a run, all taken before its first frame.

A :class:`Plan` holds everything that was chosen, opened and tried; :mod:`vsr.pipeline` runs it.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction

import torch

from vsr.choosing import AUTO, LOOKED_AT, SourceFacts, choose_model, estimate_noise
from vsr.config import PIPE, EncoderConfig, ScriptConfig, SourceConfig, UpscaleConfig
from vsr.device import choose_device, choose_dtype, describe, dtype_name, fits
from vsr.encoding import Encoding, choose_encoding, discarding
from vsr.encoding.counting import are_even, check_gaps, counted_rate
from vsr.encoding.encoding import has_rate_alone, largest_numerator
from vsr.encoding.muxers import HOLD_ROTATION, choose_muxer
from vsr.encoding.stills import Stills, choose_still_encoding, find_stills
from vsr.encoding.targets import resolve
from vsr.engine import Engine, RenderTarget, share_of_cores
from vsr.errors import DeviceError, SourceError
from vsr.frame import FieldOrder, Range, VideoInfo
from vsr.index import find_model, scale_reaching
from vsr.networks import Network
from vsr.orientation import Orientation, enlarged_matrix
from vsr.outputs import check_output
from vsr.runtimes import RUNTIME_NAMES, make_runtime
from vsr.sizes import enlarged_size, resized_sar, scale_to_reach, squared_size
from vsr.sources import VideoSource, open_source
from vsr.sources.listing import ImageList, find_images
from vsr.sources.times import read_times
from vsr.weights import load_network

__all__ = ["Plan", "make_plan", "spelt_out"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will be done, and with what."""

    config: UpscaleConfig
    source: VideoSource
    network: Network
    encoding: Encoding
    info: VideoInfo
    """Facts about the output."""
    engine: Engine
    notes: tuple[str, ...]
    """One line for every automatic decision about network, device and output."""


def make_plan(
    config: UpscaleConfig, stack: ExitStack, should_stop: Callable[[], bool] = lambda: False
) -> Plan:
    """Take every decision of a run.

    Args:
        config: what to do.
        stack: closes the source when the run is over.
        should_stop: polled while standard input is awaited; True ends the input as its end would.

    Raises:
        VsrError: a reason the user can act on; nothing has been written.
    """
    config = resolve(config)
    images = _find_input(config)
    stills = _find_stills(config, images)
    check_output(config, images, stills)
    named = _load_named(config)
    wanted = replace(_source_config(config), should_stop=should_stop)
    source = stack.enter_context(open_source(config.input, wanted))
    size = _stored_size(config, source.info, stills)
    if named is None:
        config, network, notes = _resolve_model(config, source, size)
    else:
        network, notes = named, ()
    encoding, info = _plan_output(config, source, network, size, stills)
    engine = _make_engine(config, network, encoding, source.info, info)
    described = _describe_run(network, engine, source.info, info, config)
    return Plan(
        config=config, source=source, network=network, encoding=encoding, info=info,
        engine=engine, notes=(*notes, *encoding.notes, described),
    )  # fmt: skip


def _source_config(config: UpscaleConfig) -> SourceConfig:
    return SourceConfig(
        input=config.source, script=config.script, decoder=config.decoder,
        audio_from=config.audio_from, start=config.start, end=config.end, frames=config.frames,
        fields=config.fields, filters=config.filters, crop=config.crop,
        threads=config.decode_threads, gpu=_choose_decoding_gpu(config),
    )  # fmt: skip


def _choose_decoding_gpu(config: UpscaleConfig) -> int | None:
    """Number of the CUDA device that decodes: the one that upscales, or none."""
    if config.hwaccel == "none":
        return None
    device = choose_device(config.device)
    if device.type == "cuda":
        return device.index
    if config.hwaccel == "cuda":
        raise DeviceError(
            "--hwaccel cuda: frames stay on the GPU that upscales them, and this run is on the CPU"
        )
    return None


def spelt_out(plan: Plan) -> UpscaleConfig:
    """The configuration with every option of the encoder said, and no target."""
    encoding, options = plan.encoding, dict(plan.encoding.options)
    crf, given = options.pop("crf", None), plan.config.encoder
    full = (given.pix_fmt or "").startswith("yuvj")  # the plain format does not say it
    encoder = EncoderConfig(
        codec=encoding.codec, pix_fmt=encoding.format.name, preset=options.pop("preset", None),
        crf=None if crf is None else float(crf), options=options,
        range=Range.FULL if full else given.range, sound=given.sound,
        muxer_options=given.muxer_options, first_number=given.first_number,
    )  # fmt: skip
    return replace(plan.config, target=None, encoder=encoder)


def _find_input(config: UpscaleConfig) -> ImageList | None:
    """The pictures that are the input, if it is pictures.

    Raises:
        SourceError: there is no such input.
    """
    images = find_images(config.input)
    if images is None and config.input != PIPE and not config.input.exists():
        raise SourceError(f"{config.input}: no such file")
    return images


def _find_stills(config: UpscaleConfig, images: ImageList | None) -> Stills | None:
    """Where pictures go, if that is what the output asks for.

    Asked once: what lies on the disk has a say in it, and may change meanwhile.
    """
    if config.output is None:
        return None
    stems = () if images is None else tuple(path.stem for path in images.paths)
    return find_stills(config.output, config.muxer, config.encoder.codec, stems=stems)


def _load_named(config: UpscaleConfig) -> Network | None:
    """The network that ``config`` names; None if the input has a say in which.

    It is loaded ahead of the input, which may be long in coming.
    """
    if config.weights is None and config.model == AUTO:
        return None
    if config.weights is None and config.size is not None and config.scale is None:
        find_model(config.model, None)
        return None
    return load_network(
        config.model, scale=config.scale, weights=config.weights, variant=config.variant
    )


def _resolve_model(
    config: UpscaleConfig, source: VideoSource, size: tuple[int, int] | None
) -> tuple[UpscaleConfig, Network, tuple[str, ...]]:
    """What ``--model auto`` means for ``source``, and the scale that leads to ``size``.

    Args:
        config: names neither a checkpoint, nor model and scale.
        source: what is upscaled.
        size: the (width, height) that is asked for, before the picture is turned to be seen.

    Returns:
        ``config`` with that model, its network, and a line that says why.
    """
    info = source.info
    notes: tuple[str, ...] = ()
    wanted = None if size is None else scale_to_reach(size, info.width, info.height)
    if config.model == AUTO:
        choice = choose_model(_facts(source), config.scale, reaching=wanted)
        config, notes = replace(config, model=choice.model.name), (choice.note,)
    scale = config.scale
    if scale is None and wanted is not None:  # the smallest that reaches it, else the largest
        scale = scale_reaching(config.model, wanted)
    return config, load_network(config.model, scale=scale, variant=config.variant), notes


def _facts(source: VideoSource) -> SourceFacts:
    """What a model is chosen by."""
    info, rate = source.info, source.bit_rate
    pixels = info.width * info.height * info.rate
    return SourceFacts(
        codec=info.codec,
        bits_per_pixel=None if rate is None else float(rate / pixels),
        noise=estimate_noise(source.preview(LOOKED_AT)),
    )


def _stored_size(
    config: UpscaleConfig, info: VideoInfo, stills: Stills | None
) -> tuple[int, int] | None:
    """The (width, height) that is asked for, before the picture is turned to be seen.

    People say how large it is to be seen; where the rotation gets lost, both are the same.
    """
    if config.size is None or info.display_matrix is None:
        return config.size
    turn = Orientation.parse(info.display_matrix)
    width, height = config.size
    held = stills is not None or _holds_rotation(config)
    return turn.size(width, height) if turn and held else (width, height)


def _holds_rotation(config: UpscaleConfig) -> bool:
    """Whether a video is seen as the input is: it is told to be turned."""
    if config.output is None:
        return True
    return choose_muxer(config.output, config.muxer) in HOLD_ROTATION


def _plan_output(
    config: UpscaleConfig, source: VideoSource, network: Network, size: tuple[int, int] | None,
    stills: Stills | None,
) -> tuple[Encoding, VideoInfo]:  # fmt: skip
    """How the result of ``network`` is coded, and the facts about the output.

    Pictures made of pictures keep their names in a folder, else their numbers.
    """
    info = source.info
    width, height = size or enlarged_size(info.width, info.height, network.scale, config.scale)
    if config.square:  # goes with no size of the user's
        width, height = squared_size(width, height, info.sar)
    if config.output is None:
        encoding = discarding(info, config.encoder)
    elif stills is not None:
        number = 1 if source.first_number is None else source.first_number
        encoding = choose_still_encoding(
            config.output, info, width, height, config.encoder, number=number, stems=source.stems
        )
    else:
        encoding = choose_encoding(
            config.output, info, width, height, config.encoder, muxer=config.muxer
        )
    enlarged = height != info.height  # combing that was enlarged is no field any more
    order = FieldOrder.PROGRESSIVE if enlarged else info.field_order
    sar = resized_sar(info.sar, (info.width, info.height), (width, height))
    encoding, rate = _count_frames(config, source, encoding)
    planned = replace(
        info, rate=rate, width=width, height=height,
        format=encoding.format, colour=encoding.colour,
        duration=info.duration if info.duration is not None else _asked_for(config),
        sar=Fraction(1) if config.square else sar, field_order=order,
        display_matrix=info.display_matrix
        and enlarged_matrix(info.display_matrix, (info.width, info.height), (width, height)),
    )  # fmt: skip
    return encoding, planned


def _count_frames(
    config: UpscaleConfig, source: VideoSource, encoding: Encoding
) -> tuple[Encoding, Fraction]:
    """How frames are counted where there are no times, and the nominal rate of the output.

    It is the source's, but in AVI a finer one if frames come unevenly. Whether they do is only
    known of files, and where no filter changes their times.

    Raises:
        ConfigError: AVI cannot leave as many places empty as frames are apart.
    """
    rate, alone = source.info.rate, has_rate_alone(encoding.codec)
    has_times = config.input.is_file() and find_images(config.input) is None
    has_times = has_times and not ScriptConfig.is_script(config.input)
    known = has_times and config.source.rate is None and not source.filters
    if not known or not (alone or encoding.muxer == "avi"):
        return encoding, rate
    times = read_times(config.input, config.source)
    if encoding.muxer != "avi":
        return replace(encoding, even=are_even(times, rate)), rate
    if not alone:
        rate = counted_rate(times, rate, largest=largest_numerator(encoding.codec))
    check_gaps(_wanted(config, source, times), rate)
    return encoding, rate


def _wanted(
    config: UpscaleConfig, source: VideoSource, times: Sequence[Fraction]
) -> Sequence[Fraction]:
    """Those of a file's ``times``, in seconds and in order, that lie in the part asked for."""
    start, end = source.start_time, config.end
    stop = None if end is None else start + end - (config.start or 0)
    part = [time for time in times if time >= start and (stop is None or time < stop)]
    return part[: config.frames]


def _asked_for(config: UpscaleConfig) -> Fraction | None:
    """How long an output will be at most whose input, a pipe, does not say how long it is."""
    return None if config.end is None else config.end - (config.start or Fraction(0))


def _make_engine(
    config: UpscaleConfig, network: Network, encoding: Encoding, source: VideoInfo, info: VideoInfo
) -> Engine:
    device = choose_device(config.device)
    target = RenderTarget(
        width=info.width, height=info.height, format=encoding.format, colour=encoding.colour,
        dither=config.dither,
    )  # fmt: skip
    dtype = choose_dtype(device, config.precision)
    lanes = _choose_lanes(device, network, source)
    with share_of_cores(lanes):
        stated = config.precision != "auto"
        runtimes = [
            make_runtime(network, device, dtype, config.runtime, stated=stated)
            for _ in range(lanes)
        ]
    engine = Engine(
        network, target, device=device, dtype=dtype, tile=config.tile, runtimes=runtimes
    )
    engine.settle_tile(source.shape)
    return engine


def _choose_lanes(device: torch.device, network: Network, source: VideoInfo) -> int:
    """Pictures that a CPU renders at a time; see note [Two pictures at a time] of the engine."""
    alone = device.type != "cpu" or torch.get_num_threads() == 1 or source.frames == 1
    size = torch.float32.itemsize  # our kernels', whatever was asked for
    return 1 if alone or not fits(device, network, source.shape, itemsize=size, count=2) else 2


def _describe_run(
    network: Network, engine: Engine, info: VideoInfo, planned: VideoInfo, config: UpscaleConfig
) -> str:
    precision = dtype_name(engine.dtype)
    plain = engine.runtime == RUNTIME_NAMES["torch"]
    runtime = "" if plain else f" through {engine.runtime}"
    device = describe(choose_device(config.device))
    tiles = f", tiles of {engine.tile}" if engine.tile else ""
    lanes = f", {engine.lanes} frames at a time" if engine.lanes > 1 else ""
    scale = f" x{network.scale}" if network.scale else ""
    enlarged = (info.width * network.scale, info.height * network.scale)
    resized = ", resized" if network.scale and enlarged != (planned.width, planned.height) else ""
    name = network.name
    if config.weights is None and config.model != name:
        name = f"{config.model} ({name})"
    return (
        f"{name}{scale} on {device}{runtime} in {precision}{tiles}{lanes}: "
        f"{info.width}x{info.height} {info.format.name} to "
        f"{planned.width}x{planned.height} {planned.format.name}{resized}"
    )
