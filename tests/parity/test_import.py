"""Checkpoints in each original layout, imported by the command line, detect what the original detected."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from original_files import write_checkpoint, write_configuration

from tal_bench.cli import main
from tal_bench.config import DetectorSpec
from tal_bench.data.batches import padded_length
from tal_bench.models.backbone import pyramid_divisor
from tal_bench.models.checkpoint import ModelCard, load_model
from tal_bench.models.detector import Detector
from tal_bench.training.prediction import decode
from tal_bench.types import VideoMeta

from .checks import networks
from .checks.arrays import Arrays
from .checks.matching import Detections, Excuse, matched
from .checks.networks import Network
from .conftest import selected_fixtures
from .fixtures import Fixture, FixtureError

SET_IN_CODE = ("backbone_type", "rgbOnly", "dw", "gateFusion")
"""Arguments that the configuration files of C2MS-Net do not contain."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "network" in metafunc.fixturenames:
        found = [f for f in selected_fixtures(metafunc.config) if is_network(f)]
        metafunc.parametrize("network", found, ids=[fixture.id for fixture in found])


def is_network(fixture: Fixture) -> bool:
    """Whether a fixture holds a network; one that cannot be read fails in its own comparison."""
    try:
        return networks.KIND.recognises(fixture.meta)
    except FixtureError:
        return False


def program(fixture: Fixture) -> str:
    if "num_bins" in fixture.meta["model_kwargs"]:
        return "tridet"
    if fixture.meta["model_kwargs"]["backbone_type"] == "convPooler":
        return "temporalmaxer"
    return "c2ms" if fixture.meta["implementation"].lower().startswith("c2ms") else "actionformer"


def test_an_imported_checkpoint_detects_what_the_original_did(
    network: Fixture, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays, name = Arrays(network), program(network)
    state = arrays.tree("param")
    file = write_checkpoint(tmp_path / "epoch_035.pth.tar", state)
    arguments = dict(network.meta["model_kwargs"])
    if name == "c2ms":
        arguments = {key: value for key, value in arguments.items() if key not in SET_IN_CODE}
    config = write_configuration(tmp_path / "original.yaml", arguments)
    words = ["checkpoint", "import", file, "--as", name, "--config", config, "--out", tmp_path / "ours"]
    assert main([str(word) for word in words]) == 0
    assert f"{len(state)} matched" in " ".join(capsys.readouterr().out.split()).replace(
        f"{len(state) - 1} matched, 1 unused by the original", f"{len(state)} matched"
    )
    detector, card = load_model(tmp_path / "ours")
    assert isinstance(detector, Detector)
    for case, facts in network.meta["eval"].items():
        theirs = Detections(
            *(arrays(f"eval/{case}/final/{leaf}") for leaf in ("segments", "scores", "labels"))
        )
        meta = VideoMeta(
            case, facts["duration"], facts["fps"], facts["feat_stride"], facts["feat_num_frames"]
        )
        ours = detect(detector, card, arrays.tensor(f"eval/{case}/feats"), meta)
        assert len(ours.scores) == len(theirs.scores)
        compared = matched(case, ours, theirs, at_the_lowest_score(float(theirs.scores.min())))
        assert not [one for one in compared if not one.ok]


def at_the_lowest_score(lowest: float) -> Excuse:
    """Excuse differences at the lowest score: a truncated list may contain either of two equal detections."""
    return lambda segment, score: score - lowest <= 2e-4 * lowest


@torch.no_grad()
def detect(detector: Detector, card: ModelCard, feats: torch.Tensor, video: VideoMeta) -> Detections:
    spec: DetectorSpec = card.detector
    length = padded_length(feats.shape[1], max_length=spec.max_length, divisor=pyramid_divisor(spec))
    (found,) = decode(Network(detector, {}).run([feats], length), [video], card.decode)
    return Detections(found.segments, found.scores, found.labels)
