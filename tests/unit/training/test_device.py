"""Devices and precisions; those of a GPU as far as they can be seen without one."""

from __future__ import annotations

import os

import pytest
import torch
from fake_gpu import assumed_gpu
from test_contracts import narrow
from torch import Tensor

from tal_bench.config import Precision
from tal_bench.errors import InputError
from tal_bench.profiling.training import _labelled_batch
from tal_bench.system.arithmetic.determinism import VARIABLE
from tal_bench.training.device import Device, batch_tensors, choose_deterministic, choose_precision


def tf32() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", False), ("tf32", True), ("bf16", False)])
def test_products_and_convolutions_have_one_precision(precision: Precision, allowed: bool) -> None:
    device, before = Device("cuda", precision), tf32()
    seen: list[tuple[bool, bool]] = []
    x = torch.ones((), requires_grad=True)
    x.register_hook(lambda grad: seen.append(tf32()))
    with assumed_gpu(), device.autocast():
        assert tf32() == (allowed, allowed)
        assert torch.is_autocast_enabled("cuda") == (precision == "bf16")
    with device.arithmetic():
        (2 * x).backward()
    assert seen == [(allowed, allowed)], "the backward pass has the precision of the forward pass"
    assert tf32() == before, "other code of the process keeps its own"


def test_tensors_whose_elements_share_memory_are_pinned_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def pin_memory(x: Tensor) -> Tensor:
        """Copy as PyTorch does, which keeps the strides."""
        return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype).copy_(x)

    monkeypatch.setattr(Tensor, "pin_memory", pin_memory)
    measured = _labelled_batch(narrow("conv"), [], 2)
    assert measured.segments.stride()[0] == 0
    found = Device("cuda").pin(measured)
    for name, x in batch_tensors(measured).items():
        pinned = batch_tensors(found)[name]
        assert torch.equal(pinned, x) and pinned.data_ptr() != x.data_ptr()
    assert found.features["rgb"].stride() == measured.features["rgb"].stride(), "channels-last, as in a batch"


def test_autocast_on_the_cpu() -> None:
    for precision in ("fp32", "bf16"):
        with Device("cpu", precision).autocast():  # type: ignore[arg-type]
            assert torch.is_autocast_enabled("cpu") == (precision == "bf16")
    assert torch.get_autocast_dtype("cpu") == torch.bfloat16


@pytest.mark.parametrize(("hardware", "chosen"), [(True, "bf16"), (False, "fp32")])
def test_bf16_is_chosen_where_the_hardware_has_it(
    hardware: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or hardware
    )
    assert choose_precision("auto", "cuda") == chosen
    assert choose_precision("bf16", "cuda") == "bf16", "what is asked for is taken"
    assert choose_precision("auto", "cpu") == "fp32"


def test_the_cpu_has_no_tf32() -> None:
    assert choose_precision("tf32", "cuda") == "tf32"
    with pytest.raises(InputError, match=r"^--precision tf32: the CPU has no TF32 \(use fp32 or bf16\)$"):
        choose_precision("tf32", "cpu")


def mode() -> tuple[int, bool, bool]:
    """Whether algorithms must be deterministic, those of convolutions too, and whether memory is filled."""
    filled = torch.utils.deterministic.fill_uninitialized_memory
    return torch.get_deterministic_debug_mode(), torch.backends.cudnn.deterministic, filled


def test_a_gpu_repeats_its_results_if_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    before = mode()
    device = Device("cuda", "tf32", deterministic=True)
    assert os.environ[VARIABLE] == ":4096:8", "inherited by the processes that this one starts"
    for context in (device.arithmetic, device.with_precision("bf16").autocast):
        with assumed_gpu(), context():
            assert mode() == (2, True, False)
        assert mode() == before == (0, False, True)
    Device("cuda", deterministic=True)  # the variable is as it should be


def test_the_cpu_repeats_its_results_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "other")
    device = Device("cpu", deterministic=True)
    assert not device.deterministic and not choose_deterministic(True, "cpu")
    assert not choose_deterministic(False, "cuda")
    with device.arithmetic():
        assert mode() == (0, False, True)


def test_a_gpu_in_use_and_another_setting_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    hint = r" \(set CUBLAS_WORKSPACE_CONFIG=:4096:8 before the start\)$"
    monkeypatch.setenv(VARIABLE, ":0:0")
    with pytest.raises(InputError, match=r"^--deterministic: does not repeat .*_CONFIG=:0:0" + hint):
        choose_deterministic(True, "cuda")
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(InputError, match="^--deterministic: this process uses a GPU already" + hint):
        choose_deterministic(True, "cuda")
    monkeypatch.setenv(VARIABLE, ":16:8")
    assert choose_deterministic(True, "cuda")
