"""How an output is coded and wrapped, decided before the first frame.

``choosing`` takes the decisions: container (``muxers``), pixel format and colour (``formats``),
encoder options (``options``), and says what is lost (``notes``). ``encoding`` is what comes of it.
``stills`` does the same for pictures, ``streams`` for what is copied beside the picture, and
``targets`` are named sets of options.
"""

from vsr.encoding.choosing import choose_encoding, discarding
from vsr.encoding.encoding import (
    Encoding,
    add_video,
    clock_time_base,
    configure,
    counts_frames,
    encoder_time_base,
    restored_rate,
)

__all__ = [
    "Encoding",
    "add_video",
    "choose_encoding",
    "clock_time_base",
    "configure",
    "counts_frames",
    "discarding",
    "encoder_time_base",
    "restored_rate",
]
