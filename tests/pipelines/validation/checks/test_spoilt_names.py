"""A dataset in which names, times and counts contradict each other, although each of them may be right."""

from __future__ import annotations

import pytest

from tests.pipelines.validation.checks.test_spoilt import bad, context, set_bytes, set_times

SOURCE = b"fake/2.mp4"
"""Of the second record of the first shard, which `Dataset.edit` changes."""


@pytest.mark.parametrize("shift", [-3_000_000, -100_000, 40_000, 100_000, 5_000_000])
@pytest.mark.parametrize("spec", ["classification", "every frame"])
def test_frames_start_finds_shifted_times(make, spec, shift):
    dataset = make(spec)
    times = [10_000_000 + place * 100_000 for place in range(4)]
    for off, expected in ((0, {}), (shift, {"frames.start": "error"})):
        dataset.edit(set_bytes("example/id", SOURCE + b"@10000000"))
        dataset.edit(set_times([time + off for time in times], rate=10.0))
        assert bad(dataset.examine()) == expected


def test_frames_start_of_slow_source(make):
    """A source at 12 frames/s, sampled at 10: times lie up to a frame before their samples."""
    dataset = make("classification")
    shown = [place * 1_000_000 // 12 for place in range(12)]
    times = [max(t for t in shown if t <= place * 100_000) for place in range(4)]
    dataset.edit(set_times(times))
    assert bad(dataset.examine()) == {}
    # A frame earlier throughout: each had left the screen when it is said to be sampled.
    dataset.edit(set_bytes("example/id", SOURCE + b"@100000"))
    assert bad(dataset.examine()) == {"frames.start": "error"}


@pytest.mark.parametrize("name", [b"0001", b"clip 7", b"a@b", b"@5", b"fake/1.mp4@"])
def test_frames_start_ignores_ids_of_other_writers(make, name):
    dataset = make("classification")
    dataset.edit(set_bytes("example/id", name))
    assert bad(dataset.examine()) == {}


def test_frames_start_finds_other_source(make):
    dataset = make("classification")
    dataset.edit(set_bytes("clip/media_id", b"fake/other.mp4"))
    result = dataset.examine()
    assert bad(result) == {"frames.start": "error"}
    assert f"'{SOURCE.decode()}'" in result.findings[0].message


@pytest.mark.parametrize("key", ["clip/group_id", "clip/data_path"])
def test_source_names_finds_other_group_or_path(make, key):
    dataset = make("classification")

    def join(example):
        """Makes it a record of the first one's source."""
        for name, value in (
            ("example/id", b"fake/0.mp4@0 again"),
            ("clip/media_id", b"fake/0.mp4"),
            ("clip/group_id", b"fake/0.mp4"),
            ("clip/data_path", b"fake/0.mp4"),
            ("clip/label/string", b"fall"),
            ("clip/label/text", b"fall"),
        ):
            context(example, name).bytes_list.value[:] = [value]
        context(example, "clip/label/index").int64_list.value[:] = [0]

    def describe(fields):
        fields["splits"]["train"] |= {"sources": 8, "groups": 8, "label_counts": [4, 3, 2]}

    dataset.edit(join)
    dataset.edit_info(describe)
    assert bad(dataset.examine()) == {}
    dataset.edit(set_bytes(key, b"elsewhere"))
    if key == "clip/group_id":
        dataset.edit_info(lambda fields: fields["splits"]["train"].update(groups=9))
    result = dataset.examine()
    assert bad(result) == {"format.sources": "error"}
    (finding,) = result.findings
    assert finding.where.record == "fake/0.mp4@0 again"
    assert "'elsewhere'" in finding.message


@pytest.mark.parametrize(("count", "level"), [(8, "error"), (10, "warning")])
@pytest.mark.parametrize("what", ["sources", "groups"])
def test_counts_finds_wrong_sources_and_groups(make, what, count, level):
    dataset = make("classification")
    assert dataset.info.splits["train"].sources == 9
    dataset.edit_info(lambda fields: fields["splits"]["train"].update({what: count}))
    result = dataset.examine()
    assert bad(result) == {"format.counts": level}
    assert f"{what} {count}, the records have 9" in result.findings[0].message
    if count == 10:
        # One source gave nothing, as is known.
        dataset.edit_info(lambda fields: fields["counts"].update(failed=1))
        assert bad(dataset.examine()) == {}


def test_counts_finds_wrong_number_of_sequences(make):
    dataset = make("classification")
    dataset.edit_info(lambda fields: fields["counts"].update(sequences=20))
    assert bad(dataset.examine()) == {"format.counts": "error"}
