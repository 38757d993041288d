"""The output folder: what may begin there, what is cleared, what is kept."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from pipelines.build.output import OutputFolder
from pipelines.errors import UserError
from pipelines.options.dataset import DatasetOptions, SamplingOptions
from pipelines.plan.descriptors import Shard
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.spec import ImageSpec, SequenceSpec

OPTIONS = DatasetOptions(name="a", sampling=SamplingOptions(frame_rate=Fraction(10))).to_json()
TOTALS = {"sources": 1}
OTHER = {**OPTIONS, "num_frames": 99}
SHARD = "train-00000-of-00002.tfrecord"
STALE = "train-00000-of-00007.tfrecord"
INFO = DatasetInfo(
    name="a",
    spec=SequenceSpec(num_frames=4, image=ImageSpec(height=2, width=2)),
    splits={},
    options=OPTIONS,
)


@pytest.fixture
def output(tmp_path) -> OutputFolder:
    return OutputFolder(str(tmp_path / "out"))


def begin(output: OutputFolder, options: dict[str, Any] = OPTIONS) -> None:
    output.begin(options, TOTALS, [Shard(split="train", index=0, count=2, segments=())])


REPORT = {"fingerprint": "f", "sha256": hashlib.sha256(b"records").hexdigest()}


def build(output: OutputFolder, *, complete: bool = True) -> None:
    with output.locked():
        begin(output)
        with output.new_shard(SHARD) as file:
            file.write(b"records")
        output.store_report(SHARD, REPORT)
        if complete:
            output.finish([{"source": "x"}], INFO)


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


class TestCheckFreeFor:
    def test_a_new_or_empty_folder_is_free(self, output) -> None:
        output.check_free_for(OPTIONS, overwrite=False)
        Path(output.path).mkdir()
        output.check_free_for(OPTIONS, overwrite=False)
        assert files(Path(output.path)) == set()

    def test_a_folder_with_other_files_is_free(self, output) -> None:
        Path(output.path).mkdir()
        (Path(output.path) / "notes.txt").touch()
        (Path(output.path) / "train.tfrecord").touch()
        output.check_free_for(OPTIONS, overwrite=False)

    @pytest.mark.parametrize("complete", [True, False])
    def test_the_same_build_may_go_on(self, output, complete) -> None:
        build(output, complete=complete)
        output.check_free_for(OPTIONS, overwrite=False)
        assert (output.complete_info() == INFO) == complete

    @pytest.mark.parametrize("complete", [True, False])
    def test_another_build_is_refused_with_what_differs(self, output, complete) -> None:
        build(output, complete=complete)
        with pytest.raises(UserError, match=r"\(num_frames 16 there and 99 here\).*--overwrite"):
            output.check_free_for(OTHER, overwrite=False)
        output.check_free_for(OTHER, overwrite=True)

    def test_shards_of_unknown_origin_are_refused(self, output) -> None:
        Path(output.path).mkdir()
        (Path(output.path) / STALE).touch()
        with pytest.raises(UserError, match=rf"shards of another dataset, for example {STALE}"):
            output.check_free_for(OPTIONS, overwrite=False)
        output.check_free_for(OPTIONS, overwrite=True)

    @pytest.mark.parametrize("overwrite", [True, False])
    def test_a_file_is_refused(self, output, overwrite) -> None:
        Path(output.path).touch()
        with pytest.raises(UserError, match=r"must be a folder, but .* is a file"):
            output.check_free_for(OPTIONS, overwrite=overwrite)

    def test_a_damaged_description_is_refused_with_the_remedy(self, output) -> None:
        build(output)
        (Path(output.path) / "dataset_info.json").write_text("{")
        with pytest.raises(UserError, match="--overwrite to replace it"):
            output.check_free_for(OPTIONS, overwrite=False)
        output.check_free_for(OPTIONS, overwrite=True)

    @pytest.mark.parametrize("text", ["{", "[]", '"x"'])
    def test_damaged_options_are_another_build(self, output, text) -> None:
        build(output, complete=False)
        (Path(output.path) / "_build/options.json").write_text(text)
        with pytest.raises(UserError, match="holds another build"):
            output.check_free_for(OPTIONS, overwrite=False)

    def test_an_empty_name_is_refused(self) -> None:
        with pytest.raises(UserError, match="must name a folder, got an empty name"):
            OutputFolder("")


class TestLocked:
    def test_a_second_process_is_refused_until_the_first_ends(self, output) -> None:
        code = (
            "import sys\n"
            "from pipelines.build.output import OutputFolder\n"
            f"with OutputFolder({output.path!r}).locked():\n"
            "    print('locked', flush=True)\n"
            "    sys.stdin.read()\n"
        )
        other = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "locked\n"
            with pytest.raises(UserError, match="another run is building in"), output.locked():
                pass
        finally:
            other.kill()  # and not even then does the lock stay
            other.communicate()
        with output.locked():
            pass


class TestBegin:
    def test_what_other_runs_left_is_cleared_but_no_file_of_the_user_s(self, output) -> None:
        build(output)
        killed = f".{SHARD}.{'0a' * 16}.partial"  # as on Hadoop's file system
        for name in (STALE, killed, "notes.txt", "train.tfrecord", "x.partial", "sub/" + STALE):
            (Path(output.path) / name).parent.mkdir(exist_ok=True)
            (Path(output.path) / name).touch()
        with output.locked():
            (Path(output.path) / "_build/train.1.partial").touch()
            begin(output)
            assert files(Path(output.path)) == {
                SHARD,
                "notes.txt",
                "train.tfrecord",
                "x.partial",
                "sub/" + STALE,
                "_build/lock",
                "_build/options.json",
                "_build/plan.jsonl",
                "_build/sources.jsonl",
            }
        totals, shard = (Path(output.path) / "_build/plan.jsonl").read_text().splitlines()
        assert json.loads(totals) == TOTALS
        assert json.loads(shard) == {"split": "train", "index": 0, "count": 2, "segments": []}
        assert json.loads((Path(output.path) / "_build/options.json").read_text()) == OPTIONS
        assert output.complete_info() is None

    def test_reports_of_complete_shards_stay(self, output) -> None:
        build(output, complete=False)
        with output.locked():
            begin(output)
        assert output.kept_report(SHARD, "f") == REPORT


class TestShards:
    def test_a_shard_has_its_name_only_when_it_is_complete(self, output) -> None:
        with output.locked():
            begin(output)
            with output.new_shard(SHARD) as file:
                file.write(b"records")
                file.flush()
                assert not (Path(output.path) / SHARD).exists()
            assert (Path(output.path) / SHARD).read_bytes() == b"records"
        assert not list(Path(output.path).rglob("*.partial"))

    @pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
    def test_a_shard_that_fails_leaves_nothing_and_the_old_one_as_it_was(
        self, output, error
    ) -> None:
        build(output, complete=False)

        def fail() -> None:
            with output.new_shard(SHARD) as file:
                file.write(b"half")
                raise error

        with pytest.raises(error):
            fail()
        assert (Path(output.path) / SHARD).read_bytes() == b"records"
        assert not list(Path(output.path).rglob("*.partial"))

    def test_two_may_write_the_same_shard_at_once(self, output) -> None:
        with output.locked():
            begin(output)
            with output.new_shard(SHARD) as one, output.new_shard(SHARD) as other:
                one.write(b"same")
                other.write(b"same")
        assert (Path(output.path) / SHARD).read_bytes() == b"same"

    def test_a_report_is_kept_only_for_the_same_fingerprint_and_bytes(self, output) -> None:
        build(output, complete=False)
        assert output.kept_report(SHARD, "f") is not None
        assert output.kept_report(SHARD, "other") is None
        assert output.kept_report("test-00000-of-00001.tfrecord", "f") is None
        (Path(output.path) / SHARD).write_bytes(b"sdrocer")
        assert output.kept_report(SHARD, "f") is None
        (Path(output.path) / SHARD).unlink()
        assert output.kept_report(SHARD, "f") is None

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", "3"])
    def test_a_damaged_report_is_not_kept(self, output, text) -> None:
        build(output, complete=False)
        (Path(output.path) / "_build/reports" / f"{SHARD}.json").write_text(text)
        assert output.kept_report(SHARD, "f") is None


class TestFinish:
    def test_failures_and_info_are_written_and_the_traces_removed(self, output) -> None:
        build(output)
        assert files(Path(output.path)) == {SHARD, "failures.jsonl", "dataset_info.json"}
        assert not (Path(output.path) / "_build").exists()
        assert (Path(output.path) / "failures.jsonl").read_text() == '{"source": "x"}\n'
        assert output.complete_info() == INFO

    def test_without_info_the_build_can_go_on(self, output) -> None:
        build(output, complete=False)
        output.finish([{}], None)
        assert (Path(output.path) / "failures.jsonl").read_text() == "{}\n"
        assert output.complete_info() is None
        assert output.kept_report(SHARD, "f") is not None
        output.check_free_for(OPTIONS, overwrite=False)

    def test_complete_shards_are_those_that_have_their_name(self, output) -> None:
        assert output.complete_shards() == set()
        build(output, complete=False)
        (Path(output.path) / "notes.tfrecord").touch()
        with output.new_shard(STALE):
            assert output.complete_shards() == {SHARD}
        assert output.complete_shards() == {SHARD, STALE}

    def test_why_it_could_not_be_completed_is_kept_until_the_next_build(self, output) -> None:
        build(output, complete=False)
        assert output.stored_error() is None
        output.store_error("9 of 10 sources failed: \u00e9")
        assert output.stored_error() == "9 of 10 sources failed: \u00e9"
        build(output, complete=False)
        assert output.stored_error() is None

    def test_failures_come_before_info(self, output) -> None:
        build(output, complete=False)

        def broken():
            yield {}
            raise OSError("disk full")

        with pytest.raises(OSError, match="disk full"):
            output.finish(broken(), INFO)
        assert output.complete_info() is None
        assert not (Path(output.path) / "failures.jsonl").exists()
