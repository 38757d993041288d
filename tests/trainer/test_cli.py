import json
import shutil

import pytest

from tests.processes import run_python
from tests.trainer.conftest import (
    CLASSES,
    IMAGE,
    SPECS,
    run_trainer,
    write_brightness_dataset,
)
from tfrecords_schema.fake import write_fake_dataset
from tfrecords_schema.spec import LabelSpec, SequenceSpec
from trainer.cli import main
from trainer.errors import TrainerError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    directory = tmp_path_factory.mktemp("dataset")
    write_brightness_dataset(directory, "classification", {"train": 4, "test": 2})
    return directory


def refused(process, *fragments):
    """Checks that a process failed with one line that holds ``fragments``."""
    assert process.returncode == 2
    assert "Traceback" not in process.stderr + process.stdout
    assert process.stderr.startswith("trainer: error: ")
    assert process.stderr.count("\n") == 1
    for fragment in fragments:
        assert fragment in process.stderr


def test_help_imports_no_tensorflow():
    for words in (["--help"], ["evaluate", "--help"]):
        script = (
            "import sys; from trainer.cli import main\n"
            f"try: main({words})\n"
            "finally: assert not {'tensorflow', 'keras', 'matplotlib'} & sys.modules.keys()"
        )
        process = run_python("-c", script)
        assert process.returncode == 0, process.stderr
        assert "--tfrecords DIR" in process.stdout


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["--epochs", "3"], ["required: --tfrecords"]),
        (["--lr", "3"], ["unknown flag --lr, did you mean --learning_rate?"]),
        (["evalute", "--model", "R"], ["expected a verb (evaluate", "did you mean evaluate?"]),
        (["--tfrecords", "DATA", "--epoch", "3"], ["unknown flag --epoch, did you mean --epochs?"]),
        (["--tfrecord", "DATA"], ["unknown flag --tfrecord, did you mean --tfrecords?"]),
        (["--tfrecords", "DATA", "--zzz=3"], ["unknown flag --zzz (see trainer --help)"]),
        (["train", "--tfrecords", "DATA"], ["expected a verb (evaluate", "got 'train'"]),
        (["--tfrecords", "DATA", "--epochs", "-3"], ["epochs must be a whole number", "got -3"]),
        (
            ["--tfrecords", "DATA", "--epochs", "many"],
            ["epochs must be a whole number of at least 1, got 'many'"],
        ),
        (
            ["--tfrecords", "DATA", "--filters", "8;16"],
            ["filters must be whole numbers", "such as 16,32,64, got '8;16'"],
        ),
        (
            ["--tfrecords", "DATA", "--class_weights", "yes"],
            ["class_weights must be on or off, got 'yes'"],
        ),
        (["--tfrecords", "DATA", "--pooling", "max"], ["pooling must be avg or flatten"]),
        (
            ["--tfrecords", "DATA", "--learning-rate", "x"],
            ["learning_rate must be a finite number above 0", "got 'x'"],
        ),
        (["evaluate", "--tfrecords", "DATA"], ["required: --model (see trainer evaluate --help)"]),
        (
            ["evaluate", "--model", "R", "--tfrecords", "D", "--batch_size=0"],
            ["batch_size must be"],
        ),
        (
            ["evaluate", "--model", "R", "--tfrecords", "D", "--batch_size=99999999999999999999"],
            ["batch_size must be"],
        ),
    ],
)
def test_main_refuses_wrong_flags(words, fragments, dataset, capsys):
    code = main([str(dataset) if word == "DATA" else word for word in words])
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("trainer: error: ")
    assert error.count("\n") == 1
    for fragment in fragments:
        assert fragment in error


def test_process_refuses_wrong_folders_and_flags(dataset, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("a")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "dataset_info.json").write_text("{")

    def run(*words):
        return run_trainer(*words, cwd=tmp_path)

    refused(run("--tfrecords", "nowhere"), "nowhere: expected the folder of a dataset")
    refused(run("--tfrecords", "notes"), "notes has no dataset_info.json")
    refused(run("--tfrecords", "broken"), "dataset_info.json is not JSON")
    refused(run("--tfrecords", dataset, "--epochs", "-3"), "epochs", "got -3")
    refused(run("--tfrecords", dataset, "--nonsense"), "unknown flag --nonsense")
    refused(
        run("--tfrecords", dataset, "--output", "notes"),
        "notes already holds other files: expected a new or empty folder",
    )
    refused(run("--tfrecords", dataset, "--output", "notes/a.txt"), "is a file")
    refused(
        run("evaluate", "--model", "notes", "--tfrecords", dataset),
        "notes is not the folder of a run: expected model.keras and dataset_info.json",
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken", "notes"]


def test_classes_by_split_are_the_first_lines(dataset, monkeypatch, capsys):
    """They are printed before TensorFlow is imported, which takes seconds."""

    def stop():
        raise TrainerError("stopped before TensorFlow")

    monkeypatch.setattr("trainer.cli._prepare_tensorflow", stop)
    assert main(["--tfrecords", str(dataset), "--allow_empty_classes"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"dataset: {dataset} (")
    assert lines[1] == "task: classification of bright, dark, middle"
    assert lines[3].split() == ["sources", "/", "sequences", "train", "test"]
    assert [line.split()[0] for line in lines[4:7]] == ["bright", "dark", "middle"]


def test_train_refuses_a_missing_shard(tmp_path):
    info = write_fake_dataset(tmp_path / "data", SPECS["regression"], {"train": 4, "test": 2})
    missing = tmp_path / "data" / info.splits["test"].shards[0].file
    missing.unlink()
    refused(run_trainer("--tfrecords", "data", cwd=tmp_path), f"{missing.name} is missing")


def test_train_fails_with_file_and_byte_of_a_corrupt_record(dataset, tmp_path):
    for path in dataset.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    shard = tmp_path / "train-00001-of-00002.tfrecord"
    data = bytearray(shard.read_bytes())
    data[len(data) - 10] ^= 1
    shard.write_bytes(data)
    process = run_trainer("--tfrecords", tmp_path, "--output", tmp_path / "run", cwd=tmp_path)
    assert process.returncode == 2
    assert "Traceback" not in process.stderr
    assert f"trainer: error: {shard}: corrupt record at byte " in process.stderr


def test_train_keeps_another_run(bright_run, bright_dataset, capsys):
    folder, _ = bright_run
    assert main(["--tfrecords", str(bright_dataset), "--output", str(folder)]) == 2
    assert "already holds another run" in capsys.readouterr().err


def test_evaluate_writes_the_metrics_of_training(bright_run, bright_dataset, tmp_path):
    folder, _ = bright_run
    process = run_trainer(
        *("evaluate", "--model", folder, "--tfrecords", bright_dataset),
        *("--output", tmp_path / "metrics.json"),
        cwd=tmp_path,
    )
    assert process.returncode == 0, process.stderr
    verdict, wrote, then = process.stdout.splitlines()[-3:]
    assert verdict.startswith("test accuracy ")
    assert wrote.split() == ["metrics", str(tmp_path / "metrics.json")]
    assert then == (
        f"next: trainer evaluate --model {folder} --tfrecords {bright_dataset} --split test "
        "--report report.html"
    )
    ours = json.loads((tmp_path / "metrics.json").read_text())
    trained = json.loads((folder / "metrics.json").read_text())
    assert ours["splits"]["test"]["metrics"].keys() == trained["splits"]["test"]["metrics"].keys()
    for name, metric in ours["splits"]["test"]["metrics"].items():
        assert metric["model"] == pytest.approx(
            trained["splits"]["test"]["metrics"][name]["model"], rel=1e-4
        )


def test_evaluate_ignores_options_of_training_only(bright_run, bright_dataset, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(bright_run[0], run)
    config = json.loads((run / "config.json").read_text())
    config["reading"] |= {"balance_classes": True, "cache_frames": "memory"}
    config["reading"] |= {
        "augment": "flip=0.5",
        "mirrored_classes": "a=b",
    }  # no class of these names
    (run / "config.json").write_text(json.dumps(config))
    words = ["evaluate", "--model", str(run), "--tfrecords", str(bright_dataset)]
    assert main([*words, "--ignore_errors", "on"]) == 0


def test_evaluate_refuses_another_spec_and_names_differences(bright_run, tmp_path, capsys):
    folder, _ = bright_run
    label = LabelSpec(task="classification", class_names=(*CLASSES[:2], "other"))
    spec = SequenceSpec(num_frames=5, frame_rate=10.0, image=IMAGE, label=label)
    write_fake_dataset(tmp_path, spec, {"test": 3})
    assert main(["evaluate", "--model", str(folder), "--tfrecords", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("trainer: error: the model in ")
    assert "num_frames: 3 in the model, 5 in the dataset" in error
    assert "label.class_names: " in error
    assert "train another model" in error


def test_evaluate_refuses_a_missing_split(bright_run, bright_dataset, capsys):
    folder, _ = bright_run
    words = ["evaluate", "--model", str(folder), "--tfrecords", str(bright_dataset)]
    assert main([*words, "--split", "holdout"]) == 2
    assert "no records in a split 'holdout', but in train (60 records)" in capsys.readouterr().err
