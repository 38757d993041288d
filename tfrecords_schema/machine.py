"""CPUs and memory that this process may use, by its affinity and the quotas of its control groups.

A container with a quota sees every CPU and all memory of its host. Only its control groups (cgroups) hold the
quota. Both versions are read, from the group of the process up to the highest visible one.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_ROOT = Path("/")  # holds proc and sys; another folder simulates a machine
# Controllers and path: "4:cpu,cpuacct:/docker/1f"; no controllers in version 2.
_MEMBERSHIP = re.compile(r"^\d+:([^:\n]*):(.*)$", re.M)
# Root within the hierarchy, mount point, version and options:
# "36 31 0:33 /docker/1f /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct"
_MOUNT = re.compile(r"^\S+ \S+ \S+ (\S+) (\S+) .*- (cgroup2?) .*?(\S+)$", re.M)


def usable_cpus(root: Path = _ROOT) -> int:
    """Returns the number of CPUs that this process may use, at least 1; a quota of 1.5 counts as 2."""
    has_affinity = hasattr(os, "sched_getaffinity")
    allowed = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    quotas = (_cpu_quota(group) for group in _groups("cpu", root))
    return max(1, min([allowed, *(math.ceil(quota) for quota in quotas if quota is not None)]))


def usable_memory(root: Path = _ROOT) -> int:
    """Returns the bytes that this process may still allocate within its control groups' limits."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    rooms = (_memory_room(group) for group in _groups("memory", root))
    return max(0, min([free, *(room for room in rooms if room is not None)]))


def _cpu_quota(group: Path) -> float | None:
    """Returns the CPUs that ``group`` may use; None without a limit."""
    words = _read(group / "cpu.max").split()  # "150000 100000", or "max 100000"
    if len(words) != 2:
        words = [_read(group / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
    quota, period = map(_positive, words)
    return quota / period if quota and period else None


def _memory_room(group: Path) -> int | None:
    """Returns the bytes that ``group`` may still take; None without a limit."""
    for limit_file, usage_file, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit = _positive(_read(group / limit_file))
        if limit is not None:
            usage = _positive(_read(group / usage_file)) or 0
            # Inactive cached files count as free, because the kernel drops them first.
            cached = re.search(rf"^{cache} (\d{{1,19}})$", _read(group / "memory.stat"), re.M)
            return limit - max(0, usage - (int(cached[1]) if cached else 0))
    return None


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """Yields the folders of this process's control groups that may limit ``controller``."""
    memberships = _MEMBERSHIP.findall(_read(root / "proc/self/cgroup"))
    for mounted, mount_point, kind, options in _MOUNT.findall(_read(root / "proc/self/mountinfo")):
        for controllers, path in memberships:
            if kind == "cgroup2":
                is_own = controllers == ""
            else:
                is_own = all(controller in text.split(",") for text in (controllers, options))
            if is_own:
                top = root / _unescape(mount_point).lstrip("/")
                own, above = PurePosixPath(path), PurePosixPath(_unescape(mounted))
                # Otherwise, the path is as seen from outside the container.
                is_inside = own.is_relative_to(above) and ".." not in own.parts
                below = own.relative_to(above).parts if is_inside else ()
                yield from (top.joinpath(*below[:depth]) for depth in range(len(below) + 1))


def _unescape(text: str) -> str:
    r"""Undoes the octal escapes of ``/proc/self/mountinfo``: ``\040`` is a space."""
    return re.sub(r"\\([0-3][0-7]{2})", lambda match: chr(int(match[1], 8)), text)


def _positive(text: str) -> int | None:
    """Returns ``text`` as a positive integer; None if it is not one."""
    return int(text) if re.fullmatch(r"\s*0*[1-9][0-9]{0,18}\s*", text) else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except (OSError, ValueError):  # absent, forbidden, or an invalid path
        return ""
