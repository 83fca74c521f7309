"""A VapourSynth filter that renders what the command renders: ``vsr.vapoursynth.upscale(clip)``.

::

    import vapoursynth as vs
    import vsr.vapoursynth

    clip = vs.core.bs.VideoSource("in.mkv")
    vsr.vapoursynth.upscale(clip, model="span").set_output()
"""

from fractions import Fraction
from pathlib import Path

from vsr.config import PIPE, Dither, Precision, Runtime, UpscaleConfig
from vsr.stdout import printing_aside
from vsr.vapoursynth.frames import VideoFormat, VideoNode
from vsr.vapoursynth.hints import answering
from vsr.vapoursynth.messages import told
from vsr.vapoursynth.nodes import enlarged
from vsr.vapoursynth.settings import device_name, exact_scale, model_name, plan, weights_file

__all__ = ["upscale"]


@answering
def upscale(  # noqa: PLR0913 - the names that scripts use, all but the first two by keyword
    clip: VideoNode, model: str = "span", *, scale: Fraction | float | str | None = None,
    size: tuple[int, int] | None = None, weights: str | Path | None = None,
    variant: str | None = None, device: str = "auto", device_index: int = 0,
    num_streams: int = 2, batch_size: int = 1, tile: int | None = None,
    tile_pad: int | None = None, precision: Precision = "auto", runtime: Runtime = "auto",
    format: VideoFormat | int | str | None = None, dither: Dither = "none",
) -> VideoNode:  # fmt: skip
    """Enlarge a clip; colour is read from every frame, other properties are kept.

    Args:
        clip: YUV (any subsampling), RGB or gray of 8 to 16 bits, or floating point of 16 or 32; of
            one size and format, and progressive.
        model: a name from ``vsr-upscale --list-models``; ``auto`` chooses one by the first frames,
            which it asks for while the script is read.
        scale: enlargement; None takes the smallest that the model offers above 1.
        size: final (width, height), by a last Lanczos resize unless the network renders any size.
        weights: a .safetensors or .pth file, or what ``vsr-models`` fetched, instead of ``model``.
        variant: which variant of its architecture ``weights`` is, where nothing else tells.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        device_index: which CUDA device ``auto`` or ``cuda`` means.
        num_streams: batches in flight, each with buffers and weights of its own; on a CPU, where
            its cores are dealt out to them, not more than there are cores.
        batch_size: frames that go through the network together.
        tile: longest side of a tile in source pixels, *without* ``tile_pad`` (as in Real-ESRGAN;
            the ``tilesize`` of vs-mlrt includes its overlap). None: whole frames, if memory allows.
        tile_pad: pixels around a tile that are computed and cut off; None takes what the network
            sees around a pixel, so that tiles change nothing but roundings. Less is refused.
        precision: ``auto``, ``fp32``, ``fp16`` or ``bf16``: arithmetic of the network.
        runtime: what runs the network, as ``vsr-upscale --runtime``.
        format: format of the result, e.g. ``vs.YUV444P16``, its name, or ``other.format``; None
            keeps the clip's.
        dither: ``none`` or ``ordered``, where the result is rounded to whole numbers.

    Returns:
        A clip with the same number of frames. Frames may be asked for in any order.

    Raises:
        vapoursynth.Error: one line that says what to change; about a frame, when it is asked for.
        TypeError: there is no such argument; of those of vs-mlrt, with what they are called here.
    """
    with told(), printing_aside():
        config = UpscaleConfig(
            input=PIPE, output=None, model=model_name(model), scale=exact_scale(scale),
            size=size, weights=weights_file(weights), variant=variant,
            precision=precision, runtime=runtime, dither=dither, tile=tile,
            device=device_name(device, device_index),
        )  # fmt: skip
        job = plan(clip, config, format=format, num_streams=num_streams, tile_pad=tile_pad)
        return enlarged(clip, job, batch_size)
