"""Video super-resolution for ffmpeg pipelines.

:func:`upscale` runs a whole job, as :class:`UpscaleConfig` and the configs in it ask for, tells its
:class:`Progress` and returns a :class:`Report`; :class:`Upscaler` enlarges pictures in memory;
:func:`open_source` (:class:`SourceConfig`), :func:`to_rgb` and :func:`load_network` give the parts;
:class:`VsrError` is the base of everything that goes wrong for a reason. They are imported when
first used, so that ``import vsr`` and ``vsr-upscale --help`` do not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from vsr import errors as errors

if TYPE_CHECKING:
    from vsr.colour import to_rgb
    from vsr.config import (
        EncoderConfig,
        FieldsConfig,
        InputConfig,
        ScriptConfig,
        SourceConfig,
        UpscaleConfig,
    )
    from vsr.errors import VsrError
    from vsr.pipeline import upscale
    from vsr.progress import Progress
    from vsr.report import Report
    from vsr.sources import open_source
    from vsr.upscaler import Upscaler
    from vsr.weights import load_network

__version__ = "0.1.0"

__all__ = [
    "EncoderConfig",
    "FieldsConfig",
    "InputConfig",
    "Progress",
    "Report",
    "ScriptConfig",
    "SourceConfig",
    "UpscaleConfig",
    "Upscaler",
    "VsrError",
    "load_network",
    "open_source",
    "to_rgb",
    "upscale",
]

_HOMES = {
    "EncoderConfig": "vsr.config",
    "FieldsConfig": "vsr.config",
    "InputConfig": "vsr.config",
    "Progress": "vsr.progress",
    "Report": "vsr.report",
    "ScriptConfig": "vsr.config",
    "SourceConfig": "vsr.config",
    "UpscaleConfig": "vsr.config",
    "Upscaler": "vsr.upscaler",
    "VsrError": "vsr.errors",
    "load_network": "vsr.weights",
    "open_source": "vsr.sources",
    "to_rgb": "vsr.colour",
    "upscale": "vsr.pipeline",
}


if not TYPE_CHECKING:  # a checker would take any name for one of ours

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
