"""Damaged ``.keras`` files end in one clear error."""

import io
import json
import os
import random
import zipfile

import keras
import pytest

from tests.hostile import HOSTILE, places, replaced
from trainer.errors import TrainerError
from trainer.models.export import load_model


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    frames = keras.Input((4, 6), name="image")
    keras.Model(frames, keras.layers.Dense(2)(keras.layers.LSTM(3)(frames))).save(path)
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def write(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def test_load_model_refuses_damaged_files(members, tmp_path):
    path = write(tmp_path / "model.keras", members)
    assert load_model(path).output_shape == (None, 2)
    config = json.loads(members["config.json"])
    cases = [(p, v) for p in places(config) if p for v in HOSTILE]
    forged = [
        {**members, "config.json": json.dumps(replaced(config, *case)).encode()}
        for case in random.Random(0).sample(cases, 60)
    ]
    forged += [{**members, "config.json": b"[" * 10**5}, {**members, "model.weights.h5": b"x"}, {}]
    whole, errors = path.read_bytes(), []
    files = [whole[: len(whole) * i // 10] for i in range(10)]
    for case in forged:
        buffer = io.BytesIO()
        write(buffer, case)
        files.append(buffer.getvalue())
    for data in files:
        path.write_bytes(data)
        try:
            load_model(path)
        except TrainerError as error:
            errors.append(str(error))
    assert len(errors) > 20
    assert all(error.startswith(f"{path} cannot be loaded (") for error in errors)
    assert max(map(len, errors)) < 1000


@pytest.mark.parametrize("units", [20_000, 2 * 10**9])
def test_load_model_takes_no_memory_for_weights_that_the_file_does_not_hold(
    units, members, tmp_path, monkeypatch
):
    config = json.loads(members["config.json"])
    for place in [p for p in places(config) if p[-1:] == ("units",)]:
        config = replaced(config, place, units)
    path = tmp_path / "model.keras"
    write(path, {**members, "config.json": json.dumps(config).encode()})
    monkeypatch.setattr(keras.initializers.GlorotUniform, "__call__", None)
    with pytest.raises(TrainerError, match=r"its layers have more weights than the \d+ bytes of"):
        load_model(path)


def test_load_model_unpacks_no_bombs(members, tmp_path):
    members = {**members, "model.weights.h5": bytes(10**8)}
    path = write(tmp_path / "model.keras", members, zipfile.ZIP_DEFLATED)
    with pytest.raises(TrainerError, match="would unpack to more bytes than it has"):
        load_model(path)


def test_load_model_waits_for_no_pipe(tmp_path):
    os.mkfifo(tmp_path / "model.keras")
    with pytest.raises(TrainerError, match="not a regular file"):
        load_model(tmp_path / "model.keras")
