"""The shards' reports to the dataset's description."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.build.finish import Outcome, Totals, conclude, finish_build
from pipelines.build.output import OutputFolder
from pipelines.build.shard import (
    ShardBuilder,
    ShardReport,
    SourceCounts,
    count_sources,
    find_empty,
    sum_counts,
)
from pipelines.decoding.protocol import SegmentCounts, SegmentResult
from pipelines.images.pixel_sums import PixelSums
from pipelines.options.dataset import DatasetOptions, SamplingOptions
from pipelines.plan.descriptors import Segment, Shard, Source, SourceFailure
from tfrecords_schema.codec import from_json, to_json
from tfrecords_schema.info import DatasetInfo, ShardInfo, TargetStatistics
from tfrecords_schema.moments import Moments, moments_by_column
from tfrecords_schema.sources import SourceRow, read_sources
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec, SignalSpec

CLASSES = LabelSpec(task="classification", class_names=("run", "walk"))
TARGETS = LabelSpec(task="regression", target_names=("speed", "steer"))


def totals(**fields: Any) -> Totals:
    defaults: dict[str, Any] = {
        "sources": 10,
        "split_sources": {"train": 8, "test": 2},
        "split_groups": {"train": 4, "test": 1},
        "tasks": 1,
        "failures": (),
        "max_failure_rate": 0.05,
        "fingerprint": "f",
    }
    return Totals(**{**defaults, **fields})


def report(
    index: int = 0, split: str = "train", results: SegmentCounts | None = None, **fields: Any
) -> ShardReport:
    defaults: dict[str, Any] = {
        "file": f"{split}-{index:05d}-of-00009.tfrecord",
        "split": split,
        "fingerprint": "s",
        "records": 3,
        "bytes": 300,
        "sha256": "ab",
        "segments": results or SegmentCounts(label_counts=(1, 2)),
        "failures": (),
    }
    return ShardReport(**{**defaults, **fields})


def failure(source: str, *, truncated: bool = False, reason: str = "bad") -> SourceFailure:
    return SourceFailure(source=source, stage="decode", reason=reason, truncated=truncated)


def finish(
    reports: list[ShardReport],
    plan: Totals,
    *,
    label: LabelSpec = CLASSES,
    signals: tuple[SignalSpec, ...] = (),
    sampling: SamplingOptions | None = None,
    output: OutputFolder | None = None,
) -> Outcome:
    builder = ShardBuilder(
        output=output or OutputFolder("out"),
        spec=SequenceSpec(
            num_frames=16, image=ImageSpec(height=4, width=4), label=label, signals=signals
        ),
        options=DatasetOptions(name="actions", sampling=sampling or SamplingOptions()),
        versions={"av": "1"},
    )
    return (finish_build if output else conclude)(builder, reports, plan)


class TestFailures:
    def test_a_source_with_kept_sequences_is_truncated_and_not_failed(self) -> None:
        kept = SourceCounts(cut={"a": (0,)})
        reports = [report(0, sources=kept), report(1, failures=(failure("a"), failure("b")))]
        outcome = finish(reports, totals(tasks=2, max_failure_rate=1))
        assert outcome.failures == (failure("a", truncated=True), failure("b"))

    def test_a_source_without_sequences_or_another_reason_has_failed(self) -> None:
        kept = SourceCounts(cut={"a": (0,)})
        lost = failure("c", truncated=True)
        reports = [
            report(0, sources=kept, empty=(failure("b"),)),
            report(1, empty=(failure("a"), failure("c")), failures=(lost,)),
        ]
        outcome = finish(reports, totals(tasks=2, max_failure_rate=1))
        assert outcome.failures == (failure("b"), failure("c"))

    def test_blocks_of_a_file_count_once(self) -> None:
        failures = (failure("a.mp4#t=0,1.5"), failure("a.mp4#t=2"), failure("b.mp4"))
        plan = {"sources": 20, "failures": failures, "max_failure_rate": 0.1}
        assert finish([report()], totals(**plan, by_file=True)).error is None
        assert finish([report()], totals(**plan)).error.startswith("3 of 20 sources failed")

    @pytest.mark.parametrize(
        ("missing", "expected"),
        [
            (0, "no sequence: the footage has 2 breaks"),
            (3, "3 frames lie where telemetry has no values, and the footage has 2 breaks"),
        ],
    )
    def test_the_reason_of_an_empty_source_names_telemetry_only_if_it_matters(
        self, missing, expected
    ) -> None:
        result = SegmentResult(breaks=2, frames_without_telemetry=missing)
        segment = Segment(source=Source(id="a", path="p", data_path="p", group="g"))
        (found,) = find_empty([(segment, result)])
        assert found.reason.endswith(expected)

    def test_a_file_all_of_whose_blocks_failed_was_not_built(self, tmp_path) -> None:
        ids = ("a.mp4#t=0,1.5", "a.mp4#t=2", "b.mp4#t=0,1.5", "b.mp4#t=2", "c.mp4#t=0,1.5")
        shards = [
            Shard(split="train", index=index, count=5, segments=(Segment(source=source),))
            for index, name in enumerate(ids)
            for source in [Source(id=name, path="p", data_path="p", group="g")]
        ]
        rows = [SourceRow(id=f"{name}.mp4", group="g", split=None) for name in "abcd"]
        plan = totals(sources=4, tasks=5, max_failure_rate=1, by_file=True)
        output = OutputFolder(str(tmp_path / "out"))
        failed = [failure(name) for name in (*ids[:3], "d.mp4")]
        reports = [report(index) for index in range(4)] + [report(4, failures=tuple(failed))]
        with output.locked():
            output.begin({}, plan, shards, sources=rows)
            info = finish(reports, plan, output=output).info
        assert (info.counts["failed"], info.counts["sources_built"]) == (2, 2)
        assert [row.id for row in read_sources(output.path, info)] == ["b.mp4", "c.mp4"]

    @pytest.mark.parametrize(
        ("failed", "sources", "rate", "succeeds"),
        [
            (0, 10, 0.0, True),
            (1, 10, 0.0, False),
            (5, 100, 0.05, True),
            (6, 100, 0.05, False),
            (29, 100, 0.29, True),  # 0.29 * 100 is just below 29 in binary
            (30, 100, 0.29, False),
            (1, 10, 0.1, True),
            (1, 1, 1.0, True),
        ],
    )
    def test_the_rate_is_met_exactly(self, failed, sources, rate, succeeds) -> None:
        listed = tuple(failure(f"{i:03d}") for i in range(failed))
        outcome = finish(
            [report()], totals(sources=sources, failures=listed, max_failure_rate=rate)
        )
        assert (outcome.error is None) == (outcome.info is not None) == succeeds
        assert outcome.failures == listed
        if not succeeds:
            assert f"{failed} of {sources} sources failed" in outcome.error
            assert f"--max_failure_rate {rate:g}" in outcome.error
            assert "'000' (decode: bad)" in outcome.error
            assert "\n" not in outcome.error

    def test_many_failures_are_summed_up(self) -> None:
        listed = tuple(failure(f"{i}") for i in range(9))
        error = finish([report()], totals(failures=listed)).error
        assert "and 4 more (9 at decode; all in failures.jsonl)" in error

    def test_segments_of_one_source_fail_once(self) -> None:
        reports = [
            report(0, failures=(failure("b", truncated=True, reason="cut"), failure("a"))),
            report(1, failures=(failure("b"), failure("a", truncated=True), failure("a"))),
        ]
        plan = totals(tasks=2, max_failure_rate=1.0, failures=(failure("c", truncated=True),))
        outcome = finish(reports, plan)
        assert outcome.failures == (failure("a"), failure("b"), failure("c", truncated=True))
        assert outcome.info.counts["failed"] == 2
        assert outcome.info.counts["truncated"] == 1

    def test_truncated_sources_have_not_failed(self) -> None:
        cut = tuple(failure(str(i), truncated=True) for i in range(10))
        assert finish([report(failures=cut)], totals(max_failure_rate=0.0)).error is None

    def test_a_line_is_json_of_one_line(self, tmp_path) -> None:
        output, odd = OutputFolder(str(tmp_path)), failure("caf\udce9\n", reason="n\xe3o")
        with output.locked():
            output.finish([odd], None)
        assert (tmp_path / "failures.jsonl").read_bytes().count(b"\n") == 1
        assert output.failures() == [odd]


class TestIncompleteness:
    def test_a_shard_that_is_missing_is_an_error(self) -> None:
        outcome = finish([report()], totals(tasks=3))
        assert outcome.error == "2 of 3 shards were not built"
        assert outcome.info is None

    def test_a_dataset_without_a_record_is_an_error(self) -> None:
        for reports, shards in (([], 0), ([report(records=0)], 1)):
            outcome = finish(reports, totals(tasks=shards))
            assert "no source gave a sequence" in outcome.error
            assert "--short_clips" in outcome.error
            assert outcome.info is None

    def test_frames_without_telemetry_are_the_likelier_reason(self) -> None:
        """Two shards; a clip that is short says nothing of why the others are empty."""
        unmeasured = SegmentCounts(frames_without_telemetry=120, short_clips=1)
        reports = [
            report(0, records=0, results=unmeasured),
            report(1, records=0, results=SegmentCounts(frames_without_telemetry=3)),
        ]
        assert finish(reports, totals(tasks=2)).error == (
            "no source gave a sequence: 123 frames lie where telemetry has no values "
            "(see --time_unit, --time_offset, --time_origin and --max_gap)"
        )


class TestInfo:
    def test_shards_and_counts_are_added_up(self) -> None:
        results = SegmentCounts(
            frames=50,
            repeated_frames=4,
            padded_frames=3,
            short_clips=2,
            breaks=1,
            unordered_frames=6,
            label_counts=(1, 2),
        )
        others = [dataclasses.replace(results, label_counts=counts) for counts in ((5, 0), (0, 1))]
        reports = [
            report(0, "train", results),
            report(1, "train", others[0], records=5, bytes=500),
            report(0, "test", others[1], records=1, bytes=9),
        ]
        sampling = SamplingOptions(short_clips="pad")
        info = finish(reports, totals(tasks=3), sampling=sampling).info
        assert info.name == "actions"
        assert info.fingerprint == "f"
        assert info.versions == {"av": "1"}
        assert info.counts == {
            "sources": 10,
            "failed": 0,
            "truncated": 0,
            "sequences": 9,
            "frames_decoded": 150,
            "frames_repeated": 12,
            "frames_padded": 9,
            "frames_out_of_order": 18,
            "short_clips_padded": 6,
            "breaks": 3,
        }
        train = info.splits["train"]
        assert train.shards == tuple(
            ShardInfo(file=r.file, records=r.records, bytes=r.bytes, sha256=r.sha256)
            for r in reports[:2]
        )
        assert (train.label_counts, train.sources, train.groups) == ((6, 2), 8, 4)
        assert (info.splits["test"].num_records, info.splits["test"].sources) == (1, 2)
        assert info.options == DatasetOptions(name="actions", sampling=sampling).to_json()
        assert DatasetInfo.from_bytes(info.to_bytes(), "there") == info

    def test_the_order_of_reports_does_not_matter(self) -> None:
        reports = [
            report(i, records=i + 1, failures=(failure("a", truncated=True, reason=str(i)),))
            for i in range(9)
        ]
        expected = finish(reports, totals(tasks=9))
        random.Random(0).shuffle(reports)
        assert finish(reports, totals(tasks=9)) == expected

    @given(
        st.lists(st.integers(0, 2**32), min_size=1, max_size=6),
        st.sampled_from([1, 3]),
        st.sampled_from([(0, 256), (255, 256), (100, 102)]),
    )
    @settings(max_examples=60, deadline=None)
    def test_pixel_moments_are_numpy_s(self, seeds, channels, levels) -> None:
        frames = [
            np.random.default_rng(s).integers(*levels, (6, 7, channels), np.uint8) for s in seeds
        ]
        reports = []
        for index, frame in enumerate(frames):
            _, sums, squares = PixelSums.of(frame)
            results = SegmentCounts(pixel_count=42, pixel_sum=sums, pixel_square_sum=squares)
            reports.append(report(index, results=results))
        # A shard all of whose sources failed has no pixels.
        reports.append(report(len(frames), records=0))
        split = finish(reports, totals(tasks=len(reports))).info.splits["train"]
        pixels = np.concatenate([frame.reshape(-1, channels) for frame in frames]).astype(float)
        np.testing.assert_allclose(split.pixel_mean, pixels.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(split.pixel_std, pixels.std(axis=0), rtol=1e-9, atol=1e-9)

    def test_pixel_moments_of_a_petabyte_keep_their_digits(self) -> None:
        """All pixels 200 but one in 10**12, which is 201."""
        count = 10**15
        sums, squares = 200 * count + 1000, 200**2 * count + 401 * 1000
        results = SegmentCounts(pixel_count=count, pixel_sum=(sums,), pixel_square_sum=(squares,))
        split = finish([report(results=results)], totals()).info.splits["train"]
        assert split.pixel_std[0] == pytest.approx(1e-6, rel=1e-6)

    @given(
        st.lists(
            st.lists(
                st.tuples(st.floats(-1000, 1000), st.floats(0, 1), st.integers(1, 9)), max_size=4
            ),
            min_size=1,
            max_size=4,
        )
    )
    @settings(max_examples=100, deadline=None)
    def test_target_statistics_are_numpy_s(self, shards) -> None:
        reports = []
        for index, clips in enumerate(shards):
            values = np.repeat(
                np.array([clip[:2] for clip in clips]).reshape(-1, 2),
                [clip[2] for clip in clips],
                axis=0,
            )
            results = SegmentCounts(targets=moments_by_column(values.tolist()))
            reports.append(report(index, results=results, records=len(values)))
        plan = totals(tasks=len(reports))
        rows = [clip for clips in shards for clip in clips]
        if not rows:
            assert finish(reports, plan, label=TARGETS).info is None
            return
        targets = finish(reports, plan, label=TARGETS).info.splits["train"].targets
        for target, statistics in enumerate(targets):
            every = np.repeat([row[target] for row in rows], [row[2] for row in rows])
            assert statistics.mean == pytest.approx(every.mean(), abs=1e-9)
            assert statistics.std == pytest.approx(every.std(), abs=1e-4)
            assert (statistics.min, statistics.max) == (every.min(), every.max())


class TestTelemetry:
    def test_frames_are_counted_by_the_distance_of_their_rows(self) -> None:
        reports = [
            report(0, results=SegmentCounts(telemetry_frames=(1, 20, 300, 4000, 50000))),
            report(1, results=SegmentCounts(frames_without_telemetry=7)),
            report(
                2,
                results=SegmentCounts(telemetry_frames=(5, 0, 0, 0, 2), frames_without_telemetry=1),
            ),
        ]
        counts = finish(reports, totals(tasks=3)).info.counts
        assert {name: n for name, n in counts.items() if name.startswith("telemetry")} == {
            "telemetry_frames_at_a_row": 6,
            "telemetry_frames_between_rows_up_to_0.1_s": 20,
            "telemetry_frames_between_rows_up_to_0.5_s": 300,
            "telemetry_frames_between_rows_up_to_1_s": 4000,
            "telemetry_frames_between_rows_over_1_s": 50002,
            "telemetry_frames_without": 8,
        }

    def test_rows_that_belong_to_frames_have_no_distance(self) -> None:
        """Only frames without a row are worth a line."""
        unmeasured = SegmentCounts(frames_without_telemetry=2)
        counts = finish([report(results=unmeasured)], totals()).info.counts
        assert counts["telemetry_frames_without"] == 2
        assert len([name for name in counts if name.startswith("telemetry")]) == 1

    def test_a_dataset_without_telemetry_says_nothing_of_it(self) -> None:
        counts = finish([report()], totals()).info.counts
        assert not [name for name in counts if name.startswith("telemetry")]


class TestSignals:
    SPECS = (SignalSpec(name="yaw"), SignalSpec(name="accel", size=2))

    def test_their_statistics_are_by_name_and_component(self) -> None:
        shards = [[(1.0, 10.0, -1.0), (3.0, 10.0, -2.0)], [(8.0, 40.0, -3.0)]]
        reports = [
            report(index, results=SegmentCounts(signals=moments_by_column(rows)))
            for index, rows in enumerate(shards)
        ]
        # A shard all of whose sources failed has no signals.
        reports.append(report(2, records=0))
        info = finish(reports, totals(tasks=3), signals=self.SPECS).info
        assert info.splits["train"].signals == {
            "yaw": (TargetStatistics(mean=4.0, std=math.sqrt(26 / 3), min=1.0, max=8.0, count=3),),
            "accel": (
                TargetStatistics(mean=20.0, std=math.sqrt(200), min=10.0, max=40.0, count=3),
                TargetStatistics(mean=-2.0, std=math.sqrt(2 / 3), min=-3.0, max=-1.0, count=3),
            ),
        }
        assert DatasetInfo.from_bytes(info.to_bytes(), "there") == info

    def test_a_split_without_a_record_has_none(self) -> None:
        rows = moments_by_column([(1.0, 2.0, 3.0)])
        reports = [
            report(0, results=SegmentCounts(signals=rows)),
            report(0, "test", results=SegmentCounts(), records=0),
        ]
        info = finish(reports, totals(tasks=2), signals=self.SPECS).info
        assert info.splits["test"].signals == {}
        assert list(info.splits["train"].signals) == ["yaw", "accel"]


class TestClassSources:
    @given(
        st.lists(  # of each source: split, whether it is cut, and of each segment: shard, class counts
            st.tuples(
                st.sampled_from(["train", "test"]),
                st.lists(
                    st.tuples(st.integers(0, 2), st.tuples(st.integers(0, 2), st.integers(0, 2))),
                    min_size=1,
                    max_size=4,
                ),
            ),
            min_size=1,
            max_size=12,
        )
    )
    @settings(max_examples=50, deadline=None)
    def test_each_source_counts_once_however_it_is_cut(self, sources) -> None:
        """Reports of shards against sets of sources."""
        shards: dict[tuple[str, int], list[tuple[Segment, SegmentResult]]] = {}
        expected = {(split, i): set() for split in ("train", "test") for i in range(3)}
        for number, (split, pieces) in enumerate(sources):
            name = f"caf\udce9 {number}"
            source = Source(id=name, path="p", data_path="p", group="g")
            for k, (shard, counts) in enumerate(pieces):
                segment = Segment(
                    source=source, first_slot=9 * k, end_slot=9 * k + 9 if pieces[k + 1 :] else None
                )
                result = SegmentResult(sequences=sum(counts), label_counts=counts)
                shards.setdefault((split, shard), []).append((segment, result))
                if any(counts):
                    expected[split, 2].add(name)
                for i in range(2):
                    if counts[i]:
                        expected[split, i].add(name)
        reports = [
            report(
                shard,
                split,
                records=1,
                results=sum_counts(result for _, result in built),
                sources=count_sources(built, CLASSES.class_names),
            )
            for (split, shard), built in shards.items()
        ]
        stored = json.loads(json.dumps(to_json(reports)))
        info = finish(from_json(list[ShardReport], stored), totals(tasks=len(reports))).info
        for name, split in info.splits.items():
            assert split.class_sources == tuple(len(expected[name, i]) for i in range(2))
            assert split.sources == len(expected[name, 2])
            assert split.groups <= split.sources

    def test_dropped_sources_are_counted_by_class_and_reason(self) -> None:
        def built(name: str, label: str, **fields: Any) -> tuple[Segment, SegmentResult]:
            source = Source(id=name, path=name, data_path=name, group=name, labels=(label,))
            return Segment(source=source), SegmentResult(**fields)

        segments = [
            built("a", "run", sequences=2, label_counts=(2, 0)),
            built("b", "walk", short_clips=1),
            built("c", "walk", short_clips=1),
            built("d", "walk", short_clips=1, truncated="the file is cut"),  # counts as failed
            built("e", "run", short_clips=1, sequences=1, label_counts=(1, 0)),  # padded
        ]
        made = report(sources=count_sources(segments, CLASSES.class_names))
        plan = totals(max_failure_rate=1.0, class_sources=(3, 4))  # one each failed while probed
        info = finish([made], plan).info
        assert info.dropped == {"short_clips": (0, 2), "failed": (1, 2)}
        assert DatasetInfo.from_bytes(info.to_bytes(), "there") == info
        assert finish([made], totals()).info.dropped == {}  # classes are only known by frame

    def test_a_report_of_an_earlier_version_leaves_sources_unknown(self) -> None:
        fields = to_json(report())
        del fields["sources"]
        older = from_json(ShardReport, fields)
        newer = report(1, sources=count_sources([], CLASSES.class_names))
        info = finish([older, newer], totals(tasks=2, class_sources=(4, 4))).info
        assert info.splits["train"].class_sources == ()
        assert info.splits["train"].sources == 8
        assert info.dropped == {}


def test_totals_and_reports_go_through_json_unchanged() -> None:
    plan = totals(failures=(failure("caf\udce9"),))
    assert from_json(Totals, json.loads(json.dumps(to_json(plan)))) == plan
    results = SegmentCounts(
        frames=3,
        pixel_sum=(1, 2),
        pixel_square_sum=(3, 4),
        targets=(Moments.of([0.5, 2.5]),),
        signals=(Moments.of([1e9]),),
        telemetry_frames=(1, 2),
    )
    full = report(results=results, failures=(failure("a"),))
    assert from_json(ShardReport, json.loads(json.dumps(to_json(full)))) == full
