import pytest

from tfrecords_schema.split_names import split_of_file, standard_split


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


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00008.tfrecord", "train"),
        ("training-00000-of-00008", "train"),
        ("validation-00001-of-00002.tfrecord", "validation"),
        ("kinetics_val.tfrecord-00001-of-00002", "validation"),
        ("ucf101-test@4.tfrecords", "test"),
        ("testing_3.tfrecord", "test"),
        ("hmdbTrain.tfrecord", "train"),
        ("HMDB51Test.tfrecord", "test"),
        ("DEV-part-0.tfrec", "validation"),
        ("eval.tfrecord", "validation"),
        ("train01.tfrecord", "train"),
        ("test_drive_train-00000-of-00002", "train"),
        ("trainings_of_dogs-val-00000-of-00002", "validation"),
        ("train_run-00000-of-00002", "train"),
        ("part-00000.tfrecord", None),
        ("latest-00000.tfrecord", None),
        ("contest.tfrecord", None),
        ("trainval.tfrecord", None),
    ],
)
def test_split_of_file_names(name, split) -> None:
    assert split_of_file(name) == split


def test_split_of_file_refuses_several_splits() -> None:
    with pytest.raises(
        ValueError, match=r"train_test_mix-0.tfrecord: expected .* found test and train"
    ):
        split_of_file("train_test_mix-0.tfrecord")
