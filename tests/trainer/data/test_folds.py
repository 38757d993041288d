"""Folds, against a slow reading of all records."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.conftest import SPECS, write_grouped
from trainer.data.cached_frames import cached_frames
from trainer.data.folds import Pool, deal_folds, read_pool
from trainer.data.labels import read_labels
from trainer.data.read_options import Loading, Outputs, Shuffle
from trainer.data.reader import read_sequences
from trainer.errors import ConfigError
from trainer.evaluation.sequence_strips import read_filmstrips

GROUPS = {"train": [0, 1, 2, 0, 1, 2, 3, 3, 0, 0, 1], "validation": [4, 4, 5], "test": [6, 6]}


@pytest.fixture(scope="module", params=["multilabel", "regression by frame"])
def dataset(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    return directory, *write_grouped(directory, SPECS[request.param], GROUPS)


def ids(directory, split, **options):
    read = read_sequences(directory, split, batch_size=4, outputs=Outputs(metadata=True), **options)
    return [own.decode() for features, _ in read for own in features["id"].numpy()]


@pytest.mark.slow
def test_select_reads_the_records_of_its_groups(dataset):
    directory, info, records = dataset
    pool = read_pool(directory)
    stored = ids(directory, "train") + ids(directory, "validation")
    group_of = {own.id: own.group_id for split in records.values() for own in split}
    of = np.array([group_of[own] for own in stored])
    assert [len(set(of[pool.groups == group])) for group in set(pool.groups)] == [1] * 6
    held = np.isin(of, ["g1", "g4"])
    selection = pool.select({"train": ~held, "fold": held})
    for split, mask in (("train", ~held), ("fold", held)):
        expected = [own for own, kept in zip(stored, mask, strict=True) if kept]
        assert ids(selection, split) == expected
        shuffled = ids(selection, split, shuffle=Shuffle(), seed=1)
        assert sorted(shuffled) == sorted(expected)
        cached = Loading(cache=cached_frames(selection, split))
        assert ids(selection, split, loading=cached) == expected
        assert read_filmstrips(selection, split, [1]).keys() == {1}
        own, labels = selection.info.splits[split], read_labels(selection, split)
        assert (own.num_records, own.groups) == (mask.sum(), len(set(of[mask])))
        values = labels.values[labels.valid]
        if info.spec.label.task == "regression":
            assert [t.mean for t in own.targets] == pytest.approx(values.mean(axis=0, dtype=float))
            assert [t.count for t in own.targets] == [len(values)] * 2
        elif info.spec.label.task == "multilabel":
            assert own.label_counts == tuple(values.sum(axis=0))
        else:
            assert own.label_counts == tuple(np.bincount(values, minlength=3))
    assert ids(selection, "test") == ids(directory, "test")


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), min_size=1), st.integers(2, 5))
def test_deal_folds_keeps_groups_whole_and_fills_all(pairs, folds):
    _, groups = np.unique([group for group, _ in pairs], return_inverse=True)
    pool = Pool(
        directory="data",
        info=SimpleNamespace(spec=SPECS["classification"]),
        labels=np.array([label for _, label in pairs]),
        weights=np.ones(len(pairs)),
        groups=groups,
        sources=groups,
    )
    if groups.max() + 1 < folds:
        with pytest.raises(ConfigError, match=f"is {groups.max() + 1}; got {folds}"):
            deal_folds(pool, folds, 0)
        return
    fold_of = deal_folds(pool, folds, 0)
    assert set(fold_of) == set(range(folds))
    assert all(len(set(fold_of[groups == group])) == 1 for group in set(groups))
    assert (fold_of == deal_folds(pool, folds, 0)).all()


def test_deal_folds_spreads_classes():
    labels = np.array([0] * 12 + [1] * 6).repeat(2)
    groups = np.arange(18).repeat(2)
    info = SimpleNamespace(spec=SPECS["classification"])
    pool = Pool(
        *(),
        directory="",
        info=info,
        labels=labels,
        weights=labels + 1,
        groups=groups,
        sources=groups,
    )
    fold_of = deal_folds(pool, 3, 0)
    assert [np.bincount(labels[fold_of == fold]).tolist() for fold in range(3)] == [[8, 4]] * 3
