import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trainer.config.mirrors import find_mirrored


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("turn_left", "turn_right"),
        ("TurnLeft", "TurnRight"),
        ("LEFT", "right"),
        ("turnleft", "turnright"),
        ("leftward", "rightward"),
        ("bright_left", "bright_right"),
        ("pushing hand away left to right", "pushing hand away right to left"),
        ("Turning Hand Clockwise", "Turning Hand Counterclockwise"),
        ("turn anti-clockwise", "turn clockwise"),
        ("spin_cw", "spin-ccw"),
        ("lane_l", "lane_r"),
        ("handL1", "handR1"),
    ],
)
def test_find_mirrored_pairs(first, second):
    assert find_mirrored(["wave", first, "stop", second]) == ([(first, second)], [])


@pytest.mark.parametrize(
    "name", ["turn_left", "RightTurn", "leftmost", "clockwise", "spin_CW", "left_and_right"]
)
def test_find_mirrored_without_partner(name):
    assert find_mirrored(["wave", name]) == ([], [name])


def test_find_mirrored_ignores_other_words():
    names = ["bright", "upright", "cleft", "leftover food", "righteous", "r", "a"]
    assert find_mirrored([*names, "clock", "walk", "run_2"]) == ([], [])


def test_find_mirrored_names_each_class_once():
    pairs, alone = find_mirrored(["turn left", "TurnLeft", "turn right", "left", "right"])
    assert pairs == [("turn left", "turn right"), ("left", "right")]
    assert alone == ["TurnLeft"]


WORDS = st.lists(
    st.sampled_from(["go", "left", "right", "cw", "ccw", "up"]), min_size=1, max_size=3
)


@example([["cw", "go", "left"], ["cw", "go", "right"]], "_")
@given(st.lists(WORDS, max_size=8, unique_by=tuple), st.sampled_from(["_", " ", "-"]))
def test_find_mirrored_names_all_classes_with_a_side(named, joint):
    other = {"left": "right", "right": "left", "cw": "ccw", "ccw": "cw"}
    names = {joint.join(words): joint.join(other.get(w, w) for w in words) for words in named}
    pairs, alone = find_mirrored(list(names))
    expected = {
        frozenset(pair) for pair in names.items() if pair[1] in names and len(set(pair)) == 2
    }
    assert {frozenset(pair) for pair in pairs} == expected
    assert set(alone) == {name for name, mirrored in names.items() if mirrored != name} - set(
        sum(pairs, ())
    )
