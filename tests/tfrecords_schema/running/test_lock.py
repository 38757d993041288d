"""Locks of folders on disks with file locks and without, and in hostile folders."""

import errno
import fcntl
import json
import os

import pytest

from tfrecords_schema.running.lock import LockedError, folder_lock


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "lock")


@pytest.fixture(params=[errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def without_file_locks(request, monkeypatch):
    def refuse(*_):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_folder_lock_refuses_a_second_run(path):
    with (
        folder_lock(path, "out", "building"),
        pytest.raises(LockedError, match=r"another run is building in out\. Wait for it"),
        folder_lock(path, "out", "building"),
    ):
        pass
    with folder_lock(path, "out", "building"):
        pass


def test_folder_lock_names_its_holder_without_file_locks(path, without_file_locks, tmp_path):
    with folder_lock(path, "out", "training"):
        holder = json.loads((tmp_path / "lock.holder").read_text())
        assert holder["pid"] == os.getpid()
        expected = rf"training in out \(.*, process {os.getpid()}\).*expires after 5 minutes"
        with pytest.raises(LockedError, match=expected), folder_lock(path, "out", "training"):
            pass
    assert not (tmp_path / "lock.holder").exists()
    with folder_lock(path, "out", "training"):
        pass


def test_folder_lock_neither_follows_a_link_nor_truncates(path, tmp_path):
    other = tmp_path / "other"
    other.write_text("precious")
    os.link(other, path)
    with folder_lock(path, "out", "building"):
        pass
    assert other.read_text() == "precious"
    os.unlink(path)
    os.symlink(other, path)
    with pytest.raises(OSError, match="symbolic link") as raised, folder_lock(path, "out", "x"):
        pass
    assert raised.value.errno == errno.ELOOP
    assert other.read_text() == "precious"


def test_folder_lock_is_not_taken_on_a_file_that_its_holder_removed(path, monkeypatch):
    """A run opens the file of a lock, whose holder then ends and removes it."""
    real, calls = os.open, []

    def open_and_remove(name, *args):
        number = real(name, *args)
        if not calls:
            os.unlink(path)
        calls.append(name)
        return number

    monkeypatch.setattr(os, "open", open_and_remove)
    with folder_lock(path, "out", "building"):
        assert calls == [path, path]
        assert os.path.exists(path)
