"""What lies beside an output, and how it is called: record, hashes, unfinished work, lock."""

from pathlib import Path

from vsr.files import followed, name_beside, shortened

__all__ = ["framemd5_path", "lock_path", "record_path", "work_path"]

_SHORT = 100
"""Bytes of one of two names within a name."""


def record_path(output: Path) -> Path:
    """Where the record of ``output`` lies: ``out.mkv.json``."""
    return name_beside(output, ".json")


def framemd5_path(output: Path) -> Path:
    """Where the hashes of the frames of ``output`` lie: ``out.mkv.framemd5``."""
    return name_beside(output, ".framemd5")


def work_path(output: Path) -> Path:
    """Where the finished segments of ``output`` lie until all are there: ``out.mkv.parts``.

    It is beside the file itself where ``output`` is a link, so that the result can be renamed. Of
    pictures in a folder that is made at the end, it is beside that folder.
    """
    resolved = followed(output)
    folder = resolved.parent
    beside = name_beside(folder, f".{shortened(resolved.name, _SHORT)}.parts")
    if "%" in resolved.name and (beside.is_dir() or not folder.is_dir()):
        return beside
    return name_beside(resolved, ".parts")


def lock_path(output: Path) -> Path:
    """The hidden file that carries the lock of ``output``; a link stands for what it leads to.

    The folder of pictures may be made when they get their names; then it is beside that folder, and
    stays there.
    """
    resolved = followed(output)
    home = resolved if resolved.is_dir() else resolved.parent
    inside = home / f".{shortened(resolved.name, 2 * _SHORT)}.lock"
    names = f"{shortened(home.name, _SHORT)}.{shortened(resolved.name, _SHORT)}"
    beside = home.parent / f".{names}.lock"
    if resolved.is_dir():
        beside = resolved.parent / inside.name
    return beside if beside.exists() or not home.is_dir() else inside
