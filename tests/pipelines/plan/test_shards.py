"""Tests of segments, shards, and the plan's file."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import json
import random
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.build.finish import Totals
from pipelines.build.output import OutputFolder
from pipelines.options.dataset import (
    MAX_SHARDS,
    DatasetOptions,
    ImageOptions,
    SamplingOptions,
    ShardOptions,
    SplitOptions,
)
from pipelines.plan.descriptors import Boundary, Probe, Segment, Shard, Source, SourceFailure
from pipelines.plan.shards import (
    MIN_SHARDS,
    Estimate,
    clip_seconds,
    cut_segments,
    estimate_frame_bytes,
    estimate_segment,
    estimate_sequences,
    order_work,
    plan_shards,
    time_boundaries,
)
from tfrecords_schema.codec import from_json, to_json

PROBE = Probe(duration=100.0, frame_rate=30.0, cuttable=True)


def source(name: str, **fields: object) -> Source:
    defaults = {"id": name, "path": f"/in/{name}", "data_path": name, "group": name}
    return Source(**{**defaults, **fields})  # type: ignore[arg-type]


def options(**groups: object) -> DatasetOptions:
    return DatasetOptions(name="actions", **groups)  # type: ignore[arg-type]


@st.composite
def segment_lists(draw: st.DrawFn) -> list[Segment]:
    """Segments of sources of a few groups, some with a split of their own."""
    segments = []
    for index in range(draw(st.integers(0, 30))):
        group = draw(st.integers(0, 8))
        own = source(
            f"{index:03d}.mp4",
            group=f"g{group}",
            split={7: "held_out", 8: "extra"}.get(group),
        )
        seconds = draw(st.sampled_from([0.0, 0.5, 3.0, 600.0]) | st.floats(0, 1000))
        bounds = [Boundary(slot=s, seconds=0.0) for s in draw(st.sampled_from([[], [5], [5, 9]]))]
        segments += [
            dataclasses.replace(segment, seconds=seconds)
            for segment in cut_segments(own, seconds, bounds)
        ]
    return segments


def probes_of(segments: list[Segment]) -> dict[str, Probe]:
    return {segment.source.path: PROBE for segment in segments}


class TestCuttingClips:
    @pytest.mark.parametrize(
        ("start", "end", "seconds"),
        [(None, None, 100.0), (30.0, None, 70.0), (None, 8.0, 8.0), (2.5, 8.0, 5.5)],
    )
    def test_clip_seconds_follows_span(self, start, end, seconds) -> None:
        assert clip_seconds(source("a.mp4", start=start, end=end), PROBE.duration) == seconds

    def test_clip_seconds_beyond_end_is_zero(self) -> None:
        assert clip_seconds(source("a.mp4", start=120.0), PROBE.duration) == 0.0

    def test_time_boundaries_by_hand(self) -> None:
        sampling = SamplingOptions(frame_rate=Fraction(10))
        assert time_boundaries(25.0, sampling, 10.0) == [
            Boundary(slot=100, seconds=10.0),
            Boundary(slot=200, seconds=20.0),
        ]
        assert time_boundaries(20.0, sampling, 10.0) == [Boundary(slot=100, seconds=10.0)]
        assert time_boundaries(9.0, sampling, 10.0) == []
        # A segment is never shorter than a slot.
        assert time_boundaries(0.3, sampling, 0.001) == [
            Boundary(slot=1, seconds=0.1),
            Boundary(slot=2, seconds=0.2),
        ]

    def test_time_boundaries_need_a_frame_rate(self) -> None:
        with pytest.raises(ValueError, match="got a frame_rate of None"):
            time_boundaries(25.0, SamplingOptions(), 10.0)

    @given(
        st.floats(0, 1e5),
        st.fractions(Fraction(1, 100), 240),
        st.floats(0.5, 1e4),
    )
    def test_cut_segments_covers_each_slot_once(self, seconds, rate, length) -> None:
        length = max(length, seconds / 200)
        boundaries = time_boundaries(seconds, SamplingOptions(frame_rate=rate), length)
        segments = cut_segments(source("a.mp4"), seconds, boundaries)
        assert segments[0].first_slot == 0
        assert segments[-1].end_slot is None
        for one, following in itertools.pairwise(segments):
            assert one.end_slot == following.first_slot
            assert one.first_slot < one.end_slot
        assert sum(segment.seconds for segment in segments) == pytest.approx(seconds, abs=1e-3)
        assert all(
            segment.seconds <= max(length, 1 / rate) + float(1 / rate) + 1e-3
            for segment in segments
        )

    def test_cut_segments_keeps_anchors(self) -> None:
        clip = source("a.mp4")
        cut = Boundary(slot=250, anchor_pts=9000, anchor_slot=240, seconds=10.0)
        assert cut_segments(clip, 15.0, [cut]) == [
            Segment(source=clip, first_slot=0, end_slot=250, seconds=10.0),
            Segment(source=clip, first_slot=250, anchor_pts=9000, anchor_slot=240, seconds=5.0),
        ]


class TestEstimates:
    @pytest.mark.parametrize(
        ("seconds", "sampling", "sequences"),
        [
            (10.0, {"num_frames": 8, "frame_rate": Fraction(10)}, 12),  # 100 slots
            (10.0, {"num_frames": 8, "frame_rate": Fraction(10), "stride": 1}, 93),
            (10.0, {"num_frames": 8}, 37),  # 300 slots at the header's 30 frames/s
            (0.5, {"num_frames": 8, "frame_rate": Fraction(10)}, 0),
            (0.5, {"num_frames": 8, "frame_rate": Fraction(10), "short_clips": "pad"}, 1),
            (0.5, {"num_frames": 8, "frame_rate": Fraction(10), "short_clips": "loop"}, 1),
            (9999.0, {"num_frames": 8, "sampling": "uniform"}, 1),
        ],
    )
    def test_estimate_sequences_by_hand(self, seconds, sampling, sequences) -> None:
        assert estimate_sequences(seconds, 30.0, SamplingOptions(**sampling)) == sequences

    @pytest.mark.parametrize(("gap", "sequences"), [(1, 1000), (10, 1000), (11, 0), (59, 0)])
    def test_footage_with_breaks_between_frames_gives_no_sequences(self, gap, sequences) -> None:
        sampling = SamplingOptions(num_frames=10, frame_rate=Fraction(10))
        cut = Segment(source=source("a"), first_slot=0, end_slot=10_000, seconds=1000.0)
        assert estimate_segment(cut, 1 / gap, sampling) == sequences
        assert estimate_sequences(1000.0, 1 / gap, sampling) == sequences

    @pytest.mark.parametrize(
        ("image", "num_bytes"),
        [
            ({"jpeg_quality": 95}, 33_000),
            ({"jpeg_quality": 1}, 3_000),
            ({"jpeg_quality": 100}, 85_000),
            ({"jpeg_quality": 60}, 10_600),  # two fifths of the way from 0.09 to 0.13
            ({"image_format": "png"}, 160_000),
            ({"image_format": "png", "grayscale": True}, 53_333),
        ],
    )
    def test_estimate_frame_bytes_by_hand(self, image, num_bytes) -> None:
        estimate = estimate_frame_bytes(ImageOptions(size=(200, 500), **image))
        assert estimate == pytest.approx(num_bytes, abs=1)

    def test_plan_shards_estimates_split_by_hand(self) -> None:
        segments = [
            Segment(source=source("a.mp4", group="p"), end_slot=50, seconds=5.0),
            Segment(source=source("a.mp4", group="p"), first_slot=50, seconds=5.0),
            Segment(source=source("b.mp4", group="p"), seconds=10.0),
        ]
        _, estimates = plan_shards(
            segments,
            probes_of(segments),
            options(
                sampling=SamplingOptions(num_frames=10, frame_rate=Fraction(10)),
                image=ImageOptions(size=(100, 100)),
                split=SplitOptions(splits=(("train", 1.0), ("test", 0.0))),
            ),
        )
        assert estimates == {
            "train": Estimate(
                sources=2, groups=1, segments=3, shards=3, sequences=20, bytes=20 * 10 * 3300
            ),
            "test": Estimate(sources=0, groups=0, segments=0, shards=0, sequences=0, bytes=0),
        }


class TestShards:
    def test_file_names_follow_tensorflow_datasets(self) -> None:
        shard = Shard(split="train", index=3, count=12, segments=())
        assert shard.file == "train-00003-of-00012.tfrecord"

    @given(segment_lists(), st.none() | st.integers(1, 40), st.integers(0, 3))
    @settings(max_examples=150, deadline=None)
    def test_plan_shards_puts_segment_in_one_shard_of_its_split(
        self, segments, count, seed
    ) -> None:
        shards, estimates = plan_shards(
            segments,
            probes_of(segments),
            options(
                shard=ShardOptions(shards=count, shard_size=2**50), split=SplitOptions(seed=seed)
            ),
        )
        dealt = Counter(segment for shard in shards for segment in shard.segments)
        assert dealt == Counter(segments)
        split_of_group: dict[str, str] = {}
        for shard in shards:
            assert shard.segments, f"{shard.file} is empty"
            for segment in shard.segments:
                own = split_of_group.setdefault(segment.source.group, shard.split)
                assert own == shard.split
                assert segment.source.split in (None, shard.split)
        for split, estimate in estimates.items():
            own_shards = [shard for shard in shards if shard.split == split]
            held = sum(len(shard.segments) for shard in own_shards)
            assert estimate.segments == held
            assert len(own_shards) == estimate.shards == min(held, count or MIN_SHARDS)
            assert [(s.index, s.count) for s in own_shards] == [
                (index, len(own_shards)) for index in range(len(own_shards))
            ]

    @given(segment_lists(), st.integers(1, 12))
    @settings(max_examples=150, deadline=None)
    def test_plan_shards_balances_equal_segments(self, segments, count) -> None:
        shards, estimates = plan_shards(
            segments, probes_of(segments), options(shard=ShardOptions(shards=count))
        )
        for split in estimates:
            loads = [
                [segment.seconds for segment in shard.segments]
                for shard in shards
                if shard.split == split
            ]
            if loads:
                longest = max(max(load) for load in loads)
                assert max(map(sum, loads)) <= min(map(sum, loads)) + longest + 1e-6

    def test_plan_shards_balances_unknown_durations_by_number(self) -> None:
        segments = [Segment(source=source(f"{i}.mp4")) for i in range(20)]
        shards, _ = plan_shards(
            segments,
            probes_of(segments),
            options(shard=ShardOptions(shards=4), split=SplitOptions(splits=(("train", 1.0),))),
        )
        assert [len(shard.segments) for shard in shards] == [5, 5, 5, 5]

    @given(segment_lists(), st.randoms(use_true_random=False))
    @settings(max_examples=100, deadline=None)
    def test_plan_shards_is_independent_of_order(
        self, segments: list[Segment], shuffler: random.Random
    ) -> None:
        shuffled = list(segments)
        shuffler.shuffle(shuffled)
        one, other = (
            plan_shards(order, probes_of(segments), options()) for order in (segments, shuffled)
        )
        assert one == other
        assert list(one[1]) == list(other[1])

    def test_plan_shards_keeps_order_when_sources_are_added(self) -> None:
        split = SplitOptions(splits=(("train", 1.0),))
        many = [Segment(source=source(f"{i:02d}.mp4"), seconds=1.0) for i in range(40)]
        one_shard = options(shard=ShardOptions(shards=1), split=split)
        (few_shard,), _ = plan_shards(many[:20], probes_of(many), one_shard)
        (all_shard,), _ = plan_shards(many, probes_of(many), one_shard)
        assert [s for s in all_shard.segments if s in few_shard.segments] == list(
            few_shard.segments
        )
        assert list(all_shard.segments) != many  # mixed

    def test_plan_shards_derives_number_from_size(self) -> None:
        segments = [Segment(source=source(f"{i}.mp4"), seconds=100.0) for i in range(100)]
        planned = options(
            sampling=SamplingOptions(num_frames=10, frame_rate=Fraction(10)),
            image=ImageOptions(size=(100, 100)),  # 3300 bytes a frame
            split=SplitOptions(splits=(("train", 1.0),)),
            shard=ShardOptions(shard_size=33_000_000),
        )
        shards, estimates = plan_shards(segments, probes_of(segments), planned)
        assert estimates["train"].bytes == 330_000_000
        assert len(shards) == 10
        fewer = dataclasses.replace(planned, shard=ShardOptions(shard_size=2**40))
        assert len(plan_shards(segments, probes_of(segments), fewer)[0]) == MIN_SHARDS

    def test_plan_shards_of_200_000_segments(self) -> None:
        clips = [source(f"{i:06d}.mp4", group=f"g{i // 10}") for i in range(50_000)]
        segments = [
            Segment(source=clip, first_slot=slot, end_slot=slot + 100, seconds=10.0)
            for clip in clips
            for slot in range(0, 400, 100)
        ]
        probes = probes_of(segments)
        planned = options(
            split=SplitOptions(splits=(("train", 1.0),)), shard=ShardOptions(shard_size=1)
        )
        shards, _ = plan_shards(segments, probes, planned)
        assert sum(len(shard.segments) for shard in shards) == 200_000
        assert len(shards) == MAX_SHARDS
        assert shards[-1].file == "train-99998-of-99999.tfrecord"


def shards_of(costs: list[float]) -> list[Shard]:
    return [
        Shard(
            split="train",
            index=index,
            count=len(costs),
            segments=(
                Segment(source=source("a.mp4"), seconds=cost / 2),
                Segment(source=source("b.mp4"), seconds=cost / 2),
            ),
        )
        for index, cost in enumerate(costs)
    ]


class TestOrderWork:
    @given(st.lists(st.integers(2, 1000), min_size=1, max_size=12), st.integers(2, 6))
    def test_order_work_gives_threads_to_last_shards(self, costs, workers):
        free = [0.0] * workers  # when each will be
        ends = []
        for index, threads in order_work(shards_of(costs), workers):
            end = heapq.heappop(free) + costs[index]
            heapq.heappush(free, end)
            ends.append((end, threads))
        assert len(ends) == len(costs)
        assert all(threads > 1 for end, threads in ends if end > free[0])

    def test_order_work_gives_one_thread_to_most_equal_shards(self):
        work = order_work(shards_of([60.0] * 20), 4)
        assert [threads for _, threads in work] == [1] * 15 + [5] * 5

    def test_order_work_of_single_worker_has_one_thread(self):
        assert {threads for _, threads in order_work(shards_of([60.0, 5.0]), 1)} == {1}

    @given(st.permutations([1.0, 2.0, 2.0, 3.0]))
    def test_order_work_starts_with_longest(self, costs):
        order = [index for index, _ in order_work(shards_of(costs), 2)]
        assert [costs[index] for index in order] == [3.0, 2.0, 2.0, 1.0]
        assert sorted(order) == [0, 1, 2, 3]

    def test_order_work_counts_segments_of_unknown_length(self):
        work = order_work(shards_of([0.0] * 10), 2)
        assert [threads for _, threads in work] == [1] * 9 + [3]


class TestPlanFile:
    TOTALS = Totals(
        sources=3,
        split_sources={"train": 2},
        split_groups={"train": 1},
        tasks=2,
        failures=(SourceFailure(source="caf\udce9.mp4", stage="list", reason="n\xe3o"),),
        max_failure_rate=0.05,
        fingerprint="ab",
    )

    def test_planned_returns_what_begin_stored(self, tmp_path) -> None:
        output = OutputFolder(str(tmp_path))
        segments = tuple(
            Segment(
                source=source(name, labels=("a", "b"), values=(1.5,), start=0.5, bytes=7),
                first_slot=4,
                anchor_pts=-9,
                anchor_slot=2,
                seconds=2.25,
            )
            for name in ("caf\udce9.mp4", "\u96ea\u2028\n.mp4", 'quo"te.mp4')
        )
        shards = [
            Shard(split="train", index=0, count=2, segments=segments),
            Shard(split="train", index=1, count=2, segments=segments[:1]),
        ]
        with output.locked():
            places = output.begin({}, self.TOTALS, shards)
            assert [output.planned(Shard, place) for place in places] == shards
            assert [output.planned(Shard, place) for place in reversed(places)] == shards[::-1]
            assert output.planned(Totals, 0) == self.TOTALS

    def test_plan_without_shards_has_totals(self, tmp_path) -> None:
        output = OutputFolder(str(tmp_path))
        totals = dataclasses.replace(self.TOTALS, tasks=0)
        with output.locked():
            assert output.begin({}, totals, []) == []
            assert output.planned(Totals, 0) == totals


class TestDescriptors:
    @given(
        st.builds(
            Shard,
            split=st.text(),
            index=st.integers(0),
            count=st.integers(0),
            segments=st.lists(
                st.builds(
                    Segment,
                    source=st.builds(
                        Source,
                        id=st.text(),
                        path=st.binary().map(lambda b: b.decode("utf-8", "surrogateescape")),
                        data_path=st.text(),
                        group=st.text(),
                        split=st.none() | st.text(),
                        labels=st.lists(st.text()).map(tuple),
                        values=st.lists(st.floats(allow_nan=False)).map(tuple),
                        start=st.none() | st.floats(0, 1e6),
                        end=st.none() | st.floats(0, 1e6),
                        bytes=st.integers(0),
                        mtime_ns=st.integers(),
                    ),
                    first_slot=st.integers(0),
                    end_slot=st.none() | st.integers(0),
                    anchor_pts=st.none() | st.integers(),
                    anchor_slot=st.none() | st.integers(),
                    seconds=st.floats(0, 1e6),
                ),
                max_size=3,
            ).map(tuple),
        )
    )
    def test_from_json_inverts_to_json_of_shard(self, shard: Shard) -> None:
        assert from_json(Shard, json.loads(json.dumps(to_json(shard)))) == shard

    def test_descriptors_are_frozen(self) -> None:
        for descriptor in (source("a"), Segment(source=source("a")), PROBE):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(descriptor, dataclasses.fields(descriptor)[0].name, None)
