"""Writing that outlasts a power cut."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["sync_file", "sync_folder", "write_json"]


def sync_file(path: Path) -> None:
    """Make sure that what ``path`` holds is on the disk.

    Raises:
        OSError: it is not, e.g. the disk is full.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Make sure that the names in ``path`` are on the disk, where its file system can be asked."""
    with suppress(OSError):
        sync_file(path)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` to ``path`` so that there is always the old file or the new one, whole.

    Raises:
        OSError: it cannot be written; the old one stays.
    """
    temporary = path.with_name(f"{path.name}.part")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(content, file, ensure_ascii=False, separators=(",", ":"))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)
