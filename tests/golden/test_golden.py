"""Datasets, the pixels that are read from them, and seeded losses stay as ``golden.json`` has them.

A change that is meant to change them renews the file: ``python tests/golden/renew.py``.
"""

import json

import pytest

from tests.golden import measure

GOLDEN = json.loads(measure.RECORD.read_text())


def require_versions(now, recorded, what):
    """Skips what other versions of the libraries rightly change."""
    if now != recorded:
        pytest.skip(f"{what} were recorded with {recorded}, and here is {now}")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    return measure.Workshop(tmp_path_factory.mktemp("golden"))


def test_every_dataset_is_recorded():
    assert list(GOLDEN["contents"]) == list(GOLDEN["bytes"]) == list(measure.DATASETS)
    assert list(GOLDEN["reading"]) == list(measure.READ)
    assert list(GOLDEN["losses"]) == list(measure.TRAIN)


@pytest.mark.parametrize("name", measure.DATASETS)
def test_contents(workshop, name):
    """Holds with every version of the libraries: encoded images are left out."""
    assert measure.measure_contents(workshop.dataset(name)) == GOLDEN["contents"][name]


@pytest.mark.parametrize("name", measure.DATASETS)
def test_bytes(workshop, name):
    require_versions(measure.build_versions(), GOLDEN["build_versions"], "bytes of shards")
    assert measure.measure_bytes(workshop.dataset(name)) == GOLDEN["bytes"][name]


@pytest.mark.parametrize("name", measure.READ)
def test_reading(workshop, name):
    require_versions(measure.train_versions(), GOLDEN["train_versions"], "pixels")
    assert measure.measure_reading(workshop.dataset(name)) == GOLDEN["reading"][name]


@pytest.mark.slow
@pytest.mark.parametrize("name", measure.TRAIN)
def test_losses(workshop, name):
    require_versions(measure.train_versions(), GOLDEN["train_versions"], "losses")
    losses = measure.measure_losses(workshop.trained(name))
    recorded = GOLDEN["losses"][name]
    assert losses == [pytest.approx(epoch, rel=1e-4) for epoch in recorded]


@pytest.mark.slow
def test_predictions(workshop):
    require_versions(measure.train_versions(), GOLDEN["train_versions"], "predictions")
    lines = workshop.predictions()
    recorded = GOLDEN["predictions"]
    assert len(lines) == len(recorded)
    for line, expected in zip(lines, recorded, strict=True):
        assert line.pop("probabilities") == pytest.approx(expected["probabilities"], abs=1e-4)
        assert line == {key: expected[key] for key in line}
