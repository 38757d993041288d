"""Whole files: after power cuts, failures, kills, and in folders that hold links."""

import errno
import os
import subprocess
import sys

import pytest

from tests.power_cuts import Disk
from tfrecords_schema import storage


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_replacing_leaves_old_or_new_contents_at_every_power_cut(tmp_path):
    storage.write_bytes(tmp_path / "a", b"old")
    seen = set()

    def look(states):
        seen.update(state["a"] for state in states)

    with Disk(tmp_path, look):
        storage.write_bytes(tmp_path / "a", b"new")
        assert seen == {b"old"} or seen == {b"old", b"new"}
        seen.clear()
        storage.write_bytes(tmp_path / "b", b"")  # what was written before is durable
    assert seen == {b"new"}


def test_make_folder_and_files_in_it_are_durable(tmp_path):
    last = {}

    def look(states):
        last.update(states[0])

    with Disk(tmp_path, look):
        storage.make_folder(tmp_path / "x/y")
        storage.write_bytes(tmp_path / "x/y/a", b"data")
        storage.write_bytes(tmp_path / "end", b"")
    assert last["x/y/a"] == b"data"


def test_replacing_a_folder_is_durable_with_all_its_files(tmp_path):
    with storage.replacing(tmp_path / "model", folder=True) as partial:
        (partial / "old").touch()
    states = []
    with Disk(tmp_path, states.extend):
        with storage.replacing(tmp_path / "model", folder=True) as partial:
            (partial / "in").mkdir()
            (partial / "in/a").write_bytes(b"a")
        storage.write_bytes(tmp_path / "end", b"")
    for state in states:
        assert state.get("model/in/a", b"a") == b"a"
        assert "model/old" not in state or "model/in" not in state
    assert states[-1]["model/in/a"] == b"a"
    assert names(tmp_path) == ["end", "model"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_replacing_keeps_the_old_file_if_a_write_fails(code, tmp_path, monkeypatch):
    def fail(number):
        raise OSError(code, os.strerror(code))

    storage.write_bytes(tmp_path / "a", b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match=os.strerror(code)) as raised:
            storage.write_bytes(tmp_path / "a", b"new")
    assert raised.value.filename == str(tmp_path / "a")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_replacing_writes_nothing_through_links(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_bytes(b"precious")
    out = tmp_path / "out"
    out.mkdir()
    (out / "a").symlink_to(other / "file")
    (out / "model").symlink_to(other)
    storage.write_bytes(out / "a", b"new")
    with storage.replacing(out / "model", folder=True) as partial:
        (partial / "x").touch()
    assert (out / "a").read_bytes() == b"new"
    assert not (out / "a").is_symlink()
    assert names(out / "model") == ["x"]
    assert names(other) == ["file"]
    assert (other / "file").read_bytes() == b"precious"


def test_make_folder_refuses_links_inside_an_output_folder_only(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    storage.make_folder(tmp_path / "out/a/b", inside=tmp_path / "out")
    (tmp_path / "out/c").symlink_to(tmp_path)
    with pytest.raises(OSError, match="it is a link, through which nothing is written") as raised:
        storage.make_folder(tmp_path / "out/c/d", inside=tmp_path / "out")
    assert raised.value.filename == str(tmp_path / "out/c")
    assert not (tmp_path / "d").exists()


def test_replacing_removes_what_killed_processes_left_and_nothing_in_use(tmp_path):
    program = (
        "import sys, time; from tfrecords_schema import storage\n"
        "with storage.replacing(sys.argv[1], suffix='.mp4') as partial:\n"
        "    partial.write_bytes(b'half'); print(flush=True); time.sleep(600)"
    )
    words = [sys.executable, "-c", program, tmp_path / "video.mp4"]
    children = [subprocess.Popen(words, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for child in children:
            child.stdout.readline()
        assert len(names(tmp_path)) == 2
        children[0].kill()
        children[0].wait()
        (tmp_path / ".video.mp4.partial").touch()  # the user's own
        storage._remove_abandoned.cache_clear()
        storage.write_bytes(tmp_path / "video.mp4", b"whole")
        partials = [name for name in names(tmp_path) if storage.is_partial(name)]
        assert len(partials) == 1
        assert (tmp_path / partials[0]).read_bytes() == b"half"
        assert len(names(tmp_path)) == 3
    finally:
        for child in children:
            child.kill()
            child.communicate()
