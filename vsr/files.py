"""Files that appear whole or not at all, and what they hash to."""

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["file_sha256", "hidden_name", "written_whole"]


def hidden_name(path: Path) -> Path:
    """A name beside ``path`` that is hidden and nobody else's, for what is to become ``path``."""
    return path.with_name(f".{path.stem[:40]}.{secrets.token_hex(4)}.part")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A name to write to, which becomes ``path`` when the block ends, and vanishes if it raises.

    Raises:
        OSError: it cannot be renamed.
    """
    part = hidden_name(path)
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
