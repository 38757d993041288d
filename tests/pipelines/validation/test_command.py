"""`pipelines validate` as a process: exit statuses, files, one-line errors."""

from __future__ import annotations

import json

import pytest

from tests.processes import run_python


def run(*arguments):
    done = run_python("-m", "pipelines", "validate", *arguments)
    assert "Traceback" not in done.stdout + done.stderr
    return done


def test_validate_exits_with_0_and_writes_report_and_result(make, tmp_path):
    dataset = make("classification")
    before = sorted(dataset.path.iterdir())
    report, result = tmp_path / "report.html", tmp_path / "result.json"
    done = run("--tfrecords", dataset.path, "--report", report, "--json", result, "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("PASSED: fake in ")
    assert "21 records in 6 shards" in done.stdout
    assert done.stderr == ""
    assert report.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    fields = json.loads(result.read_bytes())
    assert fields["passed"] is True
    assert fields["records"] == 21
    assert fields["findings"] == []
    assert fields["levels"] == {"error": 0, "warning": 0, "note": 0}
    assert "labels.classes" in fields["checks"]
    assert fields["not_run"]["drift.spec"] == "--against is not given"
    assert fields["not_run"]["pictures.unlike_source"] == "--sources is not given"
    assert fields["not_run"].keys() < fields["checks"].keys()
    # Validation writes nothing into the dataset, and leaves nothing beside the files.
    assert sorted(dataset.path.iterdir()) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dataset", "report.html", "result.json"]


def test_validate_exits_with_1_and_names_the_shard(make, tmp_path):
    dataset = make("classification")
    path = dataset.shard()
    data = bytearray(path.read_bytes())
    data[-200] ^= 1
    path.write_bytes(data)
    done = run("--tfrecords", dataset.path, "--json", tmp_path / "result.json")
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("FAILED: fake in ")
    assert "error: format.framing: 1 finding" in done.stdout
    assert "remedy: " in done.stdout
    fields = json.loads((tmp_path / "result.json").read_bytes())
    assert fields["passed"] is False
    places = {f["where"]["shard"] for f in fields["findings"]}
    assert places == {path.name}


@pytest.mark.parametrize(("level", "status"), [("error", 0), ("warning", 1)])
def test_validate_fail_on_chooses_the_level(make, level, status):
    dataset = make("classification")
    (dataset.path / "_build").mkdir()
    done = run("--tfrecords", dataset.path, "--fail-on", level)
    assert done.returncode == status, done.stderr
    assert "warning: format.shards" in done.stdout
    is_last = done.stdout.endswith(f"\nnext: trainer --tfrecords {dataset.path}\n")
    assert is_last == (status == 0)


def test_validate_results_do_not_depend_on_workers(make, tmp_path):
    dataset = make("regression")
    dataset.shard("test").unlink()
    results = []
    for workers in (1, 3):
        target = tmp_path / f"{workers}.json"
        assert run("--tfrecords", dataset.path, "--json", target, "--workers", workers)
        fields = json.loads(target.read_bytes())
        del fields["seconds"]
        results.append(fields)
    assert results[0] == results[1]


def test_validate_uses_thresholds_of_dataset_or_file(make, tmp_path):
    dataset = make("regression")
    carried = dataset.path / "validation.json"
    carried.write_text('{"imbalance": 7, "skew": 0.5}')
    given = tmp_path / "given.json"
    given.write_text('{"imbalance": 9}')
    for flags, expected in (([], (7, 0.5)), (["--thresholds", given], (9, 0.1))):
        target = tmp_path / "result.json"
        done = run("--tfrecords", dataset.path, "--json", target, *flags)
        assert done.returncode == 0, done.stdout + done.stderr
        fields = json.loads(target.read_bytes())["thresholds"]
        assert (fields["imbalance"], fields["skew"]) == expected


def test_validate_refuses_unknown_threshold(make):
    dataset = make("regression")
    (dataset.path / "validation.json").write_text('{"skwe": 0.5}')
    done = run("--tfrecords", dataset.path)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "validation.json: unknown threshold 'skwe'; known are timestamp_tolerance" in done.stderr


def test_validate_against_older_dataset(make, clean, tmp_path):
    dataset = make("regression")
    report, result = tmp_path / "report.html", tmp_path / "result.json"
    flags = ("--against", clean["targets by frame"], "--report", report, "--json", result)
    done = run("--tfrecords", dataset.path, *flags, "--workers", 2)
    assert done.returncode == 1, done.stderr
    assert "error: drift.spec: " in done.stdout
    assert "21 records in 6 shards" in done.stdout
    assert json.loads(result.read_bytes())["against"] == str(clean["targets by frame"])
    assert "drift.spec" in report.read_text(encoding="utf-8")
    same = run("--tfrecords", dataset.path, "--against", clean["regression"])
    assert same.returncode == 0, same.stdout
    assert "0 errors, 0 warnings, 0 notes" in same.stdout


WRONG_CALLS = [
    ("a folder that is not there", ["--tfrecords", "nowhere"], "expected the folder of a dataset"),
    ("a folder that is no dataset", ["--tfrecords", "tests"], "not a complete dataset"),
    ("a file", ["--tfrecords", "setup.py"], "must be the folder of a dataset"),
    ("no folder at all", [], "--tfrecords"),
    ("an unknown flag", ["--tfrecords", "DATASET", "--recrods", "3"], "--recrods"),
    ("an unknown level", ["--tfrecords", "DATASET", "--fail_on", "always"], "always"),
    (
        "no worker",
        ["--tfrecords", "DATASET", "--workers", "0"],
        "--workers must be a whole number from 1 to 1024",
    ),
    ("a report that is a folder", ["--tfrecords", "DATASET", "--report", "tests"], "is a folder"),
    ("a report nowhere", ["--tfrecords", "DATASET", "--report", "no/where.html"], "make it first"),
    ("no such old dataset", ["--tfrecords", "DATASET", "--against", "tests"], "--against: "),
    (
        "no such file",
        ["--tfrecords", "DATASET", "--thresholds", "no.json"],
        "the file no.json does not exist",
    ),
    (
        "thresholds that are none",
        ["--tfrecords", "DATASET", "--thresholds", "setup.py"],
        "setup.py: ",
    ),
    ("JSON nowhere", ["--tfrecords", "DATASET", "--json", "no/where.json"], "make it first"),
]


@pytest.mark.parametrize(
    ("arguments", "said"), [c[1:] for c in WRONG_CALLS], ids=[c[0] for c in WRONG_CALLS]
)
def test_validate_exits_with_2_and_one_line_for_wrong_calls(clean, arguments, said):
    folder = str(clean["classification"])
    done = run(*(folder if argument == "DATASET" else argument for argument in arguments))
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert said in done.stderr


def test_validate_exits_with_2_and_one_line_for_damaged_info(make):
    dataset = make("classification")
    (dataset.path / "dataset_info.json").write_text('{"format_version": 1, "name": 3}')
    done = run("--tfrecords", dataset.path)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1


def test_validate_imports_neither_tensorflow_nor_av(clean):
    program = (
        "import sys; from pipelines.cli import main; "
        f"status = main(['validate', '--tfrecords', {str(clean['classification'])!r}]); "
        "print(sorted({'tensorflow', 'keras', 'av'} & set(sys.modules)), status)"
    )
    done = run_python("-c", program)
    assert done.stdout.splitlines()[-1] == "[] 0", done.stderr


def test_validate_refuses_or_warns_of_missing_sources(make, tmp_path):
    dataset = make("classification")
    done = run("--tfrecords", dataset.path, "--sources", tmp_path / "nowhere")
    assert done.returncode == 2
    assert "--sources must be the folder that the dataset was built from" in done.stderr
    (tmp_path / "empty").mkdir()
    done = run("--tfrecords", dataset.path, "--sources", tmp_path / "empty", "--fail_on", "warning")
    assert done.returncode == 1
    assert "21 of 21 records could not be compared: its source does not exist" in done.stdout
