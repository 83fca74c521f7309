"""Colours that a file holds multiplied by alpha, as FFmpeg's encoders and the engine take them."""

import numpy as np
from av.video.frame import VideoFrame

from vsr.sources.planes import native_format, planes_of

__all__ = ["make_straight"]


def make_straight(frame: VideoFrame) -> None:
    """Divide the colours of ``frame`` by its alpha, in place.

    Nothing is done where alpha is 0, to pictures without alpha, nor to floating-point ones: those
    are taken as multiplied everywhere.

    Args:
        frame: as decoded: gray or RGB, of 8 or 16 bits, packed or planar, of either byte order.
    """
    form = native_format(frame)
    if not form.alpha or form.floating:
        return
    stored = np.dtype(
        "u1" if form.depth == 8 else f"{'>' if frame.format.is_big_endian else '<'}u2"
    )
    views = form.views(planes_of(frame, form), frame.width, frame.height)
    *colours, alpha = (view.numpy().view(stored) for view in views)
    largest, opacity = (1 << form.depth) - 1, alpha.astype(np.uint32)
    divisor = np.maximum(opacity, 1)
    for colour in colours:
        divided = (colour.astype(np.uint32) * np.uint32(largest) + divisor // 2) // divisor
        colour[...] = np.where(opacity == 0, colour, np.minimum(divided, largest))
