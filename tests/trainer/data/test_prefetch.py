"""Tests of prefetching to a device; a second CPU device stands in for a GPU."""

from tests.processes import run_python
from tests.trainer.conftest import SPECS
from tfrecords_schema.fake import write_fake_dataset

SCRIPT = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
other = tf.config.list_logical_devices("CPU")[1]
found = tf.config.list_logical_devices
tf.config.list_logical_devices = lambda kind=None: [other] if kind == "GPU" else found(kind)
from trainer.data.read_options import Shuffle
from trainer.data.reader import read_sequences
read = {"batch_size": 2, "shuffle": Shuffle(first_epoch=0), "seed": 0}
dataset = read_sequences(sys.argv[1], "train", **read)
step = tf.function(lambda iterator: next(iterator))  # as Keras takes its batches
for features, labels in (next(iter(dataset)), step(iter(dataset))):
    for name, values in (*features.items(), ("labels", labels)):
        print(name, tf.DeviceSpec.from_string(values.backing_device).device_index)
tf.config.list_logical_devices = found
host = read_sequences(sys.argv[1], "train", batch_size=2)
print("without", tf.DeviceSpec.from_string(next(iter(host))[1].backing_device).device_index)
"""


def test_batches_are_prefetched_to_the_device(tmp_path):
    write_fake_dataset(tmp_path, SPECS["classification"], {"train": 8})
    process = run_python("-c", SCRIPT, tmp_path)
    assert process.returncode == 0, process.stderr[-3000:]
    names = ("image", "labels", "valid_frames")
    assert sorted(process.stdout.splitlines()) == sorted(
        [*(f"{n} 1" for n in names * 2), "without 0"]
    )
