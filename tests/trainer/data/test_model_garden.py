"""Tests that TensorFlow Model Garden reads our records: its decoder and processing of video models."""

import importlib.util

import numpy as np
import pytest

from tests.processes import run_python
from tests.trainer.conftest import SPECS
from tfrecords_schema.fake import write_fake_dataset
from trainer.data.read_options import Outputs
from trainer.data.reader import read_sequences

# In a process of its own: Model Garden is installed without what it needs for other things than this, and a
# stand-in takes the place of each package that it does not find.
PROGRAM = """
import sys
from importlib.machinery import ModuleSpec
from unittest.mock import MagicMock

ABSENT = {"pandas", "pycocotools", "pydot_ng", "scipy", "tensorflow_datasets", "tensorflow_text"}

class StandIns:
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self, is_package=True) if name.split(".")[0] in ABSENT else None

    def create_module(self, spec):
        module = MagicMock(name=spec.name)
        module.__spec__, module.__path__ = spec, []
        return module

    def exec_module(self, module):
        pass

sys.meta_path.append(StandIns())

import numpy as np
import tensorflow as tf
from official.vision.dataloaders import video_input

shard, height, frames, output = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
decoder = video_input.Decoder()
images, labels = [], []
for record in tf.data.TFRecordDataset(shard):
    decoded = decoder.decode(record)
    images.append(video_input.process_image(
        decoded["image/encoded"],
        is_training=False,
        num_frames=frames,
        min_resize=height,
        crop_size=(height, 16),
    ))
    labels.append(video_input.process_label(decoded["clip/label/index"], True, 3))
np.savez(output, images=np.stack(images), labels=np.stack(labels))
"""


@pytest.mark.slow
def test_model_garden_reads_equal_pixels_and_labels(tmp_path):
    if importlib.util.find_spec("official") is None:
        pytest.skip("tf-models-official is not installed: `make model-garden` installs it")
    spec = SPECS["classification"]
    info = write_fake_dataset(tmp_path / "data", spec, {"train": 5}, shards=1)
    (shard,) = info.splits["train"].shards
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    arguments = [tmp_path / "data" / shard.file, spec.image.height, spec.num_frames]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    run = run_python(program, *arguments, tmp_path / "seen.npz", timeout=600, environment=quiet)
    assert run.returncode == 0, run.stderr[-2000:]
    seen = np.load(tmp_path / "seen.npz")
    (features, labels), *_ = read_sequences(
        tmp_path / "data", "train", batch_size=5, outputs=Outputs(image_dtype="float32")
    )
    assert seen["images"].shape == features["image"].shape
    # It decodes with the fast transform, which is a level or two off on average.
    difference = np.abs(seen["images"] - features["image"].numpy()) * 255
    assert difference.mean() < 3
    assert difference.max() < 24
    np.testing.assert_array_equal(seen["labels"].argmax(axis=-1).reshape(-1), labels)
