"""Planes of frames to planes of the target, enlarged, on one device.

The steps in the middle of the engine: YUV to RGB, network, RGB to YUV. Where memory runs out, they
are done again in smaller tiles.

Note [Beyond white]
    What is filmed or coded goes beyond white and black, networks are trained on what lies between.
    The published weights of SPAN answer 1.1 with dots from -100 to 300. So weights that are not
    known to do better see what lies between. The excess is enlarged bilinearly and added; on a CPU
    this is skipped where there is none. A fused end drops it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from vsr.colour import FromRgb, ToRgb, alpha_of
from vsr.config import Dither
from vsr.constants import constant, loose
from vsr.device import default_tile, fits, is_out_of_memory, return_freed_memory
from vsr.engine.cutouts import Cutout
from vsr.engine.fusing import FusedEnd
from vsr.engine.graphs import KINDS
from vsr.engine.slots import Layout
from vsr.engine.tiles import Tiling, run_tiled
from vsr.errors import OutOfMemoryError
from vsr.frame import Colour, Frame, PixelFormat
from vsr.health import Rendered
from vsr.judging import MEASURES, measure
from vsr.networks import Network
from vsr.resample import resize
from vsr.runtimes import EagerRuntime
from vsr.runtimes.tf32 import without_tf32

__all__ = ["RenderTarget", "Renderer"]

_SMALLEST_TILE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderTarget:
    """What a frame is rendered to: size, format and colour of the result."""

    width: int
    height: int
    format: PixelFormat
    """A planar format."""
    colour: Colour
    dither: Dither = "none"

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width), as of a tensor."""
        return self.height, self.width


class Renderer:
    """Renders any geometry and colour to one target."""

    def __init__(
        self, network: Network, target: RenderTarget, device: torch.device, runtime: EagerRuntime,
        tile: int | None, warn: Callable[[str], None],
    ) -> None:  # fmt: skip
        """Prepare everything that does not depend on a frame; for the arguments see the engine.

        ``warn`` is told what is changed on the way, because memory ran out.
        """
        self._network, self._target, self._device = network, target, device
        self._runtime, self._warn = runtime, warn
        self.dtype = runtime.dtype
        """Precision of the network's body."""
        self.tiling = Tiling(tile)
        """The size of tiles; to be that of another, beside which this one works."""
        self._to_rgb = constant(KINDS)(loose(self._make_to_rgb))
        self._tile_for = lru_cache(maxsize=8)(loose(self._choose_tile))
        self._noise = constant(KINDS)(loose(self._make_noise))
        self._from_rgb = FromRgb(
            target.format, target.colour, target.width, target.height, device, dither=target.dither
        )
        self._fused = self._find_fused_end()

    @property
    def runtime(self) -> str:
        """What runs the network, by the name of its runtime."""
        return self._runtime.name

    @property
    def tile(self) -> int | None:
        """Longest side of a tile, if pictures are tiled."""
        return self.tiling.longest

    @property
    def layout(self) -> Layout:
        """Where the planes of a result, and its measures, lie in one piece of memory."""
        target = self._target
        shapes = [
            target.format.component_shape(index, target.width, target.height)
            for index in range(len(target.format.components))
        ]
        empty = torch.empty(1, dtype=target.format.dtype)
        planes = target.format.planes(tuple(empty.expand(shape) for shape in shapes))
        rendered = Rendered(planes, torch.empty(1 + target.format.alpha, MEASURES))
        return Layout.of(rendered.tensors)

    def settle_tile(self, shape: tuple[int, int], count: int) -> None:
        """Choose a tile, unless there is one, if ``count`` whole frames of a shape do not fit."""
        self.tiling.settle(lambda: self._tile_for(shape, count))

    def fits(self, shape: tuple[int, int], count: int) -> bool:
        """Whether memory is there for ``count`` whole frames of a shape at a time."""
        size = self.dtype.itemsize
        return fits(self._device, self._network, shape, itemsize=size, count=count)

    @without_tf32()
    def render(
        self, frames: Sequence[Frame], planes: Sequence[tuple[Tensor, ...]]
    ) -> list[Rendered]:
        """Planes of the sources to planes of the target, all on its device."""
        if any(map(self._may_be_cut_out, frames)):
            return [self._render_cut_out(*each) for each in zip(frames, planes, strict=True)]
        pictures = [self._picture(*each) for each in zip(frames, planes, strict=True)]
        if (fused := self._try_fused(frames, planes, pictures)) is not None:
            return fused
        source = pictures[0] if len(pictures) == 1 else torch.cat(pictures)
        enlarged = self.enlarge(source)
        found = measure(source, enlarged)
        del pictures, source  # room for what follows
        return [
            self._complete(frame, own, self._from_rgb(rgb[None]), row[None])
            for frame, own, rgb, row in zip(frames, planes, enlarged, found, strict=True)
        ]

    def _try_fused(
        self, frames: Sequence[Frame], planes: Sequence[tuple[Tensor, ...]], pictures: list[Tensor]
    ) -> list[Rendered] | None:
        """The results by the runtime's fused end; None where there is none, or it needs tiles."""
        if self._fused is None or self.tile is not None:
            return None
        if not all(self._fused.takes(frame.shape) for frame in frames):
            return None
        try:
            seen = self._bound(pictures[0] if len(pictures) == 1 else torch.cat(pictures))
            return [
                self._complete(frame, own, *end)
                for frame, own, end in zip(frames, planes, self._fused(seen), strict=True)
            ]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or self._is_capturing():
                raise
            self._fused = None  # what follows has tiles to fall back on
        return_freed_memory(self._device)
        return None

    def _complete(
        self, frame: Frame, planes: tuple[Tensor, ...], out: tuple[Tensor, ...], found: Tensor
    ) -> Rendered:
        """Components of the result as planes, beside the source's alpha, with their measures."""
        if self._target.format.alpha:
            alpha, of_alpha = self._alpha(frame, planes)
            out, found = (*out, alpha), torch.cat([found, found if of_alpha is None else of_alpha])
        return Rendered(self._target.format.planes(out), found)

    def _may_be_cut_out(self, frame: Frame) -> bool:
        """Whether alpha is read and written, and colours are straight, as in all but OpenEXR."""
        return self._target.format.alpha and frame.format.alpha and not frame.format.floating

    def _render_cut_out(self, frame: Frame, planes: tuple[Tensor, ...]) -> Rendered:
        """A picture whose hidden colour stays out of what is seen."""
        picture, form = self._picture(frame, planes), self._target.format
        alpha = self._converter(frame).alpha(
            frame.format.views(planes, frame.width, frame.height)[-1]
        )
        cutout = Cutout.of(picture, alpha[:, :1])
        enlarged, enlarged_alpha = self.enlarge(cutout.picture), self.enlarge(alpha)
        found = [measure(cutout.picture, enlarged), measure(alpha, enlarged_alpha)]
        smallest = 0.0 if form.floating else 0.5 / ((1 << form.depth) - 1)
        rgb = cutout.put_back(enlarged, alpha_of(enlarged_alpha[0])[None, None], smallest)
        out = (*self._from_rgb(rgb), self._from_rgb.alpha(enlarged_alpha))
        return Rendered(form.planes(out), torch.cat(found))

    def _picture(self, frame: Frame, planes: tuple[Tensor, ...]) -> Tensor:
        """(1, 3, H, W) R'G'B'."""
        components = frame.format.views(planes, frame.width, frame.height)
        return self._converter(frame)(components)

    def _converter(self, frame: Frame) -> ToRgb:
        return self._to_rgb(frame.format, frame.colour, frame.shape)

    def _alpha(self, frame: Frame, planes: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None]:
        """Alpha, and its measures if it went through the network: as gray, so that edges match."""
        if not frame.format.alpha:
            opaque = torch.ones((1, 3, *self._target.shape), device=self._device)
            return self._from_rgb.alpha(opaque), None
        components = frame.format.views(planes, frame.width, frame.height)
        source = self._converter(frame).alpha(components[-1])
        enlarged = self.enlarge(source)
        return self._from_rgb.alpha(enlarged), measure(source, enlarged)

    @without_tf32()
    def enlarge(self, rgb: Tensor) -> Tensor:
        """(N, 3, H, W), nominally in [0, 1], to the shape of the target, not clamped.

        See note [Beyond white].
        """
        shape = self._target.shape
        seen = self._bound(rgb)
        out = self._run_network(seen)
        if out.shape[-2:] != shape:
            out = resize(out, *shape, "lanczos")
        if seen is not rgb and (rgb.is_cuda or not torch.equal(seen, rgb)):
            out = out + interpolate(rgb - seen, shape, mode="bilinear")
        return out

    def _bound(self, rgb: Tensor) -> Tensor:
        return rgb.clamp(0, 1) if self._network.bounded else rgb

    def _run_network(self, rgb: Tensor) -> Tensor:
        """Run the network; when memory runs out, halve the tile and run the same frame again."""
        network, seen = self._network, rgb
        if network.noise is not None:
            seen = torch.cat([rgb, self._noise(*rgb.shape[-2:]).expand(len(rgb), -1, -1, -1)], 1)
        while True:
            tile = self.tile or max(rgb.shape[-2:])
            try:
                out = run_tiled(
                    self._runtime, seen, tile=tile,
                    halo=network.halo, scale=network.scale or 1, grid=network.grid,
                    multiple=network.multiple,
                )  # fmt: skip
                return out if network.scale else self._runtime.render(out, rgb, self._target.shape)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self._is_capturing() or len(rgb) > 1:
                    raise  # a batch is taken apart before its pictures are
                self._halve_tile(tile, rgb, error)
            return_freed_memory(self._device)  # not before the error let go of what it refers to

    def _halve_tile(self, tried: int, rgb: Tensor, error: BaseException) -> None:
        longest = min(tried, max(rgb.shape[-2:]))
        smallest = max(_SMALLEST_TILE, self._network.grid)
        if longest <= smallest:
            raise OutOfMemoryError(
                f"out of memory on {self._device} even with tiles of {longest} pixels"
            ) from error
        half = max(smallest, -(-longest // 2))
        if self.tiling.shrink(tried, half):
            self._warn(f"out of memory: frames are now split into tiles of {half} pixels")

    def _make_noise(self, height: int, width: int) -> Tensor:
        assert self._network.noise is not None
        return self._network.noise(height, width, self._device)

    def _make_to_rgb(self, format: PixelFormat, colour: Colour, shape: tuple[int, int]) -> ToRgb:
        height, width = shape
        return ToRgb(format, colour, width, height, self._device)

    def _find_fused_end(self) -> FusedEnd | None:
        deliver, target = self._runtime.delivers(self._from_rgb), self._target
        if deliver is None or self._network.noise is not None:
            return None
        return FusedEnd(deliver, self._network.scale, target.format, target.colour, target.shape)

    def _choose_tile(self, shape: tuple[int, int], count: int) -> int | None:
        size = self.dtype.itemsize
        return default_tile(self._device, self._network, shape, itemsize=size, count=count)

    def _is_capturing(self) -> bool:
        """Whether a graph is being captured, which must not be answered by another."""
        return self._device.type == "cuda" and torch.cuda.is_current_stream_capturing()
