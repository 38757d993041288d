"""Natural order and numbering of frames, against obvious oracles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.images.frame_names import (
    FrameSequence,
    find_duplicate,
    frame_key,
    is_image,
    number_frames,
    order_frames,
)

names = st.text(st.sampled_from("ab_-.019\u0663 "), min_size=1, max_size=12)
prefixes = st.sampled_from(["", "frame_", "cam1-", "2024.", "a b ", "x\u0663"])


def write(numbers, *, prefix="", digits=3, suffix="", extension=".jpg"):
    return [f"{prefix}{number:0{digits}d}{suffix}{extension}" for number in numbers]


class TestOrder:
    def test_frame_key_compares_numbers(self) -> None:
        written = ["10.jpg", "2.jpg", "a10b2.png", "a9b10.png", "a9b9.png", "1.jpg"]
        expected = ["1.jpg", "2.jpg", "10.jpg", "a9b9.png", "a9b10.png", "a10b2.png"]
        assert sorted(written, key=frame_key) == expected
        # A stem goes before the longer one that begins with it, whatever the extension is.
        assert sorted(["a1.jpg", "a.jpg"], key=frame_key) == ["a.jpg", "a1.jpg"]

    @given(prefixes, st.sets(st.integers(0, 10**30), min_size=1, max_size=8), st.randoms())
    def test_order_follows_numbers(self, prefix, numbers, random) -> None:
        shuffled = list(numbers)
        random.shuffle(shuffled)
        ordered = sorted(write(shuffled, prefix=prefix, digits=1), key=frame_key)
        assert ordered == write(sorted(numbers), prefix=prefix, digits=1)

    @given(st.lists(names, unique=True, max_size=8), st.randoms())
    def test_order_is_total(self, some, random) -> None:
        expected = sorted(some, key=frame_key)
        random.shuffle(some)
        assert sorted(some, key=frame_key) == expected

    @given(st.lists(names, unique=True, max_size=6))
    def test_duplicates_differ_only_in_extension_or_zeros(self, some) -> None:
        found = find_duplicate(some)
        if found is not None:
            assert found[0] != found[1]
            assert set(found) <= set(some)
        stems = [name.rsplit(".", 1)[0].replace("0", "") for name in some]
        if len(set(stems)) == len(stems) and all("." not in stem for stem in stems):
            assert found is None

    def test_find_duplicate(self) -> None:
        assert find_duplicate(["002.png", "001.jpg", "001.png"]) == ("001.jpg", "001.png")
        assert find_duplicate(["a_1.jpg", "a_01.jpg"]) == ("a_01.jpg", "a_1.jpg")
        assert find_duplicate(["1.jpg", "10.jpg", "100.jpg"]) is None

    @pytest.mark.parametrize("name", ["1.jpg", "A.JPEG", "a.b.Png", "x.bmp", "x.webp", "x.TIFF"])
    def test_is_image_accepts_image_names(self, name) -> None:
        assert is_image(name)

    @pytest.mark.parametrize("name", ["1", "jpg", ".jpg", ".1.jpg", "1.jpg.txt", "1.gif"])
    def test_is_image_rejects_other_names(self, name) -> None:
        assert not is_image(name)


class TestNumbering:
    @given(
        prefixes,
        st.sampled_from(["", "_left", "x"]),
        st.integers(0, 10**20),
        st.integers(1, 1000),
        st.lists(st.integers(1, 5), max_size=20),
        st.integers(1, 25),
    )
    def test_number_frames_recovers_numbering(
        self, prefix, suffix, first, step, jumps, digits
    ) -> None:
        # Slots are made first; the numbering is one when more than half of the jumps go one slot on.
        slots = [0]
        for jump in jumps:
            slots.append(slots[-1] + jump)
        numbers = [first + step * slot for slot in slots]
        written = write(numbers, prefix=prefix, suffix=suffix, digits=digits)
        found = number_frames(written)
        if 2 * jumps.count(1) > len(jumps) or not jumps:
            assert found == tuple(slots)
            assert order_frames(written[::-1]) == FrameSequence(tuple(written), tuple(slots), True)
        elif found is not None:
            # Another jump is the most common: that is the step.
            (common,) = {jump for jump in jumps if 2 * jumps.count(jump) > len(jumps)}
            assert found == tuple(slot // common for slot in slots)

    @given(st.lists(names, unique=True, max_size=8))
    def test_number_frames_slots_grow_from_zero(self, some) -> None:
        sequence = order_frames(some)
        assert sorted(some) == sorted(sequence.names)
        assert list(sequence.slots[:1]) == [0][: len(some)]
        assert all(a < b for a, b in zip(sequence.slots, sequence.slots[1:], strict=False))

    @pytest.mark.parametrize(
        "written",
        [
            [],
            ["a.jpg", "b.jpg"],
            ["1.jpg", "2.jpg", "mask.jpg"],
            ["a1.jpg", "a2.jpg", "b3.jpg"],
            ["1.jpg", "2.jpg", "3b.jpg"],
            write([100, 149, 201, 250, 299]),  # times
            write([1, 2, 4]),  # no step that more than half share
            write([0, 5, 10, 13]),  # no multiple of the step
            write([1, 2, 3, 4, 10**9]),  # no recording has such a hole
            ["1.jpg", "01.jpg", "001.jpg"],
            [f"{'9' * 5000}.jpg", "1.jpg"],
            ["\u0661.jpg", "\u0662.jpg"],  # digits, but not ASCII's
        ],
    )
    def test_number_frames_rejects_other_names(self, written) -> None:
        assert number_frames(written) is None
        sequence = order_frames(written)
        assert sequence.slots == tuple(range(len(written)))
        assert not sequence.numbered
        assert sequence.holes() == []

    def test_number_frames_of_one_frame(self) -> None:
        assert order_frames(["7.jpg"]) == FrameSequence(("7.jpg",), (0,), True)


class TestHoles:
    def test_describe_hole_uses_style_of_file_names(self) -> None:
        sequence = order_frames(write([1, 2, 3, 5, 6, 7, 10, 11, 12]))
        assert sequence.slots == (0, 1, 2, 4, 5, 6, 9, 10, 11)
        assert sequence.total_slots == 12
        assert sequence.holes() == [3, 6]
        assert sequence.describe_hole(3) == "frame 004 is missing between 003.jpg and 005.jpg"
        assert (
            sequence.describe_hole(6) == "frames 008 to 009 are missing between 007.jpg and 010.jpg"
        )
        assert sequence.runs() == [range(3), range(4, 7), range(9, 12)]

    def test_describe_hole_uses_step(self) -> None:
        sequence = order_frames(["x5.png", "x10.png", "x15.png", "x20.png", "x35.png"])
        assert sequence.slots == (0, 1, 2, 3, 6)
        assert (
            sequence.describe_hole(4) == "frames 25 to 30 are missing between x20.png and x35.png"
        )

    @given(st.sets(st.integers(0, 30), min_size=1))
    def test_runs_are_slots_without_holes(self, slots) -> None:
        ordered = tuple(sorted(slots))
        shifted = tuple(slot - ordered[0] for slot in ordered)
        sequence = FrameSequence(tuple(write(ordered)), shifted, True)
        assert [slot for run in sequence.runs() for slot in run] == list(shifted)
        assert len(sequence.runs()) == len(sequence.holes()) + 1
        for index in sequence.holes():
            assert shifted[index] - 1 not in shifted

    def test_no_frames_have_no_holes(self) -> None:
        assert order_frames([]).runs() == [range(0)]
        assert order_frames([]).total_slots == 0
