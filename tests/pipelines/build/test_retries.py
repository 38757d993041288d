"""A shard built twice, at once or in turn, or half-built by a worker that vanished: one right file, no more.

Workers are processes here, which stop in the middle of the shard until they are told to go on, or are killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipelines.build.build_shards import build_job
from pipelines.build.finish import Totals, finish_build
from pipelines.build.output import OutputFolder
from pipelines.build.shard import ShardBuilder, ShardReport, library_versions
from pipelines.decoding.client import DecoderProcess
from pipelines.options.dataset import DatasetOptions, ImageOptions, SamplingOptions
from pipelines.plan.descriptors import Segment, Shard, Source
from tfrecords_schema.codec import from_json
from tfrecords_schema.spec import LabelSpec, SequenceSpec

OPTIONS = DatasetOptions(
    name="actions",
    sampling=SamplingOptions(num_frames=5, frame_rate=Fraction(10), stride=2),
    image=ImageOptions(size=(24, 32)),
)
WORKER = """
import json, pickle, sys
from pipelines.decoding.client import DecoderProcess
from tfrecords_schema.codec import to_json

class Stops:
    total = 0
    def add(self, count):
        self.total += count
        if self.total == 3 and count > 0:
            print("half", flush=True)
            sys.stdin.readline()
    def add_failure(self, source, *, truncated):
        raise AssertionError(source)

builder, shard = pickle.load(sys.stdin.buffer.raw)
decoder = DecoderProcess(timeout=60)
print(json.dumps(to_json(builder.build(shard, decoder, Stops()))))
decoder.close()
"""


class Silent:
    def add(self, count: int) -> None:
        pass

    def add_failure(self, source: str, *, truncated: bool) -> None:
        raise AssertionError(source)


class Worker:
    """A process that builds a shard and stops when it has written three records."""

    def __init__(self, builder: ShardBuilder, shard: Shard):
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._tell(pickle.dumps((builder, shard)))

    def wait_until_half(self) -> None:
        line = self._process.stdout.readline()
        assert line == b"half\n", self._process.communicate()[1].decode()

    def go_on(self) -> subprocess.CompletedProcess[bytes]:
        self._tell(b"\n")
        out, error = self._process.communicate(timeout=120)
        return subprocess.CompletedProcess("", self._process.returncode, out, error)

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _tell(self, data: bytes) -> None:
        self._process.stdin.write(data)
        self._process.stdin.flush()


@pytest.fixture(scope="module")
def shards(write_video, tmp_path_factory) -> list[Shard]:
    folder = tmp_path_factory.mktemp("clips")
    found = []
    for index, frames in enumerate((75, 60)):
        path = write_video(folder / f"{index}.mp4", frames=frames)
        status = os.stat(path)
        source = Source(
            id=path.name,
            path=str(path),
            data_path=path.name,
            group=path.stem,
            labels=("run",),
            bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
        )
        segments = (Segment(source=source),)
        found.append(Shard(split="train", index=index, count=2, segments=segments))
    return found


def make_builder(output: OutputFolder) -> ShardBuilder:
    spec = SequenceSpec(
        num_frames=OPTIONS.sampling.num_frames,
        frame_rate=10.0,
        image=OPTIONS.image.spec,
        label=LabelSpec(task="classification", class_names=("run",)),
    )
    return ShardBuilder(output=output, spec=spec, options=OPTIONS, versions=library_versions())


def totals(shards: list[Shard]) -> Totals:
    return Totals(
        sources=len(shards),
        split_sources={"train": len(shards)},
        split_groups={"train": len(shards)},
        tasks=len(shards),
        failures=(),
        max_failure_rate=0.0,
        fingerprint="f",
    )


@contextlib.contextmanager
def begun(folder: Path, shards: list[Shard]) -> Iterator[ShardBuilder]:
    output = OutputFolder(str(folder))
    with output.locked():
        output.begin(OPTIONS.to_json(), totals(shards), shards)
        yield make_builder(output)


@pytest.fixture
def builder(tmp_path, shards) -> Iterator[ShardBuilder]:
    """Of a build that has begun."""
    with begun(tmp_path / "out", shards) as builder:
        yield builder


@pytest.fixture(scope="module")
def expected(tmp_path_factory, shards) -> dict[str, str]:
    """What an undisturbed build leaves: SHA-256 by file."""
    folder = tmp_path_factory.mktemp("expected") / "out"
    with begun(folder, shards) as builder:
        finish(builder, shards, [build(builder, shard) for shard in shards])
    return contents(folder)


def build(builder: ShardBuilder, shard: Shard) -> ShardReport:
    decoder = DecoderProcess(timeout=60)
    try:
        return builder.build(shard, decoder, Silent())
    finally:
        decoder.close()


def finish(builder: ShardBuilder, shards: list[Shard], reports: list[ShardReport]) -> None:
    assert finish_build(builder, reports, totals(shards)).error is None


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def partials(builder: ShardBuilder) -> list[Path]:
    return list(Path(builder.output.path).rglob("*.partial"))


def report_of(done: subprocess.CompletedProcess[bytes]) -> ShardReport:
    assert done.returncode == 0, done.stderr.decode()
    return from_json(ShardReport, json.loads(done.stdout))


def test_a_shard_built_by_two_workers_at_once(builder, shards, expected):
    workers = [Worker(builder, shards[0]) for _ in range(2)]
    for worker in workers:
        worker.wait_until_half()
    assert len(partials(builder)) == 2
    assert not (Path(builder.output.path) / shards[0].file).exists()
    reports = [report_of(worker.go_on()) for worker in workers]
    assert reports[0] == reports[1]
    assert partials(builder) == []
    finish(builder, shards, [reports[0], build(builder, shards[1])])
    assert contents(Path(builder.output.path)) == expected


def test_a_shard_built_again_is_kept(builder, shards, expected):
    first = [build(builder, shard) for shard in shards]
    path = Path(builder.output.path) / shards[0].file
    written = path.stat().st_mtime_ns
    assert [build(builder, shard) for shard in shards] == first
    assert path.stat().st_mtime_ns == written
    finish(builder, shards, first)
    assert contents(Path(builder.output.path)) == expected


def test_what_a_worker_that_vanished_half_built_is_no_shard_and_goes_at_the_end(
    builder, shards, expected
):
    worker = Worker(builder, shards[0])
    worker.wait_until_half()
    worker.kill()
    assert len(partials(builder)) == 1
    assert not (Path(builder.output.path) / shards[0].file).exists()
    finish(builder, shards, [build(builder, shard) for shard in shards])
    assert contents(Path(builder.output.path)) == expected


def test_what_it_half_built_goes_when_the_next_run_begins(builder, shards):
    worker = Worker(builder, shards[0])
    worker.wait_until_half()
    worker.kill()
    builder.output.begin(OPTIONS.to_json(), totals(shards), shards)
    assert partials(builder) == []


def test_a_worker_that_vanishes_does_not_disturb_the_one_beside_it(builder, shards, expected):
    vanishing, staying = (Worker(builder, shards[0]) for _ in range(2))
    for worker in (vanishing, staying):
        worker.wait_until_half()
    vanishing.kill()
    report = report_of(staying.go_on())
    finish(builder, shards, [report, build(builder, shards[1])])
    assert contents(Path(builder.output.path)) == expected


def test_a_worker_that_was_given_up_and_comes_back_after_the_end_changes_nothing(
    builder, shards, expected
):
    forgotten = Worker(builder, shards[0])
    forgotten.wait_until_half()
    finish(builder, shards, [build(builder, shard) for shard in shards])
    assert contents(Path(builder.output.path)) == expected
    done = forgotten.go_on()
    assert done.returncode != 0
    assert b"FileNotFoundError" in done.stderr
    assert contents(Path(builder.output.path)) == expected


def test_a_runner_that_delivers_every_shard_three_times(builder, shards, expected):
    places = builder.output.begin(OPTIONS.to_json(), totals(shards), shards)
    options = PipelineOptions(["--direct_num_workers=2", "--direct_running_mode=multi_threading"])
    with beam.Pipeline(runner=FnApiRunner(), options=options) as pipeline:
        _ = (
            pipeline
            | beam.Create([pickle.dumps([(0, (offset, 1))]) for offset in places * 3])
            | build_job(builder, (60, 1 << 30), None)
        )
    assert contents(Path(builder.output.path)) == expected
