import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrecords_schema.running.terminal import printable, printable_name

PROGRAM = """
import os, sys
from tfrecords_schema.running.terminal import outlive_terminal
outlive_terminal()
first = open(sys.argv[1], "w")
for _ in range(10_000):  # more than a pipe holds, so that a reader that has ended is noticed
    print("a line of the output")
    print("a line of progress", file=sys.stderr)
os.write(2, b"a line of a native library")
subprocess = __import__("subprocess")
child = subprocess.run([sys.executable, "-c", "import sys; print('x' * 99999, file=sys.stderr)"])
first.write(f"child {child.returncode}, own number {first.fileno() > 2}")
first.close()
"""


@given(st.text())
def test_printable_leaves_no_control_character(text):
    shown = printable(text)
    assert all(c in "\n\t" or c.isprintable() for c in shown)
    assert shown.count("\n") == text.count("\n")
    assert printable_name(text).isprintable()


@given(st.text(st.characters(categories=("L", "N", "P")), min_size=1))
def test_printable_changes_no_plain_name(name):
    assert printable(name) == printable_name(name) == name


def test_printable_escapes_terminal_codes_bidi_marks_and_undecodable_bytes():
    assert printable("a\x1b[2Jb\r\u202ec\udcff\n\td") == "a\\x1b[2Jb\\r\\u202ec\\udcff\n\td"
    assert printable_name("a\nb\t") == "a\\nb\\t"


@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-", "2>&1 | head -n 1", "2>&1 | true"])
def test_outlive_terminal_goes_on_without_streams(closed, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    words = f'"{sys.executable}" "{tmp_path}/program.py" "{tmp_path}/result" {closed}'
    subprocess.run(["bash", "-c", words], check=True, capture_output=True)
    assert (tmp_path / "result").read_text() == "child 0, own number True"


NOTES = """
import os, sys
from tfrecords_schema.running.terminal import without_notes_of_tensorflow
try:
    with without_notes_of_tensorflow():
        os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are\\n")
        os.write(2, b"I0000 00:00:1796079615.206070   23346 port.cc:153] oneDNN custom operations are on.\\n")
        os.write(2, b"E0000 00:00:1796079615.206415 2 cuda_dnn.cc:8310] Unable to register cuDNN factory\\n")
        os.write(2, b"libcuda: a line of another library\\n")
        print("Python's own line", file=sys.stderr)
        os.write(2, b"F0000 00:00:1796079615.206415 2 core.cc:1] a fatal one\\n")
        raise ImportError
except ImportError:
    print("and the error after it", file=sys.stderr)
"""


def test_notes_of_tensorflow_are_dropped_and_nothing_else_is():
    done = subprocess.run([sys.executable, "-c", NOTES], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == [
        "Python's own line",
        "libcuda: a line of another library",
        "F0000 00:00:1796079615.206415 2 core.cc:1] a fatal one",
        "and the error after it",
    ]
