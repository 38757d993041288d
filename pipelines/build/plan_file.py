"""The plan as a file in the output folder: the totals, then a line per shard.

A million sources make a plan of hundreds of megabytes, which no runner takes inside a pipeline's graph. The
graph holds only the byte offset of each shard's line, and workers read their own lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from pipelines.build.finish import Totals
from pipelines.build.output import OutputFolder
from pipelines.plan.descriptors import Shard
from tfrecords_schema.codec import from_json, to_json


def plan_lines(shards: Sequence[Shard], totals: Totals) -> Iterator[str]:
    """Yields the lines of the plan."""
    yield json.dumps(to_json(totals))
    for shard in shards:
        yield json.dumps(to_json(shard))


def shard_offsets(output: OutputFolder) -> list[int]:
    """Returns the byte offset of each shard's line."""
    offsets, offset = [], 0
    for line in output.plan_lines():
        offsets.append(offset)
        offset += len(line)
    return offsets[1:]  # the first line holds the totals


def read_shard(output: OutputFolder, offset: int) -> Shard:
    """Returns the shard whose line begins at byte ``offset``."""
    return from_json(Shard, json.loads(output.plan_line(offset)))


def read_totals(output: OutputFolder) -> Totals:
    """Returns the totals from the first line."""
    return from_json(Totals, json.loads(output.plan_line(0)))
