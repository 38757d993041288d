"""How much memory reading takes: buffers are bounded in bytes, whatever the size of records and frames."""

from __future__ import annotations

import math
import os

from tfrecords_schema.info import SplitInfo
from tfrecords_schema.spec import SequenceSpec
from trainer.shuffling import READ_AHEAD, Mixing, largest_records

# Bytes of finished batches that wait for the model, and batches at most.
PREFETCH_BYTES = 256 * 2**20
MOST_AHEAD = 8


def threads() -> int:
    """Sequences decoded at a time: one for each CPU that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def sequence_bytes(spec: SequenceSpec, image_bytes: int = 1) -> int:
    """Bytes of a decoded sequence: of its frames, at ``image_bytes`` a value, and its signals."""
    pixels = math.prod(spec.image_shape) * image_bytes if spec.image else 0
    return pixels + 4 * spec.num_frames * sum(signal.size for signal in spec.signals)


def batches_ahead(spec: SequenceSpec, batch_size: int, image_bytes: int = 1) -> int:
    """Batches that are made ready ahead: as many as fit, at least one."""
    batch_bytes = max(1, batch_size * sequence_bytes(spec, image_bytes))
    return min(max(1, PREFETCH_BYTES // batch_bytes), MOST_AHEAD)


def reading_bytes(
    spec: SequenceSpec,
    contents: SplitInfo,
    mixing: Mixing,
    *,
    batch_size: int,
    image_bytes: int = 1,
) -> int:
    """What reading a shuffled split holds at most, in bytes, beside TensorFlow itself.

    Compressed records in the shuffle buffer and of open shards; decoded ones that are being made, that wait
    in batches, in the batch that grows and in the one that is in use.
    """
    compressed = largest_records(contents) * (mixing.buffer + READ_AHEAD * mixing.open_shards)
    batches = batches_ahead(spec, batch_size, image_bytes) + 2
    decoded = sequence_bytes(spec, image_bytes) * (2 * threads() + batch_size * batches)
    return math.ceil(compressed) + decoded
