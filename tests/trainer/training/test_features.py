import keras
import numpy as np
import pytest

from tests.trainer.conftest import IMAGE, fit_run, history, write_brightness_dataset
from tfrecords_schema.info import DatasetInfo
from trainer.config.run_folder import RunFolder
from trainer.config.training import ModelConfig, TrainingConfig
from trainer.data.parsed_records import IMAGE as FRAMES
from trainer.data.parsed_records import VALID_FRAMES
from trainer.data.read_options import Outputs, Shuffle
from trainer.data.reader import read_sequences
from trainer.models.backbones import build_frame_network
from trainer.models.export import load_model
from trainer.models.network import FROZEN_FEATURES, build_model
from trainer.training import feeds
from trainer.training.features import computed_features, split_at_features

SMALL = {"filters": (4, 8), "batch_norm": True, "rnn_units": (6,), "dense_units": (4,)}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    write_brightness_dataset(directory, "regression", {"train": 37, "validation": 10, "test": 6})
    return directory


@pytest.fixture(scope="module")
def pretrained(data, tmp_path_factory):
    """Options of a small backbone that starts from a file, with moving averages unlike the data's."""
    keras.utils.set_random_seed(7)
    network = build_frame_network(DatasetInfo.load(data).spec.image, ModelConfig(**SMALL)).trained
    for weight in network.weights:
        weight.assign(weight + np.random.default_rng(0).uniform(0, 0.1, weight.shape))
    file = tmp_path_factory.mktemp("weights") / "small.weights.h5"
    network.layers[0].save_weights(file)
    return {**SMALL, "weights": str(file)}


@pytest.mark.parametrize(
    "layers",
    [0, pytest.param(4, marks=pytest.mark.slow)],
    ids=["all frozen", "last two trained"],
)
def test_fit_with_cached_features_has_equal_losses(layers, data, pretrained, tmp_path, caplog):
    runs = {}
    for caching in ("auto", "off"):
        config = TrainingConfig(
            epochs=3,
            batch_size=8,
            cache_features=caching,
            model=ModelConfig(**pretrained, trainable_layers=layers),
        )
        runs[caching] = tmp_path / caching
        caplog.clear()
        with caplog.at_level("INFO", logger="trainer"):
            fit_run(data, RunFolder(runs[caching]), config)
        said = [line for line in caplog.text.splitlines() if "frozen features: " in line]
        assert len(said) == 1
        assert ("computed once, in " in said[0]) == (caching == "auto")
        assert not (runs[caching] / ".features").exists()
    cached, plain = (history(run) for run in runs.values())
    assert len(cached) == 3
    for mine, theirs in zip(cached, plain, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)
    x = {"image": np.full((1, 3, *IMAGE.shape), 99, np.uint8), "valid_frames": np.array([3])}
    mine, theirs = (load_model(run / "model.keras").predict(x, verbose=0) for run in runs.values())
    assert mine == pytest.approx(theirs, rel=1e-4)


def test_cached_split_gives_the_batches_of_the_reader(data, pretrained, tmp_path):
    keras.utils.set_random_seed(0)
    model = build_model(DatasetInfo.load(data), ModelConfig(**pretrained))
    encoder, head = split_at_features(model)
    reads = {"train": {"batch_size": 8, "outputs": Outputs(sample_weights=True)}}
    folder = tmp_path / ".features"
    (folder / "of a run that was killed").mkdir(parents=True)
    order = Shuffle(buffer=9, first_epoch=2)
    with computed_features(encoder, data, reads, folder) as splits:
        assert {path.name for path in folder.iterdir()} == {"train.npy"}
        cached = splits["train"].endless_epochs(8, 5, order)
        read = read_sequences(data, "train", **reads["train"], shuffle=order, seed=5)
        for (mine, *labels), (theirs, *expected) in zip(
            cached.take(10), read.take(10), strict=True
        ):
            frames = {name: theirs[name] for name in (FRAMES, VALID_FRAMES)}
            np.testing.assert_allclose(mine[FROZEN_FEATURES], encoder(frames), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(head(mine), model(theirs), rtol=1e-4)
            for one, other in zip(labels, expected, strict=True):
                np.testing.assert_array_equal(one, other)
        stored = [labels[0] for _, *labels in splits["train"].batches(8)]
        expected = [labels for _, labels, _ in read_sequences(data, "train", **reads["train"])]
        np.testing.assert_array_equal(np.concatenate(stored), np.concatenate(expected))
    assert not folder.exists()


def test_computed_features_are_removed_after_failure(data, pretrained, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "fit", fail)
    config = TrainingConfig(epochs=2, model=ModelConfig(**pretrained))
    with pytest.raises(KeyboardInterrupt):
        fit_run(data, RunFolder(tmp_path / "run"), config)
    assert not (tmp_path / "run" / ".features").exists()


def test_features_are_not_cached_on_a_full_disk(data, pretrained, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(feeds, "_MAX_DISK_SHARE", 0.0)
    config = TrainingConfig(epochs=2, batch_size=32, model=ModelConfig(**pretrained))
    with caplog.at_level("INFO", logger="trainer"):
        fit_run(data, RunFolder(tmp_path / "run"), config)
    assert "computed in every epoch, for want of " in caplog.text
