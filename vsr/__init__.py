"""Video super-resolution for ffmpeg pipelines.

The library is six names: :func:`upscale` runs a whole job, as :class:`UpscaleConfig` and in it
:class:`EncoderConfig` ask for; :func:`open_source` and :func:`load_network` give its parts; and
:class:`VsrError` is the base of everything that goes wrong for a reason. They are imported when
first used, so that ``import vsr`` and ``vsr-upscale --help`` do not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vsr.config import EncoderConfig, UpscaleConfig
    from vsr.errors import VsrError
    from vsr.pipeline import upscale
    from vsr.sources import open_source
    from vsr.weights import load_network

__version__ = "0.1.0"

__all__ = [
    "EncoderConfig",
    "UpscaleConfig",
    "VsrError",
    "load_network",
    "open_source",
    "upscale",
]

_HOMES = {
    "EncoderConfig": "vsr.config",
    "UpscaleConfig": "vsr.config",
    "VsrError": "vsr.errors",
    "load_network": "vsr.weights",
    "open_source": "vsr.sources",
    "upscale": "vsr.pipeline",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
