"""Compares the mixing of batches with that of a perfect shuffle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainer import Outputs, read_sequences


def measure_mixing(data: Path, split: str, batch_size: int) -> dict[str, float]:
    """Compares how far the sources and classes of batches deviate from the whole with perfect shuffles."""
    dataset = read_sequences(
        data,
        split,
        batch_size=batch_size,
        shuffle=True,
        seed=0,
        outputs=Outputs(metadata=True),
    )
    sources, classes = [], []
    for features, *labels in dataset:
        sources.append(features["source"].numpy())
        if labels and labels[0].shape.rank == 1:
            classes.append(labels[0].numpy())
    found = {}
    for name, batches in (("sources", sources), ("classes", classes)):
        if not batches:
            continue
        names = np.unique(np.concatenate(batches), return_inverse=True)[1]
        own = spread(names, batch_size)
        random = np.random.default_rng(0)
        perfect = np.mean([spread(random.permutation(names), batch_size) for _ in range(30)])
        found[name] = own / perfect if perfect else 1.0
        print(
            f"mixing of {name}: batches deviate from the whole {found[name]:.2f} times as much as perfectly "
            "shuffled ones"
        )
    return found


def spread(names: np.ndarray, batch_size: int) -> float:
    """Returns the mean over batches of half the sum of absolute differences of shares from the whole."""
    whole = np.bincount(names) / len(names)
    batches = [names[i : i + batch_size] for i in range(0, len(names), batch_size)]
    shares = [np.bincount(batch, minlength=len(whole)) / len(batch) for batch in batches]
    return float(np.mean([np.abs(own - whole).sum() / 2 for own in shares]))
