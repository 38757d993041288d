"""CPUs and memory by simulated control groups of both versions."""

import math
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrecords_schema.machine import usable_cpus, usable_memory

ON_HOST = "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate"
CPU_V1 = "33 31 0:30 {root} /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct"
MEMORY_V1 = "34 31 0:31 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
OTHERS = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs rw"
UNLIMITED_V1 = "9223372036854771712"
MIB = 2**20


@pytest.fixture(autouse=True)
def large_machine(monkeypatch):
    """64 CPUs and 64 GiB."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    sizes = {"SC_AVPHYS_PAGES": 2**24, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)


def write_machine(root, groups, mounts, **files):
    """A tree with ``/proc/self`` and files below ``/sys/fs/cgroup``, whose keys have ``__`` for ``/``."""
    contents = {
        "proc/self/cgroup": groups,
        "proc/self/mountinfo": f"{OTHERS}\n{mounts}\n",
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("1000 100000\n", 1),
        ("6400000 100000", 64),
        ("99900000 100000", 64),
        ("max 100000\n", 64),
        ("max", 64),
        ("", 64),
        ("0 100000", 64),
        ("-1 100000", 64),
        ("200000 0", 64),
        ("two hundred", 64),
        (b"\xff\xfe 100000", 64),
        ("² 100000", 64),
        ("9" * 5000 + " 100000", 64),
    ],
)
def test_usable_cpus_by_quota_of_v2(tmp_path, written, expected):
    root = write_machine(tmp_path, "0::/\n", ON_HOST, **{"cpu.max": written})
    assert usable_cpus(root) == expected


@pytest.mark.parametrize(
    ("quota", "period", "expected"),
    [
        ("200000\n", "100000\n", 2),
        ("75000", "50000", 2),
        ("-1\n", "100000\n", 64),
        ("200000", None, 64),
        (None, "100000", 64),
        ("200000", "none", 64),
    ],
)
def test_usable_cpus_by_quota_of_v1(tmp_path, quota, period, expected):
    files = {"cpu.cfs_quota_us": quota, "cpu.cfs_period_us": period}
    files = {f"cpu,cpuacct/job/{name}": text for name, text in files.items() if text is not None}
    groups = "12:memory:/elsewhere\n4:cpu,cpuacct:/job\n"
    root = write_machine(tmp_path, groups, CPU_V1.format(root="/"), **files)
    assert usable_cpus(root) == expected


@pytest.mark.parametrize(
    "limited", ["", "a.slice/", "a.slice/b.service/", "a.slice/b.service/own/"]
)
def test_usable_cpus_takes_the_least_quota_of_all_ancestors(tmp_path, limited):
    groups = [f"{name}cpu.max" for name in ("", "a.slice/", "a.slice/b.service/")]
    files = {**dict.fromkeys(groups, "800000 100000"), f"{limited}cpu.max": "300000 100000"}
    root = write_machine(tmp_path, "0::/a.slice/b.service/own\n", ON_HOST, **files)
    assert usable_cpus(root) == 3


def test_usable_cpus_ignores_the_quotas_of_other_groups(tmp_path):
    files = {"a/cpu.max": "100000 100000", "b/c/cpu.max": "100000 100000"}
    assert usable_cpus(write_machine(tmp_path, "0::/b\n", ON_HOST, **files)) == 64


@pytest.mark.parametrize(
    ("group", "mounted"),
    [
        ("/docker/1f", "/docker/1f"),  # the host's names
        ("/", "/"),  # a namespace of its own
        ("/", "/docker/1f"),  # the mount was made outside of the namespace
        ("/../other", "/"),  # moved out of its namespace
        ("/kube/pod", "/docker/1f"),
    ],
)
def test_usable_cpus_within_containers(tmp_path, group, mounted):
    mounts = f"40 31 0:30 {mounted} /sys/fs/cgroup ro - cgroup2 cgroup rw"
    root = write_machine(tmp_path / "v2", f"0::{group}", mounts, **{"cpu.max": "200000 100000"})
    assert usable_cpus(root) == 2
    files = {"cpu.cfs_quota_us": "200000", "cpu.cfs_period_us": "100000"}
    root = write_machine(
        tmp_path / "v1",
        f"1:name=systemd:{group}\n2:cpuacct,cpu:{group}\n0::/",
        CPU_V1.format(root=mounted),
        **{f"cpu,cpuacct/{name}": text for name, text in files.items()},
    )
    assert usable_cpus(root) == 2


def test_usable_cpus_below_a_containers_own_mount(tmp_path):
    mounts = "40 31 0:30 /docker/1f /sys/fs/cgroup ro - cgroup2 cgroup rw"
    files = {"job/cpu.max": "500000 100000", "docker/1f/job/cpu.max": "100000 100000"}
    assert usable_cpus(write_machine(tmp_path, "0::/docker/1f/job", mounts, **files)) == 5


def test_usable_cpus_with_both_versions_mounted(tmp_path):
    mounts = f"{CPU_V1.format(root='/')}\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 none rw"
    files = {
        "cpu,cpuacct/a/cpu.cfs_quota_us": "600000",
        "cpu,cpuacct/a/cpu.cfs_period_us": "100000",
        "unified/b/cpu.max": "400000 100000",
    }
    assert usable_cpus(write_machine(tmp_path, "4:cpu,cpuacct:/a\n0::/b", mounts, **files)) == 4


def test_usable_cpus_reads_escaped_mount_points(tmp_path):
    mounts = r"30 25 0:26 / /sys/fs/cgroup/with\040space rw - cgroup2 cgroup2 rw"
    files = {"with space/cpu.max": "200000 100000"}
    assert usable_cpus(write_machine(tmp_path, "0::/", mounts, **files)) == 2


def test_usable_cpus_by_affinity_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    assert usable_cpus(tmp_path) == 2
    root = write_machine(tmp_path, "0::/\n", ON_HOST, **{"cpu.max": "800000 100000"})
    assert usable_cpus(root) == 2


def test_usable_cpus_is_one_where_nothing_is_known(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cpus(tmp_path) == 1


@given(quotas=st.lists(st.one_of(st.none(), st.integers(1, 10**8)), min_size=1, max_size=5))
def test_usable_cpus_is_the_least_quota_rounded_up(tmp_path_factory, quotas):
    folders = [f"{i}/" for i in range(len(quotas))]
    files = {
        f"{''.join(folders[:i])}cpu.max": f"{'max' if quota is None else quota} 100000"
        for i, quota in enumerate(quotas)
    }
    group = "/" + "".join(folders[: len(quotas) - 1])
    root = write_machine(tmp_path_factory.mktemp("machine"), f"0::{group}", ON_HOST, **files)
    expected = min([64, *(math.ceil(q / 100_000) for q in quotas if q is not None)])
    assert usable_cpus(root) == expected


@given(cgroup=st.binary(max_size=80), mountinfo=st.text("cgroup2 /\\0-:,", max_size=80))
def test_usable_cpus_and_memory_survive_garbage(tmp_path_factory, cgroup, mountinfo):
    root = tmp_path_factory.mktemp("machine")
    write_machine(root, cgroup, mountinfo)
    assert usable_cpus(root) == 64
    assert usable_memory(root) == 2**36


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory.max": f"{512 * MIB}\n", "memory.current": f"{112 * MIB}\n"}, 400 * MIB),
        ({"memory.max": f"{512 * MIB}"}, 512 * MIB),
        ({"memory.max": "max\n", "memory.current": "5\n"}, 2**36),
        ({"memory.max": "much\n"}, 2**36),
        ({"memory.max": "1000", "memory.current": "2000"}, 0),
        (
            {
                "memory.max": f"{512 * MIB}",
                "memory.current": f"{500 * MIB}",
                "memory.stat": f"anon 5\ninactive_file {488 * MIB}\nactive_file 7\n",
            },
            500 * MIB,
        ),
        ({"memory.max": f"{512 * MIB}", "job/memory.max": f"{100 * MIB}"}, 100 * MIB),
    ],
)
def test_usable_memory_of_v2(tmp_path, files, expected):
    assert usable_memory(write_machine(tmp_path, "0::/job", ON_HOST, **files)) == expected


@pytest.mark.parametrize(
    ("limit", "expected"), [(f"{512 * MIB}", 482 * MIB), (UNLIMITED_V1, 2**36), ("-1", 2**36)]
)
def test_usable_memory_of_v1(tmp_path, limit, expected):
    files = {
        "memory/memory.limit_in_bytes": f"{limit}\n",
        "memory/memory.usage_in_bytes": f"{40 * MIB}\n",
        "memory/memory.stat": f"inactive_file 3\ntotal_inactive_file {10 * MIB}\n",
    }
    mounts = MEMORY_V1.format(root="/docker/1f")
    root = write_machine(tmp_path, "9:memory:/docker/1f\n", mounts, **files)
    assert usable_memory(root) == expected


def test_usable_memory_without_control_groups_is_what_is_free(tmp_path):
    assert usable_memory(tmp_path) == 2**36
