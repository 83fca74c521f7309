"""Compiles ``winograd.c`` for this processor, once, and loads it.

Note [Compiled where it runs]
    The kernels are a page of C without libraries, for whatever vector registers there are: a build
    for all processors would leave half of a new one's speed, and a wheel for each would be a build
    farm. So the C compiler of the machine makes them, in a few seconds, when they are first wanted.
    The result lies in the cache under a name that its source, the compiler and the processor
    settle; where there is no compiler, other runtimes take over. Where nothing can be kept (a
    container, a service without a home), they are compiled for one process: what a run computes
    must not depend on whether it has a cache.

Note [Whose machine code]
    To load a library is to run it. So none is loaded out of a folder that another user could have
    put it into: those of a cache in ``/tmp`` may have been there before we came, and what is made
    in a folder that a project shares may be its group's to write.
"""

import ctypes
import errno
import hashlib
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from vsr.cache import cache_folder, record, recorded_sha256
from vsr.errors import ConfigError
from vsr.files import file_sha256, written_whole

__all__ = ["CompilerError", "load"]

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("winograd.c")
_COMPILERS = ("cc", "gcc", "clang")
_FLAGS = ("-O3", "-std=gnu11", "-shared", "-fPIC")
_TIME_LIMIT = 120
_ROOT = 0


class CompilerError(Exception):
    """There is no compiler, or it failed; one line that says so."""


def load() -> ctypes.CDLL:
    """The compiled kernels, of which one copy serves the process.

    Raises:
        CompilerError: they cannot be compiled here; it is tried once in a process.
    """
    outcome = load_or_reason()
    if isinstance(outcome, str):
        raise CompilerError(outcome)
    return outcome


@cache
def load_or_reason() -> ctypes.CDLL | str:
    """What :func:`load` returns, or why it raises."""
    try:
        command = [*find_compiler(), *_FLAGS, *_for_this_processor()]
        return _load(f"winograd-{_fingerprint(command)}.so", command)
    except CompilerError as error:
        return str(error)
    except OSError as error:
        return f"what is compiled cannot be kept or loaded: {_in_words(error)}"


def _load(name: str, command: list[str]) -> ctypes.CDLL:
    """The kernels out of the cache, or compiled for this process alone.

    Raises:
        CompilerError: the compiler failed.
        OSError: there is nowhere to write to, or nothing can be loaded from there.
    """
    try:
        return _load_kept(_folder() / name, command)
    except (ConfigError, OSError) as error:
        logger.info("the CPU kernels are compiled for this run alone: %s", _in_words(error))
    with _private_folder() as folder:
        compile_to(made := Path(folder) / name, command)
        return ctypes.CDLL(str(made))


def _load_kept(path: Path, command: list[str]) -> ctypes.CDLL:
    """The kernels at ``path`` in the cache, compiled if they are not there.

    Raises:
        CompilerError: the compiler failed.
        OSError: ``path`` cannot be written, or not be loaded.
    """
    if not _is_whole(path):
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path.parent))
        logger.info("the CPU kernels are compiled for this processor, once")
        with _private_folder() as folder:  # what the cache refuses, the compiler would not say
            compile_to(made := Path(folder) / path.name, command)
            _keep(made, path)
    return ctypes.CDLL(str(path))


def _keep(made: Path, path: Path) -> None:
    """Copy what was compiled to ``path`` in the cache.

    Raises:
        OSError: it cannot be written there; it names that folder, not what was copied.
    """
    try:
        with written_whole(path) as draft:
            shutil.copyfile(made, draft)
        record(path, file_sha256(made))
    except OSError as error:
        number, reason = error.errno or errno.EIO, error.strerror or str(error)
        raise OSError(number, reason, str(path.parent)) from error


def _private_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder that only this user can read and write, for a while."""
    return tempfile.TemporaryDirectory(prefix="vsr-", ignore_cleanup_errors=True)


def _is_whole(path: Path) -> bool:
    """Whether ``path`` is what was compiled: the loader dies of a file that a crash cut short."""
    try:
        return file_sha256(path) == recorded_sha256(path)
    except OSError:
        return False


def find_compiler() -> list[str]:
    """The C compiler that ``CC`` names, or the system's: the program, and words that go with it.

    As to ``make``, ``CC`` may be more than a name: ``gcc -m64``, ``ccache gcc``.

    Raises:
        CompilerError: there is none.
    """
    named = os.environ.get("CC", "").strip()
    for words in _in_ways(named) if named else ([name] for name in _COMPILERS):
        if words and (found := shutil.which(words[0])):
            return [found, *words[1:]]
    raise CompilerError(f"no C compiler is found ({named or ', '.join(_COMPILERS)})")


def _in_ways(named: str) -> Iterator[list[str]]:
    """What a value of ``CC`` may mean: one name, blanks and all, or words as the shell has them."""
    yield [named]
    with suppress(ValueError):  # a quotation mark without its other
        yield shlex.split(named)


def compile_to(path: Path, command: list[str]) -> None:
    """Compile the kernels to ``path``.

    Raises:
        CompilerError: the compiler cannot be run, or failed.
    """
    # Services may start programs without PATH: who looks for them then, as shutil.which and shells,
    # takes the usual folders, but the compiler none, and does not find its linker.
    environment = {**os.environ, "PATH": os.environ.get("PATH") or os.defpath}
    try:
        subprocess.run(
            [*command, "-o", str(path), str(SOURCE)], check=True, capture_output=True,
            text=True, stdin=subprocess.DEVNULL, timeout=_TIME_LIMIT, env=environment,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        told = (error.stderr.strip() or f"exit code {error.returncode}").splitlines()
        reason = next((line for line in told if "error" in line), told[0])
        raise CompilerError(f"{command[0]} cannot compile the CPU kernels: {reason}") from error
    except subprocess.TimeoutExpired as error:
        raise CompilerError(f"{command[0]} took over {_TIME_LIMIT} s") from error
    except OSError as error:
        raise CompilerError(f"the CPU kernels cannot be compiled: {error}") from error


def _folder() -> Path:
    """Where compiled kernels are kept, beside the folder of downloaded models.

    Raises:
        ConfigError: there is no place for caches.
        OSError: it cannot be made, or is another user's; see note [Whose machine code].
    """
    folder = cache_folder().parent / "kernels"
    folder.mkdir(parents=True, exist_ok=True)
    for place in (folder.parent, folder):
        if not _is_ours(place.stat()):
            raise PermissionError(errno.EPERM, "another user can write there", str(place))
    return folder


def _is_ours(place: os.stat_result) -> bool:
    """Whether a folder is this user's, or root's, and nobody else may write there.

    The user's own group may: many systems give each user one, and let it write by default.
    """
    if sys.platform == "win32":
        return True
    own_group = place.st_gid in (_ROOT, os.getegid())
    others = stat.S_IWOTH if own_group else stat.S_IWOTH | stat.S_IWGRP
    return place.st_uid in (_ROOT, os.geteuid()) and not place.st_mode & others


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _for_this_processor() -> tuple[str, ...]:
    """``-march=native`` means tuning alone on some ARM compilers, where ``-mcpu`` means both."""
    return ("-mcpu=native",) if platform.machine() in ("aarch64", "arm64") else ("-march=native",)


def _fingerprint(command: list[str]) -> str:
    """What settles the machine code: source, compiler, options, and what the processor can do."""
    parts = [SOURCE.read_bytes(), os.fsencode(" ".join(command))]
    for program in filter(None, map(shutil.which, command)):  # of "ccache gcc", both
        compiler = Path(program).resolve()
        parts += [os.fsencode(compiler), str(compiler.stat().st_mtime_ns).encode()]
    parts += [platform.machine().encode(), _features()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _features() -> bytes:
    """What Linux says the processor can do; elsewhere, its name."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return platform.processor().encode()
    return b"".join(sorted({line for line in lines if line.startswith((b"flags", b"Features"))}))
