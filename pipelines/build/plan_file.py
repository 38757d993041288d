"""The plan as a file in the output folder: totals, then a line a shard.

A million sources make a plan of hundreds of megabytes, which no runner takes inside a pipeline's graph. So
the graph holds only where each shard's line begins, and workers read their own lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from pipelines.build.finish import Totals
from pipelines.build.output import OutputFolder
from pipelines.plan.descriptors import Shard
from tfrecords_schema.codec import from_json, to_json


def plan_lines(shards: Sequence[Shard], totals: Totals) -> Iterator[str]:
    """The lines of the plan."""
    yield json.dumps(to_json(totals))
    for shard in shards:
        yield json.dumps(to_json(shard))


def shard_places(output: OutputFolder) -> list[int]:
    """The byte at which each shard's line begins."""
    places, place = [], 0
    for line in output.plan_lines():
        places.append(place)
        place += len(line)
    return places[1:]  # the first has the totals


def read_shard(output: OutputFolder, place: int) -> Shard:
    """The shard whose line begins at byte ``place``."""
    return from_json(Shard, json.loads(output.plan_line(place)))


def read_totals(output: OutputFolder) -> Totals:
    """The totals, in the first line."""
    return from_json(Totals, json.loads(output.plan_line(0)))
