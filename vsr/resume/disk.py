"""Writing that outlasts a power cut, and whether what was written is still there."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vsr.files import file_sha256

__all__ = ["find_damage", "sync_file", "sync_folder", "write_json"]


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


def find_damage(path: Path, size: int, sha256: str) -> str | None:
    """What is wrong with a finished file, as the end of a sentence about it; None if nothing is.

    Args:
        path: the file.
        size: bytes that were written.
        sha256: what they hash to.
    """
    try:
        found = path.stat().st_size
        digest = file_sha256(path)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if found != size:
        return f"has {found} bytes instead of {size}"
    return None if digest == sha256 else "has been altered since it was written"
