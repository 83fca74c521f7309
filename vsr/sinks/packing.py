"""The engine's planes as the samples that encoders of pictures take."""

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from vsr.frame import Frame

__all__ = ["pack"]


def pack(frame: Frame, name: str) -> VideoFrame:
    """``frame`` as a picture of FFmpeg's in pixel format ``name``: the same samples, moved.

    Args:
        frame: planes of gray or RGB, with or without alpha, without subsampling.
        name: a gray or RGB format of FFmpeg's of the same depth, packed or planar, in either byte
            order.
    """
    picture = VideoFrame(frame.width, frame.height, name)
    kind = _samples(frame, name)
    packed = len(picture.planes) == 1
    components = frame.components if packed else frame.format.planes(frame.components)
    step = len(components) if packed else 1
    for index, component in enumerate(components):
        plane = picture.planes[0 if packed else index]
        rows = np.frombuffer(plane, kind).reshape(frame.height, -1)
        offset = index if packed else 0
        rows[:, offset : step * frame.width : step] = component.numpy()
    return picture


def _samples(frame: Frame, name: str) -> np.dtype[np.generic]:
    """How ``name`` stores one sample."""
    order = ">" if VideoFormat(name).is_big_endian else "<"
    kind = "f" if frame.format.floating else "u"
    return np.dtype(f"{order}{kind}{frame.format.dtype.itemsize}")
