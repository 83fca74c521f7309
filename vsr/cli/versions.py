"""The versions of everything that a run depends on, for a bug report.

PyTorch is not imported: that takes seconds, and where it fails, its version is wanted all the more.
"""

import ctypes
import importlib.util
import runpy
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from vsr import __version__
from vsr.cli.command import printable

__all__ = ["versions"]

_LONGEST_NAME = 256
"""Bytes of a GPU's name, with the zero at its end."""


def versions() -> Iterator[str]:
    """A line for vsr, PyTorch, each CUDA device, FFmpeg and VapourSynth, in that order."""
    yield f"vsr {__version__}"
    yield from _torch()
    yield _ffmpeg()
    yield _vapoursynth()


def _torch() -> Iterator[str]:
    """Of PyTorch, and of the devices, if it is one for CUDA."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        yield "torch is not installed"
        return
    told = runpy.run_path(str(Path(spec.origin).with_name("version.py")))
    cuda = told["cuda"]
    yield f"torch {told['__version__']} ({f'CUDA {cuda}' if cuda else 'no CUDA'})"
    if cuda:
        for index, name in enumerate(_gpus()):
            yield f"cuda:{index} {name}"


def _gpus() -> Iterator[str]:
    """Names of the CUDA devices, by number; the driver tells them as it tells PyTorch."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:  # there is none
        return
    count, device = ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return
    name = ctypes.create_string_buffer(_LONGEST_NAME)
    for index in range(count.value):
        driver.cuDeviceGet(ctypes.byref(device), index)
        driver.cuDeviceGetName(name, _LONGEST_NAME, device)
        yield name.value.decode()


def _ffmpeg() -> str:
    try:
        import av
    except ImportError as error:
        return _unloaded("PyAV", "av", error)
    return f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}"


def _vapoursynth() -> str:
    try:
        import vapoursynth  # type: ignore[import-untyped]
    except ImportError as error:
        return _unloaded("VapourSynth", "vapoursynth", error)
    return f"VapourSynth R{vapoursynth.__version__[0]}"


def _unloaded(name: str, package: str, error: ImportError) -> str:
    """Of what is installed, if it is, but of no use."""
    with suppress(metadata.PackageNotFoundError):
        name = f"{name} {metadata.version(package)}"
    return printable(f"{name} cannot be loaded ({error})")
