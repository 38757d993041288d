"""Writes random series of digits, which a network learns to echo: at once, after two steps, or all of them.

    python examples/echo.py --output series --files 30 --rows 200

Each file is a table: the columns ``x0`` to ``x9`` are 1 for the digit of the row and 0 for the others,
``now`` is the digit, and ``before`` the digit of two rows earlier (none in the first two rows).
docs/tutorials.md has the commands that train on the series: one-to-one, many-to-one and many-to-many.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

DIGITS = 10
LAG = 2


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the files."""
    parser = argparse.ArgumentParser(description="Writes random series of digits to echo.")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder of the files"
    )
    parser.add_argument("--files", type=int, default=30, help="number of files (default: 30)")
    parser.add_argument("--rows", type=int, default=200, help="digits per file (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the digits (default: 0)")
    options = parser.parse_args(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    for index in range(options.files):
        digits = np.random.default_rng((options.seed, index)).integers(DIGITS, size=options.rows)
        path = options.output / f"{index:03d}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows_of(digits.tolist()))


def rows_of(digits: Sequence[int]) -> Iterator[list[object]]:
    """Yields the header and a row for each digit."""
    yield [*(f"x{i}" for i in range(DIGITS)), "now", "before"]
    for i, digit in enumerate(digits):
        before = digits[i - LAG] if i >= LAG else ""
        yield [*(int(digit == value) for value in range(DIGITS)), digit, before]


if __name__ == "__main__":
    main()
