"""Writing that outlasts a power cut, and whether what was written is still there."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vsr.files import file_sha256, written_whole

__all__ = ["find_damage", "write_json"]


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` to ``path`` so that there is always the old file or the new one, whole.

    Raises:
        OSError: it cannot be written; the old one stays.
    """
    with written_whole(path, durable=True) as part, part.open("w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False, separators=(",", ":"))


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
