"""Cost of a minute of video, from the file to the detections."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from clips import noise_frames, write_clip
from test_backbone_weights import NET, extraction

from tal_bench.cli import main
from tal_bench.config.extraction import FILE
from tal_bench.errors import DataError
from tal_bench.extraction.decoding import VideoReader
from tal_bench.extraction.streams import complete
from tal_bench.profiling import pipeline as module
from tal_bench.profiling.extraction import synthetic_video
from tal_bench.profiling.pipeline import Pipeline, PipelineCost, measure, share_fastest_steps
from tal_bench.profiling.video_minute import extraction_seconds, stream_seconds
from tal_bench.report.profile.pipeline_figure import stacked_bars


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "a.mkv", noise_frames(60, size=64), fps=25)


def test_rgb_models_have_no_flow_cost(clip: Path) -> None:
    both = complete(extraction(size=(64, 64)))
    student, teacher = (
        measure(Pipeline(name, both, frames=64, classes=3, video=clip))
        for name in ("conv-dw-hallucinated-small", "actionformer-small")
    )
    assert set(student.seconds) == {"decode", "backbone/rgb", "detector", "post-processing"}
    assert set(teacher.seconds) == {*student.seconds, "flow", "backbone/flow"}
    assert (student.flow, teacher.flow, student.flow_share) == ("", "dis", 0.0)
    for cost in (student, teacher):
        assert all(seconds > 0 for seconds in cost.seconds.values())
        assert cost.total == pytest.approx(sum(cost.seconds.values()))
        assert cost.frames_per_second == pytest.approx(60 * 25 / cost.total)
        assert cost.size == "64x64"
        assert cost.peak_memory_mb > 50
    assert teacher.flow_share == pytest.approx(teacher.seconds["flow"] / teacher.total)


def test_identical_steps_get_the_same_time() -> None:
    both = extraction(size=(64, 64))
    pipelines = [
        Pipeline("student", both),
        Pipeline("teacher", both),
        Pipeline("teacher", both.with_flow("tvl1")),
    ]
    costs = [
        PipelineCost(
            "student", "64x64", "", NET, {"decode": 2.0, "backbone/rgb": 4.0}, 10.0, 0.0, 1.0, total=6.0
        ),
        PipelineCost("teacher", "64x64", "dis", NET, {"decode": 1.0, "flow": 1.0}, 10.0, 0.5, 1.0, total=2.0),
        PipelineCost(
            "teacher", "64x64", "tvl1", NET, {"backbone/rgb": 3.0, "flow": 9.0}, 10.0, 0.75, 1.0, total=12.0
        ),
    ]
    student, dis, tvl1 = share_fastest_steps(pipelines, costs)
    assert student.seconds == {"decode": 1.0, "backbone/rgb": 3.0}
    assert (student.total, student.frames_per_second) == (4.0, 15.0)
    assert dis.seconds == {"decode": 1.0, "flow": 1.0}
    assert tvl1 == costs[2]


def test_tvl1_is_slower_than_dis(clip: Path) -> None:
    both = complete(extraction(size=(64, 64))).only_flow()
    dis, tvl1 = (stream_seconds(both.with_flow(name), clip)["flow"] for name in ("dis", "tvl1"))
    assert tvl1 > 10 * dis


def test_extracted_features_have_a_cost(tmp_path: Path, clip: Path) -> None:
    from test_backbone_weights import dataset

    data = dataset(tmp_path)
    assert extraction_seconds(data) == {}
    (tmp_path / FILE).write_text(complete(extraction(size=(32, 32))).model_dump_json())
    cost = extraction_seconds(data)
    assert set(cost) == {"decode", "flow", "backbone/rgb", "backbone/flow", "flow_tvl1"}
    assert cost["flow_tvl1"] > cost["flow"]


def test_a_video_must_be_long_enough(tmp_path: Path) -> None:
    short = write_clip(tmp_path / "a.mkv", noise_frames(3), fps=25)
    with pytest.raises(DataError, match="3 frames: shorter than a window of 6"):
        stream_seconds(complete(extraction()), short)


def test_synthetic_video_has_the_requested_size() -> None:
    with synthetic_video(32, 8, 1.0) as path:
        frames = list(VideoReader(path))
    assert len(frames) == 8
    assert frames[0].shape == (32, 32, 3)


def test_the_command(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        module, "measure_pipelines", lambda pipelines, progress: [measure(p) for p in pipelines]
    )
    args = ["profile", "conv-primary-small", "conv-small", "--video", str(clip), "--size", "32,48x32"]
    args += ["--backbone", NET, "--flow", "dis,farneback", "--frames", "64", "--device", "cpu"]
    picture = tmp_path / "a.png"
    assert main([*args, "--json", "--picture", str(picture)]) == 0
    records = json.loads(capsys.readouterr().out)
    shown = [(r["name"], r["size"], r["flow"]) for r in records]
    assert shown == [
        (name, size, flow)
        for size in ("32x32", "48x32")
        for name, flow in (("conv-primary-small", ""), ("conv-small", "dis"), ("conv-small", "farneback"))
    ]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main([*args[:3], *args[3:5], "--size", "32", *args[7:]]) == 0
    assert "conv-primary-small" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--flow", "dsi"], "--flow: got 'dsi'"),
        (["--size", "big"], "--size: got 'big'"),
        (["--picture", "a.gif"], "--picture: got 'a.gif'"),
        (["conv-primry"], "unknown model 'conv-primry'"),
    ],
)
def test_invalid_flags(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "--minute", "--size", "32", "--backbone", NET, *args]) == 2
    assert message in capsys.readouterr().err


def test_long_bars_are_cut() -> None:
    records = [
        {
            "name": "a",
            "size": "224x224",
            "flow": flow,
            "seconds": {"decode": 1.0, "flow": s},
            "total": 1.0 + s,
        }
        for flow, s in (("", 0.0), ("dis", 1.0), ("tvl1", 400.0))
    ]
    text = stacked_bars(records, ".svg").decode()
    assert text.startswith("<?xml")
