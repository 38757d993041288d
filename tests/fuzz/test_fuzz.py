"""Runs the targets of `make fuzz` on a few inputs: seeds and damaged seeds."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path

import pytest

HERE = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("fuzz_targets", HERE / "targets.py")
targets = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(targets)


def damage(seed: bytes, chance: random.Random) -> bytes:
    data = bytearray(seed)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(data) + 1)
        data[place : place + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
    return bytes(data)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_target_accepts_or_refuses_seeds_and_damaged_seeds(name) -> None:
    target, chance = targets.TARGETS[name], random.Random(name)
    for seed in target.seeds:
        target.read(seed)
        for _ in range(min(40, 600 // len(target.seeds))):
            target.read(damage(seed, chance))
