"""The registry: which networks there are, and which one a checkpoint belongs to.

To add an architecture, write one file with a network, its config dataclass, ``detect`` and
``infer_config``, and add one line to :data:`ARCHITECTURES`. Exactly one entry may match a
checkpoint, so their order does not matter.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vsr.errors import UnknownArchitectureError
from vsr.networks import esc, esc_lte, span, spanf, spanplus, spanv2, sst, sst_real
from vsr.networks.blocks import fold
from vsr.networks.classical import Identity, Lanczos
from vsr.networks.conv_attention import average_large_kernel

__all__ = [
    "ARCHITECTURES",
    "AnyScale",
    "Architecture",
    "Network",
    "classical",
    "describe",
    "identify",
]

State = Mapping[str, Tensor]


class NetworkConfig(Protocol):
    """What every config dataclass offers."""

    @property
    def scale(self) -> int:
        """Enlargement; 0 is any."""

    @property
    def in_channels(self) -> int:
        """Channels of the input."""

    @property
    def out_channels(self) -> int:
        """Channels of the output."""

    @property
    def halo(self) -> int:
        """Receptive radius in input pixels; or, with a ``grid``, by how much tiles overlap."""

    @property
    def body(self) -> tuple[str, ...]:
        """Names of the submodules that may run in half precision; "" is the whole network."""


class AnyScale(Protocol):
    """A module of a network that renders at any size."""

    def encode(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to features (N, C, H, W)."""

    def render(self, features: Tensor, x: Tensor, shape: tuple[int, int]) -> Tensor:
        """The picture (N, 3, *shape) from the features of ``x``."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """How checkpoints of one kind are recognised and built."""

    name: str
    detect: Callable[[Iterable[str]], bool]
    """Whether a checkpoint with these parameter names is of this kind."""
    infer_config: Callable[[State, Mapping[str, str]], Any]
    """Hyper-parameters from a prepared state dict and the file's metadata; a NetworkConfig."""
    build: Callable[[Any], nn.Module]
    """An empty network of a config."""
    prepare: Callable[[State], dict[str, Tensor]] = dict
    """From the published layout to the one that ``build`` has parameters for."""
    settle: Callable[[Any], nn.Module] | None = None
    """Settles by trial what parameters leave open; maps a filled network to itself or a copy."""


ARCHITECTURES = (
    Architecture("esc", esc.detect, esc.infer_config, esc.Esc, average_large_kernel),
    Architecture(
        "esc-lte", esc_lte.detect, esc_lte.infer_config, esc_lte.EscLte, average_large_kernel
    ),
    Architecture("span", span.detect, span.infer_config, span.Span, fold, span.settle),
    Architecture("spanf", spanf.detect, spanf.infer_config, spanf.SpanF, fold),
    Architecture("spanplus", spanplus.detect, spanplus.infer_config, spanplus.SpanPlus, fold),
    Architecture("spanv2", spanv2.detect, spanv2.infer_config, spanv2.SpanV2),
    Architecture("sst", sst.detect, sst.infer_config, sst.Sst),
    Architecture(
        "sst-real", sst_real.detect, sst_real.infer_config, sst_real.SstReal, sst_real.prepare
    ),
)


@dataclass(frozen=True, slots=True, weakref_slot=True, kw_only=True)
class Network:
    """A network that is ready to run, and what a runner needs to know of it."""

    module: nn.Module
    """Maps (N, in_channels, H, W) in [0, 1] to (N, out_channels, scale * H, scale * W)."""
    name: str
    scale: int
    """Enlargement; 0 is any: ``module`` is then an :class:`AnyScale`."""
    halo: int
    """Receptive radius in input pixels: a tile with this margin equals the whole frame.
    With a ``grid``, by how much tiles overlap."""
    in_channels: int = 3
    out_channels: int = 3
    body: tuple[str, ...] = ("",)
    """Submodules that may run in half precision; the rest stays in float32. "" is all, () none."""
    grid: int = 1
    """Above 1, the network sees too far for tiles to equal the whole frame; they begin at
    multiples of this, where its windows begin, and are blended."""
    multiple: int = 1
    """Pictures are mirrored to sides of a multiple of this, and the result is cropped."""
    values_per_pixel: float = 1000.0
    """Numbers that are alive at once for an input pixel, about; set by measurement in bf16, where
    what stays in float32 counts twice."""
    noise: Callable[[int, int, torch.device], Tensor] | None = None
    """Draws (1, C, H, W) that the module wants behind the picture's channels, for a whole frame."""
    bounded: bool = True
    """Whether values outside [0, 1] are kept from the module, which may never have seen any."""

    def fed(self, picture: Tensor) -> Tensor:
        """What ``module`` takes, of one picture (1, 3, H, W): with its noise, if it wants some."""
        if self.noise is None:
            return picture
        height, width = picture.shape[-2:]
        return torch.cat([picture, self.noise(height, width, picture.device)], dim=1)


def describe(name: str, module: nn.Module, config: NetworkConfig) -> Network:
    """What a runner needs to know of a filled ``module``, from its config."""
    optional = ("grid", "multiple", "values_per_pixel")
    known = {field: getattr(config, field) for field in optional if hasattr(config, field)}
    return Network(
        module=module, name=name, scale=config.scale, halo=config.halo, body=config.body,
        in_channels=config.in_channels, out_channels=config.out_channels,
        noise=getattr(module, "noise", None), **known,
    )  # fmt: skip


def identify(keys: Iterable[str]) -> Architecture:
    """The one architecture that a checkpoint with these parameter names belongs to.

    Raises:
        UnknownArchitectureError: none matches, or several do.
    """
    names = list(keys)
    matches = [architecture for architecture in ARCHITECTURES if architecture.detect(names)]
    if len(matches) > 1:  # no file that was published, but somebody may have merged two
        found = ", ".join(architecture.name for architecture in matches)
        raise UnknownArchitectureError(
            f"its parameters are those of more than one known network ({found})"
        )
    if not matches:
        known = ", ".join(architecture.name for architecture in ARCHITECTURES)
        raise UnknownArchitectureError(
            f"its parameters ({', '.join(names[:3])}, …) belong to no known network ({known})"
        )
    return matches[0]


def classical(name: str, scale: int) -> Network:
    """``identity`` or ``lanczos`` as a network; a halo of 4 covers Lanczos' three lobes."""
    if name == "identity":
        return Network(module=Identity(), name=name, scale=1, halo=0, body=(), bounded=False)
    module = Lanczos(scale)
    return Network(module=module, name=name, scale=scale, halo=4, body=(), bounded=False)
