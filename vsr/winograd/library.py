"""Compiles ``winograd.c`` for this processor, once, and loads it.

Note [Compiled where it runs]
    The kernels are a page of C without libraries, for whatever vector registers there are: a build
    for all processors would leave half of a new one's speed, and a wheel for each would be a build
    farm. So the C compiler of the machine makes them, in a few seconds, when they are first wanted.
    The result lies in the cache under a name that its source, the compiler and the processor
    settle; where there is no compiler, other runtimes take over.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from vsr.cache import cache_folder, record, recorded_sha256
from vsr.errors import ConfigError
from vsr.files import file_sha256

__all__ = ["CompilerError", "load"]

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("winograd.c")
_COMPILERS = ("cc", "gcc", "clang")
_FLAGS = ("-O3", "-std=gnu11", "-shared", "-fPIC")
_TIME_LIMIT = 120


class CompilerError(Exception):
    """There is no compiler, or it failed; one line that says so."""


@cache
def load() -> ctypes.CDLL:
    """The compiled kernels, of which one copy serves the process.

    Raises:
        CompilerError: they cannot be compiled here.
    """
    compiler = find_compiler()
    command = [compiler, *_FLAGS, *_for_this_processor()]
    path = _folder() / f"winograd-{_fingerprint(command)}.so"
    if not _is_whole(path):
        logger.info("the CPU kernels are compiled for this processor, once")
        compile_to(path, command)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise CompilerError(
            f"the kernels that {compiler} made cannot be loaded: {error}"
        ) from error


def _is_whole(path: Path) -> bool:
    """Whether ``path`` is what was compiled: the loader dies of a file that a crash cut short."""
    try:
        return file_sha256(path) == recorded_sha256(path)
    except OSError:
        return False


def find_compiler() -> str:
    """The C compiler that ``CC`` names, or the system's.

    Raises:
        CompilerError: there is none.
    """
    named = os.environ.get("CC")
    for name in (named,) if named else _COMPILERS:
        if name and (found := shutil.which(name)):
            return found
    raise CompilerError(f"no C compiler is found ({named or ', '.join(_COMPILERS)})")


def compile_to(path: Path, command: list[str]) -> None:
    """Compile the kernels to ``path``, whole or not at all.

    Raises:
        CompilerError: the compiler failed, or ``path`` cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / path.name
            subprocess.run(
                [*command, "-o", str(made), str(SOURCE)], check=True, capture_output=True,
                text=True, stdin=subprocess.DEVNULL, timeout=_TIME_LIMIT,
            )  # fmt: skip
            digest = file_sha256(made)
            made.replace(path)
            record(path, digest)
    except subprocess.CalledProcessError as error:
        told = (error.stderr.strip() or f"exit code {error.returncode}").splitlines()
        reason = next((line for line in told if "error" in line), told[0])
        raise CompilerError(f"{command[0]} cannot compile the CPU kernels: {reason}") from error
    except subprocess.TimeoutExpired as error:
        raise CompilerError(f"{command[0]} took over {_TIME_LIMIT} s") from error
    except OSError as error:
        raise CompilerError(f"the CPU kernels cannot be compiled: {error}") from error


def _folder() -> Path:
    """Where compiled kernels lie, beside the folder of downloaded models."""
    try:
        return cache_folder().parent / "kernels"
    except ConfigError as error:
        raise CompilerError(str(error)) from error


def _for_this_processor() -> tuple[str, ...]:
    """``-march=native`` means tuning alone on some ARM compilers, where ``-mcpu`` means both."""
    return ("-mcpu=native",) if platform.machine() in ("aarch64", "arm64") else ("-march=native",)


def _fingerprint(command: list[str]) -> str:
    """What settles the machine code: source, compiler, options, and what the processor can do."""
    compiler = Path(command[0]).resolve()
    parts = [SOURCE.read_bytes(), " ".join(command).encode(), str(compiler).encode()]
    parts += [str(compiler.stat().st_mtime_ns).encode(), platform.machine().encode(), _features()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _features() -> bytes:
    """What Linux says the processor can do; elsewhere, its name."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return platform.processor().encode()
    return b"".join(sorted({line for line in lines if line.startswith((b"flags", b"Features"))}))
