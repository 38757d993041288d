"""Targets beside the captions of an overlay: those of each frame, as a build would read them."""

from dataclasses import replace

import pytest

from pipelines.decoding import overlay
from pipelines.decoding.protocol import BuildRequest, Caption, DecodingFailure, OverlayRequest
from pipelines.options.dataset import ImageOptions, LabelOptions, SamplingOptions
from pipelines.options.telemetry import TelemetryOptions
from pipelines.plan.descriptors import Segment, SideFile, Source
from tfrecords_schema.spec import LabelSpec, SequenceSpec

SPEED = LabelSpec(task="regression", target_names=("speed",), target_units=("m/s",))
CLASSES = LabelSpec(task="classification", class_names=("left", "right"))
BY_TIME = TelemetryOptions(telemetry="{stem}.csv", time_column="t", max_gap=0.15)
BY_ROW = TelemetryOptions(telemetry="{stem}.csv")


@pytest.fixture
def shown(write_video, tmp_path, monkeypatch):
    """Draws a clip of 10 frames/s, and returns the lines on each frame."""
    lines = []
    draw = overlay.draw_lines
    monkeypatch.setattr(
        overlay, "draw_lines", lambda pixels, own: draw(pixels, lines.append(own) or own)
    )

    def shown(rows, telemetry, label, *, times=range(2000, 2600, 100), start=None):
        video = write_video(tmp_path / "a.mp4", times=times)
        (tmp_path / "a.csv").write_text("\n".join(rows) + "\n")
        path = str(tmp_path / "a.csv")
        source = Source(id="a.mp4", path=str(video), data_path="a.mp4", group="a", start=start)
        build = BuildRequest(
            segment=Segment(source=source),
            spec=SequenceSpec(num_frames=2, image=ImageOptions().spec, label=label),
            dataset_name="",
            sampling=SamplingOptions(num_frames=2),
            image=ImageOptions(),
        )
        measured = replace(source, telemetry=SideFile(path=path, data_path="a.csv"))
        column = None if label.target_names else "turn"
        targets = replace(
            build,
            segment=Segment(source=measured),
            telemetry=telemetry,
            label=LabelOptions(class_column=column),
        )
        captions = (Caption(start=0.0, lines=("said",)), Caption(start=0.45, lines=()))
        output = str(tmp_path / "drawn.mp4")
        request = OverlayRequest(build=build, captions=captions, output=output, targets=targets)
        overlay.draw_overlay(request, lambda: None)
        return [list(own) for own in lines]

    return shown


def test_values_are_those_at_the_time_of_each_frame_and_none_in_a_gap(shown):
    rows = ["t,speed", "0,10", "0.1,12.3456", "0.4,20", "0.5,30"]
    expected = [["said, target 10 m/s"], ["said, target 12.35 m/s"], ["said"], ["said"]]
    assert shown(rows, BY_TIME, SPEED) == [*expected, ["said, target 20 m/s"], []]


def test_rows_belong_to_frames_of_the_file_where_a_span_begins(shown):
    rows = ["turn", *("left" if i < 3 else "right" for i in range(6))]
    found = shown(rows, BY_ROW, CLASSES, start=0.2)
    assert found == [["said", "target left"], *[["said", "target right"]] * 2, []]


def test_offsets_keep_their_digits(shown):
    rows = ["t,speed", *(f"{i / 10},{1.7e9 + i / 100:.2f}" for i in range(6))]
    label = replace(SPEED, target_units=(), target_offsets=(1.7e9,))
    assert shown(rows, BY_TIME, label)[3] == ["said, target 1700000000.03"]


def test_telemetry_that_does_not_overlap_is_a_failure(shown):
    with pytest.raises(DecodingFailure, match="does not overlap the footage"):
        shown(["t,speed", "100,1", "101,2"], BY_TIME, SPEED)
