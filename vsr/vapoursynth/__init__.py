"""A VapourSynth filter that renders what the command renders: ``vsr.vapoursynth.upscale(clip)``.

::

    import vapoursynth as vs
    import vsr.vapoursynth

    clip = vs.core.bs.VideoSource("in.mkv")
    vsr.vapoursynth.upscale(clip, model="span").set_output()

Note [No frame request while a stream is held]. VapourSynth calls back on its own threads, which
also make the frames we ask for. A callback here gets its source frames from VapourSynth, takes a
stream out of the pool, renders, and puts it back; it never asks for a frame, so none of them can
wait for another. ``std.ModifyFrame`` calls back one at a time, hence one such filter per frame,
made by ``std.FrameEval``. ``std.PropToClip`` is not used: it renders frame 0 while the script is
still being read.
"""

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from fractions import Fraction
from pathlib import Path

import vapoursynth as vs  # type: ignore[import-untyped]

from vsr.config import PIPE, Dither, Precision, Runtime, UpscaleConfig
from vsr.device import describe
from vsr.errors import ConfigError, UnsupportedFormatError
from vsr.frame import PixelFormat
from vsr.networks import Network
from vsr.vapoursynth.frames import VideoFormat, VideoFrame, VideoNode, pixel_format
from vsr.vapoursynth.rendering import Renderer, tell, told
from vsr.vapoursynth.streams import choose_network, choose_setup, pool_for

__all__ = ["upscale"]

_ANY_SCALE = 2
"""Of a network that renders at any scale, when none is asked for."""
_PART = "_vsr_part{}"
"""Property of a batch's first frame that holds one of the others."""


def upscale(  # noqa: PLR0913 - the names that scripts use, all but the first two by keyword
    clip: VideoNode,
    model: str = "span",
    *,
    scale: Fraction | float | str | None = None,
    size: tuple[int, int] | None = None,
    weights: str | Path | None = None,
    variant: str | None = None,
    device: str = "auto",
    device_index: int = 0,
    num_streams: int = 2,
    batch_size: int = 1,
    tile: int | None = None,
    tile_pad: int | None = None,
    precision: Precision = "auto",
    runtime: Runtime = "auto",
    format: int | str | None = None,
    dither: Dither = "none",
) -> VideoNode:
    """Enlarge a clip.

    YUV needs no conversion first: ``_Matrix``, ``_Range``, ``_ChromaLocation``, ``_Transfer`` and
    ``_Primaries`` of every frame are read, what is missing is guessed by the command's rule
    (docs/colour.md), and the colour that was used is written to the frames that come out. Other
    properties are kept; ``_SARNum`` and ``_SARDen`` follow if the picture's shape changes, and
    ``_Alpha``, a picture of the old size, is left out.

    Args:
        clip: YUV (any subsampling), RGB or gray of 8 to 16 bits, or floating point of 16 or 32; of
            one size and format, and progressive.
        model: a name from ``vsr-upscale --list-models``.
        scale: enlargement; None takes the smallest that the model offers above 1. A string will
            do, as vspipe's arguments are.
        size: final (width, height), by a last Lanczos resize unless the network renders any size.
        weights: a .safetensors or .pth file to use instead of ``model``.
        variant: which variant of its architecture ``weights`` is, where nothing else tells.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        device_index: which CUDA device ``auto`` or ``cuda`` means.
        num_streams: batches in flight on a CUDA device, each with buffers and weights of its own.
            On a CPU there is always one, which uses all cores.
        batch_size: frames that go through the network together.
        tile: longest side of a tile in source pixels, *without* ``tile_pad`` (as in Real-ESRGAN;
            the ``tilesize`` of vs-mlrt includes its overlap). None takes whole frames as long as
            memory allows.
        tile_pad: pixels around a tile that are computed and cut off; None takes what the network
            sees around a pixel, so that tiles change nothing. Less than that is refused.
        precision: ``auto``, ``fp32``, ``fp16`` or ``bf16``: arithmetic of the network.
        runtime: ``auto``, ``torch``, ``compile``, ``triton``, which is for CUDA, ``openvino`` or
            ``winograd``, which are for a CPU.
        format: format of the result, e.g. ``vs.YUV444P16`` or its name; None keeps the clip's.
        dither: ``none`` or ``ordered``, where the result is rounded to whole numbers.

    Returns:
        A clip with the same number of frames. Frames may be asked for in any order.

    Raises:
        vapoursynth.Error: one line that says what to change; about a frame, when it is asked for.
    """
    with told(), redirect_stdout(sys.stderr):  # standard output belongs to vspipe
        config = UpscaleConfig(
            input=PIPE, output=None, model=str(model), scale=_scale(scale), size=size,
            weights=None if weights is None else Path(weights), variant=variant,
            precision=precision, runtime=runtime, tile=tile, dither=dither,
            device=_device_name(device, device_index),
        )  # fmt: skip
        source = _clip_format(clip)
        target = clip.format if format is None else _format_of(format)
        _at_least_one(num_streams=num_streams, batch_size=batch_size)
        network = choose_network(config, clip.width, clip.height)
        width, height = config.size or _natural_size(network, config.scale, clip)
        _check_size(width, height, target)
        setup = choose_setup(config, network, tile_pad, num_streams)
        pool = pool_for(setup)
        render = Renderer(pool, source, target, (width, height), dither)
    tell(
        f"{network.name}{f' x{network.scale}' if network.scale else ''} on "
        f"{describe(setup.device)}: {clip.width}x{clip.height} {source.name} to "
        f"{width}x{height} {target.name}"
    )
    blank = clip.std.BlankClip(width=width, height=height, format=target.id, keep=True)
    return _one_by_one(clip, blank, render) if batch_size == 1 else _in_batches(
        clip, blank, render, batch_size
    )  # fmt: skip


# What was asked for.


def _scale(scale: Fraction | float | str | None) -> Fraction | int | None:
    """``scale`` as the number that was typed, an integer if it is whole."""
    if scale is None:
        return None
    try:
        exact = Fraction(str(scale))
    except (ValueError, ZeroDivisionError):
        raise ConfigError(f"scale must be a number, not {scale!r}") from None
    return int(exact) if exact.denominator == 1 else exact


def _device_name(device: str, index: int) -> str:
    """``device`` with the number that it lacks."""
    if index < 0 or (index and device not in ("auto", "cuda")):
        raise ConfigError(f"device_index {index} does not go with device {device!r}")
    return f"cuda:{index}" if device == "cuda" or index else device


def _at_least_one(**counts: int) -> None:
    for name, count in counts.items():
        if not isinstance(count, int) or count < 1:
            raise ConfigError(f"{name} must be 1 or more, not {count!r}")


def _clip_format(clip: VideoNode) -> PixelFormat:
    """The format of a clip that can be upscaled."""
    if not isinstance(clip, vs.VideoNode):
        raise ConfigError(f"upscale() takes a video clip, not {type(clip).__name__}")
    if not clip.width or not clip.height:
        raise UnsupportedFormatError("the clip's size varies; resize it to one size first")
    if clip.format is None or clip.format.color_family == vs.UNDEFINED:
        raise UnsupportedFormatError("the clip's format varies; convert it to one format first")
    return pixel_format(clip.format)


def _format_of(wanted: int | str) -> VideoFormat:
    """A VapourSynth format by number or name."""
    number = getattr(vs, wanted, 0) if isinstance(wanted, str) else int(wanted)
    found = vs.core.get_video_format(number) if isinstance(number, int) else None
    if found is None or found.color_family == vs.UNDEFINED:
        raise ConfigError(
            f"format {wanted!r} is not known; give one of VapourSynth's, as YUV420P10"
        )
    pixel_format(found)
    return found


def _natural_size(
    network: Network, scale: Fraction | int | None, clip: VideoNode
) -> tuple[int, int]:
    """The size that the scale leads to; of a fraction, even numbers, as the command does."""
    factor = network.scale or scale or _ANY_SCALE
    if isinstance(factor, int):
        return factor * clip.width, factor * clip.height
    return 2 * round(clip.width * factor / 2), 2 * round(clip.height * factor / 2)


def _check_size(width: int, height: int, form: VideoFormat) -> None:
    across, down = 1 << (form.subsampling_w or 0), 1 << (form.subsampling_h or 0)
    if width % across or height % down:
        raise ConfigError(
            f"{width}x{height} is no size of {form.name}, whose width and height are multiples of "
            f"{across} and {down}; give another size or format"
        )


# Clips. See note [No frame request while a stream is held].


def _one_by_one(clip: VideoNode, blank: VideoNode, render: Renderer) -> VideoNode:
    def make(n: int, f: VideoFrame) -> VideoFrame:
        return render(n, [f])[0]

    return blank.std.FrameEval(lambda n: blank.std.ModifyFrame(clip, make), clip_src=clip)


def _in_batches(clip: VideoNode, blank: VideoNode, render: Renderer, size: int) -> VideoNode:
    """Frames ``size`` at a time: the first of a batch carries the others as properties."""
    frames = clip.num_frames
    missing = -frames % size
    padded = clip.std.DuplicateFrames([frames - 1] * missing) if missing else clip
    parts = [
        padded.std.SelectEvery(cycle=size, offsets=[index], modify_duration=False)
        for index in range(size)
    ]
    short = blank[: parts[0].num_frames]

    def make(n: int, f: list[VideoFrame] | VideoFrame) -> VideoFrame:
        sources = (f if isinstance(f, list) else [f])[: frames - n * size]
        result, *others = render(n * size, sources)
        for index, other in enumerate(others, 1):
            result.props[_PART.format(index)] = other
        return result

    batches = short.std.FrameEval(lambda n: short.std.ModifyFrame(parts, make), clip_src=parts)
    names = [_PART.format(index) for index in range(1, size)]
    first = batches.std.RemoveFrameProps(names)
    others = [short.std.ModifyFrame(batches, _picker(name)) for name in names]
    return vs.core.std.Interleave([first, *others], modify_duration=False)[:frames]


def _picker(name: str) -> Callable[[int, VideoFrame], VideoFrame]:
    def pick(n: int, f: VideoFrame) -> VideoFrame:
        return f.props.get(name, f)  # the last batch may lack it, and is cut there

    return pick
