"""What both programs print when no verb is called."""

import subprocess
from importlib import metadata

import pytest

import pipelines.cli
import trainer.cli
from pipelines.verbs import VERBS

MAIN = {"pipelines": pipelines.cli.main, "trainer": trainer.cli.main}
OF = {"pipelines": [*VERBS], "trainer": ["evaluate", "compare"]}


@pytest.mark.parametrize("name", MAIN)
def test_a_bare_program_lists_its_verbs(name, capsys):
    assert MAIN[name]([]) == 2
    said = capsys.readouterr().out
    assert said.startswith(f"usage: {name} ")
    assert all(f"\n  {verb} " in said for verb in OF[name])


@pytest.mark.parametrize("name", MAIN)
def test_version_is_that_of_the_package(name, capsys):
    assert MAIN[name](["--version"]) == 0
    assert capsys.readouterr().out == f"{name} {metadata.version('reelbeam')}\n"


@pytest.mark.parametrize(
    ("name", "word", "hint"),
    [
        ("pipelines", "vidoes", "did you mean videos?"),
        ("pipelines", "--input", "got '--input'"),
        ("trainer", "evalute", "did you mean evaluate?"),
    ],
)
def test_unknown_verbs_are_one_line(name, word, hint, capsys):
    assert MAIN[name]([word]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"{name}: error: expected a verb (")
    assert hint in error
    assert error.count("\n") == 1


COMPLETE = """
source "$1"
complete_words() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); "_shtab_$1"; echo "${COMPREPLY[*]}"; }
"""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("pipelines vi", "videos"),
        ("pipelines videos --samp", "--sampling"),
        ("pipelines videos --sampling ''", "windows uniform last"),
        ("trainer ev", "evaluate"),
        ("trainer --learn", "--learning_rate"),
        ("trainer evaluate --mod", "--model"),
        ("trainer --rnn gr", "gru"),
    ],
)
def test_bash_completes_verbs_flags_and_values(words, expected, tmp_path, capsys):
    name = words.split()[0]
    assert MAIN[name](["--print-completion", "bash"]) == 0
    (tmp_path / "completion.sh").write_text(capsys.readouterr().out)
    done = subprocess.run(
        ["bash", "-c", f"{COMPLETE}complete_words {words}", "bash", tmp_path / "completion.sh"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == expected.split()


def test_an_unknown_shell_is_one_line(capsys):
    assert trainer.cli.main(["--print_completion=fish"]) == 2
    assert "must be bash, zsh or tcsh, got 'fish'" in capsys.readouterr().err
