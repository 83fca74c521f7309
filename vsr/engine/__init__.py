"""Frames in, upscaled frames out, on one device.

``engine`` takes them in order, ``rendering`` does the work. ``slots`` and ``graphs`` keep a GPU
busy, ``lanes`` a CPU; ``batching`` says which frames go together, ``tiles`` splits what does not
fit, and ``fusing`` joins the end of a network with what follows it.

Height and width are in the order of tensors here, (height, width), and called a shape. What a user
asks for is (width, height), and called a size; it ends at :class:`RenderTarget`, which names both.
"""

from vsr.engine.engine import IN_FLIGHT, Engine, PendingFrame
from vsr.engine.lanes import share_of_cores
from vsr.engine.rendering import RenderTarget

__all__ = ["IN_FLIGHT", "Engine", "PendingFrame", "RenderTarget", "share_of_cores"]
