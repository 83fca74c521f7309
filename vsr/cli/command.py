"""What the commands share: exit codes, errors in one line, and no traceback."""

import argparse
import codecs
import errno
import io
import os
import re
import sys
import traceback
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, TextIO

from vsr.errors import (
    ConfigError,
    OutputExistsError,
    SinkError,
    UnsupportedFormatError,
    VsrError,
)

__all__ = [
    "DONE",
    "EXISTS",
    "FAILED",
    "INTERRUPTED",
    "USAGE",
    "Parser",
    "discard_rest",
    "open_standard_streams",
    "printable",
    "run_command",
]

DONE, FAILED, USAGE, EXISTS, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes; USAGE is for options that contradict each other or do not exist, and for inputs that
are as they should be but not known here; EXISTS tells who repeats a command that its output is
there."""
_FAILING = ("strict", "surrogateescape")
"""What Python does at characters that standard output lacks, unless the user asks for more."""
_SPELT_OUT = "vsr-spelt-out"
_UNMAPPED = "failed to map segment"
"""What the loader says of a library for which there is no memory, or whose mount is ``noexec``."""


class Parser(argparse.ArgumentParser):
    """argparse, with one line for an error rather than the whole usage."""

    def _get_option_tuples(self, option_string: str) -> list[Any]:
        """Nothing is abbreviated: argparse takes -hide_banner for -h, and -t for -to."""
        return []

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and leave."""
        self.exit(USAGE, f"{self.prog}: error: {printable(message)} (see --help)\n")


def open_standard_streams() -> set[int]:
    """Make standard streams that anything can be printed to.

    /dev/null stands in for those that are closed, as some daemons start programs: else the next
    file that is opened would be what libraries print to. What standard output has no character for
    is spelt out, as Python does on stderr.

    Returns:
        The numbers of those that were closed.
    """
    closed = set()
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            closed.add(number)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in _FAILING:
        codecs.register_error(_SPELT_OUT, _spell_out)
        with suppress(ValueError, OSError):  # closed, or what a caller has printed finds no room
            sys.stdout.reconfigure(errors=_SPELT_OUT)
    return closed


def _spell_out(error: UnicodeError) -> tuple[str | bytes, int]:
    r"""``\u2026`` for ``…``; but bytes of names that are no text stay what they are.

    So a script finds the file whose name it is told. Where there is no locale, Python itself lets
    them through.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    error.end = error.start + 1  # the next character may be of the other kind
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeEncodeError:
        return codecs.backslashreplace_errors(error)


def printable(text: str) -> str:
    """``text`` in one line; what a terminal obeys, as names of files may hold it, is spelt out."""
    return "".join(
        character.encode("unicode_escape").decode() if _is_control(character) else character
        for character in re.sub(r"\s*[\r\n]+\s*", " ", text.rstrip())
    )


def _is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc"


def run_command(
    name: str, work: Callable[[], int], *, debug: bool,
    known: tuple[type[Exception], ...] = (VsrError,),
) -> int:  # fmt: skip
    """Do ``work``; whatever goes wrong is one line on stderr.

    Args:
        name: of the command.
        work: what is done; returns an exit code.
        debug: whether to show a traceback, too.
        known: errors that a user can act on; any other is called internal.

    Returns:
        The exit code.
    """
    try:
        os.getcwd()
    except FileNotFoundError:  # libraries of PyTorch's end the process over that
        print(f"{name}: error: the working directory has been deleted", file=sys.stderr)
        return FAILED
    try:
        code = work()
        with suppress(ValueError):  # who called has closed it
            sys.stdout.flush()
    except KeyboardInterrupt:
        print("aborted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a list has seen enough
        discard_rest(sys.stdout)
        return DONE
    except Exception as error:  # noqa: BLE001 - the last line of defence against tracebacks
        if isinstance(error, OSError) and error.errno == errno.ENOSPC and not error.filename:
            error = SinkError(f"standard output: cannot be written: {error.strerror}")
            discard_rest(sys.stdout)
        if debug:
            traceback.print_exc()
        print(f"{name}: error: {_in_words(error, known, debug=debug)}", file=sys.stderr)
        return _code_of(error)
    return code


def discard_rest(stream: TextIO) -> None:
    """Send nowhere what ``stream`` still holds and could not write, and all that follows.

    Python would write it again as it ends, and make that the exit code.
    """
    with suppress(AttributeError, ValueError, OSError):  # it has no number, or none any more
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)


def _code_of(error: Exception) -> int:
    if isinstance(error, ConfigError | UnsupportedFormatError):
        return USAGE
    return EXISTS if isinstance(error, OutputExistsError) else FAILED


def _in_words(error: Exception, known: tuple[type[Exception], ...], *, debug: bool) -> str:
    message = printable(str(error)) or type(error).__name__
    if isinstance(error, ImportError | OSError) and _UNMAPPED in message:
        return f"not enough memory to load a library, or it must not be executed: {message}"
    if debug or isinstance(error, known):
        return message
    return f"internal error: {message} (--debug shows where)"
