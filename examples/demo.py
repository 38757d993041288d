"""The main job from end to end: renders drives, builds a dataset, validates it, trains on it and predicts.

    python examples/demo.py --output demo_output        (`make demo` does this)

Each step is a command that a user would type, and is printed before it runs. At the end, the error on test
drives is compared with that of a baseline that always predicts the mean speed. The exit status is 0 only if
the model's error is clearly lower. Each run removes the results of the previous demo in the folder first. A
folder that holds anything else is refused.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

MAX_SHARE = 0.5  # of the baseline's error

MARK = ".reelbeam_demo"  # a file that tells a demo's folder from any other
PARTS = ("drives", "dataset", "report.html", "run", "predictions.jsonl", "overlay")


class DemoError(Exception):
    """A step of the demo failed, or the model is not better than the baseline."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo and returns its exit status: 0 if the model is clearly better than the baseline."""
    parser = argparse.ArgumentParser(
        description="Renders drives, builds, validates, trains, predicts."
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("demo_output"),
        metavar="DIR",
        help="folder of all results (default: demo_output)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the drives and of the training (default: 0)"
    )
    options = parser.parse_args(argv)
    started = time.monotonic()
    try:
        prepare(options.output)
        for command in commands(options.output, options.seed):
            run(command)
        conclude(options.output)
    except (DemoError, OSError) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\ndemo: interrupted. Type the same command again to start from the beginning.",
            file=sys.stderr,
        )
        return 130
    print(f"\nThe demo took {time.monotonic() - started:.0f} s.")
    return 0


def prepare(output: Path) -> None:
    """Makes ``output`` an empty folder for the demo.

    Raises:
        DemoError: if it holds files that are not those of a demo.
    """
    if output.exists() and not output.is_dir():
        raise DemoError(f"{output} is a file: choose a folder with --output")
    if not (output / MARK).exists() and output.exists() and any(output.iterdir()):
        raise DemoError(
            f"{output} holds files that no demo wrote. Results would be mixed with them: "
            "choose another folder with --output"
        )
    output.mkdir(parents=True, exist_ok=True)
    (output / MARK).touch()
    for part in (output / name for name in PARTS):
        if part.is_dir() and not part.is_symlink():
            print(f"removing {part} of an earlier demo")
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)


def commands(output: Path, seed: int) -> list[str]:
    """Returns the commands of the demo, in order."""
    drives, dataset, report, model, predictions, overlay = (
        shlex.quote(str(output / part)) for part in PARTS
    )
    renderer = shlex.quote(os.path.relpath(Path(__file__).with_name("render_drives.py")))
    return [
        # Many short drives, because a model memorises a few long ones.
        f"python {renderer} --output {drives} --drives 120 --seconds 8 --seed {seed}",
        # Sequences of 0.8 s that start every 0.4 s.
        f"pipelines videos --input {drives}/manifest.csv --output {dataset} --name drives "
        "--label_columns speed --label_units m/s "
        "--num_frames 8 --frame_rate 10 --stride 4 --size 32x48",
        f"pipelines validate --tfrecords {dataset} --report {report}",
        # The defaults, but for fewer epochs, so that the demo takes minutes.
        f"trainer --tfrecords {dataset} --output {model} --epochs 12 --seed {seed}",
        # Only some of the drives, to save time.
        f"pipelines predict --model {model} --input {drives}/'drive_00*.mp4' --output {predictions} "
        f"--overlay {overlay}",
    ]


def run(command: str) -> None:
    """Prints a command and runs it with the current interpreter, or the program installed beside it.

    Raises:
        DemoError: if it fails.
    """
    print(f"\n$ {command}", flush=True)
    program, *arguments = shlex.split(command)
    # Not ``python -m``, which would import a `pipelines` folder that lies in the current folder.
    python = Path(sys.executable)
    path = python if program == "python" else python.with_name(program)
    started = time.monotonic()
    code = subprocess.run([path, *arguments], check=False).returncode
    if code:
        raise DemoError(f"{program} failed with exit status {code}; its messages are above")
    print(f"({time.monotonic() - started:.0f} s)", flush=True)


def conclude(output: Path) -> None:
    """Prints the model's test error and the places of all results.

    Raises:
        DemoError: if the error on the test drives is not clearly below the baseline's.
    """
    info = json.loads((output / "dataset" / "dataset_info.json").read_text(encoding="utf-8"))
    metrics = json.loads((output / "run" / "metrics.json").read_text(encoding="utf-8"))
    train, test = (info["splits"][split] for split in ("train", "test"))
    error = metrics["splits"]["test"]["metrics"]["speed_mae"]
    share = error["model"] / error["baseline"]
    print(
        f"""
Mean absolute error of the speed on {test["groups"]} test drives ({test["records"]} sequences):
    baseline, always the mean of {train["targets"][0]["mean"]:.1f} m/s   {error["baseline"]:.2f} m/s
    model                                  {error["model"]:.2f} m/s   ({share:.0%} of the baseline)

    drives    {output / "drives"}
    dataset   {output / "dataset"}
    report    {output / "report.html"}
    curves    {output / "run" / "curves.png"}
    model     {output / "run" / "model.keras"}, SavedModel in {output / "run" / "export"}
    videos    {output / "overlay"}, drives with the predicted speed drawn on them"""
    )
    if not share < MAX_SHARE:
        raise DemoError(
            f"the model's error is {share:.0%} of the baseline's; expected less than {MAX_SHARE:.0%}. "
            "Look at the curves: does the loss fall on train but not on validation, or not at all?"
        )


if __name__ == "__main__":
    sys.exit(main())
