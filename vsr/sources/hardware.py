"""Decoding on an NVIDIA GPU (NVDEC), with pictures that stay there.

Note [Copied on arrival]
    A decoder has few surfaces, and stops when all of them are held. So a picture is copied into
    memory of our own as soon as it is handed on, by the thread that decodes, which may wait for
    that; whoever gets it next finds it complete, whatever stream they use. FFmpeg decodes on the
    legacy default stream of the device's primary context, which is PyTorch's default stream:
    copying there comes after decoding without a word said.

Note [One way of waiting]
    FFmpeg wants threads that wait for the primary context to sleep, and refuses a context that was
    made otherwise: PyTorch's spin. The way can be changed while the context is in use, so it is,
    ahead of FFmpeg.
"""

import ctypes
from contextlib import suppress

import torch
from av.codec.hwaccel import HWAccel
from av.video.frame import VideoFrame
from torch import Tensor
from torch.utils.dlpack import from_dlpack

__all__ = ["accelerator", "copy_planes", "download", "is_on_gpu", "layout_name", "why_not"]

_TAKEN = ("nv12", "p010le")
"""What NVDEC makes of 4:2:0 in 8 and 10 bits: as DLPack carries it, and to the bit what software
makes. 12 bits would come as 16, and 4:4:4 not at all."""


_CU_CTX_SCHED_BLOCKING_SYNC = 4


def accelerator(index: int) -> HWAccel:
    """FFmpeg's decoders on CUDA device ``index``, their pictures left there."""
    _sleep_while_waiting(index)
    return HWAccel("cuda", device=str(index), is_hw_owned=True, options={"primary_ctx": "1"})


def _sleep_while_waiting(index: int) -> None:
    """See note [One way of waiting]; where there is no driver, FFmpeg will say so."""
    device = ctypes.c_int()
    with suppress(OSError, AttributeError):
        driver = ctypes.CDLL("libcuda.so.1")
        driver.cuInit(0)
        driver.cuDeviceGet(ctypes.byref(device), index)
        driver.cuDevicePrimaryCtxSetFlags_v2(device, _CU_CTX_SCHED_BLOCKING_SYNC)


def is_on_gpu(frame: VideoFrame) -> bool:
    """Whether ``frame`` lies in a GPU's memory."""
    return frame.format.name == "cuda"


def layout_name(frame: VideoFrame) -> str:
    """The pixel format of ``frame``, wherever it lies."""
    inner = frame.sw_format
    return frame.format.name if inner is None else inner.name


def why_not(frame: VideoFrame, codec: str) -> str | None:
    """Why a stream whose first picture is ``frame`` is decoded in main memory; None if it is not.

    Args:
        frame: what a decoder made that was offered the GPU.
        codec: FFmpeg's name of the stream's.
    """
    if not is_on_gpu(frame):
        return f"the GPU, or FFmpeg's decoder of {codec}, cannot decode this {codec} video"
    name = layout_name(frame)
    if name not in _TAKEN:
        return f"pictures in {name} cannot be handed on there"
    if frame.width % 2 or frame.height % 2:
        return f"pictures of {frame.width}x{frame.height}, an odd size, cannot be handed on there"
    return None


def download(frame: VideoFrame) -> VideoFrame:
    """``frame`` in main memory, in the same pixel format and with all that it carries."""
    return frame.reformat(format=layout_name(frame)) if is_on_gpu(frame) else frame


def copy_planes(frame: VideoFrame) -> tuple[Tensor, ...]:
    """The planes of ``frame``, which is on a GPU in nv12 or p010: (rows, samples), there.

    See note [Copied on arrival].
    """
    # PyAV synchronises with no stream, and refuses to be asked: hence not from_dlpack(plane).
    planes = [from_dlpack(plane.__dlpack__()) for plane in frame.planes]
    device = planes[0].device
    with torch.cuda.device(device), torch.cuda.stream(torch.cuda.default_stream(device)):
        copies = tuple(plane.flatten(1).clone() for plane in planes)
    torch.cuda.default_stream(device).synchronize()
    return copies
