"""Writing a converted model: whole or not at all, and never over another without being told."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vsr.errors import SinkError
from vsr.files import written_whole

__all__ = ["new_file"]


@contextmanager
def new_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A file to write to, which becomes ``path`` when the block ends, and vanishes if it raises.

    Raises:
        SinkError: ``path`` exists and may not be replaced, or cannot be written.
    """
    if path.exists() and not overwrite:
        raise SinkError(f"{path}: already exists; --force replaces it")
    inside = False
    try:
        with written_whole(path) as part:
            part.touch()
            inside = True
            yield part
            inside = False
    except OSError as error:
        if inside:  # the block's own, e.g. of what it reads
            raise
        raise SinkError(f"{path}: {error.strerror}") from error
