import pytest

import trainer
from tests.processes import run_python


def test_import_trainer_and_help_do_not_import_tensorflow(tmp_path):
    script = """
import sys
import trainer
from trainer.cli import main
assert "read_sequences" in dir(trainer)
try:
    main(["--help"])
except SystemExit as exit:
    assert not exit.code
loaded = {"tensorflow", "keras"} & set(sys.modules)
assert not loaded, loaded
from trainer import Augmentation, Clips
assert Clips(num_frames=8).span == 8
assert "tensorflow" not in sys.modules
"""
    process = run_python("-c", script, cwd=tmp_path)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("name", trainer.__all__)
def test_public_names_exist(name):
    assert getattr(trainer, name).__name__ == name


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="module 'trainer' has no attribute 'read_clips'"):
        trainer.read_clips  # noqa: B018
