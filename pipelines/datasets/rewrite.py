"""Copies TFRecords of another program into a dataset of ours: a shard for each of their files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import apache_beam as beam

from pipelines.build.output import OutputFolder
from pipelines.build.shard import library_versions
from pipelines.datasets.adopt import sampling_options
from pipelines.datasets.completing import complete
from pipelines.errors import UsageError, UserError
from pipelines.options.verbs import AdoptOptions
from pipelines.runners.local import parse_beam_args
from pipelines.runners.progress import ProgressBar
from pipelines.runners.tasks import Job, LocalRun, ProgressReporter, reported_errors, run_tasks
from tfrecords_schema.foreign.files import scan_foreign_file
from tfrecords_schema.foreign.records import KeyMap
from tfrecords_schema.foreign.scan import AdoptPlan, adopt, common_rate, common_spec
from tfrecords_schema.info import DatasetInfo, ShardInfo
from tfrecords_schema.paths import absolute, is_inside, is_url
from tfrecords_schema.records import CorruptRecordError, frame_parts
from tfrecords_schema.spec import SequenceSpec, SpecError


@dataclass(frozen=True, kw_only=True)
class FileCopy:
    """A file to copy, the name of it in its folder, and the shard that its records become."""

    path: str
    name: str
    file: str


@dataclass(frozen=True, kw_only=True)
class CopyReport:
    """A shard that was written, and the damaged places of its file."""

    shard: ShardInfo
    damaged: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Copier:
    """Copies one file, each record as `complete` returns it."""

    output: OutputFolder
    spec: SequenceSpec
    key_map: KeyMap
    dataset_name: str
    frame_rate: float | None

    def copy(self, task: FileCopy, on_bytes: Callable[[int], None]) -> CopyReport:
        """Writes the shard of a file, unless an earlier run did."""
        state = os.stat(task.path)
        identity = repr((task, state.st_size, state.st_mtime_ns, self))
        fingerprint = hashlib.sha256(identity.encode()).hexdigest()
        kept = self.output.kept_report(task.file, fingerprint)
        if kept is None:
            digest, size, records, damaged = hashlib.sha256(), 0, 0, []
            with self.output.new_shard(task.file) as file:
                for number, found in enumerate(scan_foreign_file(Path(task.path))):
                    if isinstance(found, CorruptRecordError):
                        damaged.append(str(found))
                        continue
                    place = f"{task.path}: the record at byte {found.offset}"
                    try:
                        data = complete(
                            found.data,
                            self.spec,
                            dataset_name=self.dataset_name,
                            place=f"{task.name}:{number}",
                            frame_rate=self.frame_rate,
                            key_map=self.key_map,
                        )
                    except SpecError as error:
                        raise UserError(f"{place}: {error}") from error
                    for part in frame_parts(data):
                        file.write(part)
                        digest.update(part)
                        size += len(part)
                    records += 1
                    on_bytes(len(found.data))
            shard = {"file": task.file, "records": records, "bytes": size}
            kept = {**shard, "sha256": digest.hexdigest(), "damaged": damaged}
            self.output.store_report(task.file, {**kept, "fingerprint": fingerprint})
        kept.pop("fingerprint", None)
        damaged = kept.pop("damaged")
        return CopyReport(shard=ShardInfo(**kept), damaged=tuple(damaged))


class CopyFiles(beam.DoFn):
    """Files to copy in, their reports out."""

    def __init__(self, copier: Copier, local: LocalRun | None):
        self._copier = copier
        self._local = local
        self._progress = ProgressReporter(local, "bytes")

    def process(self, task: FileCopy) -> Iterator[CopyReport]:
        """Copies a file. Bad input of a local worker is told to the driver: trying again is of no use."""
        try:
            with reported_errors(self._local, self._copier.output.path):
                report = self._copier.copy(task, self._progress.add)
                self._progress.end_task()
                yield report
        except UserError as error:
            if self._local is None:
                raise
            self._local.errors.append(error)


def rewrite_records(
    plan: AdoptPlan, spec: SequenceSpec | None, options: AdoptOptions, say: Callable[[str], None]
) -> DatasetInfo:
    """Copies records into the folder ``--rewrite``, or continues; returns the description of the copy.

    Damaged records are left out, and named.
    """
    assert options.rewrite is not None
    if is_url(options.rewrite):
        raise UsageError(f"--rewrite must be a local folder, got {options.rewrite}")
    if is_inside(options.rewrite, options.tfrecords):
        raise UsageError(f"--rewrite must be outside --tfrecords, got {options.rewrite}")
    output = OutputFolder(absolute(options.rewrite))
    scans = plan.scan()
    spec = common_spec(list(scans.values()), spec, num_frames=options.num_frames, size=options.size)
    if options.frame_rate is None and any(scan.untimed for scan in scans.values()):
        raise UserError(
            "the records say neither the times of their frames nor a frame rate: give it with --frame_rate"
        )
    stated = common_rate(list(scans.values()))
    copier = Copier(
        output=output,
        spec=spec,
        key_map=plan.key_map,
        dataset_name=Path(output.path).name,
        frame_rate=None if options.frame_rate is None else float(options.frame_rate),
    )
    root = Path(options.tfrecords)
    tasks = [
        FileCopy(
            path=absolute(str(path)),
            name=str(path.relative_to(root)),
            file=f"{split}-{i:05d}-of-{len(files):05d}.tfrecord",
        )
        for split, files in plan.files.items()
        for i, path in enumerate(files)
    ]
    names = "\n".join(f"{task.name} {task.file} {os.path.getsize(task.path)}" for task in tasks)
    identity = {
        "rewrite_of": hashlib.sha256(names.encode()).hexdigest(),
        "map": ",".join(f"{own}={theirs}" for own, theirs in plan.key_map.keys.items()),
        "shape": options.shape,
        "first_label": options.first_label,
        "class_names": spec.label.class_names,
        **sampling_options(spec, options, {} if stated is None else {"frame_rate": stated}),
    }
    output.check_free_for(identity, overwrite=options.run.overwrite)
    with output.locked():
        output.check_free_for(identity, overwrite=options.run.overwrite)
        if not options.run.overwrite and (done := output.complete_info()):
            output.leave_complete()
            return done
        output.begin(identity, {}, tasks)
        reports = _run(copier, tasks, options)
        damaged = [line for report in reports for line in report.damaged]
        if damaged:
            say(f"note: {len(damaged)} damaged places are left out: {'; '.join(damaged[:5])}")
        info = adopt(output.path, spec)
        info = replace(info, adopted=False, options=identity, versions=library_versions())
        output.finish((), info)
    return info


def _run(copier: Copier, tasks: Sequence[FileCopy], options: AdoptOptions) -> list[CopyReport]:
    """Copies all files on Beam, largest first; returns their reports, which the shards are beside."""
    run = options.run
    execution = parse_beam_args(run.beam_args, workers=run.local_workers)
    sizes = {task.file: os.path.getsize(task.path) for task in tasks}
    ordered = sorted(tasks, key=lambda task: -sizes[task.file])

    def finish(reports: list[CopyReport]) -> str:
        return f"{len(reports)} files are copied"

    def job(local: LocalRun | None) -> Job:
        steps = "CopyFiles" >> beam.ParDo(CopyFiles(copier, local))
        return Job(steps, finish, place=copier.output.path, local=local)

    run_tasks(
        execution, ordered, job, ProgressBar("Copying", "B", sum(sizes.values()), scaled=True)
    )
    return [copier.copy(task, lambda count: None) for task in tasks]
