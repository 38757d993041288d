"""An endless reading that begins within an epoch, as that of a run which is resumed."""

import pytest

from tests.trainer.conftest import SPECS
from tests.trainer.data.test_reader_options import as_numpy, assert_same
from tfrecords_schema.fake import write_fake_dataset
from trainer.data.reader import Clips, read_sequences


@pytest.mark.parametrize(
    "options",
    [{}, {"clips": Clips(num_frames=2)}, {"balance_classes": True}],
    ids=["", "clips", "balanced"],
)
def test_an_endless_reading_begins_at_any_step(options, tmp_path):
    write_fake_dataset(tmp_path, SPECS["classification"], {"train": 11}, shards=3)
    read = {"batch_size": 2, "shuffle": True, "seed": 4, "first_epoch": 1, **options}
    whole = as_numpy(read_sequences(tmp_path, "train", **read).take(9))
    begun = as_numpy(read_sequences(tmp_path, "train", first_step=4, **read).take(5))
    assert_same(begun, whole[4:])


def test_a_step_belongs_to_an_epoch(tmp_path):
    write_fake_dataset(tmp_path, SPECS["classification"], {"train": 1})
    with pytest.raises(ValueError, match="first_step goes with first_epoch"):
        read_sequences(tmp_path, "train", batch_size=1, first_step=2)
