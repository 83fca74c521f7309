"""The end of a network and the conversion to planes in one, where a runtime has that.

Note [Looked at without a picture]
    A fused end leaves no R'G'B' picture of the result, which is what it is made for, and what
    :mod:`vsr.judging` looks at. But that compares averages, and averages of R'G'B' are the same
    map of averages of the planes. So each plane is averaged down to the source's size, luma over as
    many samples as the network makes of one, chroma over fewer, and these are converted: a quarter
    of the picture at x2. Where a kernel has made a number of what is none, the average is that of
    black or of white, which the source is not.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from vsr.colour import ToRgb
from vsr.constants import constant, hold, loose
from vsr.engine.graphs import KINDS
from vsr.frame import Colour, PixelFormat
from vsr.judging import measure

__all__ = ["FusedEnd"]

Deliver = Callable[[Tensor], list[tuple[Tensor, ...]]]


class FusedEnd:
    """From pictures to the components of the results.

    Args:
        deliver: the runtime's way: (N, 3, H, W) float32 to the components of each.
        scale: of the network; 0 is any.
        format: of the result.
        colour: of the result.
        shape: (height, width) of the result.
    """

    def __init__(
        self, deliver: Deliver, scale: int, format: PixelFormat, colour: Colour,
        shape: tuple[int, int],
    ) -> None:  # fmt: skip
        self._deliver, self._scale, self._shape = deliver, scale, shape
        self._format, self._colour = format, colour
        self._to_rgb = constant(KINDS)(loose(self._make_to_rgb))

    def takes(self, shape: tuple[int, int]) -> bool:
        """Whether it makes the whole result of a picture of this shape."""
        form, scale = self._format, self._scale
        whole = scale > 0 and tuple(scale * side for side in shape) == self._shape
        across, down = 1 << form.chroma_w, 1 << form.chroma_h
        return whole and form.family != "gray" and scale % across == 0 and scale % down == 0

    def __call__(self, pictures: Tensor) -> list[tuple[tuple[Tensor, ...], Tensor]]:
        """Of each of (N, 3, H, W): components of the result, and its measures (1, MEASURES)."""
        height, width = pictures.shape[-2:]
        hold(self._deliver)  # it is given up where memory runs out; graphs read its weights
        return [
            (components, measure(picture[None], self._reduced(components, (height, width))))
            for picture, components in zip(pictures, self._deliver(pictures), strict=True)
        ]

    def _reduced(self, components: Sequence[Tensor], shape: tuple[int, int]) -> Tensor:
        """The result in the shape of its source; see note [Looked at without a picture]."""
        (height, width), small = shape, []
        for component in components[:3]:
            block = component.shape[0] // height, component.shape[1] // width
            small.append(avg_pool2d(component[None].float(), block)[0])
        return self._to_rgb(shape, components[0].device)(small)

    def _make_to_rgb(self, shape: tuple[int, int], device: torch.device) -> ToRgb:
        height, width = shape
        form = replace(self._format, chroma_w=0, chroma_h=0)
        return ToRgb(form, self._colour, width, height, device)
