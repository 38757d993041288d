"""The main job from end to end: renders drives, builds a dataset, validates it, trains on it and predicts.

    python examples/demo.py --output demo_output        (`make demo` does this)

Each step is a command that its users would type, and is shown before it runs. At the end the error on
drives the model never saw is compared with that of a predictor that always answers the mean speed; the exit
code is 0 only when it is clearly lower. Running it again starts afresh: what the last demo left in the folder
is removed first. A folder that is not a demo's is refused.
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

# Of the baseline's error.
BAR = 0.5

MARK = ".reelbeam_demo"  # a file that tells a demo's folder from any other
PARTS = ("drives", "dataset", "report.html", "run", "predictions.jsonl", "overlay")


class DemoError(Exception):
    """The demo cannot go on, or did not show what it should."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo and returns its exit code: 0 when the model is clearly better than the baseline."""
    parser = argparse.ArgumentParser(
        description="Renders drives, builds, validates, trains, predicts."
    )
    parser.add_argument("--output", type=Path, default=Path("demo_output"), metavar="DIR")
    parser.add_argument("--seed", type=int, default=0, help="of the drives and of the training")
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
        print("\ndemo: interrupted; the same command starts afresh", file=sys.stderr)
        return 130
    print(f"\nThe demo took {time.monotonic() - started:.0f} s.")
    return 0


def prepare(output: Path) -> None:
    """Makes ``output`` a demo's empty folder.

    Raises:
        DemoError: when it holds something that no demo left there.
    """
    if output.exists() and not output.is_dir():
        raise DemoError(f"{output} is a file: choose a folder with --output")
    if not (output / MARK).exists() and output.exists() and any(output.iterdir()):
        raise DemoError(
            f"{output} holds files that are not a demo's, and would be mixed with it: choose another folder "
            "with --output"
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
    """What to type, step by step."""
    drives, dataset, report, model, predictions, overlay = (
        shlex.quote(str(output / part)) for part in PARTS
    )
    renderer = shlex.quote(os.path.relpath(Path(__file__).with_name("render_drives.py")))
    return [
        # Many short drives: few long ones would be learned by heart.
        f"python {renderer} --output {drives} --drives 120 --seconds 8 --seed {seed}",
        # Sequences of 0.8 s, each beginning 0.4 s after the one before.
        f"pipelines videos --input {drives}/manifest.csv --output {dataset} --name drives "
        "--label_columns speed --label_units m/s "
        "--num_frames 8 --frame_rate 10 --stride 4 --size 32x48",
        f"pipelines validate --tfrecords {dataset} --report {report}",
        # Fewer and smaller layers than the defaults: a demo has minutes.
        f"trainer --tfrecords {dataset} --output {model} "
        "--stack_frames 2 --filters 8,16,32 --batch_norm on --pooling flatten "
        "--rnn_units 128 --dense_units 0 --dropout 0 "
        f"--learning_rate 0.002 --epochs 12 --seed {seed}",
        # A few drives are enough to look at.
        f"pipelines predict --model {model} --input {drives}/'drive_00*.mp4' --output {predictions} "
        f"--overlay {overlay}",
    ]


def run(command: str) -> None:
    """Shows a command and runs it with this very interpreter.

    Raises:
        DemoError: when it fails.
    """
    print(f"\n$ {command}", flush=True)
    program, *arguments = shlex.split(command)
    as_module = [] if program == "python" else ["-m", program]
    started = time.monotonic()
    code = subprocess.run([sys.executable, *as_module, *arguments], check=False).returncode
    if code:
        raise DemoError(f"{program} failed with exit code {code}; what it said is above")
    print(f"({time.monotonic() - started:.0f} s)", flush=True)


def conclude(output: Path) -> None:
    """Says how good the model is, and where everything lies.

    Raises:
        DemoError: when its error on the test drives is not clearly below the baseline's.
    """
    info = json.loads((output / "dataset" / "dataset_info.json").read_text(encoding="utf-8"))
    metrics = json.loads((output / "run" / "metrics.json").read_text(encoding="utf-8"))
    train, test = (info["splits"][split] for split in ("train", "test"))
    error = metrics["splits"]["test"]["metrics"]["speed_mae"]
    share = error["model"] / error["baseline"]
    print(
        f"""
Speed of {test["groups"]} drives ({test["records"]} sequences) the model never saw, mean absolute error:
    always answering {train["targets"][0]["mean"]:.1f} m/s, the mean   {error["baseline"]:.2f} m/s
    the model, from motion               {error["model"]:.2f} m/s   ({share:.0%} of it)

    drives    {output / "drives"}
    dataset   {output / "dataset"}
    report    {output / "report.html"}
    curves    {output / "run" / "curves.png"}
    model     {output / "run" / "model.keras"}, SavedModel in {output / "run" / "export"}
    look at   {output / "overlay"}, drives with the predicted speed on them"""
    )
    if not share < BAR:
        raise DemoError(
            f"the model's error is {share:.0%} of the baseline's, and should be below {BAR:.0%}: look at the "
            "curves; does the loss fall on train but not on validation, or not at all?"
        )


if __name__ == "__main__":
    sys.exit(main())
