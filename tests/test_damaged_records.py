"""The trainer and `pipelines validate` find the same records, and the same damage, in a damaged shard."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.validation.checks.shards import ShardFacts
from pipelines.validation.folder import DatasetFolder
from pipelines.validation.shard_reader import read_shard
from tfrecords_schema.info import ShardInfo
from tfrecords_schema.records import FRAMING_BYTES, frame_record
from trainer.data.corrupt import SkippedRecords, read_sound_records

FILE = "train-00000-of-00001.tfrecord"


@st.composite
def damaged_shards(draw):
    """Returns records, and their file with flipped bits, zeroed or removed ranges, or a missing end."""
    seed = draw(st.integers(0, 2**32 - 1))
    sizes = draw(st.lists(st.integers(0, 300), min_size=1, max_size=8))
    records = [random.Random(seed + index).randbytes(size) for index, size in enumerate(sizes)]
    data = bytearray(b"".join(map(frame_record, records)))
    for _ in range(draw(st.integers(0, 3))):
        if not data:
            break
        start = draw(st.integers(0, len(data) - 1))
        end = min(len(data), start + draw(st.integers(1, 40)))
        kind = draw(st.sampled_from(["flip", "zero", "remove", "cut"]))
        if kind == "flip":
            data[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == "zero":
            data[start:end] = bytes(end - start)
        elif kind == "remove":
            del data[start:end]
        else:
            del data[start:]
    return records, bytes(data)


def read_both(folder, data):
    """Returns records and damaged places as the trainer reads them, then as validation does."""
    (folder / FILE).write_bytes(data)
    skipped = SkippedRecords()
    trained = [(r.offset, r.data) for r in read_sound_records(str(folder / FILE), skipped)]
    facts = ShardFacts(ShardInfo(file=FILE, records=0, bytes=len(data), sha256=""))
    read = read_shard(DatasetFolder(str(folder)), facts, lambda count: None)
    validated = [(r.offset, r.data) for r in read]
    damaged = [offset for offset, _ in facts.corrupt]
    return (trained, [offset for _, offset in skipped.places]), (validated, damaged)


@settings(max_examples=300, deadline=None)
@given(shard=damaged_shards())
def test_trainer_and_validation_read_the_same_records(tmp_path_factory, shard):
    records, data = shard
    trainer, validation = read_both(tmp_path_factory.mktemp("shard"), data)
    assert trainer == validation
    assert all(record in records for _, record in trainer[0])


def test_trainer_and_validation_continue_after_a_damaged_length(tmp_path):
    records = [b"a" * 50, b"b" * 60, b"c" * 70]
    data = bytearray(b"".join(map(frame_record, records)))
    second = 50 + FRAMING_BYTES
    data[second] ^= 1  # the length of the second record
    trainer, validation = read_both(tmp_path, bytes(data))
    third = second + 60 + FRAMING_BYTES
    assert trainer == validation == ([(0, records[0]), (third, records[2])], [second])
