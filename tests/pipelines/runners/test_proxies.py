"""Commands behind proxies that lead nowhere, and what of the proxies is left for object stores."""

import json
import os
import urllib.request

import pytest
import tensorflow as tf

from tests.pipelines.prediction.test_predict import write_export
from tests.processes import run_python
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.running.surroundings import reach_this_machine_directly

NOWHERE = "http://127.0.0.1:9"
PROXIES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")
HERE = "localhost,127.0.0.1,::1"


def run_behind_proxies(verb, *arguments, cwd, no_proxy="metadata.internal"):
    """``pipelines VERB``, which gRPC would keep waiting for a minute if it used the proxies."""
    proxies = dict.fromkeys([*PROXIES, *map(str.upper, PROXIES)], NOWHERE)
    return run_python(
        *("-m", "pipelines", verb, "--workers", 2, *arguments),
        cwd=cwd,
        timeout=50,
        environment={**proxies, "no_proxy": no_proxy, "no_grpc_proxy": no_proxy, "NO_PROXY": ""},
    )


@pytest.fixture(scope="module")
def clips(tmp_path_factory, write_video):
    root = tmp_path_factory.mktemp("footage") / "clips"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        write_video(root / name / "clip.mp4", frames=30)
    return root


@pytest.fixture(scope="module")
def dataset(clips):
    """A dataset that was built behind the proxies."""
    folder = clips.parent / "dataset"
    flags = ("--num_frames", 2, "--frame_rate", 5, "--size", "4x6", "--splits", "train=1")
    done = run_behind_proxies(
        "videos", "--input", clips, "--output", folder, *flags, cwd=clips.parent
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_build_and_validate_use_no_proxy(dataset, tmp_path):
    assert DatasetInfo.load(dataset).splits["train"].num_records > 2
    done = run_behind_proxies("validate", "--tfrecords", dataset, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_predict_uses_no_proxy(clips, dataset, tmp_path):
    info = DatasetInfo.load(dataset)

    def answer(inputs):
        return tf.tile([[0.25, 0.75]], [tf.shape(inputs["image"])[0], 1])

    export = write_export(tmp_path / "export", info, answer)
    output = tmp_path / "predictions.jsonl"
    done = run_behind_proxies(
        "predict", "--model", export, "--input", clips, "--output", output, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert {line["source"] for line in lines} == {"a/clip.mp4", "b/clip.mp4"}


@pytest.fixture
def environment(monkeypatch):
    """Sets exactly these variables of all that have to do with proxies."""
    names = [*PROXIES, "no_proxy", "no_grpc_proxy"]

    def set_variables(**values):
        for name in [*names, *map(str.upper, names)]:
            # Set first, so that what the code under test sets is undone too.
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_variables


@pytest.mark.parametrize(
    ("given", "no_proxy", "no_grpc_proxy"),
    [
        ({}, HERE, HERE),
        ({"no_proxy": "a.com, b.com"}, f"a.com,b.com,{HERE}", f"a.com,b.com,{HERE}"),
        ({"NO_PROXY": "a.com"}, f"a.com,{HERE}", f"a.com,{HERE}"),
        ({"no_proxy": "a.com", "NO_PROXY": "b.com"}, f"a.com,{HERE}", f"a.com,{HERE}"),
        ({"no_proxy": "a", "no_grpc_proxy": "b"}, f"a,{HERE}", f"b,{HERE}"),
        ({"no_proxy": HERE}, HERE, HERE),
        ({"no_proxy": "*"}, "*", f"*,{HERE}"),
    ],
)
def test_reach_this_machine_directly_keeps_the_users_exceptions(
    environment, given, no_proxy, no_grpc_proxy
):
    environment(https_proxy=NOWHERE, **given)
    for _ in range(2):  # the second time changes nothing
        reach_this_machine_directly()
        assert os.environ["no_proxy"] == no_proxy
        assert os.environ["no_grpc_proxy"] == no_grpc_proxy  # noqa: SIM112 - its name


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY"])
def test_reach_this_machine_directly_leaves_object_stores_their_proxy(environment, name):
    environment(**{name: NOWHERE, "NO_PROXY": "direct.example"})
    reach_this_machine_directly()
    assert urllib.request.getproxies()["https"] == NOWHERE
    assert not urllib.request.proxy_bypass("bucket.s3.amazonaws.com")
    assert urllib.request.proxy_bypass("direct.example")
    assert urllib.request.proxy_bypass("localhost:8081")  # a Flink cluster's job manager
