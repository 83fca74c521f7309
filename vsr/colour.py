"""YUV to RGB and back as tensor maths: matrix, range, depth, chroma siting.

Everything here is float32 arithmetic on tensors of any device. Chroma is enlarged with a bicubic
kernel placed by the siting, and reduced with the least-squares inverse of that very enlargement:
the chroma that, shown by a good player, comes closest to the picture. A round trip is therefore
exact up to rounding, which no pair of fixed filters achieves.

Sources: ITU-T H.273 (2021), section 8.3, equations 10 to 38 for ranges and matrices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vsr.config import Dither
from vsr.constants import constant
from vsr.errors import UnsupportedFormatError
from vsr.frame import Colour, Frame, Matrix, PixelFormat, Range, Siting
from vsr.resample import Resampler, least_squares_inverse, resize_matrix

__all__ = [
    "FromRgb",
    "ToRgb",
    "alpha_of",
    "gray_of",
    "rgb_to_yuv_matrix",
    "to_rgb",
]

# K_R and K_B of H.273 table 4.
_LUMA_WEIGHTS = {
    Matrix.BT709: (0.2126, 0.0722),
    Matrix.FCC: (0.30, 0.11),
    Matrix.BT470BG: (0.299, 0.114),
    Matrix.SMPTE170M: (0.299, 0.114),
    Matrix.SMPTE240M: (0.212, 0.087),
    Matrix.BT2020_NCL: (0.2627, 0.0593),
}
_LARGEST = 65504.0
"""What infinity becomes: the largest number of half precision, which networks still can add to."""


# The matrices.


def rgb_to_yuv_matrix(matrix: int) -> NDArray[np.float64]:
    """(3, 3) map from R'G'B' in [0, 1] to Y' in [0, 1], Cb and Cr in [-1/2, 1/2].

    Raises:
        UnsupportedFormatError: ``matrix`` is no linear map that video uses.
    """
    if matrix == Matrix.RGB:  # planes carry G, B, R
        return np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    if matrix == Matrix.YCGCO:
        return np.array([[0.25, 0.5, 0.25], [-0.25, 0.5, -0.25], [0.5, 0.0, -0.5]])
    try:
        red, blue = _LUMA_WEIGHTS[Matrix(matrix)]
    except (KeyError, ValueError):
        raise UnsupportedFormatError(f"colour matrix {matrix} (H.273) is not supported") from None
    luma = np.array([red, 1 - red - blue, blue])
    cb = (np.array([0.0, 0, 1]) - luma) / (2 * (1 - blue))
    cr = (np.array([1.0, 0, 0]) - luma) / (2 * (1 - red))
    return np.stack([luma, cb, cr])


def _code_scale(format: PixelFormat, colour: Colour) -> tuple[NDArray[np.float64], ...]:
    """Per component: code = value * scale + offset, for values as the matrices define them."""
    if format.floating:
        return np.ones(3), np.zeros(3)
    steps = 1 << (format.depth - 8)
    top = (1 << format.depth) - 1
    colour_difference = format.family == "yuv" and colour.matrix != Matrix.RGB
    middle = 128.0 * steps if colour_difference else 0.0
    silent_rgb = format.family == "rgb" and colour.range != Range.LIMITED
    if colour.range == Range.FULL or silent_rgb:
        scale, offset = np.full(3, float(top)), np.array([0.0, middle, middle])
    else:
        # H.273 maps the codes of R, G and B to YCgCo, so chroma too has 219 steps, not 224.
        others = 224.0 if colour_difference and colour.matrix != Matrix.YCGCO else 219.0
        scale = np.array([219.0, others, others]) * steps
        black = 16.0 * steps
        offset = np.array([black, middle, middle]) if colour_difference else np.full(3, black)
    return scale, offset


def _is_yuv(format: PixelFormat) -> bool:
    return format.family == "yuv"


# Chroma planes.


@dataclass(frozen=True, slots=True)
class _Siting:
    """Chroma sample i of an axis lies at ``i * factor + offset`` in luma samples."""

    factor: int
    offset: float


def _axes(format: PixelFormat, siting: Siting) -> tuple[_Siting, _Siting]:
    """Vertical and horizontal placement of chroma."""
    rows, columns = 1 << format.chroma_h, 1 << format.chroma_w
    across = (columns - 1) / 2 if siting.horizontally_centred else 0.0
    return _Siting(rows, (rows - 1) * siting.vertical), _Siting(columns, across)


def _enlarging(luma: int, axis: _Siting) -> NDArray[np.float64]:
    count = -(-luma // axis.factor)
    positions = (np.arange(luma) - axis.offset) / axis.factor
    return resize_matrix(positions, count, "bicubic")


@constant(64)
def _up(luma: int, axis: _Siting, device: torch.device) -> Resampler:
    return Resampler.from_matrix(_enlarging(luma, axis), device)


@constant(64)
def _down(luma: int, axis: _Siting, device: torch.device) -> Resampler:
    return Resampler.from_matrix(least_squares_inverse(_enlarging(luma, axis)), device)


class ToRgb:
    """From the planes of one geometry, format and colour to R'G'B'."""

    def __init__(
        self, format: PixelFormat, colour: Colour, width: int, height: int, device: torch.device
    ) -> None:
        self._format, self._size = format, (height, width)
        matrix = rgb_to_yuv_matrix(colour.matrix) if _is_yuv(format) else np.eye(3)
        scale, offset = _code_scale(format, colour)
        scale, offset = (v * (1 << format.shift) for v in (scale, offset))
        back = np.linalg.inv(matrix)
        self._matrix = torch.from_numpy((back / scale).astype(np.float32)).to(device)
        self._bias = torch.from_numpy((-back @ (offset / scale)).astype(np.float32)).to(device)
        self._gray = (float(scale[0]), float(offset[0]))
        self._rows, self._columns = _axes(format, colour.siting)
        self._top = 1.0 if format.floating else float(((1 << format.depth) - 1) << format.shift)

    def __call__(self, components: Sequence[Tensor]) -> Tensor:
        """Convert one picture.

        Args:
            components: Y, or Y Cb Cr, or R G B as (rows, columns) integers or floating-point
                numbers (chroma around 0); alpha is ignored.

        Returns:
            (1, 3, H, W) float32, nominally in [0, 1]; not clamped. Floating-point numbers are
            taken as they are, but NaN is 0 and infinity the largest number of half precision.
        """
        height, width = self._size
        if self._format.floating:
            components = [_finite(component) for component in components[:3]]
        if self._format.floating and not _is_yuv(self._format):
            return torch.stack(list(components)).expand(3, height, width)[None]
        if self._format.family == "gray":
            scale, offset = self._gray
            gray = components[0].float().sub_(offset).div_(scale)
            return gray.expand(1, 3, height, width)
        planes = torch.empty((3, height, width), device=components[0].device)
        for plane, component in zip(planes, components[:3], strict=True):
            plane.copy_(self._full_size(component))
        flat = torch.addmm(self._bias[:, None], self._matrix, planes.view(3, -1))
        return flat.view(1, 3, height, width)

    def alpha(self, component: Tensor) -> Tensor:
        """Alpha as (1, 3, H, W) float32 in [0, 1], the same in all three channels."""
        values = _finite(component) if self._format.floating else component.float()
        return values.div_(self._top).expand(1, 3, *self._size)

    def _full_size(self, component: Tensor) -> Tensor:
        height, width = self._size
        if component.shape != (height, width):
            component = component.float()
            if component.shape[1] != width:
                component = _up(width, self._columns, component.device).rows(component)
            if component.shape[0] != height:
                component = _up(height, self._rows, component.device).columns(component)
        return component


def _finite(plane: Tensor) -> Tensor:
    """A copy of floating-point samples as float32, without what a network would spread."""
    return torch.nan_to_num(plane.float(), nan=0.0, posinf=_LARGEST, neginf=-_LARGEST)


def to_rgb(frame: Frame) -> Tensor:
    """R'G'B' of a frame, by its own matrix, range, depth and chroma siting.

    Args:
        frame: of any format; alpha is left out. It is as it is stored: no rotation, no other
            primaries, no ICC profile is applied.

    Returns:
        (3, H, W) float32 where the planes are, nominally in [0, 1]; not clamped.

    Raises:
        UnsupportedFormatError: its matrix is unknown, or not one of :mod:`vsr.colour`.
    """
    device = frame.planes[0].device
    convert = _converter(frame.format, frame.colour, frame.width, frame.height, device)
    return convert(frame.components)[0].contiguous()


@lru_cache(maxsize=8)
def _converter(
    format: PixelFormat, colour: Colour, width: int, height: int, device: torch.device
) -> ToRgb:
    return ToRgb(format, colour, width, height, device)


class FromRgb:
    """From R'G'B' to the planes of one geometry, format and colour."""

    def __init__(
        self, format: PixelFormat, colour: Colour, width: int, height: int, device: torch.device,
        *, dither: Dither = "none",
    ) -> None:  # fmt: skip
        self._format, self._size, self._dither = format, (height, width), dither
        matrix = rgb_to_yuv_matrix(colour.matrix) if _is_yuv(format) else np.eye(3)
        if format.family == "gray":
            matrix = rgb_to_yuv_matrix(_matrix_of_gray(colour.matrix))[:1]
        count = len(matrix)
        scale, offset = (v[:count] for v in _code_scale(format, colour))
        rounding = 0.0 if dither == "ordered" or format.floating else 0.5
        self._rounding = rounding
        self._matrix = torch.from_numpy((matrix * scale[:, None]).astype(np.float32)).to(device)
        self._bias = torch.from_numpy((offset + rounding).astype(np.float32)).to(device)
        self._colour_matrix = colour.matrix
        self._top = (1 << format.depth) - 1
        self._rows, self._columns = _axes(format, colour.siting)

    def __call__(self, rgb: Tensor) -> tuple[Tensor, ...]:
        """Convert one picture.

        Args:
            rgb: (1, 3, H, W) of any float type, nominally in [0, 1]; what exceeds that is kept in
                floating point, else clamped.

        Returns:
            The components in the format's order, (rows, columns) uint8, uint16 or float.
        """
        height, width = self._size
        if self._format.floating and not _is_yuv(self._format):
            return self._as_floats(rgb[0].float())
        flat = torch.addmm(self._bias[:, None], self._matrix, rgb.float().reshape(3, -1))
        planes = flat.view(-1, height, width)
        return tuple(self.component(index, plane) for index, plane in enumerate(planes))

    @property
    def affine(self) -> tuple[Tensor, Tensor] | None:
        """Matrix (components, 3) and bias (components,): ``matrix @ rgb + bias`` is rounded down.

        None where more than that happens: dither, or floating point.
        """
        if self._format.floating or self._dither != "none":
            return None
        return self._matrix, self._bias

    @property
    def format(self) -> PixelFormat:
        """What is delivered."""
        return self._format

    def component(self, index: int, plane: Tensor) -> Tensor:
        """A component from its values in full size, float32 (H, W); they are overwritten."""
        return self._quantise(self._reduced(plane) if index in (1, 2) else plane)

    def alpha(self, rgb: Tensor) -> Tensor:
        """The mean of the three channels of (1, 3, H, W) as an alpha component."""
        alpha = alpha_of(rgb[0].float())
        if self._format.floating:
            return alpha.to(self._format.dtype)
        return self._quantise(alpha.mul_(self._top).add_(self._rounding))

    def _as_floats(self, rgb: Tensor) -> tuple[Tensor, ...]:
        if self._format.family == "gray":
            rgb = gray_of(rgb, self._colour_matrix)[None]
        return tuple(rgb.to(self._format.dtype).contiguous())

    def _reduced(self, plane: Tensor) -> Tensor:
        rows, columns = self._format.component_shape(1, plane.shape[1], plane.shape[0])
        if columns != plane.shape[1]:
            plane = _down(plane.shape[1], self._columns, plane.device).rows(plane)
        if rows != plane.shape[0]:
            plane = _down(plane.shape[0], self._rows, plane.device).columns(plane)
        return plane

    def _quantise(self, plane: Tensor) -> Tensor:
        """Round down (one half has been added already) or dither, and clamp to the code range."""
        if self._format.floating:
            return plane.to(self._format.dtype)
        if self._dither == "ordered":
            plane = plane + _threshold(plane.shape[0], plane.shape[1], plane.device)
        return plane.clamp_(0, self._top).to(self._format.dtype)


def gray_of(rgb: Tensor, matrix: int = Matrix.BT709) -> Tensor:
    """The luma (H, W) of R'G'B' (3, H, W); where the three are equal, exactly that value.

    Args:
        rgb: floating-point numbers.
        matrix: whose luma (H.273); BT.709's, if that is no matrix with constant luma weights.
    """
    return _weighted(rgb, *_LUMA_WEIGHTS[_matrix_of_gray(matrix)])


def alpha_of(rgb: Tensor) -> Tensor:
    """The mean (H, W) of what became of alpha in three channels (3, H, W); it has no colour."""
    return _weighted(rgb, 1 / 3, 1 / 3)


def _matrix_of_gray(matrix: int) -> Matrix:
    return Matrix(matrix) if matrix in _LUMA_WEIGHTS else Matrix.BT709


def _weighted(rgb: Tensor, red: float, blue: float) -> Tensor:
    """The weighted mean of the channels of (3, H, W); where they are equal, exactly that value."""
    return rgb[1] + red * (rgb[0] - rgb[1]) + blue * (rgb[2] - rgb[1])


@constant(16)
def _threshold(height: int, width: int, device: torch.device) -> Tensor:
    """Bayer's 8 x 8 thresholds in (0, 1), repeated over a plane of (height, width)."""
    pattern = np.zeros((1, 1))
    for _ in range(3):
        pattern = np.block([[4 * pattern, 4 * pattern + 2], [4 * pattern + 3, 4 * pattern + 1]])
    tiled = np.tile((pattern + 0.5) / 64, (-(-height // 8), -(-width // 8)))[:height, :width]
    return torch.from_numpy(tiled.astype(np.float32)).to(device)
