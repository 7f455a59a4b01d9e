"""Tests of the shipped networks and of their pretraining."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tal_bench.data.datasets.sprites import pretrain as module
from tal_bench.data.datasets.sprites.pretrain import PretrainSettings, make_clips, pooled_flow, pretrain, save
from tal_bench.data.datasets.sprites.settings import SpritesSettings
from tal_bench.errors import DataError
from tal_bench.extraction.backbone import embed, load_weights
from tal_bench.extraction.shipped_networks import STREAMS, WEIGHTS, build_network, load_networks

SHAPES = {"rgb": (9, 48), "flow": (6, 32)}


def snippets(stream: str, count: int) -> np.ndarray:
    channels, size = SHAPES[stream]
    return np.random.default_rng(0).standard_normal((count, channels, size, size)).astype(np.float32)


def test_the_weights_are_shipped_and_small() -> None:
    assert sum((WEIGHTS / f"{stream}.safetensors").stat().st_size for stream in STREAMS) < 3e6
    assert load_networks().keys() == set(STREAMS)


@pytest.mark.parametrize("stream", STREAMS)
def test_folding_changes_nothing(stream: str) -> None:
    plain = build_network(stream)
    load_weights(plain, WEIGHTS / f"{stream}.safetensors")
    x = torch.from_numpy(snippets(stream, 3))
    with torch.no_grad():
        expected = plain.eval()(x)
        assert expected.shape == (3, plain.num_features)
        torch.testing.assert_close(load_networks()[stream](x), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("stream", STREAMS)
def test_embedding_does_not_depend_on_the_batch(stream: str) -> None:
    x, net = snippets(stream, 7), load_networks()[stream]
    whole = embed(net, lambda at: x[at], 7, batch=7)
    np.testing.assert_allclose(embed(net, lambda at: x[at], 7, batch=3), whole, rtol=1e-3, atol=1e-4)


def test_other_weights_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not the weights of SnippetNet"):
        load_weights(build_network("flow"), WEIGHTS / "rgb.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"no weights")
    with pytest.raises(DataError, match=r"bad\.safetensors"):
        load_weights(build_network("rgb"), tmp_path / "bad.safetensors")


def test_pooled_flow_covers_three_steps() -> None:
    flow = np.zeros((3, 2, 32, 32), np.float32)
    flow[:, 0] = np.arange(3, dtype=np.float32)[:, None, None]
    flow[:, 1, 16:] = -2
    pooled = pooled_flow(flow).reshape(3, 3, 3, 4, 4)
    np.testing.assert_allclose(pooled[1, :, 0, 0, 0], [0, 1, 2])
    np.testing.assert_allclose(pooled[0, :, 0, 0, 0], [0, 0, 1])
    np.testing.assert_allclose(pooled[1, 1, 1, :, 0], [0, 0, -2, -2])
    np.testing.assert_allclose(pooled[1, 2, 2, 3, 3], np.hypot(2, 2), rtol=1e-5)


def test_pretraining_learns_and_is_deterministic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = PretrainSettings(clips=3, clip_seconds=12, steps=12, batch=24)
    clips = make_clips(settings, SpritesSettings())
    for stream in STREAMS:
        files = []
        for run in range(2):
            net, losses = pretrain(stream, clips, settings)
            assert np.isfinite(losses).all()
            files.append(tmp_path / f"{run}.safetensors")
            save(net, files[-1], settings)
        assert files[0].read_bytes() == files[1].read_bytes()
    _, losses = pretrain("flow", clips, PretrainSettings(clips=3, steps=200, batch=16))
    assert losses[1] < losses[0]
    assert "flow step 200" in capsys.readouterr().out


def test_the_command_writes_both_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sys.argv", ["pretrain", "--out", str(tmp_path), "--steps", "2", "--clips", "2", "--seed", "1"]
    )
    module.main()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["flow.safetensors", "rgb.safetensors"]
    assert all(p.stat().st_mode & 0o044 for p in tmp_path.iterdir())
