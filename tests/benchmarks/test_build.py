"""Tests `benchmarks/build.py` on footage too small for meaningful figures."""

import re
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def building(monkeypatch: pytest.MonkeyPatch):
    """The modules of the benchmark."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import building.footage
    import building.measuring

    return building


@pytest.fixture
def clip(building, tmp_path: Path) -> Path:
    kind = building.footage.Kind(72, 128, 200_000, b_frames=2)
    return building.footage.make_clip(tmp_path / "clip.mp4", kind, seconds=2.0)


def frame_times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


class TestFootage:
    def test_make_clip_has_requested_size_rate_and_b_frames(self, building, clip: Path) -> None:
        assert frame_times(clip) == pytest.approx([number / 25 for number in range(50)])
        assert "128x72 h264, 25 frames/s" in building.footage.describe(clip)
        assert "with B-frames" in building.footage.describe(clip)

    def test_repeat_leaves_no_gap(self, building, clip: Path, tmp_path: Path) -> None:
        long = building.footage.repeat(clip, tmp_path / "long.mp4", 3)

        assert frame_times(long) == pytest.approx([number / 25 for number in range(150)])
        assert building.footage.count_frames(long) == 150
        assert building.footage.count_seconds(long) == 6

    def test_cut_keeps_beginning(self, building, clip: Path, tmp_path: Path) -> None:
        short = building.footage.cut(clip, tmp_path / "short.mp4", 1.0)

        assert frame_times(short) == pytest.approx([number / 25 for number in range(25)])

    def test_spread_returns_distinct_paths_of_same_bytes(
        self, building, clip: Path, tmp_path: Path
    ) -> None:
        paths = building.footage.spread(clip, tmp_path / "many", 5)

        assert len(set(paths)) == 5
        assert {path.read_bytes() for path in paths} == {clip.read_bytes()}


class TestMeasuring:
    def test_timed_counts_cpu_of_running_and_ended_processes(self, building) -> None:
        busy = "import time\nwhile time.process_time() < 1: pass"

        def work() -> None:
            inner = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])"
            subprocess.run([sys.executable, "-c", inner], check=True)
            while time.process_time() - began < 0.3:
                pass

        began = time.process_time()
        spent = building.measuring.timed(work)

        assert 1.3 <= spent.cpu + 0.05 < 2.2  # the kernel counts in hundredths of a second

    def test_interleave_alternates_order(self, building) -> None:
        turns: list[str] = []
        sides = {"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}

        spent = building.measuring.interleave(sides, 3, lambda: turns.append("-"))

        assert "".join(turns) == "-a-b-b-a-a-b"
        assert {name: len(rounds) for name, rounds in spent.items()} == {"a": 3, "b": 3}

    def test_ratio_is_median_of_rounds(self, building) -> None:
        spent = building.measuring.Spent
        over = [spent(2, 9), spent(30, 9), spent(8, 9)]
        under = [spent(1, 3), spent(3, 9), spent(2, 1)]

        assert building.measuring.ratio(over, under) == 4
        assert building.measuring.ratio(over, under, "cpu") == 3

    def test_run_command_separates_memory_of_driver_and_child(self, building) -> None:
        hold = "import time; held = b'1' * (80 << 20); time.sleep(2)"
        driver = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"

        run = building.measuring.run_command([sys.executable, "-c", driver], sampled=True)

        assert run.child.resident > 80 << 20 > run.driver.resident > 1 << 20

    def test_run_command_raises_with_output_of_failed_command(self, building) -> None:
        with pytest.raises(RuntimeError, match="planned failure"):
            building.measuring.run_command(
                [sys.executable, "-c", "raise SystemExit('planned failure')"]
            )


@pytest.mark.slow
def test_main_runs_every_measurement(clip: Path, tmp_path: Path) -> None:
    command = [sys.executable, BENCHMARKS / "build.py", "--footage", clip, "--work", tmp_path]
    done = subprocess.run(
        [*command, "--part", "0.001", "--repeats", "1"], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

    figures = re.findall(r"^\| (.+?) \| (.+?) \| (.*?) \| (met|not met|) \|$", done.stdout, re.M)
    targets = [target for _, _, target, verdict in figures if verdict]
    for target in ("at least 0.95", "at least 1.2", "at most 1.35", "at least 0.8", "at least 1.8"):
        assert target in targets
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
