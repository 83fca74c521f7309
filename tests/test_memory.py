"""What is left of the host's memory, out of folders as Linux lays them out."""

import os
from pathlib import Path

import pytest

from vsr.memory import free_host_memory

GIB = 1 << 30
NO_LIMIT = 9223372036854771712
"""What the first version of control groups says where there is none."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with 64 GiB."""
    write(tmp_path / "proc/meminfo", f"MemTotal: 1 kB\nMemAvailable: {64 * GIB // 1024} kB\n")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def unified(root: Path, group: str, limit: object, used: int, files: int = 0, **more: int) -> None:
    folder = root / "sys/fs/cgroup" / group
    write(folder / "memory.max", f"{limit}\n")
    write(folder / "memory.current", f"{used}\n")
    write(folder / "memory.stat", f"anon 1\nactive_file {files}\n")
    for name, value in more.items():
        write(folder / f"memory.{name}", f"{value}\n")


def first(root: Path, group: str, limit: int, used: int, files: int = 0) -> None:
    folder = root / "sys/fs/cgroup/memory" / group
    write(folder / "memory.limit_in_bytes", f"{limit}\n")
    write(folder / "memory.usage_in_bytes", f"{used}\n")
    stat = f"active_file 1\ntotal_inactive_file {files}\ntotal_active_file {files}\n"
    write(folder / "memory.stat", stat)


def test_a_machine_without_limits(root: Path) -> None:
    assert free_host_memory(root) == 64 * GIB
    write(root / "proc/self/cgroup", "0::/user.slice\n")
    assert free_host_memory(root) == 64 * GIB
    unified(root, "user.slice", "max", GIB)
    assert free_host_memory(root) == 64 * GIB


def test_a_container_s_cache_of_files_is_not_used_up(root: Path) -> None:
    """With a namespace of its own, a container sees its group as the root."""
    write(root / "proc/self/cgroup", "0::/\n")
    unified(root, "", 8 * GIB, 8 * GIB - 1, 5 * GIB)
    assert free_host_memory(root) == 5 * GIB + 1
    unified(root, "", 8 * GIB, 9 * GIB)
    assert free_host_memory(root) == 0


@pytest.mark.parametrize(
    ("slice_limit", "own_limit", "expected"),
    [("max", 3 * GIB, 2 * GIB), (4 * GIB, "max", GIB), (4 * GIB, 3 * GIB, GIB)],
)
def test_the_least_of_a_service_s_limits_counts(
    root: Path, slice_limit: object, own_limit: object, expected: int
) -> None:
    write(root / "proc/self/cgroup", "0::/system.slice/vsr.service\n")
    unified(root, "system.slice", slice_limit, 3 * GIB)
    unified(root, "system.slice/vsr.service", own_limit, GIB)
    assert free_host_memory(root) == expected


def test_a_limit_that_slows_down_counts_too(root: Path) -> None:
    write(root / "proc/self/cgroup", "0::/a.scope\n")
    unified(root, "a.scope", "max", GIB, high=3 * GIB)
    assert free_host_memory(root) == 2 * GIB


def test_a_group_beyond_what_is_mounted(root: Path) -> None:
    write(root / "proc/self/cgroup", "0::/../other\n")
    unified(root, "", 2 * GIB, GIB)
    unified(root, "../other", GIB, GIB)  # of another hierarchy, for all that is known
    assert free_host_memory(root) == GIB


def test_the_first_version(root: Path) -> None:
    write(root / "proc/self/cgroup", "4:cpu,cpuacct:/x\n3:memory:/slurm/job_7/step_0\n0::/\n")
    first(root, "", NO_LIMIT, 9 * GIB)
    first(root, "slurm", NO_LIMIT, 5 * GIB)
    first(root, "slurm/job_7", 4 * GIB, 3 * GIB, GIB // 2)
    first(root, "slurm/job_7/step_0", NO_LIMIT, 2 * GIB)
    assert free_host_memory(root) == 2 * GIB
    first(root, "slurm/job_7/step_0", 2 * GIB, GIB)
    assert free_host_memory(root) == GIB


def test_the_first_version_from_within_a_container(root: Path) -> None:
    """Its own group is mounted, and its name is that outside."""
    write(root / "proc/self/cgroup", "3:memory:/docker/1f0c\n")
    first(root, "", 3 * GIB, GIB)
    assert free_host_memory(root) == 2 * GIB


@pytest.mark.parametrize("text", ["", "memory\n", "0:\n", "x::/\n", "0::\n", "1:name=systemd:/\n"])
def test_what_is_not_understood_limits_nothing(root: Path, text: str) -> None:
    write(root / "proc/self/cgroup", text)
    unified(root, "", "a lot", 1)
    first(root, "", NO_LIMIT, GIB)
    assert free_host_memory(root) == 64 * GIB


def test_elsewhere_than_on_linux(tmp_path: Path) -> None:
    assert free_host_memory(tmp_path) == 4e9


def test_free_memory_is_what_the_machine_has() -> None:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < free_host_memory() < pages
