"""Pictures as arrays, enlarged one after another: for programs that have frames of their own."""

import threading
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vsr.checking import check_tile, file_name, number
from vsr.colour import alpha_of, gray_of
from vsr.config import Precision, Runtime
from vsr.device import choose_device, choose_dtype, dtype_name, plain_torch
from vsr.engine import RenderTarget
from vsr.engine.cutouts import Cutout
from vsr.engine.rendering import Renderer
from vsr.errors import ConfigError
from vsr.frame import Colour, Matrix, Range, pixel_format
from vsr.runtimes import make_runtime
from vsr.sizes import enlarged_size
from vsr.weights import load_network

__all__ = ["Upscaler"]

_LARGEST = {torch.uint8: 255.0, torch.uint16: 65535.0}
"""White, of integers."""
_LARGEST_SAMPLE = 8  # bytes
_COLOUR = Colour(matrix=Matrix.RGB, range=Range.FULL)


class Upscaler:
    """Enlarges R'G'B' pictures; threads that share one wait for each other.

    What is too large for the memory is rendered in tiles, and values beyond black and white do not
    reach networks that may never have seen any, as in ``vsr-upscale``. It can neither be pickled
    nor copied.

    Args:
        model: a name from ``vsr-upscale --list-models``, but not ``auto``: that needs a source.
        scale: the enlargement wanted; None takes the smallest that the model offers above 1.
        weights: a checkpoint of your own instead of ``model``.
        variant: which variant of its architecture that is, where nothing else tells.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: of the network's body; see :class:`vsr.config.UpscaleConfig`.
        runtime: what runs the network; see there.
        tile: longest side of a tile in pixels; None: whole pictures, if they fit.

    Attributes:
        network: what enlarges.

    Raises:
        ConfigError: no such model, scale, precision or runtime, or a tile that is too small; or
            PyTorch's default type is not float32.
        DeviceError: no such device.
        WeightsError: the weights cannot be used.
    """

    def __init__(  # noqa: PLR0913 - all but the first by keyword
        self, model: str = "span", *, scale: Fraction | int | None = None,
        weights: str | Path | None = None, variant: str | None = None, device: str = "auto",
        precision: Precision = "auto", runtime: Runtime = "auto", tile: int | None = None,
    ) -> None:  # fmt: skip
        if not isinstance(model, str | Path):  # a path is a checkpoint of your own
            raise ConfigError(f"model must be the name of a model, not {model!r}")
        if scale is not None:
            scale = scale if isinstance(scale, int) else number("scale", scale)
        if weights is not None:
            weights = file_name("weights", weights)
        self._scale, self._tile = scale, None if tile is None else check_tile(tile)
        if not isinstance(device, str | torch.device):
            raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, not {device!r}")
        self._device = choose_device(device)
        dtype = choose_dtype(self._device, precision)
        with plain_torch():
            self.network = load_network(model, scale=scale, weights=weights, variant=variant)
            stated = precision != "auto"
            self._runtime = make_runtime(self.network, self._device, dtype, runtime, stated=stated)
        self._lock = threading.Lock()  # buffers are those of one picture at a time
        self._renderers: dict[tuple[int, int], Renderer] = {}
        self.warnings: list[str] = []
        """What was changed on the way because memory ran out."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Upscaler cannot be pickled or copied: make one in each process")

    @overload
    def __call__(self, picture: Tensor) -> Tensor: ...

    @overload
    def __call__(self, picture: NDArray[Any]) -> NDArray[Any]: ...

    def __call__(self, picture: Tensor | NDArray[Any]) -> Tensor | NDArray[Any]:
        """Enlarge a picture, or several of one size.

        Args:
            picture: a tensor (..., C, H, W) on any device, or an array (..., H, W, C) or (H, W): R'
                G' B', the same with alpha, or gray. Samples are uint8, uint16, or floating-point
                numbers with black at 0 and white at 1.

        Returns:
            The same kind, of the same type and byte order, on the same device. Integers are rounded
            and limited, floating-point numbers are neither.

        Raises:
            ConfigError: shape or type is another, the array is masked, or the tensor is sparse or
                on the device ``meta``; or PyTorch's default type is not float32.
            OutOfMemoryError: not even the smallest tile fits.
        """
        with self._lock:
            return self._enlarge_any(picture)

    def _enlarge_any(self, picture: Tensor | NDArray[Any]) -> Tensor | NDArray[Any]:
        if isinstance(picture, Tensor):
            return self._enlarge(picture)
        if isinstance(picture, np.ma.MaskedArray):
            raise ConfigError("a picture has no mask: fill the masked array first (filled())")
        array = np.asarray(picture)
        flat = array.ndim == 2
        samples = _tensor(array[..., None] if flat else array)
        if samples.ndim < 3 or not _is_picture(samples.movedim(-1, -3)):
            raise _unfit(array.shape)
        out = self._enlarge(samples.movedim(-1, -3)).movedim(-3, -1)
        enlarged = (out[..., 0] if flat else out).contiguous().numpy()
        return enlarged.astype(array.dtype, copy=False)

    @torch.no_grad()  # what inference mode makes, nobody may change
    @plain_torch()
    def _enlarge(self, pictures: Tensor) -> Tensor:
        """(..., C, H, W), all at once to the device, one after another through the network."""
        if pictures.layout != torch.strided or pictures.is_meta:
            kind = "holds nothing" if pictures.is_meta else "is sparse"
            raise ConfigError(f"a picture is a tensor that holds each of its samples: this {kind}")
        if not _is_picture(pictures):
            raise _unfit(pictures.shape)
        if pictures.dtype not in _LARGEST and not pictures.is_floating_point():
            raise _unknown(dtype_name(pictures.dtype))
        white = _LARGEST.get(pictures.dtype)
        done = []
        for one in pictures.reshape(-1, *pictures.shape[-3:]):
            samples = one.to(self._device).float()
            smallest = 0.0 if white is None else 0.5 / white
            out = self._channels(samples if white is None else samples / white, smallest)
            if white is not None:
                out = (out * white).round_().clamp_(0, white)
            done.append(out.to(pictures.device, pictures.dtype))
        return torch.stack(done).reshape(*pictures.shape[:-3], *done[0].shape)

    def _channels(self, picture: Tensor, smallest: float) -> Tensor:
        """(C, H, W) float32: gray and alpha go through the network as gray colours.

        ``smallest`` is the alpha below which nothing is seen.
        """
        if len(picture) == 1:
            return gray_of(self._rgb(picture.expand(3, -1, -1)))[None]
        if len(picture) == 4:
            cutout = Cutout.of(picture[None, :3], picture[None, 3:])
            alpha = alpha_of(self._rgb(picture[3:].expand(3, -1, -1)))[None]
            enlarged = self._rgb(cutout.picture[0])
            return torch.cat([cutout.put_back(enlarged[None], alpha[None], smallest)[0], alpha])
        return self._rgb(picture)

    def _rgb(self, picture: Tensor) -> Tensor:
        height, width = picture.shape[-2:]
        renderer = self._renderers.get((height, width))
        if renderer is None:
            renderer = self._make_renderer(height, width)
            self._renderers = {(height, width): renderer}  # of the latest size alone
        return renderer.enlarge(picture[None].contiguous())[0]

    def _make_renderer(self, height: int, width: int) -> Renderer:
        size = enlarged_size(width, height, self.network.scale, self._scale)
        target = RenderTarget(
            width=size[0], height=size[1], format=pixel_format("gbrpf32le"), colour=_COLOUR
        )
        renderer = Renderer(
            self.network, target, self._device, self._runtime, self._tile, self.warnings.append
        )
        renderer.settle_tile((height, width), 1)
        return renderer


def _tensor(array: NDArray[Any]) -> Tensor:
    """``array``, which may be read-only or of another byte order, as PyTorch takes it."""
    if array.dtype.kind not in "uif" or array.dtype.itemsize > _LARGEST_SAMPLE:
        raise _unknown(str(array.dtype))
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.require(native, requirements=("C", "W")))


def _is_picture(samples: Tensor) -> bool:
    return samples.ndim >= 3 and samples.shape[-3] in (1, 3, 4) and 0 not in samples.shape


def _unknown(kind: str) -> ConfigError:
    return ConfigError(
        f"pictures are uint8, uint16, or floating-point numbers from 0 to 1, not {kind}"
    )


def _unfit(shape: tuple[int, ...]) -> ConfigError:
    return ConfigError(
        "a picture is an array (H, W, channels) or (H, W), or a tensor (channels, H, W), of 1, 3 "
        f"or 4 channels, not of shape {tuple(shape)}"
    )
