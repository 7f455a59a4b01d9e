"""Arguments, errors and output of the command line; nothing is trained."""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import sys
import types
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tal_bench.cli import main
from tal_bench.cli.app import app
from tal_bench.cli.commands.evaluate import parse_tiou
from tal_bench.cli.commands.profile import parse_channels
from tal_bench.cli.commands.study import check_port
from tal_bench.config import StudySpec
from tal_bench.errors import DataError, InputError
from tal_bench.studies.definition import check_names, study_spec
from tal_bench.studies.rows import with_references

PROMISED = {
    "ablate": "--variant --dataset --student --teacher --trials --seeds --jobs --tracking-uri --reports "
    "--device --precision --budget --plugin",
    "train": "--dataset --variant --seed --budget --reports --device --precision --plugin",
    "evaluate": "--ground-truth --detections --tiou --subset --exclude --ap-method --per-class --json",
    "profile": "--frames --channels --classes --device --precision --threads --json",
    "list": "--plugin",
    "data list": "--plugin",
    "data prepare": "--jobs",
    "data check": "--picture --json",
    "report": "",
    "ui": "--tracking-uri --port",
    "doctor": "",
}


@pytest.mark.parametrize("command", PROMISED)
def test_promised_flags_are_in_the_help(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert main([*command.split(), "--help"]) == 0
    shown = set(re.findall(r"--[a-z][\w-]+", capsys.readouterr().out))
    assert set(PROMISED[command].split()) <= shown


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "ablate" in capsys.readouterr().out


# --- studies -----------------------------------------------------------------------------------------------


def merged(study: str | None = None, **flags: Any) -> StudySpec:
    spec, places = study_spec(study, flags)
    check_names(spec, places)
    return with_references(spec)


def test_the_bare_command_is_the_main_comparison() -> None:
    spec = merged()
    assert (spec.name, spec.variants, spec.references) == ("two-by-two", ("both",), ())


def test_the_named_study_has_every_row_and_reference() -> None:
    spec = merged("two-by-two")
    assert "all" in spec.variants
    assert "actionformer-privileged" in spec.references


def test_flags_override_the_definition(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nvariants: [self]\ntrials: 9\nseeds: 2\nreferences: [conv]\n")
    spec = merged(str(file), variants=("cross-modal",), trials=3, seeds=None)
    assert (spec.variants, spec.trials, spec.seeds, spec.references) == (("cross-modal",), 3, 2, ("conv",))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            {"variants": ("cross-modl",)},
            "--variant: unknown variant 'cross-modl' (did you mean 'cross-modal'?)",
        ),
        ({"dataset": "thumos"}, "--dataset: unknown dataset 'thumos' (did you mean 'thumos14'?"),
        ({"student": "conv-dw-halucinated"}, "--student: unknown student"),
        ({"student": "actionformer"}, "--student: 'actionformer' reads privileged modalities"),
        (
            {"teacher": "actionfromer"},
            "--teacher: unknown teacher 'actionfromer' (did you mean 'actionformer'?)",
        ),
    ],
)
def test_unknown_names_are_reported_with_their_flag(flags: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        merged(**flags)


def test_unknown_names_in_a_file_are_reported_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nvariants: [slef]\n")
    with pytest.raises(InputError, match=re.escape(f"{file}: variants: unknown variant 'slef'")):
        merged(str(file))


def test_ablate_passes_its_flags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[tuple[StudySpec, Any]] = []
    stub = types.ModuleType("tal_bench.studies.ablate")
    stub.ExecutionOptions = types.SimpleNamespace  # type: ignore[attr-defined]
    stub.ablate = lambda spec, options, places: calls.append((spec, options))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tal_bench.studies.ablate", stub)
    words = "--variant self --variant both --trials 2 --seeds 1 --jobs 2 --device cpu --precision fp32"
    code = main(
        ["ablate", *words.split(), "--budget", "smoke", "--reports", str(tmp_path), "--tracking-uri", "off"]
    )
    assert code == 0
    ((spec, options),) = calls
    assert spec.variants == ("self", "both")
    assert (spec.trials, spec.seeds, spec.budget, spec.device, spec.precision) == (
        2,
        1,
        "smoke",
        "cpu",
        "fp32",
    )
    assert (options.jobs, options.reports, options.tracking_uri, options.plugins) == (2, tmp_path, "off", ())


# --- errors ------------------------------------------------------------------------------------------------


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def callback() -> None:
        raise error

    monkeypatch.setattr(app, "registered_commands", [*app.registered_commands])
    app.command("boom")(callback)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("is wrong", where="--x", hint="fix it"), 2, "error: --x: is wrong (fix it)"),
        (DataError("two\nlines"), 2, "error: two lines"),
        (ValueError("odd"), 1, "internal error: ValueError: odd (run with --debug for the traceback)"),
        (KeyboardInterrupt(), 130, "interrupted; run the same command again to resume"),
    ],
)
def test_every_error_is_one_line(
    error: BaseException,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raising(error, monkeypatch)
    assert main(["boom"]) == code
    shown = capsys.readouterr()
    assert shown.err == line + "\n"
    assert shown.out == ""


@pytest.mark.parametrize("place", [["--debug", "boom"], ["boom", "--debug"]])
def test_debug_shows_the_traceback(
    place: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(ValueError("odd"), monkeypatch)
    assert main(place) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ablate --trails 3", "did you mean --graphs, --trials?"),
        ("ablat", "ablate"),
        ("ablate --trials 0", "--trials 0:"),
        ("ablate --seeds=-1", "--seeds -1:"),
        ("ablate --jobs two", "--jobs two:"),
        ("ablate --device gpu", "--device gpu: "),
        ("train conv --seed -1", "--seed -1:"),
        ("profile --channels rgb", "--channels: got 'rgb'"),
        ("evaluate --ground-truth a --detections b --tiou 0.7:0.3:0.1", "--tiou: got '0.7:0.3:0.1'"),
        ("data", "Missing command"),
    ],
)
def test_usage_errors_are_one_line(words: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    shown = capsys.readouterr()
    assert expected in shown.err
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1


# --- measuring ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.3:0.7:0.1", [0.3, 0.4, 0.5, 0.6, 0.7]),
        ("0.5:0.95:0.05", [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]),
        ("0.5", [0.5]),
        ("0.75,0.5,0.5", [0.5, 0.75]),
        ("0.3:0.65:0.1", [0.3, 0.4, 0.5, 0.6]),
    ],
)
def test_tiou(text: str, expected: list[float]) -> None:
    assert parse_tiou(text) == expected


@pytest.mark.parametrize(
    "text", ["", "x", "0", "1.1", "0.3:0.7", "0.3:0.7:0", "0.3:0.7:-1", "nan", "0.3:nan:0.1"]
)
def test_bad_tiou(text: str) -> None:
    with pytest.raises(InputError, match="--tiou"):
        parse_tiou(text)


def test_channels() -> None:
    assert parse_channels("rgb=1024, flow=512") == {"rgb": 1024, "flow": 512}
    for text in ("", "rgb", "rgb=0", "rgb=-1", "rgb=1,rgb=2", "=3", "rgb=1,"):
        with pytest.raises(InputError, match="--channels"):
            parse_channels(text)


def write_detections(folder: Path) -> tuple[Path, Path]:
    annotations = [{"segment": [0, 10], "label": "run"}, {"segment": [20, 30], "label": "run"}]
    database = {
        "a": {"subset": "Test", "duration": 60, "annotations": annotations},
        "b": {"subset": "test", "duration": 60, "annotations": []},
        "c": {"subset": "training", "duration": 60, "annotations": annotations},
    }
    truth, found = folder / "truth.json", folder / "found.csv"
    truth.write_text(json.dumps({"database": database}))
    found.write_text("video,start,end,label,score\na,0,10,run,0.9\na,20,26,run,0.8\nb,1,2,run,0.1\n")
    return truth, found


def test_evaluate_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, found = write_detections(tmp_path)
    words = [
        "evaluate",
        "--ground-truth",
        str(truth),
        "--detections",
        str(found),
        "--tiou",
        "0.5,0.75",
        "--json",
    ]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out) == {
        "ap_method": "activitynet",
        "map": {"0.50": 1.0, "0.75": 0.5},
        "average_map": 0.75,
        "per_class": {"run": {"0.50": 1.0, "0.75": 0.5}},
        "videos": 2,
        "ground_truths": 2,
        "detections": 3,
    }


def test_evaluate_as_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, found = write_detections(tmp_path)
    assert (
        main(["evaluate", "--ground-truth", str(truth), "--detections", str(found), "--tiou", "0.5,0.75"])
        == 0
    )
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("all classes"))
    assert line.split()[2:] == ["100.00", "50.00", "75.00"]


# --- ui ----------------------------------------------------------------------------------------------------


def test_a_busy_port_is_an_error() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with pytest.raises(InputError, match=f"--port {port}: not free"):
            check_port(port)
    check_port(port)


def test_ui_serves_only_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    started: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda program, words: started.append(words))
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "")  # restored afterwards
    assert main(["ui"]) == 2, "there is no store here"
    (tmp_path / "mlflow.db").touch()
    assert main(["ui", "--port", "50123"]) == 0
    (words,) = started
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert words[words.index("--backend-store-uri") + 1] == "sqlite:///mlflow.db"
    assert main(["ui", "--tracking-uri", "http://somewhere:5000"]) == 2


@pytest.mark.parametrize("age", ["older", "newer"])
def test_ui_names_the_command_that_upgrades_a_database(
    age: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tal_bench.tracking import mlflow_client

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setattr("os.execv", lambda program, words: pytest.fail("there is nothing to be shown"))
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("create table alembic_version (version_num)")
        revision = mlflow_client._revisions()[1] if age == "older" else "0123456789ab"
        database.execute("insert into alembic_version values (?)", [revision])
    assert main(["ui", "--tracking-uri", uri]) == 2
    out, error = capsys.readouterr()
    assert not out
    (line,) = error.splitlines()
    advice = "back it up, then run:" if age == "older" else "run: pip install --upgrade mlflow &&"
    assert f"{uri}: a database of a" in line
    assert f"{age} MLflow than the installed" in line
    assert line.endswith(f"({advice} mlflow db upgrade {uri})")


def test_ui_refuses_a_file_that_is_no_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.execv", lambda program, words: pytest.fail("there is nothing to be shown"))
    file = tmp_path / "notes.txt"
    file.write_text("not a database, but long enough to be taken for one " * 50)
    assert main(["ui", "--tracking-uri", f"sqlite:///{file}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "file is not a database" in line
