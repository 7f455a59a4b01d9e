"""Published result: what the JSON file of a row or of a reported method contains, and its reading."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from tal_bench.config import Spec, parse_spec
from tal_bench.errors import DataError, InputError

RESULTS = "results"
"""Name of the folder of JSON files within the folder of a published study."""
Percent = Annotated[float, Field(ge=0.0, le=100.0)]
Metric = Annotated[str, Field(pattern=r"^map_(avg|\d\.\d\d(-\d\.\d\d)?)$")]
Address = Annotated[str, Field(pattern=r"^https?://\S+$")]
Text = Annotated[str, Field(min_length=1)]


class Ends(Spec):
    """95 % confidence interval in points of mAP.

    Attributes:
        estimate: Estimate, mean over seeds.
        low: Lower end.
        high: Upper end.
    """

    estimate: float
    low: float
    high: float

    @model_validator(mode="after")
    def _validate_order(self) -> Self:
        if not self.low <= self.estimate <= self.high:
            raise ValueError(f"low {self.low:g}, estimate {self.estimate:g}, high {self.high:g} not in order")
        return self


class Measured(Spec):
    """Origin of a result that `tal-bench publish` took from a study.

    Attributes:
        study: Name of the study.
        command: Command that started the study.
        commit: Commit with which the runs were trained.
        fingerprint: Fingerprint of annotations and features.
        evaluation: Description of the evaluation: AP method, tIoU grid, split.
        test_videos: Number of test videos.
        date: ISO time at which the study ended.
        environment: Versions, hardware and number of threads of the final runs.
    """

    study: Text
    command: Text
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{7,40}$")]
    fingerprint: Text
    evaluation: Text
    test_videos: Annotated[int, Field(ge=1)]
    date: Text
    environment: dict[str, str]


class Reported(Spec):
    """Origin of a result that others reported.

    Attributes:
        source: Publication, repository or person with the numbers.
        url: Address of the source.
        setting: Known differences in the setting, such as the number of test videos.
    """

    source: Text
    url: Address
    setting: str = ""


class PublishedResult(Spec):
    """A row of a study, or a result of the literature, with its origin: either `measured` or `reported`.

    Attributes:
        name: Name of the row or method.
        dataset: Name of the dataset.
        modalities: Modalities read at inference, such as `rgb + flow`.
        map: mAP in percent by metric: `map_avg` and, at tIoU thresholds, `map_0.50` or `map_0.50-0.95`.
        kind: `teacher`, `reference`, `student` or, for a method by itself, `method`.
        features: Features that the method reads, such as `I3D`.
        model: Registered name of the model of a row.
        teachers: Registered model of each teacher role.
        settings: Settings chosen on validation.
        seeds: Seeds of the final runs, over which `map` are means.
        map_sd: Standard deviation over seeds by metric; empty for one seed.
        interval: Confidence interval of the average mAP.
        differences: Paired difference of average mAP to `none` and `self` of the same study.
        per_class: Average AP of each class in percent.
        costs: Values of `COST_COLUMNS` by key.
        cost_conditions: Device, threads and precision with which costs were measured.
        measured: Origin, if a study measured the result.
        reported: Origin, if others reported the result.
    """

    name: Text
    dataset: Text
    modalities: Text
    map: dict[Metric, Percent]
    kind: Literal["teacher", "reference", "student", "method"] = "method"
    features: str = ""
    model: str = ""
    teachers: dict[str, str] = {}
    settings: dict[str, float] = {}
    seeds: tuple[int, ...] = ()
    map_sd: dict[Metric, Percent] = {}
    interval: Ends | None = None
    differences: dict[str, Ends] = {}
    per_class: dict[str, Percent] = {}
    costs: dict[str, float] = {}
    cost_conditions: str = ""
    measured: Measured | None = None
    reported: Reported | None = None

    @field_validator("map")
    @classmethod
    def _validate_average(cls, value: dict[str, float]) -> dict[str, float]:
        if "map_avg" not in value:
            raise ValueError("map_avg, the average over tIoU thresholds, is missing")
        return value

    @model_validator(mode="after")
    def _validate_origin(self) -> Self:
        if (self.measured is None) == (self.reported is None):
            raise ValueError(
                "give exactly one origin: `measured` (by a study) or `reported` (with source and url)"
            )
        return self

    @property
    def origin(self) -> str:
        """Name of the study, or of the source."""
        return self.measured.study if self.measured else self.reported.source if self.reported else ""

    @property
    def url(self) -> str:
        """Address of the source of a reported result; empty for a measured one."""
        return self.reported.url if self.reported else ""

    @property
    def setting(self) -> str:
        """Known differences in the setting of a reported result; empty for a measured one."""
        return self.reported.setting if self.reported else ""


def read_result(file: Path) -> PublishedResult:
    """Read the JSON file of a result.

    Raises:
        InputError: The file is missing, not JSON or not a result; the message names the key.
    """
    try:
        return parse_spec(PublishedResult, json.loads(file.read_text(encoding="utf-8")), where=file)
    except FileNotFoundError:
        raise InputError("no such file", where=file) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=file) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"not a JSON file: {error}", where=file) from None


def read_results(places: Sequence[Path]) -> list[PublishedResult]:
    """Read results from JSON files, and from `results/*.json` at any depth of folders.

    Raises:
        InputError: A folder has no results, a file is not a result, or two files have the same result.
    """
    found: dict[tuple[str, ...], Path] = {}
    results = []
    for place in places:
        files = sorted(place.rglob(f"{RESULTS}/*.json")) if place.is_dir() else [place]
        if not files:
            hint = "write them with tal-bench publish STUDY_DIR"
            raise InputError(f"no {RESULTS}/*.json there", where=place, hint=hint)
        for file in files:
            result = read_result(file)
            key = (result.dataset, result.name, result.modalities, result.origin)
            if key in found:
                raise InputError(f"the same result as in {found[key]}", where=file, hint="remove one of them")
            found[key] = file
            results.append(result)
    return results


def result_text(result: PublishedResult) -> str:
    """Return the content of the JSON file of a result, without fields that have their default."""
    return json.dumps(result.model_dump(mode="json", exclude_defaults=True), indent=1) + "\n"


@cache
def literature() -> tuple[PublishedResult, ...]:
    """Return the results of the literature that are shipped, by dataset, the best first."""
    folder = resources.files("tal_bench.report.leaderboard").joinpath("literature")
    with resources.as_file(folder) as path:
        return tuple(ranked(read_result(file) for file in sorted(path.glob("*.json"))))


def ranked(results: Iterable[PublishedResult]) -> list[PublishedResult]:
    """Sort results by dataset, then by average mAP in descending order."""
    return sorted(results, key=lambda r: (r.dataset, -r.map["map_avg"], r.name, r.modalities))
