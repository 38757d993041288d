"""The folder beside the output: removed when its run was killed, and only then."""

import pickle
import subprocess
import sys

from pipelines.prediction.work import WorkFolder

PROGRAM = """
import sys
from pipelines.prediction.work import WorkFolder
work = WorkFolder.make(sys.argv[1])
work.write_part(0, [])
print(work.path, flush=True)
sys.stdin.read()
"""


def test_make_removes_folders_of_killed_runs_and_keeps_those_in_use(tmp_path):
    output = str(tmp_path / "p[1].jsonl")
    words = [sys.executable, "-c", PROGRAM, output]
    children = [
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        paths = [child.stdout.readline().strip() for child in children]
        children[0].kill()
        children[0].wait()
        (tmp_path / "p[1].jsonl.work-of-the-user").mkdir()
        work = WorkFolder.make(output)
        names = {str(path) for path in tmp_path.iterdir()}
        assert names == {paths[1], work.path, str(tmp_path / "p[1].jsonl.work-of-the-user")}
    finally:
        for child in children:
            child.kill()
            child.communicate()


def test_workers_get_the_folder_without_its_lock(tmp_path):
    work = WorkFolder.make(str(tmp_path / "p.jsonl"))
    assert work.lock is not None
    copy = pickle.loads(pickle.dumps(work))
    assert (copy, copy.lock) == (work, None)
