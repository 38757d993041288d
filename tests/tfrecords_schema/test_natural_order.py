import random

from hypothesis import given
from hypothesis import strategies as st

from tfrecords_schema.natural_order import natural_key, natural_parts


def test_natural_key_orders_numbers_by_value_before_other_names():
    expected = ["-3", "-1", "0", "0.5", "2", "10", "10.25", "a", "clip2", "clip10", "clip10a"]
    shuffled = random.Random(1).sample(expected, len(expected))
    assert sorted(shuffled, key=natural_key) == expected


def test_natural_key_does_not_take_other_notations_for_numbers():
    # Python's float() reads all of these.
    names = ["nan", "inf", "1e3", "1_0", "\u0663"]
    assert all(natural_key(name)[0] for name in names)


@given(st.lists(st.integers(-(10**30), 10**30), unique=True))
def test_natural_key_agrees_with_int(numbers):
    assert [int(name) for name in sorted(map(str, numbers), key=natural_key)] == sorted(numbers)


@given(st.lists(st.text(alphabet="ab019-.", max_size=6), unique=True), st.randoms())
def test_natural_key_does_not_depend_on_the_order_of_names(names, generator):
    shuffled = generator.sample(names, len(names))
    assert sorted(names, key=natural_key) == sorted(shuffled, key=natural_key)


def test_natural_parts_ignores_leading_zeros():
    assert natural_parts("g01c2") == natural_parts("g1c02") != natural_parts("g10c2")
