import pytest

from tfrecords_schema.split_names import standard_split


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", "train Train TRAINING training"),
        ("validation", "val Valid validation dev"),
        ("test", "test Testing"),
    ],
)
def test_standard_split_knows_usual_names(split, names):
    assert {standard_split(name) for name in names.split()} == {split}


@pytest.mark.parametrize("name", ["", "tests", "train1", "evaluation", "trainval", "run"])
def test_standard_split_leaves_other_names(name):
    assert standard_split(name) is None
