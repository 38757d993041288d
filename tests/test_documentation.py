"""The pages are right: their commands parse, their imports resolve, their links and names exist.

A page is README.md, CONTRIBUTING.md or a file in docs/. Commands are parsed by the programs themselves, in an
empty folder: a command of a page must get as far as missing its input.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import pkgutil
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

import pipelines.cli
import trainer.cli
import trainer.config.flags
from pipelines.build.summary import describe_failures
from pipelines.plan.descriptors import SourceFailure
from tfrecords_schema import ImageSpec, LabelSpec, SequenceSpec, write_fake_dataset

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CHANGELOG = ROOT / "CHANGELOG.md"
PACKAGES = ("pipelines", "trainer", "tfrecords_schema")
VERBS = ("videos", "dashcam", "validate", "adopt", "predict", "merge")

PROGRAMS = ("pipelines", "trainer", "python", "pytest", "make", "pip", "docker", "gcloud", "go")

# Commands of other programs, which are not run, by their first words.
NOT_CHECKED = {
    "docker": "needs a container engine",
    "gcloud": "needs an account of Google Cloud",
    "go install": "needs Go and a network",
    "pip install": "changes the environment; tests/versions.py installs the package",
    "python -m apache_beam.runners.worker.worker_pool_main": "Beam's; tests/flink starts such a pool",
}
# Pages whose Python blocks are only compared with the signatures that they call.
NOT_RUN = {
    **{
        f"docs/{name}.md": "a tutorial; tests/examples/test_notebooks.py runs its notebook"
        for name in ("moving_line", "echo", "shapes", "transfer_learning", "competition")
    },
    "docs/deploying.md": "its blocks need a run; tests/trainer/models/test_deploying.py runs each",
    "docs/pytorch.md": "it needs PyTorch; `make test-torch` runs it",
    "docs/reader.md": "its blocks need a model, a large disk and hosts; tests/trainer/data has such calls",
}
# Modules that pages import, and that need a package which is not installed here.
NOT_INSTALLED = ("tfrecords_schema.torch",)
# Flags that pages name and that belong to other programs.
FLAGS_OF_OTHERS = {
    "apache_beam": {
        "--disk_size_gb", "--environment_config", "--environment_type", "--experiments",
        "--flink_conf_dir", "--flink_job_server_jar", "--flink_master", "--flink_version",
        "--job_name", "--machine_type", "--max_num_workers", "--number_of_worker_harness_threads",
        "--object_reuse", "--parallelism", "--prism_location", "--project", "--region",
        "--requirements_file", "--runner", "--s3_access_key_id", "--sdk_container_image",
        "--setup_file", "--spark_master_url", "--staging_location", "--temp_location",
    },
    "pytest": {"--tfrecords", "--footage", "--mutations", "--against"},
    "docker": {"--build-arg"},
    "worker_pool_main": {"--service_port"},
    "hadoop": {"--glob"},
    "fuzz": {"--list"},
}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """A block of code on a page.

    Attributes:
        page: its path, relative to the repository.
        line: number of its first line.
        language: what follows the fence; ``""`` for an indented block.
        text: the code, without indentation.
    """

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def find_blocks(page: Path) -> Iterator[Block]:
    """Yields the fenced blocks of a page and those indented by four columns or more."""
    name, lines = page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8").splitlines()
    fence: tuple[int, str] | None = None
    code: list[str] = []
    for number, line in enumerate([*lines, ""], 1):
        if line.strip().startswith("```"):
            if fence is None:
                language, *_ = [*line.strip()[3:].split(), ""]  # tags of cells of a notebook follow
                fence = number + 1, language
            else:
                yield Block(name, *fence, "\n".join(code))
                fence = None
            code = []
        elif fence is not None or line.startswith("    "):
            if not line.startswith("%pip "):  # of notebooks
                code.append(line if fence is not None else line[4:])
        elif code:
            yield Block(name, number - len(code), "", "\n".join(code))
            code = []


BLOCKS = [block for page in PAGES for block in find_blocks(page)]
PYTHON = [block for block in BLOCKS if block.language == "python"]


def commands() -> Iterator[tuple[Block, list[str]]]:
    """Yields each command of the pages as words; ``\\`` continues a line, ``#`` begins a comment."""
    for block in BLOCKS:
        if block.language not in ("", "sh", "bash", "console"):
            continue
        for line in re.sub(r"\\\n\s*", " ", block.text).splitlines():
            if re.match(rf"(?:[A-Z_]+='[^']*' +)?(?:{'|'.join(PROGRAMS)}) ", line):
                words = shlex.split(line, comments=True)
                yield block, words[1:] if "=" in words[0] else words


COMMANDS = list(commands())
OURS = [(block, words) for block, words in COMMANDS if words[0] in ("pipelines", "trainer")]
OTHERS = [(block, words) for block, words in COMMANDS if words[0] not in ("pipelines", "trainer")]


def name_command(value: object) -> str:
    """Returns the id of a parameter of a test."""
    return str(value) if isinstance(value, Block) else " ".join(value)[:60]


def run_program(words: list[str]) -> int:
    """Runs ``pipelines`` or ``trainer`` in this process and returns its exit status."""
    programs = {"pipelines": pipelines.cli.main, "trainer": trainer.cli.main}
    try:
        return programs[words[0]](words[1:])
    except SystemExit as stopped:
        return int(stopped.code or 0)


class TestCommands:
    def test_commands_are_found(self):
        assert {tuple(words[:2]) for _, words in OURS} >= {("pipelines", verb) for verb in VERBS}
        assert len(OURS) > 25
        assert len(OTHERS) > 20

    @pytest.mark.parametrize(("block", "words"), OURS, ids=name_command)
    def test_programs_accept_flags_and_miss_only_the_input(
        self, block, words, tmp_path, monkeypatch, capsys
    ):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "setup.py").touch()  # Beam looks for the files that flags name
        (tmp_path / "thresholds.json").write_text("{}")
        for flag, folder in itertools.pairwise(words):
            if flag in ("--sources", "--against"):
                (tmp_path / folder).mkdir()
        # Footage on an object store is looked for in this folder.
        words = [re.sub(r"^(s3|gs|hdfs)://(?!BUCKET)", "", word) for word in words]
        status = run_program(words)
        said = capsys.readouterr().err
        assert status in (1, 2), (
            f"{block}: expected a missing input, but the command ended with {status}"
        )
        assert "--help" not in said, f"{block}: {said}"
        inputs = {"--input", "--tfrecords", "--model", "--resume", "compare"}
        places = [words[i + 1] for i, word in enumerate(words) if word in inputs]
        assert any(place.split("*")[0].rstrip("/") in said for place in places), f"{block}: {said}"

    @pytest.mark.parametrize(
        "words",
        [
            ["pipelines", "videos", "--input", "a", "--output", "b", "--frame_rates", "10"],
            ["pipelines", "videos", "--input", "a", "--output", "b", "--size", "large"],
            ["pipelines", "validate", "--tfrecords", "a", "--fail_on", "notes"],
            ["trainer", "--tfrecords", "a", "--rnn", "elman"],
            ["trainer", "evaluate", "--model", "a", "--tfrecords", "b", "--splits", "test"],
        ],
        ids=name_command,
    )
    def test_programs_refuse_wrong_flags(self, words, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        assert run_program(words) == 2
        assert "--help" in capsys.readouterr().err

    @pytest.mark.parametrize(("block", "words"), OTHERS, ids=name_command)
    def test_other_commands_name_what_exists(self, block, words):
        command = " ".join(words)
        if any(command.startswith(known) for known in NOT_CHECKED):
            return
        program, *arguments = words
        if program == "make":
            targets = re.findall(
                r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M
            )
            assert arguments[0] in targets, f"{block}: no target {arguments[0]}"
        elif program == "python" and arguments[0] == "-c":
            compile(arguments[1], str(block), "exec")
        else:
            assert program in ("python", "pytest"), (
                f"{block}: {command} is neither checked nor excused"
            )
            place = ROOT / next(word for word in arguments if not word.startswith("-"))
            assert place.exists(), f"{block}: no {place}"
            flags = {word.partition("=")[0] for word in arguments if word.startswith("--")}
            assert flags <= flags_of(place), f"{block}: {flags - flags_of(place)}"


class TestPython:
    def test_blocks_are_found(self):
        assert len(PYTHON) >= 8

    @pytest.mark.parametrize("block", PYTHON, ids=str)
    def test_block_compiles_and_its_imports_resolve(self, block):
        for node in ast.walk(ast.parse(block.text, str(block))):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in PACKAGES:
                for alias in node.names if node.module not in NOT_INSTALLED else ():
                    assert resolves(f"{node.module}.{alias.name}"), f"{block}: {alias.name}"
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.split(".")[0] in PACKAGES:
                        assert resolves(alias.name), f"{block}: {alias.name}"

    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
    def test_arguments_of_calls_exist(self, page):
        imported = {}
        for block in (block for block in PYTHON if block.page == page.relative_to(ROOT).as_posix()):
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in PACKAGES:
                    for alias in node.names if node.module not in NOT_INSTALLED else ():
                        imported[alias.name] = pkgutil.resolve_name(f"{node.module}:{alias.name}")
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in imported:
                    keywords = {keyword.arg: None for keyword in node.keywords if keyword.arg}
                    try:
                        inspect.signature(imported[node.func.id]).bind(*node.args, **keywords)
                    except TypeError as error:
                        pytest.fail(f"{block}: {node.func.id}: {error}")

    @pytest.mark.parametrize("page", sorted({block.page for block in PYTHON} - set(NOT_RUN)))
    def test_blocks_run(self, page, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        blocks = [block for block in PYTHON if block.page == page]
        if page == "README.md":  # builds its own dataset
            for name, label in itertools.product("abcdefgh", ("wave", "juggling")):
                clip = Path("clips", label, f"{name}.gif")
                clip.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / "tests/data/demo.gif", clip)
        else:
            spec = SequenceSpec(
                num_frames=2,
                image=ImageSpec(height=16, width=16),
                label=LabelSpec(task="classification", class_names=("a", "b")),
            )
            write_fake_dataset("dataset", spec, {"train": 4})
        names: dict[str, object] = {}
        for block in blocks:
            exec(compile(block.text, str(block), "exec"), names)
        if page == "README.md":
            assert names["info"].spec.image.shape == (128, 171, 3)
            assert names["features"]["image"].shape[1:] == (16, 128, 171, 3)
            assert Path("report.html").stat().st_size > 0

    def test_image_for_dataflow_imports_what_exists(self):
        text = (ROOT / "examples/dataflow/Dockerfile").read_text(encoding="utf-8")
        (line,) = re.findall(r'python -c "(.*)"', text)
        for node in ast.walk(ast.parse(line)):
            if isinstance(node, ast.Import):
                ours = [a.name for a in node.names if a.name.split(".")[0] in PACKAGES]
                assert ours
                assert all(map(resolves, ours))


@pytest.fixture(scope="module")
def known_flags():
    known = set().union(*FLAGS_OF_OTHERS.values())
    for program in (pipelines.cli.PROGRAM, trainer.config.flags.PROGRAM):
        known |= set(re.findall(r"--\w[\w-]+", program.overview))
        known = known.union(*(make().flags for make in program.parsers.values()))
    return known.union(*(flags_of(script) for script in ROOT.glob("benchmarks/*.py")))


class TestNames:
    @pytest.mark.parametrize("page", [*PAGES, CHANGELOG], ids=lambda page: page.name)
    def test_lines_are_at_most_110_columns_wide(self, page):
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            assert len(line) <= 110 or line.startswith("|"), f"{page.name}:{number}"

    @pytest.mark.parametrize("page", [*PAGES, CHANGELOG], ids=lambda page: page.name)
    def test_links_lead_to_files_and_headings(self, page):
        prose = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            if "://" in target:
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            assert file.exists(), f"{page.name}: {target}"
            if anchor:
                assert anchor in anchors(file), f"{page.name}: {target}"

    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
    def test_files_and_python_names_exist(self, page):
        for name in re.findall(r"`([\w./]+)`", page.read_text(encoding="utf-8")):
            if re.match(
                r"(pipelines|trainer|tfrecords_schema|tests|docs|examples|benchmarks)/", name
            ):
                assert (ROOT / name).exists(), f"{page.name}: {name}"
            elif re.match(rf"({'|'.join(PACKAGES)})\.\w", name):
                assert resolves(name), f"{page.name}: {name}"

    @pytest.mark.parametrize("page", [*PAGES, CHANGELOG], ids=lambda page: page.name)
    def test_flags_exist(self, page, known_flags):
        spans = re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8"))
        named = {flag for span in spans for flag in re.findall(r"(?<![\w-])--\w[\w-]+", span)}
        assert named <= known_flags, f"{page.name}: {named - known_flags}"

    def test_changelog_names_what_is_new(self):
        text = CHANGELOG.read_text(encoding="utf-8")
        rows = re.findall(r"^\| `[^|]+` \| `([\w.]+)` \|$", text, re.M)
        assert rows
        for name in rows:
            assert resolves(name), name


def test_errors_page_shows_messages_of_a_build():
    text = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```text\n(.+?)```", text, re.S)
    failures = [
        SourceFailure(
            source=name, stage=stage, reason=reason.replace("N", "7"), truncated="used" in heading
        )
        for heading, lines in re.findall(r"^(\d.+)\n((?:  .+\n)+)", shown, re.M)
        for stage, reason, names in re.findall(r"^  \d+ at (\w+): (.+) \((.+)\)$", lines, re.M)
        for name in re.findall(r"'(.+?)'", names)
    ]
    assert len(failures) == 4
    assert "\n".join(describe_failures(failures)) + "\n" == shown


def resolves(name: str) -> bool:
    """Returns True if ``name`` is a module, or an attribute of one, of any depth."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def anchors(page: Path) -> set[str]:
    """Returns the anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def flags_of(script: Path) -> set[str]:
    """Returns the flags that a script or a folder of tests declares."""
    files = (
        [script]
        if script.is_file()
        else [*script.rglob("*.py"), *script.parent.glob("conftest.py")]
    )
    return set(
        re.findall(r'"(--\w+)"', "".join(file.read_text(encoding="utf-8") for file in files))
    )


def test_pytest_enters_every_folder_of_tests(request):
    left_out = request.config.getini("norecursedirs")
    folders = {
        folder.name
        for file in (ROOT / "tests").rglob("test_*.py")
        for folder in file.relative_to(ROOT).parents
    }
    assert "build" in folders
    found = {name for name in folders if any(fnmatch(name, pattern) for pattern in left_out)}
    assert not found
