"""Predicted frames, compared with the frames that sampling uses."""

import itertools
from fractions import Fraction
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.decoding.clip import Clip, CountedFrames, cover_clip, find_used_frames
from pipelines.decoding.footage import Frame
from pipelines.options.dataset import SamplingOptions
from pipelines.plan.descriptors import Segment, Source
from pipelines.plan.sampling import cut_windows, pick_last, pick_uniform

RATES = [None, Fraction(5), Fraction(30000, 1001), Fraction(1, 3), Fraction(60)]
SOURCE = Source(id="a", path="a", data_path="a", group="a", labels=())


TICK = Fraction(1, 1_000_000)
FOOTAGE = SimpleNamespace(time_base=TICK, tolerance=TICK)  # what `Clip` looks at


def asked_for(clip, frames, segment, sampling, total_slots):
    """The times of frames whose pictures are used to make the segment's sequences."""
    used = []
    covering = cover_clip(clip, iter(frames), segment, sampling)
    fields = {"num_frames": sampling.num_frames, "short_clips": sampling.short_clips}
    prepare = lambda frame: used.append(frame.pts)  # noqa: E731
    if sampling.sampling == "windows":
        fields |= {"stride": sampling.window_stride}
        fields |= {"first_slot": segment.first_slot, "end_slot": segment.end_slot}
        windows = cut_windows(covering, prepare, **fields)
    else:
        pick = pick_uniform if sampling.sampling == "uniform" else pick_last
        windows = pick(covering, prepare, total_slots=total_slots, **fields)
    for _ in windows:
        pass
    return set(used)


class TestFindUsedFrames:
    @given(
        steps=st.lists(st.integers(1, 400_000), min_size=1, max_size=60),
        rate=st.sampled_from(RATES),
        sampling=st.sampled_from(["windows", "uniform", "last"]),
        num_frames=st.integers(1, 6),
        stride=st.integers(1, 9),
        bounds=st.tuples(st.integers(0, 20), st.integers(1, 30) | st.none()),
        short_clips=st.sampled_from(["drop", "pad"]),
        lost=st.sets(st.integers(1, 60), max_size=3),
    )
    @settings(max_examples=200, deadline=None)
    def test_used_frames_match_sampling(
        self, steps, rate, sampling, num_frames, stride, bounds, short_clips, lost
    ):
        times = [sum(steps[:count]) for count in range(len(steps) + 1)]
        first_slot, end_slot = bounds if sampling == "windows" else (0, None)
        end_slot = None if end_slot is None else first_slot + end_slot
        segment = Segment(source=SOURCE, first_slot=first_slot, end_slot=end_slot, anchor_slot=0)
        fields = {"stride": stride} if sampling == "windows" else {}
        options = SamplingOptions(
            num_frames=num_frames,
            frame_rate=rate,
            sampling=sampling,
            short_clips=short_clips,
            **fields,
        )
        clip = Clip(FOOTAGE, times[0], None, None)
        frames = [Frame(pts, rank) for rank, pts in enumerate(times)]
        covered = CountedFrames(cover_clip(clip, iter(frames), segment, options))
        for _ in covered:
            pass
        wanted = find_used_frames(clip, segment, options, total_slots=covered.end_slot, times=times)
        told = {pts for pts, end in zip(times, [*times[1:], None], strict=True) if wanted(pts, end)}
        assert told >= asked_for(clip, frames, segment, options, covered.end_slot)
        # Little else is wanted: the last frame, and one that is exactly at a slot where the next is, too.
        if rate is not None:
            grid = clip.time_grid(rate)
            places = [grid.position(clip.seconds_after_first(pts)) for pts in times]
            for pts, (place, after) in zip(times, itertools.pairwise(places), strict=False):
                assert place.slot < after.slot or place.exact or pts not in told
        # Where frames are missing, those around are wanted no less.
        left = [
            Frame(frame.pts, frame.rank, after_break=frame.rank - 1 in lost)
            for frame in frames
            if frame.rank not in lost
        ]
        if sampling == "windows":
            assert told >= asked_for(clip, left, segment, options, covered.end_slot)

    def test_used_frames_are_unknown_by_rank(self):
        clip = Clip(FOOTAGE, 0, None, None)
        sampling = SamplingOptions(num_frames=2, stride=5)
        assert find_used_frames(clip, Segment(source=SOURCE), sampling) is None
