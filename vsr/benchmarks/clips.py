"""What is measured on where no file is named."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

__all__ = ["draw_clip", "sample_clip"]

_RATE = 24
_ROOM = 200
"""Pixels that the texture may drift."""


def sample_clip() -> Path | None:
    """The clip that comes with a checkout; None where the package alone is installed."""
    path = Path(__file__).resolve().parents[2] / "docs" / "sample.mp4"
    return path if path.is_file() else None


def draw_clip(path: Path, frames: int, width: int, height: int) -> None:
    """Write a clip of drifting texture: neither trivial nor impossible to encode."""
    rng = np.random.default_rng(0)
    rows, columns = (side // 4 + _ROOM // 4 + 14 for side in (height, width))
    coarse = rng.integers(0, 255, (rows, columns, 3), dtype=np.uint8)
    fine = np.kron(coarse, np.ones((4, 4, 1), np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=_RATE, options={"crf": "20"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            left, top = index % _ROOM, (index // 2) % _ROOM
            picture = np.ascontiguousarray(fine[top : top + height, left : left + width])
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, _RATE)
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
