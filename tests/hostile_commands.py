"""Runs commands on forged datasets: ``python -m tests.hostile_commands FOLDER COUNT SEED NAMES``.

All run in one process, so that many take little time.

FOLDER holds ``clips``, by class. NAMES are those of `commands`. Prints a line of JSON for each finding: an
exception, an exit status that the command does not have, a message that is too long or controls the terminal.
A command that hangs, or takes more memory than it may, ends the process.
"""

import contextlib
import faulthandler
import io
import json
import os
import random
import resource
import shutil
import sys
import traceback
from pathlib import Path

from pipelines.cli import main as pipelines
from tests.hostile import HOSTILE, damage, forge, places, replaced
from tfrecords_schema.info import FILE_NAME
from tfrecords_schema.records import file_checksum, frame_record, read_file
from trainer.cli import main as trainer

_MAX_SECONDS = 300  # the machine may be busy
_MAX_BYTES = 3 << 30  # of data beyond what the process has after one round of all commands
_TABLES = ("sources.jsonl", "failures.jsonl")


def prepare(folder, trains):
    """Builds a dataset of the clips in a folder, of which one cannot be read; trains a run on it, or not."""
    build = [
        "--num_frames",
        "2",
        "--size",
        "8x12",
        "--max_failure_rate",
        "0.5",
        "--frame_rate",
        "5",
    ]
    build += ["--splits", "train=0.6,test=0.4", "--seed", "1"]
    words = ["videos", "--input", folder / "clips", "--output", folder / "sound", *build]
    assert pipelines(list(map(str, words))) == 0
    assert not trains or trainer(_training(folder / "sound", folder / "run")) == 0


def _training(dataset, run):
    words = [
        "--tfrecords",
        dataset,
        "--output",
        run,
        "--epochs",
        1,
        "--filters",
        2,
        "--rnn_units",
        2,
    ]
    return list(map(str, [*words, "--dense_units", 2, "--frame_input", "frame"]))


def commands(folder):
    """Returns the commands by name, for the dataset in ``forged`` and the run in ``forged_run``."""
    dataset, run = folder / "forged", folder / "forged_run"
    given = ["--tfrecords", str(dataset)]
    merged = [str(dataset), str(folder / "sound"), "--prefix_sources", "on"]
    predict = ["predict", "--model", str(run), "--input", str(folder / "clips"), "--output"]
    return {
        "show": (pipelines, ["show", *given]),
        "validate": (pipelines, ["validate", *given, "--report", str(folder / "v.html")]),
        "adopt": (pipelines, ["adopt", *given]),
        "evaluate": (trainer, ["evaluate", *given, "--model", str(folder / "run")]),
        "trainer": (trainer, _training(dataset, folder / "out")),
        "merge": (pipelines, ["merge", *merged, "--output", str(folder / "m")]),
        "predict": (pipelines, [*predict, str(folder / "p.csv"), "--max_failure_rate", "0.9"]),
    }


def forge_json(data, chance):
    """Puts a forged value into one place of JSON."""
    fields = json.loads(data)
    place = chance.choice([place for place in places(fields) if place])
    return json.dumps(replaced(fields, place, chance.choice(HOSTILE))).encode()


def forge_table(path, chance):
    lines = path.read_bytes().splitlines()
    number = chance.randrange(len(lines))
    lines[number] = (forge_json if chance.random() < 0.7 else damage)(lines[number], chance)
    path.write_bytes(b"\n".join(lines) + b"\n")


def forge_shard(folder, chance):
    """Forges records of a shard, or its bytes; the description is updated, or not."""
    path = chance.choice(sorted(folder.glob("*.tfrecord")))
    if chance.random() < 0.3:
        path.write_bytes(damage(path.read_bytes(), chance))
        return
    records = [forge(record.data, chance) for record in read_file(path)]
    path.write_bytes(b"".join(map(frame_record, records)))
    fields = json.loads((folder / FILE_NAME).read_bytes())
    for split in fields["splits"].values():
        for shard in split["shards"]:
            if shard["file"] == path.name:
                shard |= {"bytes": path.stat().st_size, "sha256": file_checksum(path)}
    (folder / FILE_NAME).write_text(json.dumps(fields))


def forge_dataset(folder, chance):
    """Forges one file of a dataset or two; returns which."""
    kind = chance.choice(
        ["info", "info", "bytes of info", "table", "records", "records", "special"]
    )
    info = folder / FILE_NAME
    if kind == "info":
        info.write_bytes(forge_json(info.read_bytes(), chance))
    elif kind == "bytes of info":
        info.write_bytes(damage(info.read_bytes(), chance))
    elif kind == "special":
        put_special(chance.choice(sorted(folder.glob("*"))), chance)
    elif kind == "table":
        forge_table(folder / chance.choice(_TABLES), chance)
    else:
        forge_shard(folder, chance)
    return kind


def forge_export(run, chance):
    """Forges a file of JSON, or any file, of a run's export."""
    files = [path for path in sorted((run / "export").rglob("*")) if path.is_file()]
    named = [path for path in files if path.suffix == ".json"]
    path = chance.choice(chance.choice([files, named, named]))
    forged = forge_json if path in named and chance.random() < 0.8 else damage
    path.write_bytes(forged(path.read_bytes(), chance))
    return path.name


def put_special(path, chance):
    """Puts something that is not a file of a few bytes in the place of a file."""
    path.unlink()
    match chance.randrange(5):
        case 0:
            os.mkfifo(path)
        case 1:
            path.symlink_to("/dev/zero")
        case 2:
            path.mkdir()
        case 3:
            path.symlink_to(path)
        case _:
            path.touch()
            os.truncate(path, 1 << 42)  # without any block


def clear(folder):
    for name in ("forged", "forged_run", "out", "m"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "p.csv").unlink(missing_ok=True)


def run_one(call, words):
    """Runs a command; returns its status, or a traceback, and what it printed."""
    said = io.StringIO()
    faulthandler.dump_traceback_later(_MAX_SECONDS, exit=True)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            return call(words), said.getvalue()
    except Exception:
        return traceback.format_exc()[-3000:], said.getvalue()
    finally:
        faulthandler.cancel_dump_traceback_later()


def limit_memory():
    """Limits the data of this process and of its children to what it has now and `_MAX_BYTES`."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    limit = int(status["VmData"].split()[0]) * 1024 + _MAX_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def is_right(name, status, said):
    lines = said.splitlines()
    # A check may fail, and more sources than may. Other commands succeed, or fail with an error.
    right = status in ({0, 1, 2} if name in ("validate", "predict") else {0, 2})
    right &= "\x1b" not in said and "Traceback" not in said
    right &= max(map(len, lines), default=0) < 20_000
    return right and (status != 2 or "error: " in lines[-1])


def main():
    folder, count, seed, names = Path(sys.argv[1]), *map(int, sys.argv[2:4]), sys.argv[4].split(",")
    chance, every = random.Random(seed), commands(folder)
    if not (folder / "sound").exists():
        with contextlib.redirect_stdout(sys.stderr):
            prepare(folder, trains=not {"trainer", "evaluate", "predict"}.isdisjoint(names))
    for number in range(-len(names), count):
        name = names[number % len(names)]
        if number == 0:
            limit_memory()
        clear(folder)
        shutil.copytree(folder / "sound", folder / "forged")
        if (folder / "run").exists():
            shutil.copytree(folder / "run", folder / "forged_run")
        kind = "sound"
        if number >= 0 and name == "predict":
            kind = forge_export(folder / "forged_run", chance)
        elif number >= 0:
            kind = forge_dataset(folder / "forged", chance)
        if name == "adopt" and (folder / "forged" / FILE_NAME).is_file():
            (folder / "forged" / FILE_NAME).unlink()
        call, words = every[name]
        status, said = run_one(call, words)
        print(
            number, name, kind, status, said[-200:].replace("\n", " "), file=sys.stderr, flush=True
        )
        if not is_right(name, status, said) or (number < 0 and status == 2):
            found = {"number": number, "command": name, "kind": kind, "status": status}
            print(json.dumps({**found, "said": said[-2000:]}), flush=True)


if __name__ == "__main__":
    main()
