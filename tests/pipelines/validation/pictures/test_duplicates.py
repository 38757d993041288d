"""Pairs among hashes, against trying all pairs; sketches, spans and divergences against plain arithmetic."""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.validation.divergence import coarsen, expected_by_chance, jensen_shannon
from pipelines.validation.pictures.alignment import IN_PLACE, align, distance, has_texture, to_gray
from pipelines.validation.pictures.duplicates import find_similar
from pipelines.validation.pictures.hashes import (
    MAX_FRAMES,
    choose_pictures,
    frames_to_compare,
)
from pipelines.validation.pictures.thumbnails import PictureReader
from pipelines.validation.shard_summary import Span, Spans, file_of
from pipelines.validation.sketches import Sketch
from tfrecords_schema.fake import fake_image
from tfrecords_schema.spec import ImageSpec


@settings(max_examples=100, deadline=None)
@given(
    seeds=st.lists(st.integers(0, 5), min_size=1, max_size=30),
    flips=st.lists(st.sets(st.integers(0, 63), max_size=6), min_size=30, max_size=30),
    bits=st.integers(0, 6),
)
def test_find_similar_matches_exhaustive_search(seeds, flips, bits):
    bases = [int(v) for v in np.random.default_rng(7).integers(0, 2**63, 6, np.uint64)]
    values = [bases[s] ^ sum(1 << f for f in flip) for s, flip in zip(seeds, flips, strict=False)]
    splits = [place % 3 for place in range(len(values))]
    found = find_similar(
        np.array(values, np.uint64),
        np.zeros((len(values), 8), np.uint8),
        np.array(splits, np.uint8),
        bits=bits,
    )
    expected = {
        (a, b)
        for a, b in itertools.combinations(range(len(values)), 2)
        if splits[a] != splits[b] and (values[a] ^ values[b]).bit_count() <= bits
    }
    assert {tuple(pair) for pair in found.tolist()} == expected


def test_find_similar_compares_brightness_of_quarters():
    hashes, splits = np.zeros(2, np.uint64), np.array([0, 1], np.uint8)
    tones = np.array([[40, 80, 60, 60, 60, 9, 9, 9]] * 2, np.uint8)
    assert len(find_similar(hashes, tones, splits, bits=0)) == 1
    tones[1] = [80 + 20, 160 + 20, 120 + 20, 120 + 20, 120, 200, 0, 7]
    assert len(find_similar(hashes, tones, splits, bits=0)) == 1  # brighter, and of more contrast
    tones[1] = [80, 40, 60, 60, 60, 9, 9, 9]
    assert len(find_similar(hashes, tones, splits, bits=0)) == 0


def scene(seed):
    return cv2.resize(np.random.default_rng(seed).integers(0, 256, (6, 9), np.uint8), (200, 150))


@given(
    seed=st.integers(0, 99),
    scale=st.sampled_from([1.0, 0.95, 0.9]),
    down=st.integers(-4, 4),
    gain=st.floats(0.6, 1.0),
)
@settings(max_examples=30)
def test_align_finds_cropped_scaled_and_darker_copies(seed, scale, down, gain):
    whole = scene(seed)
    rows, columns = round(130 * scale), round(180 * scale)
    one, part = whole[10:140, 10:190], whole[10 + down + 5 :, 15:][:rows, :columns]
    darker = np.round(part * gain + 20).clip(0, 255).astype(np.uint8)
    assert align(to_gray(one), to_gray(darker))[0] > 0.95
    assert align(to_gray(one), to_gray(scene(seed + 1000)))[0] < 0.9


def test_has_texture_is_false_for_smooth_pictures():
    across = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
    assert not has_texture(across)
    assert not has_texture(np.full((48, 64), 90, np.uint8))
    assert has_texture(to_gray(scene(3)))


def test_distance_of_same_other_and_flat_pictures():
    one, other = to_gray(scene(1)), to_gray(scene(2))
    assert distance(one, one, IN_PLACE) < 0.01
    assert distance(one, other, IN_PLACE) > 0.8
    black = np.zeros_like(one)
    for flat in (distance(one, black, IN_PLACE), distance(black, black, IN_PLACE)):
        assert 0 <= flat < 2


@pytest.mark.parametrize("quality", [50, 75])
def test_find_similar_finds_pictures_coded_again(quality):
    image = ImageSpec(height=90, width=160)
    originals = [fake_image(image, seed) for seed in range(30)]
    again = [
        cv2.imencode(
            ".jpg",
            cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR),
            [cv2.IMWRITE_JPEG_QUALITY, quality],
        )[1].tobytes()
        for data in originals
    ]
    both = PictureReader(image).read([*originals, *again])
    splits = np.repeat(np.array([0, 1], np.uint8), 30)
    found = find_similar(both.hashes, both.tones, splits, bits=4)
    pairs = {tuple(pair) for pair in found.tolist()}
    assert len(pairs & {(place, place + 30) for place in range(30)}) >= 27
    assert len(pairs) <= 45


def test_frames_to_compare_bounds_memory():
    for records in (1, 1000, 10**6, 10**9):
        counts = [frames_to_compare(rank << 44, records, 16) for rank in range(1 << 20)]
        assert 1 <= max(counts) <= 16
        assert records * sum(counts) / len(counts) <= MAX_FRAMES * 1.01


def test_choose_pictures_chooses_the_same_in_any_order():
    image = ImageSpec(height=24, width=32)
    frames = [fake_image(image, seed) for seed in range(8)]
    chosen = []
    for order in (frames, frames[::-1]):
        rows = choose_pictures(PictureReader(image).read(order), 0, 3)
        chosen.append(set(rows["hash"].tolist()))
    assert chosen[0] == chosen[1]
    assert len(chosen[0]) == 3


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=30, max_size=200), cut=st.integers(0, 200))
def test_sketch_merge_equals_sketch_of_all_values(values, cut):
    whole, one, other = Sketch(), Sketch(), Sketch()
    for rank, value in enumerate(values):
        whole.add([value], rank, "shard", rank)
        (one if rank < cut else other).add([value], rank, "shard", rank)
    other += one
    assert sorted(whole.sample) == sorted(other.sample)
    assert whole.outliers(3) == other.outliers(3)


@pytest.mark.parametrize("tail", ["normal", "uniform"])
def test_outliers_of_one_distribution_are_empty(tail):
    random = np.random.default_rng(0)
    values = random.normal(size=20_000) if tail == "normal" else random.uniform(size=20_000)
    sketch = Sketch()
    for rank, value in enumerate([*values.tolist(), math.nan, math.inf]):
        sketch.add([value], rank, "shard", rank)
    assert sketch.outliers(8) == []
    sketch.add([100.0], 1, "other", 5)
    ((extreme, scale),) = sketch.outliers(8)
    assert (extreme.shard, extreme.offset) == ("other", 5)
    assert scale > 50


def test_spans_merge_when_they_overlap():
    spans = Spans()
    for start, end in ((0, 10), (5, 15), (16, 20), (40, 50)):
        spans.add(1, start, end, start)
    assert spans.by_file == {1: [Span(0, 20, 0), Span(40, 50, 40)]}


@pytest.mark.parametrize(
    ("media_id", "name"),
    [(b"a/drive.mp4#t=0,8", b"a/drive.mp4"), (b"drive.mp4", b"drive.mp4"), (b"a#b", b"a#b")],
)
def test_file_of_drops_span_of_clip(media_id, name):
    assert file_of(media_id) == name


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1, 1], [2, 2], 0.0),
        ([1, 0], [0, 5], 1.0),
        ([1, 1], [1, 0], 0.311278),  # by hand: (1/2) (1/2 log2(2/3) + 1/2) ... + (1/2) log2(4/3)
        ([0, 0], [1, 0], 0.0),
    ],
)
def test_jensen_shannon(one, other, expected):
    assert jensen_shannon(one, other) == pytest.approx(expected, abs=1e-5)
    assert jensen_shannon(other, one) == pytest.approx(expected, abs=1e-5)


def test_expected_by_chance_is_rarely_exceeded():
    random = np.random.default_rng(0)
    shares = [0.5, 0.3, 0.1, 0.1]
    limit = expected_by_chance(4, 40, 25)
    draws = [
        jensen_shannon(random.multinomial(40, shares), random.multinomial(25, shares))
        for _ in range(2000)
    ]
    assert np.mean(np.array(draws) > limit) < 0.01
    assert limit < 0.25


def test_coarsen_keeps_sum():
    assert coarsen(list(range(24)), 8) == [3, 12, 21, 30, 39, 48, 57, 66]
    assert sum(coarsen([1] * 5, 8)) == 5
