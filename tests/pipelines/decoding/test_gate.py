"""The gate against an oracle that knows, when all have come, which may be predicted from damaged frames."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from pipelines.decoding.damage import FrameGate


@st.composite
def streams(draw):
    """Events in the order a decoder gives them: index, whether a keyframe, and what became of it.

    Groups of a keyframe and some others; within a group, frames are shown up to four places from where
    they were decoded.
    """
    events, index = [], 0
    for _ in range(draw(st.integers(1, 4))):
        size = draw(st.integers(1, 8))
        shown = sorted(range(size), key=lambda i: (i + draw(st.integers(0, 4))) if i else -1)
        for place in shown:
            fate = draw(st.sampled_from(["whole"] * 6 + ["corrupt", "lost", "hidden"]))
            events.append((index + place, place == 0, fate))
        index += size
    return events


def pass_through(events):
    """Indices of the frames that pass, and how many are missing before each."""
    gate, out = FrameGate(), []
    for index, is_key, fate in events:
        if fate == "hidden":
            continue
        if fate == "whole":
            gate.put(index, SimpleNamespace(index=index), is_key=is_key)
        else:
            gate.lose(index)
        out += gate.ready()
    return [(image.index, missing) for image, missing in [*out, *gate.rest()]]


@given(streams())
def test_ready_frames_follow_undamaged_keyframe(events):
    keys = [index for index, is_key, _ in events if is_key]
    damaged = {index for index, _, fate in events if fate in ("corrupt", "lost")}
    for index, _ in pass_through(events):
        key = max((k for k in keys if k <= index), default=0)
        assert not any(key <= d <= index for d in damaged)


@given(streams())
def test_ready_frames_keep_order_and_count_missing(events):
    passed = pass_through(events)
    came = [index for index, _, fate in events if fate != "hidden"]
    places = [came.index(index) for index, _ in passed]
    assert places == sorted(places)
    expected = [0, *(place + 1 for place in places)]
    for (_, missing), place, next_place in zip(passed, places, expected, strict=False):
        assert missing == place - next_place


@given(streams())
def test_all_frames_pass_without_damage(events):
    events = [(index, is_key, "whole") for index, is_key, _ in events]
    assert pass_through(events) == [(index, 0) for index, _, _ in events]


def test_frame_waits_for_its_references():
    gate = FrameGate()
    gate.put(0, "I0", is_key=True)
    assert list(gate.ready()) == [("I0", 0)]
    gate.put(2, "B2", is_key=False)
    assert list(gate.ready()) == []
    gate.put(1, "P1", is_key=False)
    assert list(gate.ready()) == [("B2", 0), ("P1", 0)]


def test_frame_does_not_wait_forever():
    gate, passed = FrameGate(), []
    gate.put(0, 0, is_key=True)
    for index in range(2, 30):
        gate.put(index, index, is_key=False)
        passed += gate.ready()
    assert len(passed) == 29
