"""What lies beside an output, and what it is called: record, hashes, unfinished work, lock.

Note [Names of what is not finished]
    What a run writes has a hidden name with a random part until it is complete. A run that is
    killed leaves it behind, and nobody else may take that away who cannot tell it from the file of
    a run that is at work. So the name is that of the lock, which a run holds from before its first
    file until after its last: ``.out.mkv.5e1f00d5.part`` beside ``.out.mkv.lock``. Who holds the
    lock knows that all such files are of runs that have ended. The record and the hashes of an
    output are called like it until they are complete, not like themselves: ``out.mkv.json`` might
    be the output of another run.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vsr.files import followed, hidden_name, name_beside, set_aside, shortened, unfinished

__all__ = [
    "find_unfinished",
    "framemd5_path",
    "lock_path",
    "record_path",
    "unfinished_name",
    "without_companions",
    "work_path",
]

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
    inside = _lock_of_name(home / resolved.name)
    names = f"{shortened(home.name, _SHORT)}.{shortened(resolved.name, _SHORT)}"
    beside = home.parent / f".{names}.lock"
    if resolved.is_dir():
        beside = resolved.parent / inside.name
    return beside if beside.exists() or not home.is_dir() else inside


def _lock_of_name(path: Path) -> Path:
    """The file of the lock of ``path`` itself, link or not, in its folder."""
    return path.with_name(f".{shortened(path.name, 2 * _SHORT)}.lock")


def unfinished_name(output: Path, folder: Path) -> Path:
    """A new hidden name in ``folder`` for what becomes ``output``, a part of it, or lies beside it.

    See note [Names of what is not finished]. Beside a link, where there is no lock, it is the
    link's name: no run can have that for its own while it is one.
    """
    lock = lock_path(output)
    beside_lock = folder.resolve() == lock.parent
    return hidden_name(folder / (lock.stem[1:] if beside_lock else output.name))


@contextmanager
def without_companions(output: Path, companions: Iterable[Path]) -> Iterator[None]:
    """Let ``output`` get its name in the block, and no record of another file stand beside it.

    Between its name and its record a run can be killed. Then there is no record, rather than that
    of the file which was replaced.

    Args:
        output: as the run was told it.
        companions: what the run will write beside it, and may replace. They are deleted, or still
            there if the block raises.
    """
    with set_aside((path, unfinished_name(output, path.parent)) for path in companions):
        yield


def find_unfinished(output: Path) -> list[Path]:
    """What runs that were killed have left of ``output``, which must be locked by the caller.

    See note [Names of what is not finished]. Where the output is a link, a run may be at work that
    found no link of that name yet, and locked the name.
    """
    lock = lock_path(output)
    found = unfinished(lock.with_name(lock.stem[1:]))
    elsewhere = output.is_symlink() and output.parent.resolve() != lock.parent
    if elsewhere and not _lock_of_name(output).exists():
        found += unfinished(output)
    return found
