"""The Python calls: the same options and results as the command line, errors as exceptions."""

import inspect
import json
import pydoc
import shlex
import shutil

import pytest

import pipelines
from pipelines import (
    UsageError,
    UserError,
    adopt,
    build_dashcam,
    build_videos,
    predict,
    show,
    validate,
)
from pipelines.cli import VERBS, main, make_parser
from tests.processes import ROOT, run_python
from tfrecords_schema.info import FILE_NAME, DatasetInfo
from tfrecords_schema.options import all_options
from trainer.config.flags import parse_train

DATA = ROOT / "tests" / "data"
CALLS = (build_videos, build_dashcam, validate, predict, show, adopt)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("clips")
    for place in ("concert/demo.gif", "dog/phone_vfr.mp4"):
        (root / place).parent.mkdir()
        shutil.copy(DATA / (root / place).name, root / place)
    return root


OPTIONS = {"num_frames": 4, "frame_rate": 10, "size": (48, 64), "splits": {"train": 1.0}, "seed": 1}


@pytest.fixture(scope="module")
def built(clips, tmp_path_factory):
    output = tmp_path_factory.mktemp("built") / "dataset"
    return output, build_videos(clips, output, **OPTIONS)


def test_build_videos_returns_the_dataset(built):
    output, info = built
    assert info == DatasetInfo.load(output)
    assert info.spec.image.shape == (48, 64, 3)
    assert info.spec.num_frames == 4
    assert info.spec.label.class_names == ("concert", "dog")
    assert info.splits["train"].num_records > 0


def test_build_videos_writes_the_shards_of_the_command(built, clips, tmp_path):
    _, info = built
    flags = ["--num_frames", "4", "--frame_rate", "10", "--size", "48x64", "--splits", "train=1.0"]
    words = ["videos", "--input", str(clips), "--output", str(tmp_path / "out"), *flags]
    assert main([*words, "--seed=1"]) == 0
    assert DatasetInfo.load(tmp_path / "out").splits == info.splits
    assert DatasetInfo.load(tmp_path / "out").options == info.options


def test_build_videos_dry_run_prints_the_plan(clips, tmp_path, capsys):
    assert build_videos(clips, tmp_path / "out", dry_run=True, **OPTIONS) is None
    assert "sequences ~" in capsys.readouterr().out
    assert not (tmp_path / "out" / FILE_NAME).exists()


def test_build_dashcam_returns_the_dataset(tmp_path):
    shutil.copy(DATA / "karma.mp4", tmp_path)
    shutil.copy(DATA / "karma_per_frame.csv", tmp_path / "karma.csv")
    columns = (DATA / "karma_per_frame.csv").read_text().splitlines()[0].split(",")
    info = build_dashcam(
        str(tmp_path),
        str(tmp_path.with_name("drives")),
        telemetry="{stem}.csv",
        label_columns=columns[-1:],
        num_frames=4,
        size="48x64",
        splits="train=1",
    )
    assert info.spec.label.target_names == tuple(columns[-1:])


def test_validate_returns_the_findings(built, tmp_path):
    validation = validate(built[0], json=tmp_path / "found.json", workers=1)
    assert not validation.failed
    assert json.loads((tmp_path / "found.json").read_bytes())["passed"] is True


def test_adopt_describes_the_folder(built, tmp_path):
    for shard in built[0].glob("*.tfrecord"):
        shutil.copy(shard, tmp_path)
    info = adopt(tmp_path, size="24x32")
    assert info == DatasetInfo.load(tmp_path)
    assert info.spec.image.shape == (24, 32, 3)
    assert (info.adopted, info.splits["train"].num_records) == (
        True,
        built[1].splits["train"].num_records,
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: build_videos("a", "b", num_frame=3),
            UsageError,
            "unknown option 'num_frame', did you mean num_frames?",
        ),
        (lambda: build_videos("a", "b", telemetry="x"), UsageError, "unknown option 'telemetry'"),
        (
            lambda: build_videos("a", "b", num_frames=0),
            UsageError,
            "--num_frames must be .*, got 0",
        ),
        (
            lambda: build_videos("a", "b", num_frames=None),
            UsageError,
            "num_frames must .* got none",
        ),
        (lambda: build_videos("a", "b", frame_rate="fast"), UsageError, "got 'fast'"),
        (lambda: build_videos("a", "b", size=(1, 2, 3)), UsageError, "--size must .* got 1x2x3"),
        (lambda: build_videos("a", "b", beam_args=["--runer=X"]), UsageError, "flag --runer"),
        (lambda: build_videos("no/such/folder", "b"), UserError, "no/such/folder"),
        (lambda: build_dashcam("a", "b", annotation="a.json"), UsageError, "also needs --label"),
        (lambda: validate("no/such/folder"), UserError, "no/such/folder"),
        (lambda: validate("x", fail_on="never"), UsageError, "error or warning, got 'never'"),
        (lambda: predict("no/such/run", "a", "b.jsonl"), UserError, "no/such/run"),
        (lambda: predict("a", "b", "c", batch_size=0), UsageError, "--batch_size must be"),
        (lambda: adopt("no/such/folder"), UserError, "--tfrecords must be a folder"),
        (lambda: adopt("x", spce="y"), UsageError, "did you mean spec?"),
    ],
)
def test_calls_raise_errors_of_the_package(call, error, message):
    with pytest.raises(error, match=message.replace("?", r"\?")):
        call()


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_help_and_signature_name_every_option(call):
    options = next(verb.options for verb in VERBS.values() if verb.call is call)
    names = [item.flag for _, item in all_options(options)]
    assert list(inspect.signature(call).parameters) == sorted(names, key=names.index)
    text = pydoc.render_doc(call, renderer=pydoc.plaintext)
    for _, item in all_options(options):
        assert item.flag in text


@pytest.mark.parametrize("name", [name for name, verb in VERBS.items() if verb.next])
def test_next_command_parses(name):
    example = make_parser(name).parse(shlex.split(VERBS[name].example))
    program, *words = shlex.split(VERBS[name].next.format_map(example))
    if program == "trainer":
        assert parse_train(words).tfrecords
    else:
        assert make_parser(words[0]).parse(words[1:])["tfrecords"] in example.values()


def test_importing_the_package_is_cheap():
    heavy = {"apache_beam", "av", "cv2", "tensorflow", "numpy", "jmespath", "tqdm"}
    lines = [
        "import sys, pipelines",
        f"assert not {heavy} & sys.modules.keys()",
        "from pipelines import build_videos",
        f"assert not {heavy - {'numpy', 'jmespath'}} & sys.modules.keys(), "
        f"{heavy} & sys.modules.keys()",
    ]
    done = run_python("-c", "\n".join(lines))
    assert done.returncode == 0, done.stderr
    assert set(pipelines.__all__) == set(dir(pipelines))
