"""Writing a converted model: whole or not at all, and never over another without being told."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vsr.errors import SinkError
from vsr.files import hidden_name

__all__ = ["new_file"]


@contextmanager
def new_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A file to write to, which becomes ``path`` when the block ends, and vanishes if it raises.

    Raises:
        SinkError: ``path`` exists and may not be replaced, or cannot be written.
    """
    if path.exists() and not overwrite:
        raise SinkError(f"{path}: already exists; --force replaces it")
    part = hidden_name(path)
    with _explained(path):
        part.touch()
    try:
        yield part
        with _explained(path):
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SinkError(f"{path}: {error.strerror}") from error
