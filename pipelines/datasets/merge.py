"""Copies several datasets into one. Shards whose records stay the same are copied byte for byte."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from pipelines.build.output import OutputFolder
from pipelines.errors import UsageError, UserError
from pipelines.options.dataset import MAX_SHARDS
from pipelines.options.verbs import MergeOptions
from tfrecords_schema import spec as keys
from tfrecords_schema.codec import from_json
from tfrecords_schema.examples import parse_example
from tfrecords_schema.info import DatasetInfo, DatasetInfoError, ShardInfo
from tfrecords_schema.paths import UrlError, check_path, folder_name, is_inside, join
from tfrecords_schema.records import CorruptRecordError, frame_parts, read_file
from tfrecords_schema.running.progress import progress_bar
from tfrecords_schema.sources import SOURCES_COUNT, SourceRow, check_distinct, read_sources
from tfrecords_schema.spec import SpecError
from tfrecords_schema.storage import open_stream
from tfrecords_schema.tables import name_some, shorten
from tfrecords_schema.union import unite

_BLOCK_BYTES = 1 << 20
_IDS = (keys.EXAMPLE_ID, keys.MEDIA_ID, keys.GROUP_ID)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of the datasets, and how its records change.

    Attributes:
        folder, info: its path and description.
        remap: new index of each class; None if all stay the same.
        prefix: put before the names of sources and groups.
    """

    folder: str
    info: DatasetInfo
    remap: tuple[int, ...] | None
    prefix: str

    def sources(self) -> Iterator[SourceRow]:
        """Yields the sources, under their new names; of an older dataset, those that its records name."""
        listed = SOURCES_COUNT in self.info.counts
        rows = read_sources(self.folder, self.info) if listed else self._recorded_sources()
        for row in rows:
            yield replace(row, id=self.prefix + row.id, group=self.prefix + row.group)

    def _recorded_sources(self) -> Iterator[SourceRow]:
        for split, contents in self.info.splits.items():
            for shard in contents.shards:
                for record in read_file(join(self.folder, shard.file)):
                    with _locating(shard.file, record.offset):
                        context = parse_example(record.data).context.feature
                        names = [_only(context[key].bytes_list.value, key) for key in _IDS[1:]]
                    media, group = (name.decode("utf-8", "surrogateescape") for name in names)
                    yield SourceRow(id=media, group=group, split=split)

    def copy(self, shard: ShardInfo) -> Iterator[bytes]:
        """Yields the new bytes of a shard; raises `UserError` if it is damaged."""
        path, digest, records = join(self.folder, shard.file), hashlib.sha256(), 0
        if self.remap is None and not self.prefix:
            with open_stream(path) as stream:
                while block := stream.read(_BLOCK_BYTES):
                    digest.update(block)
                    yield block
            intact = digest.hexdigest() == shard.sha256
        else:
            for record in read_file(path):
                with _locating(path, record.offset):
                    rewritten = self._rewrite(record.data)
                yield from frame_parts(rewritten)
                records += 1
            intact = records == shard.records
        if not intact:
            raise UserError(
                f"{path} is not as its dataset_info.json says. Copy it again, or build its dataset again"
            )

    def _rewrite(self, data: bytes) -> bytes:
        """Returns a record with its new indices of classes, and its new names."""
        example = parse_example(data)
        context, lists = example.context.feature, example.feature_lists.feature_list
        if self.remap is not None:
            labels = [context[keys.LABEL_INDEX]] if keys.LABEL_INDEX in context else []
            if keys.FRAME_LABEL_INDEX in lists:
                labels += lists[keys.FRAME_LABEL_INDEX].feature
            for label in labels:
                indices = label.int64_list.value
                if any(not 0 <= index < len(self.remap) for index in indices):
                    raise SpecError(
                        f"expected classes 0 to {len(self.remap) - 1}, found {list(indices)!r:.100}"
                    )
                indices[:] = [self.remap[index] for index in indices]
        for key in _IDS if self.prefix else ():
            values = context[key].bytes_list.value
            name = _only(values, key)
            values[0] = self.prefix.encode("utf-8", "surrogateescape") + name
        return example.SerializeToString(deterministic=True)


@contextlib.contextmanager
def _locating(file: str, offset: int) -> Iterator[None]:
    """Adds the place of a record to an error about its contents."""
    try:
        yield
    except SpecError as error:
        raise CorruptRecordError(file, offset, str(error)) from error


def _only(values: Sequence[bytes], key: str) -> bytes:
    """Returns the value of a record's key; raises SpecError unless there is one."""
    if len(values) != 1:
        raise SpecError(f"expected one {key} in each record, found one with {len(values)}")
    return values[0]


@dataclass(frozen=True, kw_only=True)
class ShardCopy:
    """A shard to write: its name, its split, and the dataset and shard that it is a copy of."""

    file: str
    split: str
    part: int
    shard: ShardInfo


def merge_datasets(options: MergeOptions, say: Callable[[str], None]) -> DatasetInfo:
    """Merges datasets, or continues an interrupted merge; returns the new dataset's description."""
    try:
        return _merge(options, say)
    except (UrlError, DatasetInfoError, CorruptRecordError, SpecError) as error:
        raise UserError(str(error)) from error


def _merge(options: MergeOptions, say: Callable[[str], None]) -> DatasetInfo:
    folders = [check_path(folder) for folder in options.tfrecords]
    output = OutputFolder(options.output)
    for folder in folders:
        if is_inside(output.path, folder):
            raise UsageError(
                f"--output must be outside the datasets, got {output.path} inside {folder}"
            )
    infos = [DatasetInfo.load(folder) for folder in folders]
    united = unite(infos, folders)
    prefixes = [f"{folder_name(folder)}/" * options.prefix_sources for folder in folders]
    if options.prefix_sources and len(set(prefixes)) < len(prefixes):
        raise UsageError("--prefix_sources needs folders with different names. Rename one")
    parts, known = [], set(infos[0].spec.label.class_names)
    for folder, info, remap, prefix in zip(folders, infos, united.remaps, prefixes, strict=True):
        parts.append(Part(folder=folder, info=info, remap=remap, prefix=prefix))
        if added := [name for name in info.spec.label.class_names if name not in known]:
            say(f"note: {folder} adds classes: {name_some(map(shorten, added))}")
        known.update(added)
        if remap is not None:
            say(f"note: classes of {folder} get new indices, after those of the datasets before it")
    copies = _plan_copies(infos)
    identity = [[c.shard.sha256, c.file, parts[c.part].remap, prefixes[c.part]] for c in copies]
    fingerprint = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    _find_merged(output, fingerprint, overwrite=options.overwrite)  # before all sources are read
    shared = check_distinct([part.sources() for part in parts], folders)
    with output.locked():
        if done := _find_merged(output, fingerprint, overwrite=options.overwrite):
            output.leave_complete()
            return done
        listed = SOURCES_COUNT in united.info.counts
        rows = (row for part in parts for row in part.sources()) if listed else ()
        output.begin({"merge": fingerprint}, {}, copies, sources=rows)
        shards = _write_shards(output, copies, parts)
        failures = [
            replace(failure, source=part.prefix + failure.source)
            for part in parts
            for failure in OutputFolder(part.folder).failures()
        ]
        info = replace(
            united.info,
            splits={
                name: replace(split, shards=tuple(shards[name]), groups=split.groups - shared[name])
                for name, split in united.info.splits.items()
            },
            fingerprint=fingerprint,
        )
        if listed:
            output.write_sources(0, ())
        output.finish(failures, info)
    return info


def _find_merged(output: OutputFolder, fingerprint: str, *, overwrite: bool) -> DatasetInfo | None:
    """Returns the description of the merged dataset if it is complete; refuses a folder of another."""
    info = None if overwrite else output.complete_info()
    if info is None:
        output.check_free_for({"merge": fingerprint}, overwrite=overwrite)
    elif info.fingerprint != fingerprint:
        raise UserError(
            f"{output.path} holds another dataset. Give another --output, or --overwrite to replace it"
        )
    return info


def _plan_copies(infos: Sequence[DatasetInfo]) -> list[ShardCopy]:
    """Returns the shards to write, by split in the order of the datasets, numbered anew."""
    by_split: dict[str, list[tuple[int, ShardInfo]]] = {}
    for part, info in enumerate(infos):
        for split, contents in info.splits.items():
            by_split.setdefault(split, []).extend((part, shard) for shard in contents.shards)
    for split, own in by_split.items():
        if len(own) > MAX_SHARDS:
            raise UserError(
                f"a split may have {MAX_SHARDS} shards, and {split} would have {len(own)}. Build the "
                "datasets with a larger --shard_size"
            )
    return [
        ShardCopy(
            file=f"{split}-{index:05d}-of-{len(own):05d}.tfrecord",
            split=split,
            part=part,
            shard=shard,
        )
        for split, own in by_split.items()
        for index, (part, shard) in enumerate(own)
    ]


def _write_shards(
    output: OutputFolder, copies: Sequence[ShardCopy], parts: Sequence[Part]
) -> dict[str, list[ShardInfo]]:
    """Writes the shards that an interrupted merge has not written yet; returns all by split."""
    shards: dict[str, list[ShardInfo]] = {copy.split: [] for copy in copies}
    total = sum(copy.shard.bytes for copy in copies)
    with progress_bar(total=total, desc="Merging", unit="B", unit_scale=True, delay=1) as bar:
        for copy in copies:
            part, digest, size = parts[copy.part], hashlib.sha256(), 0
            identity = f"{copy.shard.sha256} {part.remap} {part.prefix}"
            kept = output.kept_report(copy.file, identity)
            if kept is None:
                with output.new_shard(copy.file) as file:
                    for data in part.copy(copy.shard):
                        file.write(data)
                        digest.update(data)
                        size += len(data)
                kept = {
                    "file": copy.file,
                    "records": copy.shard.records,
                    "bytes": size,
                    "sha256": digest.hexdigest(),
                }
                output.store_report(copy.file, {**kept, "fingerprint": identity})
            shards[copy.split].append(from_json(ShardInfo, kept))
            bar.update(copy.shard.bytes)
    return shards
