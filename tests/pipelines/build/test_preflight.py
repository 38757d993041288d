"""A broken installation is told before any footage is looked at, and is not taken for broken footage."""

import importlib.metadata
import sys
from types import SimpleNamespace

import pytest

from pipelines import cli
from pipelines.build import preflight
from pipelines.decoding.client import DecoderPool, DecoderProcess
from pipelines.errors import UserError
from pipelines.options.dataset import RunOptions

BROKEN = "raise TypeError('open() got an unexpected keyword')"


@pytest.fixture
def use_pool(monkeypatch):
    """Makes checks use a pool of one decoder, whose child runs ``program``, else the real one."""
    pools = []

    def use(program=None):
        pool = DecoderPool(1, timeout=20)
        if program is not None:
            (own,) = pool._all
            own._program = (sys.executable, "-c", program)
        pools.append(pool)
        monkeypatch.setattr(preflight, "shared_pool", lambda *_: pool)
        return pool

    yield use
    for pool in pools:
        pool.close()


def test_check_decoder_leaves_a_running_child(use_pool):
    pool = use_pool()
    preflight.check_decoder(RunOptions())
    (decoder,) = pool._all
    pid = decoder._child.pid
    preflight.check_decoder(RunOptions())
    assert decoder._child.pid == pid


@pytest.mark.parametrize(
    ("declared", "installed", "said"),
    [
        (
            ["av>=17.1,<20", "numpy>=1"],
            "99.1.0",
            "av 99.1.0 is installed, av<20,>=17.1 is needed: install",
        ),
        (["av>=17.1,<20"], None, "av is not installed, av<20,>=17.1 is needed: install"),
        (
            ["av>=1", 'none-such>=3; extra == "dev"'],
            "18.1.0",
            "are among those that reelbeam",
        ),
        (None, "18.1.0", "(av 18.1.0"),
    ],
)
def test_check_decoder_names_the_package(use_pool, monkeypatch, declared, installed, said):
    use_pool(BROKEN)
    real = importlib.metadata.version

    def version(name):
        if name == "av" and installed is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed if name == "av" else real(name)

    def requires(name):
        assert name == "reelbeam"
        if declared is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return declared

    fake = SimpleNamespace(
        version=version,
        requires=requires,
        PackageNotFoundError=importlib.metadata.PackageNotFoundError,
    )
    monkeypatch.setattr(preflight.importlib, "metadata", fake)
    with pytest.raises(UserError) as error:
        preflight.check_decoder(RunOptions())
    text = str(error.value)
    assert "TypeError: open() got an unexpected keyword" in text
    assert said in text


@pytest.mark.parametrize(
    "verb",
    ["videos", "dashcam --annotation a.json --label [0].v --frame_rate 8"],
    ids=["videos", "dashcam"],
)
def test_build_checks_decoder_before_listing(use_pool, monkeypatch, capsys, tmp_path, verb):
    use_pool(BROKEN)
    asked = []
    monkeypatch.setattr(DecoderProcess, "probe", lambda self, path, *_: asked.append(path))
    words = ["--input", str(tmp_path / "none"), "--output", str(tmp_path / "out")]
    assert cli.main([*verb.split(), *words]) == 2
    said = capsys.readouterr().err
    assert "cannot decode a test clip, so no footage was tried" in said
    assert said.count("\n") == 1
    assert asked == []
