"""The same dataset in every locale, with names beyond ASCII in folders, files and manifests."""

import json
import os
import subprocess

import pytest

from tests.processes import run_python
from tfrecords_schema.info import DatasetInfo

# Without what Python does on its own against a locale of another encoding.
STRICT = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LANG": "", "PYTHONIOENCODING": ""}
FLAGS = ("--num_frames", 2, "--frame_rate", 5, "--size", "4x6", "--splits", "train=1")
CLASS = "wähl"
FOLDER_OF_NO_TEXT = os.fsdecode(b"no\xfftext")


@pytest.fixture(scope="module")
def locales(tmp_path_factory):
    """By name, the environment of a locale."""
    folder = tmp_path_factory.mktemp("locales")
    made = subprocess.run(
        ["localedef", "-i", "en_US", "-f", "ISO-8859-1", folder / "latin1"],
        capture_output=True,
        check=False,
    )
    found = {
        "utf8": {**STRICT, "LC_ALL": "C.UTF-8"},
        "posix": {**STRICT, "LC_ALL": "POSIX"},
    }
    if (folder / "latin1/LC_CTYPE").exists():
        found["latin1"] = {**STRICT, "LC_ALL": "latin1", "LOCPATH": str(folder)}
    else:
        print("no ISO-8859-1 to try:", made.stderr.decode(errors="replace"))
    return found


@pytest.fixture(scope="module")
def clips(tmp_path_factory, write_video):
    root = tmp_path_factory.mktemp("footage") / "ünter"
    for name in (CLASS, "zebra", "𝄞 clef", FOLDER_OF_NO_TEXT):
        (root / name).mkdir(parents=True)
        write_video(root / name / "clïp.mp4", frames=20)
    (root.parent / "manifest.csv").write_text(
        "path,label\n" + "".join(f"ünter/{name}/clïp.mp4,{name}\n" for name in (CLASS, "zebra")),
        encoding="utf-8",
    )
    return root


def build(source, output, environment):
    """Builds, examines and returns what is described and stored."""
    done = run_python(
        *("-m", "pipelines", "videos", "--input", source, "--output", output, *FLAGS),
        *("--name", "dätaset", "--workers", 1),
        environment=environment,
        cwd=output.parent,
    )
    assert done.returncode == 0, done.stderr
    sources = ("--sources", source) if source.is_dir() else ()
    done = run_python(
        *("-m", "pipelines", "validate", "--tfrecords", output, *sources, "--workers", 1),
        environment=environment,
        cwd=output.parent,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("source", ["", "../manifest.csv"], ids=["folders", "manifest"])
def test_every_locale_gives_the_same_dataset(source, clips, locales, tmp_path):
    datasets = {}
    for name, environment in locales.items():
        output = tmp_path / name / "öutput"
        output.parent.mkdir()
        datasets[name] = build(clips / source, output, environment)
        info = DatasetInfo.load(output)
        assert CLASS in info.spec.label.class_names
        assert info.name == "dätaset"
    for files in datasets.values():
        assert files == datasets["utf8"]
    assert len(datasets) >= 2


@pytest.mark.slow
def test_the_trainer_names_classes_in_every_locale(locales, tmp_path, clips):
    dataset = tmp_path / "dataset"
    build(clips.parent / "manifest.csv", dataset, locales["utf8"])
    for name, environment in locales.items():
        done = run_python(
            *("-m", "trainer", "--tfrecords", dataset, "--output", tmp_path / f"rün-{name}"),
            *("--epochs", 1, "--filters=4", "--rnn_units=4"),
            environment=environment,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        assert f"{CLASS}, zebra" in done.stdout
        assert json.loads((tmp_path / f"rün-{name}/metrics.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("options", [(), ("-X", "utf8"), ("-X", "utf8=0"), ("-E",)])
def test_use_utf8_once_whatever_python_was_told(options, locales):
    program = (
        "import sys; sys.path.insert(0, '.')\n"
        "from tfrecords_schema.running.surroundings import use_utf8\n"
        "use_utf8()\n"
        "import os; print(sys.flags.utf8_mode, os.environ['PYTHONUTF8'], ascii(sys.argv[1:]))"
    )
    done = run_python(
        *options, "-c", program, CLASS, FOLDER_OF_NO_TEXT, environment=locales["posix"]
    )
    assert (done.returncode, done.stdout) == (0, f"1 1 {[CLASS, FOLDER_OF_NO_TEXT]!a}\n"), (
        done.stderr
    )


def test_use_utf8_leaves_a_program_from_standard_input_alone(locales):
    program = (
        "from tfrecords_schema.running.surroundings import use_utf8\nuse_utf8()\nprint('done')\n"
    )
    done = run_python("-", environment=locales["posix"], input=program)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
