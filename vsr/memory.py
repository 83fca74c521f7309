"""How much memory the host has left for this process, within the limits that hold for it.

Note [Limits of groups]
    Containers, systemd's units and batch systems limit memory by control groups, which are folders
    within folders. What a group uses counts for all groups above it, so the limit of each holds.
    ``/proc/self/cgroup`` says in which group a process is. Within a container it may say so from
    outside; the folders above that are not there, and the group is what is mounted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["free_host_memory"]

_UNKNOWN_MEMORY = 4e9


@dataclass(frozen=True)
class _Version:
    """What the files of a version of control groups are called."""

    mounted: str
    limits: tuple[str, ...]
    used: str
    given_back: tuple[str, ...]
    """What counts as used and the kernel frees when it is wanted: mostly cached files."""


_UNIFIED = _Version(
    "sys/fs/cgroup",
    ("memory.max", "memory.high"),
    "memory.current",
    ("active_file", "inactive_file", "slab_reclaimable"),
)
_FIRST = _Version(
    "sys/fs/cgroup/memory",
    ("memory.limit_in_bytes",),
    "memory.usage_in_bytes",
    ("total_active_file", "total_inactive_file"),
)


def free_host_memory(root: Path = Path("/")) -> float:
    """Bytes that Linux says are available to this process; elsewhere, a guess.

    Args:
        root: the folder that holds ``proc`` and ``sys``.
    """
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        free = 1024.0 * int(dict(line.split(":") for line in lines)["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return _UNKNOWN_MEMORY
    return max(0.0, min([free, *_left_in_groups(root)]))


def _left_in_groups(root: Path) -> Iterator[float]:
    """Bytes that each limit leaves; see note [Limits of groups]."""
    for version, group in _groups(root):
        mounted = root / version.mounted
        parts = group.strip("/").split("/")
        own = mounted if ".." in parts else mounted.joinpath(*parts)  # "..": it is not mounted here
        for level in (own, *own.parents):
            if level.is_relative_to(mounted):
                yield from _left(level, version)


def _groups(root: Path) -> Iterator[tuple[_Version, str]]:
    """The groups that this process is in and that may limit memory: one, or one of each version."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except (OSError, ValueError):
        return
    for line in lines:  # such as 0::/system.slice/vsr.service or 4:memory:/docker/1f0c
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            yield _UNIFIED, group
        elif "memory" in controllers.split(","):
            yield _FIRST, group


def _left(group: Path, version: _Version) -> Iterator[float]:
    """Bytes that the limits of one group leave, where it has any."""
    try:
        used = int((group / version.used).read_text())
        lines = (group / "memory.stat").read_text().splitlines()
        stat = dict(line.split() for line in lines)
        used -= sum(int(stat.get(name, 0)) for name in version.given_back)
    except (OSError, ValueError):
        return
    for name in version.limits:
        try:
            yield int((group / name).read_text()) - used
        except (OSError, ValueError):  # ValueError: "max", which is none
            continue
