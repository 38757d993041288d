"""Damaged copies of real clips among whole ones: each loses only itself, and is reported.

What can be told of a damaged clip without being its decoder: the frames shown before its first damaged packet
are those of the whole clip. What comes later may be wrong where the codec has no redundancy (GIF, Motion
JPEG, VP8 and VP9, and a flipped bit in any codec); docs/footage.md says so, and the figures are printed.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import os
import random
import shutil
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import av
import pytest

from tests.processes import processes_with, run_python, wait_until
from tfrecords_schema.example_pb2 import SequenceExample
from tfrecords_schema.records import read_file

FLAGS = ("--num_frames", "4", "--size", "36x44", "--splits", "train=1", "--max_failure_rate", "1")
AT_ONCE = 250
# No parser, and a bit is a picture: see the docstring.
KINDS = (
    "bits",
    "cut",
    "zeros",
    "inserted",
    "removed",
    "shuffled",
    "noise",
    "header",
    "empty",
    "folder",
)
_FIRST_BYTES = 20  # damage spares them where a kind is not about headers


class Mutant(NamedTuple):
    """A damaged copy: what was done to which clip, and the first byte that differs."""

    name: str
    original: Path
    kind: str
    data: bytes | None  # None: a folder
    first: int


def mutate(stored: bytes, kind: str, chance: random.Random) -> bytes | None:
    """The bytes with damage of one kind."""
    place = chance.randrange(_FIRST_BYTES, len(stored))
    size = chance.choice([1, 16, 200, 1000, 5000])
    if kind == "bits":
        changed = bytearray(stored)
        for _ in range(chance.choice([1, 1, 8])):
            changed[chance.randrange(_FIRST_BYTES, len(stored))] ^= 1 << chance.randrange(8)
        return bytes(changed)
    if kind == "cut":
        return stored[:place]
    if kind == "zeros":
        return stored[:place] + bytes(min(size, len(stored) - place)) + stored[place + size :]
    if kind == "inserted":
        return stored[:place] + bytes(size) + stored[place:]
    if kind == "removed":
        return stored[:place] + stored[place + size :]
    if kind == "noise":
        noise = chance.randbytes(min(size, len(stored) - place))
        return stored[:place] + noise + stored[place + size :]
    if kind == "shuffled":
        block = chance.choice([64, 512, 4096])
        blocks = [stored[at : at + block] for at in range(_FIRST_BYTES, len(stored), block)]
        if chance.random() < 0.3:
            chance.shuffle(blocks)
        elif len(blocks) > 1:
            one, other = chance.sample(range(len(blocks)), 2)
            blocks[one], blocks[other] = blocks[other], blocks[one]
        return stored[:_FIRST_BYTES] + b"".join(blocks)
    if kind == "header":
        length = chance.choice([1, 4, 16, 64, 400])
        return chance.randbytes(length) + stored[length:]
    return b"" if kind == "empty" else None


def make_mutants(clips: list[Path], count: int, seed: int) -> list[Mutant]:
    chance, stored = random.Random(seed), {clip: clip.read_bytes() for clip in clips}
    # The last two have nothing to vary.
    weights = [8] * (len(KINDS) - 2) + [1, 1]
    mutants = []
    for number in range(count):
        clip, (kind,) = chance.choice(clips), chance.choices(KINDS, weights)
        data = mutate(stored[clip], kind, chance)
        pairs = zip(stored[clip], data or b"", strict=False)
        common = min(len(stored[clip]), len(data or b""))
        first = next((place for place, (a, b) in enumerate(pairs) if a != b), common)
        mutants.append(Mutant(f"{number:05}-{kind}-{clip.name}", clip, kind, data, first))
    return [mutant for mutant in mutants if mutant.data != stored[mutant.original]]


def build(clips: list[Path], mutants: list[Mutant], folder: Path) -> dict[str, list[bytes]]:
    """The records by source, of a run that must end well and leave nothing behind."""
    (folder / "clips/act/good").mkdir(parents=True)
    (folder / "temporary").mkdir()
    for clip in clips:
        shutil.copy(clip, folder / "clips/act/good")
    for mutant in mutants:
        path = folder / "clips/act/bad" / mutant.name
        path.parent.mkdir(exist_ok=True)
        if mutant.data is None:
            path.mkdir()
        else:
            path.write_bytes(mutant.data)
    marker = f"marker-{os.getpid()}-{folder.name}"
    done = run_python(
        *("-m", "pipelines", "videos", "--input", folder / "clips"),
        *("--output", folder / "out", *FLAGS),
        timeout=1800,
        environment={"REELBEAM_TEST": marker, "TMPDIR": str(folder / "temporary")},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert list((folder / "temporary").iterdir()) == []
    shards = sorted((folder / "out").glob("train-*.tfrecord"))
    assert {path.name for path in (folder / "out").iterdir()} == {
        *(path.name for path in shards),
        *("dataset_info.json", "failures.jsonl", "sources.jsonl"),
    }
    records = defaultdict(list)
    for shard in shards:
        for stored in read_file(shard):
            example = SequenceExample.FromString(stored.data)
            name = example.context.feature["clip/media_id"].bytes_list.value[0].decode()
            records[name].append(stored.data)
    # The last decoders end when they see that the run has.
    wait_until(lambda: not processes_with(marker))
    return records


def frames_of(records: list[bytes]) -> list[tuple[int, str]]:
    """Time in microseconds and checksum of each frame in the records."""
    frames = []
    for record in records:
        lists = SequenceExample.FromString(record).feature_lists.feature_list
        times = [f.int64_list.value[0] for f in lists["image/timestamp"].feature]
        images = [f.bytes_list.value[0] for f in lists["image/encoded"].feature]
        frames += zip(times, (hashlib.sha1(image).hexdigest() for image in images), strict=True)
    return frames


def untouched_until(mutant: Mutant) -> int:
    """Microseconds: frames shown before are decoded from bytes that are as they were."""
    with av.open(str(mutant.original)) as container:
        stream = container.streams.video[0]
        packets = [p for p in container.demux(stream) if p.size and p.pos is not None]
        if not packets or mutant.first < packets[0].pos or mutant.first >= packets[-1].pos:
            return -1  # an index or a header is damaged
        behind = mutant.original.read_bytes()[packets[-1].pos + packets[-1].size :]
        if not (mutant.data or b"").endswith(behind) and mutant.kind != "cut":
            return -1  # and so is the index that follows
        # Packets that lie in pieces or share one have its position: the place before counts as touched.
        places = sorted({p.pos for p in packets})
        sure = places[max(0, bisect.bisect_right(places, mutant.first) - 2)]
        touched = [p for p in packets if p.pos >= sure]
        first = min((p.pts if p.pts is not None else p.dts) or 0 for p in touched)
        return round(first * stream.time_base * 1_000_000)


class Verdict(NamedTuple):
    """The outcome of building one mutant."""

    fate: str  # failed, truncated, unlisted
    right: int
    wrong: int
    moved: int  # frames at times that the whole clip has none at
    wrong_early: int


def judge(mutant: Mutant, records, original, failures) -> Verdict:
    failure = failures.get(f"act/bad/{mutant.name}")
    fate = "unlisted" if failure is None else "truncated" if failure["truncated"] else "failed"
    expected, until = dict(original), untouched_until(mutant)
    counts = Counter()
    for time, image in frames_of(records):
        kind = "moved" if time not in expected else "right" if expected[time] == image else "wrong"
        counts[kind] += 1
        counts["early"] += kind == "wrong" and time < until
    return Verdict(fate, counts["right"], counts["wrong"], counts["moved"], counts["early"])


def examine(clips, count, seed, folder) -> list[tuple[Mutant, Verdict]]:
    """Builds from mutants among whole clips, and checks all that must hold of every run."""
    alone = build(clips, [], folder / "alone")
    originals = {clip: frames_of(alone[f"act/good/{clip.name}"]) for clip in clips}
    assert all(originals.values())
    verdicts = []
    mutants = make_mutants(clips, count, seed)
    for start in range(0, len(mutants), AT_ONCE):
        some, place = mutants[start : start + AT_ONCE], folder / f"run-{start}"
        records = build(clips, some, place)
        for clip in clips:
            assert records[f"act/good/{clip.name}"] == alone[f"act/good/{clip.name}"]
        lines = (place / "out/failures.jsonl").read_text().splitlines()
        failures = {failure["source"]: failure for failure in map(json.loads, lines)}
        assert all(name.startswith("act/bad/") for name in failures)
        assert all(f["stage"] and f["reason"] for f in failures.values())
        for mutant in some:
            own = records[f"act/bad/{mutant.name}"]
            verdicts.append((mutant, judge(mutant, own, originals[mutant.original], failures)))
            assert own or mutant.data is None or f"act/bad/{mutant.name}" in failures, mutant.name
        shutil.rmtree(place)
    return verdicts


def describe(verdicts) -> str:
    """A table: by codec and kind, what became of the mutants."""
    rows = []
    for title, key in (("clip", lambda m: m.original.name), ("kind", lambda m: m.kind)):
        groups = defaultdict(list)
        for mutant, verdict in verdicts:
            groups[key(mutant)].append(verdict)
        head = (
            "tried",
            "failed",
            "truncated",
            "unlisted",
            "right",
            "wrong",
            "moved",
            "silent",
            "early",
        )
        rows.append(f"{title:14}" + "".join(f"{name:>10}" for name in head))
        for name, own in sorted(groups.items()):
            fates = Counter(verdict.fate for verdict in own)
            silent = sum(v.fate == "unlisted" and v.wrong > 0 for v in own)
            numbers = (
                *(len(own), fates["failed"], fates["truncated"], fates["unlisted"]),
                *(sum(column) for column in list(zip(*own, strict=True))[1:4]),
                *(silent, sum(v.wrong_early for v in own)),
            )
            rows.append(f"{name:14}" + "".join(f"{number:10}" for number in numbers))
    return "\n".join(rows)


def check(verdicts) -> None:
    assert [m.name for m, verdict in verdicts if verdict.wrong_early] == []
    empty = [verdict.fate for mutant, verdict in verdicts if mutant.kind == "empty"]
    assert set(empty) <= {"failed"}
    for mutant, verdict in verdicts:
        if mutant.kind == "cut":
            # Between two parts of an MPEG stream a cut cannot be seen, and a picture may lie in several.
            allowed = mutant.original.suffix in (".mpg", ".ts")
            assert verdict.wrong + verdict.moved <= allowed, mutant.name


def test_few_damaged_clips_lose_only_themselves(clips, tmp_path, request) -> None:
    given = request.config.getoption("mutations", default=None)
    seed = request.config.getoption("mutation_seed", default=None)
    verdicts = examine(clips, given or 30, 1 if seed is None else seed, tmp_path)
    print(describe(verdicts))
    check(verdicts)


@pytest.mark.slow
def test_many_damaged_clips_lose_only_themselves(clips, tmp_path) -> None:
    verdicts = examine(clips, 300, 2, tmp_path)
    assert {mutant.kind for mutant, _ in verdicts} == set(KINDS)
    check(verdicts)
