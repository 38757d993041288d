"""Renews ``golden.json`` and prints what changed: ``python tests/golden/renew.py [--dry_run]``."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.golden import measure


def main() -> int:
    """Measures everything anew; returns 1 when something changed in a dry run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry_run", action="store_true", help="only print what would change")
    parser.add_argument("--workers", type=int, default=2, help="of the builds (default: 2)")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        now = measure_all(measure.Workshop(Path(folder), workers=flags.workers))
    before = json.loads(measure.RECORD.read_text()) if measure.RECORD.exists() else {}
    changes = list(differences(before, now))
    print(*changes, sep="\n")
    print(f"{len(changes)} values changed")
    if flags.dry_run:
        return int(bool(changes))
    measure.RECORD.write_text(json.dumps(now, indent=1) + "\n")
    return 0


def measure_all(workshop):
    """Returns all that ``golden.json`` holds, measured with the libraries that are installed."""
    datasets = {name: workshop.dataset(name) for name in measure.DATASETS}
    return {
        "build_versions": measure.build_versions(),
        "train_versions": measure.train_versions(),
        "contents": {name: measure.measure_contents(path) for name, path in datasets.items()},
        "bytes": {name: measure.measure_bytes(path) for name, path in datasets.items()},
        "reading": {name: measure.measure_reading(datasets[name]) for name in measure.READ},
        "losses": {name: measure.measure_losses(workshop.trained(name)) for name in measure.TRAIN},
        "predictions": workshop.predictions(),
    }


def differences(before, now, place=""):
    """Yields a line for each value that differs between two JSON documents."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in before | now:
            inner = f"{place}.{key}" if place else key
            yield from differences(before.get(key, "absent"), now.get(key, "absent"), inner)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, pair in enumerate(zip(before, now, strict=True)):
            yield from differences(*pair, f"{place}[{index}]")
    elif before != now:
        yield f"{place}: {json.dumps(before)[:200]} -> {json.dumps(now)[:200]}"


if __name__ == "__main__":
    sys.exit(main())
