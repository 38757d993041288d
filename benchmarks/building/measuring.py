"""Measures wall clock, CPU time and memory of this process and its descendants; compares sides."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_SAMPLE_SECONDS = 0.05


class Spent(NamedTuple):
    """Seconds by the wall clock, and of CPU time in all processes."""

    wall: float
    cpu: float


def timed(work: Callable[[], object]) -> Spent:
    """Returns the time of ``work``, with the CPU time of all processes that it uses or starts."""
    cpu, began = tree_cpu(os.getpid()), time.perf_counter()
    work()
    return Spent(time.perf_counter() - began, tree_cpu(os.getpid()) - cpu)


def interleave(
    sides: Mapping[str, Callable[[], object]],
    repeats: int,
    prepare: Callable[[], object] = lambda: None,
) -> dict[str, list[Spent]]:
    """Times the sides in turn, every other round in reverse, so that other load affects all sides.

    Args:
        sides: functions by name.
        repeats: number of rounds.
        prepare: called before each side, and not timed.
    """
    spent: dict[str, list[Spent]] = {name: [] for name in sides}
    for number in range(repeats):
        order = list(sides) if number % 2 == 0 else list(reversed(sides))
        for name in order:
            prepare()
            spent[name].append(timed(sides[name]))
    return spent


def ratio(over: Sequence[Spent], under: Sequence[Spent], field: str = "wall") -> float:
    """Returns the median of the rounds' ratios."""
    return statistics.median(
        getattr(a, field) / getattr(b, field) for a, b in zip(over, under, strict=True)
    )


def show(spent: Mapping[str, Sequence[Spent]], amount: float = 0, units: str = "") -> None:
    """Prints one line per side: medians, the range of the wall clock, and the speed in ``units``."""
    for name, rounds in spent.items():
        wall = [each.wall for each in rounds]
        median, cpu = statistics.median(wall), statistics.median(each.cpu for each in rounds)
        speed = ""
        if units:
            speed = f": {amount / median:,.0f} {units}/s, {1000 * cpu / amount:.2f} ms of CPU each"
        span = f"{median:7.2f} s ({min(wall):.2f} to {max(wall):.2f})"
        print(f"  {name:<38} {span}, CPU {cpu:7.2f} s{speed}", flush=True)


def tree_cpu(root: int) -> float:
    """Returns the CPU seconds of a process and its descendants, including ended ones."""
    ticks = 0
    for process in _tree(root):
        fields = _stat(process)
        ticks += sum(map(int, fields[11:15])) if fields else 0  # utime, stime, cutime, cstime
    return ticks / _TICKS


def _tree(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        fields = _stat(int(entry)) if entry.isdigit() else None
        if fields:
            children.setdefault(int(fields[1]), []).append(int(entry))
    tree = [root]
    for process in tree:
        tree += children.get(process, [])
    return tree


def _stat(process: int) -> list[str] | None:
    """Returns the fields of /proc/PID/stat from the state on; None if the process has ended."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


class Peak(NamedTuple):
    """Peak memory of a process in bytes: resident, and with shared pages counted proportionally."""

    resident: int
    share: int


class Run(NamedTuple):
    """The result of a command: its time, and the memory peaks of the driver and of its largest descendant."""

    spent: Spent
    driver: Peak
    child: Peak
    output: str


def run_command(
    argv: Sequence[str | Path], *, sampled: bool = False, accepted: Sequence[int] = (0,)
) -> Run:
    """Runs a command to its end.

    Args:
        argv: the command.
        sampled: samples its memory, which costs a little CPU time.
        accepted: exit statuses of success.

    Raises:
        RuntimeError: if it fails.
    """
    cpu, began = tree_cpu(os.getpid()), time.perf_counter()
    with subprocess.Popen(
        [str(part) for part in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        watch = _MemoryWatch(process.pid)
        if sampled:
            watch.start()
        output = process.stdout.read()
        watch.over.set()
        process.wait()
    spent = Spent(time.perf_counter() - began, tree_cpu(os.getpid()) - cpu)
    if sampled:
        watch.join()
    if process.returncode not in accepted:
        raise RuntimeError(f"{' '.join(map(str, argv))}\n{output[-2000:]}")
    return Run(spent, watch.driver, watch.child, output)


class _MemoryWatch(threading.Thread):
    def __init__(self, root: int):
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.driver = self.child = Peak(0, 0)
        self._root = root

    def run(self) -> None:
        while not self.over.wait(_SAMPLE_SECONDS):
            for process in _tree(self._root):
                held = _memory(process)
                if process == self._root:
                    self.driver = Peak(*map(max, self.driver, held))
                else:
                    self.child = Peak(*map(max, self.child, held))


def _memory(process: int) -> Peak:
    """Returns the peak of resident memory, which the kernel records, and the present proportional share."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8")
    except OSError:
        return Peak(0, 0)
    return Peak(_kibibytes(status, "VmHWM:"), _kibibytes(rollup, "Pss:"))


def _kibibytes(text: str, name: str) -> int:
    for line in text.splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 2**10
    return 0


def describe_machine() -> str:
    """Returns CPU, memory and kernel as text."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return (
        f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} CPUs ({model}), {memory:.0f} GiB, "
        f"{platform.system()} {platform.release()}; load before {load:.1f}"
    )
