"""Tests of endless epochs that start within an epoch, as in a resumed run."""

import pytest

from tests.trainer.conftest import SPECS
from tests.trainer.data.test_reader_options import as_numpy, assert_same
from tfrecords_schema.fake import write_fake_dataset
from trainer.config.clips import Clips
from trainer.data.read_options import Shuffle
from trainer.data.reader import read_sequences


@pytest.mark.parametrize(
    "options",
    [{}, {"clips": Clips(num_frames=2)}, {"balance_classes": True}],
    ids=["", "clips", "balanced"],
)
def test_first_step_skips_the_steps_before_it(options, tmp_path):
    write_fake_dataset(tmp_path, SPECS["classification"], {"train": 11}, shards=3)
    balance = options.pop("balance_classes", False)

    def read(first_step, count):
        order = Shuffle(first_epoch=1, first_step=first_step, balance_classes=balance)
        dataset = read_sequences(tmp_path, "train", batch_size=2, shuffle=order, seed=4, **options)
        return as_numpy(dataset.take(count))

    assert_same(read(4, 5), read(0, 9)[4:])
