"""Fixtures for tests on Flink: its jars, a cluster of several processes, and `pipelines` as a process."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest

DATA = Path(__file__).parents[1] / "data"
POM = Path(__file__).with_name("pom.xml")
JARS_SHA256 = "9c623012385f28e6a2c97fcca23976b413108f7e823e974fc380e3986ec5e5b8"
JOB_SERVER = "org.apache.beam.runners.flink.FlinkJobServerDriver"
JOB_MANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
TASK_MANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
# Packages that Flink's own start scripts open for Java 17 and later.
OPENED = ("lang", "lang.reflect", "net", "io", "nio", "text", "time", "util", "util.concurrent")
TIMEOUT = 300  # seconds; an idle machine needs a few


def pytest_addoption(parser):
    parser.addoption(
        "--obtain_engines",
        action="store_true",
        help="fetch the engines with Maven and Go, and fail if they cannot be fetched; without it, tests "
        "are skipped until the engines are there",
    )


@pytest.fixture(scope="session")
def cache():
    """The folder that keeps engines, outside the repository."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reelbeam"


@pytest.fixture(scope="session")
def data():
    """The folder of real clips; see its ATTRIBUTION.md."""
    return DATA


def obtain_jars(classpath):
    """Fetches all jars with Maven, which verifies their checksums (-C), and writes their paths to a file."""
    classpath.parent.mkdir(parents=True, exist_ok=True)
    goal = "dependency:build-classpath"
    # Runs in a separate folder, because Maven reads settings from the current one.
    command = ["mvn", "-B", "-C", "-ntp", "-f", POM, goal, f"-Dmdep.outputFile={classpath}.new"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=classpath.parent)
    if done.returncode:
        raise RuntimeError(f"Maven could not fetch Flink:\n{done.stdout[-3000:]}")
    os.replace(f"{classpath}.new", classpath)


def read_jars(classpath):
    jars = [Path(path) for path in classpath.read_text().strip().split(os.pathsep)]
    sums = sorted(f"{jar.name} {hashlib.sha256(jar.read_bytes()).hexdigest()}" for jar in jars)
    found = hashlib.sha256("\n".join(sums).encode()).hexdigest()
    assert found == JARS_SHA256, f"the jars differ from the tested ones: {found}"
    return jars


def write_jar(path, main, jars):
    """Writes a jar that only names its main class and the jars with the classes."""
    classes = "Class-Path: " + " ".join(jar.as_uri() for jar in jars)
    lines = ["Manifest-Version: 1.0", f"Main-Class: {main}"]
    # A line of a manifest has at most 72 bytes; a space starts a continuation line.
    lines += [classes[:70], *(f" {classes[i : i + 69]}" for i in range(70, len(classes), 69))]
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("META-INF/MANIFEST.MF", "\r\n".join(lines) + "\r\n\r\n")


@pytest.fixture(scope="session")
def jars(request, cache):
    """The jars of Flink and of Beam's runner on it."""
    required = request.config.getoption("--obtain_engines", default=False)
    if not shutil.which("java"):
        assert not required, "java (11 or later) is not on the PATH"
        pytest.skip("java (11 or later) is not on the PATH")
    fingerprint = hashlib.sha256(POM.read_bytes()).hexdigest()
    classpath = cache / f"flink-{fingerprint[:16]}" / "classpath"
    there = classpath.exists() and all(map(os.path.exists, classpath.read_text().split(":")))
    if not there and not required:
        pytest.skip("Flink has not been fetched: `make test-flink` does")
    if not there:
        obtain_jars(classpath)
    return read_jars(classpath)


@pytest.fixture(scope="session")
def job_server_jar(jars, tmp_path_factory):
    path = tmp_path_factory.mktemp("engine") / "flink-job-server.jar"
    write_jar(path, JOB_SERVER, jars)
    return path


def run(*arguments, **settings):
    with start(*arguments, **settings) as process:
        out, error = process.communicate(timeout=TIMEOUT)
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


def start(*arguments, **settings):
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **settings,
    )


def wait_for(condition, event, seconds=TIMEOUT):
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, f"{event}: not within {seconds} s"
        time.sleep(0.1)
    return found


@pytest.fixture(scope="session", name="run")
def _run():
    return run


@pytest.fixture(scope="session", name="start")
def _start():
    return start


@pytest.fixture(scope="session", name="wait_for")
def _wait_for():
    return wait_for


@pytest.fixture(scope="session")
def contents():
    def read(folder):
        """Returns the SHA-256 of every file of a dataset, by name."""
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    return read


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """Class folders: two classes, 24 clips of up to a minute."""
    root = tmp_path_factory.mktemp("clips")
    for index in range(12):
        for label, source in (("concert", "demo.mp4"), ("dog", "karma.mp4")):
            target = root / label / f"{index}.mp4"
            target.parent.mkdir(exist_ok=True)
            shutil.copy(DATA / source, target)
    return root


def free_port(host="127.0.0.1"):
    with socket.create_server((host, 0)) as listening:
        return listening.getsockname()[1]


class Cluster:
    """A job manager and two task managers, each on its own loopback address with a pool of workers.

    As on two machines, one ``--environment_config`` leads each task manager to its own pool: each Java
    process has its own hosts file.
    """

    def __init__(self, folder, jars):
        self.folder, self.jars = folder, jars
        self.rest, self.pool_port = free_port(), free_port("127.0.0.2")
        self.processes = {}
        (folder / "conf").mkdir()
        (folder / "tmp").mkdir()
        (folder / "conf/flink-conf.yaml").write_text(
            "\n".join(f"{key}: {value}" for key, value in self.settings().items())
        )

    def settings(self):
        return {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.rpc.port": free_port(),
            "jobmanager.bind-host": "127.0.0.1",
            "jobmanager.memory.process.size": "1g",
            "rest.address": "127.0.0.1",
            "rest.bind-address": "127.0.0.1",
            "rest.port": self.rest,
            "taskmanager.host": "127.0.0.1",
            "taskmanager.bind-host": "127.0.0.1",
            # One task manager can do all when the other is gone.
            "taskmanager.numberOfTaskSlots": 2,
            "cluster.evenly-spread-out-slots": "true",
            "taskmanager.cpu.cores": 2,
            "taskmanager.memory.framework.heap.size": "128m",
            "taskmanager.memory.framework.off-heap.size": "64m",
            "taskmanager.memory.task.heap.size": "256m",
            "taskmanager.memory.task.off-heap.size": "64m",
            "taskmanager.memory.managed.size": "64m",
            "taskmanager.memory.network.min": "32m",
            "taskmanager.memory.network.max": "32m",
            "taskmanager.memory.jvm-metaspace.size": "256m",
            "taskmanager.memory.jvm-overhead.min": "64m",
            "taskmanager.memory.jvm-overhead.max": "64m",
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": 40,
            "restart-strategy.fixed-delay.delay": "3 s",
            "heartbeat.interval": 2000,
            "heartbeat.timeout": 20000,
            "io.tmp.dirs": self.folder / "tmp",
            "process.working-dir": self.folder / "tmp",
        }

    def start(self):
        self._java("job_manager", JOB_MANAGER)
        for index in (1, 2):
            self._start_pool(index)
        self.complete()

    def complete(self):
        """Starts the task managers that are not running."""
        for index in (1, 2):
            process = self.processes.get(f"task_manager{index}")
            if process is None or process.poll() is not None:
                hosts = self.folder / f"hosts{index}"
                names = [("127.0.0.1", "localhost"), ("127.0.0.1", socket.gethostname())]
                names.append((self.pool_host(index), "workers"))
                hosts.write_text("".join(f"{address} {name}\n" for address, name in names))
                self._java(f"task_manager{index}", TASK_MANAGER, f"-Djdk.net.hosts.file={hosts}")
        wait_for(lambda: self.ask("/overview")["taskmanagers"] == 2, "two task managers")

    def pool_host(self, index):
        return f"127.0.0.{1 + index}"

    def ask(self, path):
        with contextlib.suppress(OSError):
            url = f"http://127.0.0.1:{self.rest}{path}"
            return json.load(urllib.request.urlopen(url, timeout=TIMEOUT))
        return {"taskmanagers": 0}

    def flags(self, job_server_jar):
        flags = {
            "runner": "FlinkRunner",
            "flink_master": f"127.0.0.1:{self.rest}",
            "environment_type": "EXTERNAL",
            "environment_config": f"workers:{self.pool_port}",
            "parallelism": 2,
            "flink_job_server_jar": job_server_jar,
            # Task managers have the jars; without this, every job would send all of them.
            "files_to_stage": job_server_jar,
        }
        return [f"--{name}={value}" for name, value in flags.items()]

    def workers(self):
        """Returns the process ids of Beam's workers, by the pool that started them."""
        return {index: children(self.processes[f"pool{index}"].pid) for index in (1, 2)}

    def workers_started(self):
        logs = [(self.folder / f"pool{index}.log").read_text() for index in (1, 2)]
        return sum(log.count("Starting worker") for log in logs)

    def stop(self):
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _java(self, name, main, *flags):
        opened = [f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in OPENED]
        opened.append("--add-opens=java.base/sun.nio.ch=ALL-UNNAMED")
        opened.append("--add-exports=java.base/sun.net.util=ALL-UNNAMED")
        classes = os.pathsep.join(map(str, self.jars))
        conf = ["--configDir", self.folder / "conf"]
        self._start(name, ["java", *opened, "-Xmx512m", *flags, "-cp", classes, main, *conf])

    def _start_pool(self, index):
        program = [sys.executable, Path(__file__).with_name("worker_pool.py")]
        self._start(f"pool{index}", [*program, self.pool_host(index), str(self.pool_port)])

    def _start(self, name, command):
        # Beam's pool starts its workers as "python".
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                list(map(str, command)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, "PATH": path},
                start_new_session=True,
            )


def children(pid):
    # Looks at all threads, because one of gRPC's threads starts the workers.
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for thread in threads for child in thread.read_text().split()]


@pytest.fixture(scope="session")
def started_cluster(jars, tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), jars)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def cluster(started_cluster):
    """A cluster of one job manager and two task managers."""
    started_cluster.complete()
    return started_cluster
