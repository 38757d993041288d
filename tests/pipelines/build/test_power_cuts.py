"""A build survives power cuts and full disks at every step of its output folder."""

import errno
import hashlib
import os

import pytest

from pipelines.build.output import OutputFolder
from pipelines.options.dataset import DatasetOptions
from pipelines.plan.descriptors import Shard
from tests.power_cuts import Disk, failing_sync, write_state
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.spec import ImageSpec, SequenceSpec

OPTIONS = DatasetOptions(name="a").to_json()
SHARDS = [Shard(split="train", index=index, count=2, segments=()) for index in range(2)]
SPEC = SequenceSpec(num_frames=4, image=ImageSpec(height=2, width=2))


def build(folder, *, content=b"records"):
    """Writes two shards as a build does, keeping those that are complete; returns the number kept."""
    output = OutputFolder(str(folder))
    kept = 0
    sha256 = hashlib.sha256(content).hexdigest()
    with output.locked():
        info = output.complete_info()
        if info is None or info.name != content.decode():
            output.begin({**OPTIONS, "content": content.decode()}, {"sources": 1}, SHARDS)
            for shard in SHARDS:
                if output.kept_report(shard.file, "f") is not None:
                    kept += 1
                    continue
                with output.new_shard(shard.file) as file:
                    file.write(content)
                output.store_report(shard.file, {"fingerprint": "f", "sha256": sha256})
            output.finish([], DatasetInfo(name=content.decode(), spec=SPEC, splits={}, options={}))
        output.leave_complete()
    return kept


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("before", [None, b"other"])
def test_a_build_goes_on_after_a_power_cut_at_every_step(before, tmp_path):
    """``before``: a complete dataset that is replaced."""
    root = tmp_path / "disk"
    root.mkdir()
    if before:
        build(root / "out", content=before)
    states = []
    with Disk(root, states.extend):
        build(root / "out")
    whole = contents(root / "out")
    unlike = {str(sorted(state.items())): state for state in states}
    assert len(unlike) > 10
    for number, state in enumerate(unlike.values()):
        cut = tmp_path / f"cut{number}"
        write_state(state, cut)
        output = OutputFolder(str(cut / "out"))
        info = output.complete_info()
        if info is not None:
            found = {(cut / "out" / shard.file).read_bytes() for shard in SHARDS}
            assert found == {info.name.encode()}, state.keys()
        build(cut / "out")
        assert contents(cut / "out") == whole


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_build_goes_on_after_a_write_that_failed(code, tmp_path, monkeypatch):
    build(tmp_path / "whole")
    for call in range(100):
        folder = tmp_path / f"out{call}"
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing_sync(call, code))
            try:
                build(folder)
                break
            except OSError:
                pass
        build(folder)
        assert contents(folder) == contents(tmp_path / "whole")
    assert call > 10
