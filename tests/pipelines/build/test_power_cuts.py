"""A build survives power cuts and full disks at every step of its output folder."""

import contextlib
import errno
import hashlib
import itertools
import os

import pytest

from pipelines.build.output import OutputFolder
from pipelines.cli import main
from pipelines.options.dataset import DatasetOptions
from pipelines.plan.descriptors import Shard
from tests.power_cuts import Disk, FailingDisk, write_state
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


def check_names(folder, whole):
    """Checks that no file that is not whole has the name of one."""
    for name, data in contents(folder).items():
        assert name.startswith("_build/") or data == whole[name], name


@pytest.mark.parametrize(
    ("code", "stride"), [(errno.ENOSPC, 9), pytest.param(errno.EIO, 1, marks=pytest.mark.slow)]
)
def test_a_build_goes_on_after_a_write_that_failed(code, stride, tmp_path):
    build(tmp_path / "whole")
    whole, failed = contents(tmp_path / "whole"), set()
    for call in itertools.count(0, stride):
        folder = tmp_path / f"out{call}"
        with FailingDisk(folder, call, code) as disk, contextlib.suppress(OSError):
            build(folder)
        if disk.failed is None:
            break
        failed.add(disk.failed)
        if folder.exists():
            check_names(folder, whole)
        build(folder)
        assert contents(folder) == whole
    if stride == 1:
        assert failed == {"open", "open a file", "mkdir", "write", "fsync", "replace"}
    assert call > 50


@pytest.mark.slow
def test_a_command_whose_write_fails_says_so_and_goes_on(tmp_path, write_video, capsys):
    (tmp_path / "clips/a").mkdir(parents=True)
    write_video(tmp_path / "clips/a/v.avi", codec="mjpeg", frames=6, size=(16, 16))
    flags = ["videos", "--input", str(tmp_path / "clips"), "--num_frames", "4", "--size", "16x16"]
    flags += ["--workers", "1", "--name", "x", "--splits", "train=1", "--output"]
    assert main([*flags, str(tmp_path / "whole")]) == 0
    whole = contents(tmp_path / "whole")
    for call in itertools.count(3, 9):
        folder = tmp_path / f"out{call}"
        code = (errno.ENOSPC, errno.EIO)[call % 2]
        capsys.readouterr()
        with FailingDisk(folder, call, code) as disk:
            status = main([*flags, str(folder)])
        if disk.failed is None:
            break
        said = capsys.readouterr().err.strip().splitlines()
        assert status == 2, disk.failed
        assert said[-1].startswith("pipelines videos: error: ")
        assert os.strerror(code) in said[-1]
        assert "Traceback" not in "".join(said)
        check_names(folder, whole)
        assert main([*flags, str(folder)]) == 0
        assert contents(folder) == whole
    assert call > 30
    flags = ["validate", "--tfrecords", str(tmp_path / "whole"), "--workers", "1", "--report"]
    for call in itertools.count(0, 3):
        report = tmp_path / f"report{call}/a.html"
        report.parent.mkdir()
        with FailingDisk(report.parent, call, errno.ENOSPC) as disk:
            status = main([*flags, str(report)])
        if disk.failed is None:
            break
        said = capsys.readouterr().err.strip().splitlines()
        assert status == 2
        assert said[-1].startswith("pipelines validate: error: ")
        assert not report.exists() or report.read_bytes().rstrip().endswith(b"</html>")
        assert main([*flags, str(report)]) == 0
        assert [path.name for path in report.parent.iterdir()] == ["a.html"]
