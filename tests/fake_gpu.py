"""A GPU without a GPU: fake CUDA tensors, and the rules that what runs on them has to follow.

`FakeTensorMode` follows shapes, dtypes and devices of an operation without its arithmetic. `GpuRules` looks
at every operation, those of the backward pass and of the optimizer included, and raises `RuleError` at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from nondeterministic import OF_FLOATS, OPERATIONS
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from tal_bench.config import Precision
from tal_bench.data.batches import collate
from tal_bench.models.blocks import attention
from tal_bench.models.detector import Detector
from tal_bench.training.batch_sources import choice, ring
from tal_bench.training.device import Device
from tal_bench.types import Batch

META, CUDA = torch.device("meta"), torch.device("cuda", 0)
DEVICE_OF = torch.ops.prim.device.default
WAITS = {
    "aten::_local_scalar_dense": "reads a value on the host",
    "aten::item": "reads a value on the host",
    "aten::is_nonzero": "reads a value on the host",
    "aten::equal": "compares on the host",
    "aten::nonzero": "has a shape that depends on values",
    "aten::masked_select": "has a shape that depends on values",
    "aten::_unique2": "has a shape that depends on values",
    "aten::unique_dim": "has a shape that depends on values",
    "aten::bincount": "has a shape that depends on values",
    "aten::repeat_interleave.Tensor": "has a shape that depends on values",
}
"""Operations for which the host waits for the GPU."""
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "linear", "convolution", "convolution_backward")
LOWERED = (
    "linear",
    "conv1d",
    "conv2d",
    "matmul",
    "__matmul__",
    "__rmatmul__",
    "mm",
    "bmm",
    "addmm",
    "baddbmm",
)
RAISED = (
    "softmax",
    "log_softmax",
    "softplus",
    "layer_norm",
    "sum",
    "prod",
    "cumsum",
    "norm",
    "exp",
    "log",
    "pow",
)
"""Functions whose operands autocast converts to half and to full precision."""
KERNELS = (
    "CUDA",
    "CompositeExplicitAutograd",
    "CompositeImplicitAutograd",
    "CompositeExplicitAutogradNonFunctional",
)
"""Keys under which the dispatcher finds an implementation for CUDA."""


class RuleError(AssertionError):
    """An operation that a step on a GPU must not contain."""


@contextlib.contextmanager
def assumed_gpu() -> Iterator[None]:
    """Context in which autocast believes that there is a GPU with bf16; otherwise it disables itself."""
    with (
        mock.patch("torch.cuda.amp.common.amp_definitely_not_available", return_value=False),
        mock.patch.object(torch.cuda, "is_bf16_supported", return_value=True),
    ):
        yield


class _FakeMode(FakeTensorMode):
    """Mode that copied fake tensors share with their originals, and under which autograd needs no GPU.

    The engine of autograd would look for the streams of a GPU. C++ code asks for the device of a tensor by an
    operation of its own, and is told `meta` in place of `cuda`; Python code asks the tensor, and is told
    `cuda`. What C++ code creates on `meta` is therefore on `cuda`.
    """

    def __deepcopy__(self, memo: object) -> FakeTensorMode:
        """Return the mode itself."""
        return self

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Follow an operation without doing it."""
        if func is DEVICE_OF:
            return _told(args[0])
        kwargs = dict(kwargs or {})
        if kwargs.get("device") == META and not self.in_kernel_invocation:
            kwargs["device"] = CUDA
        return super().__torch_dispatch__(func, types, args, kwargs)


def _told(x: FakeTensor) -> torch.device:
    """Return the device that C++ code is told."""
    return META if x.fake_mode.in_kernel_invocation or x.fake_device.type == "cuda" else x.fake_device


_of_tensor = FakeTensor.__torch_dispatch__.__func__  # type: ignore[attr-defined]


def _tensor_dispatch(cls: type, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
    """Stand-in for the dispatch of a fake tensor, which answers while no mode is active."""
    return _told(args[0]) if func is DEVICE_OF else _of_tensor(cls, func, types, args, kwargs or {})


class _Autocast(TorchFunctionMode):
    """Autocast of fake CUDA tensors, for which that of C++ does nothing: it is told that they are on `meta`.

    It follows PyTorch's lists of operations that autocast to lower precision or to fp32, as far as the
    networks use them: https://docs.pytorch.org/docs/stable/amp.html
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Convert the operands of an operation as autocast would."""
        name = getattr(func, "__name__", "")
        if torch.is_autocast_enabled("cuda") and name in (*LOWERED, *RAISED):
            dtype = torch.bfloat16 if name in LOWERED else torch.float32
            convert = lambda x: x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x  # noqa: E731
            args, kwargs = tree_map(convert, (args, kwargs or {}))
            with torch.autocast("cuda", enabled=False):
                return func(*args, **kwargs)
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def fake_gpu() -> Iterator[None]:
    """Context in which tensors are fake, and may be on `cuda`."""
    dispatch = mock.patch.object(FakeTensor, "__torch_dispatch__", classmethod(_tensor_dispatch))
    attention._outside_window.cache_clear()
    numbers = mock.patch("tal_bench.distill.randomness.torch.randint", return_value=7)
    hashed = mock.patch("tal_bench.training.teachers.digest", lambda *parts: str(list(map(id, parts))))
    with (
        assumed_gpu(),
        dispatch,
        hashed,
        numbers,
        mock.patch.object(nn.Module, "to", _to),
        _FakeMode(),
        _Autocast(),
    ):
        yield
    attention._outside_window.cache_clear()


def _to(module: nn.Module, device: torch.device | None = None, dtype: torch.dtype | None = None) -> nn.Module:
    """Stand-in for `nn.Module.to`, which cannot exchange parameters that are fake tensors."""
    for part in module.modules():
        for name, p in part._parameters.items():
            if p is not None:
                moved = p.detach().to(device=device, dtype=dtype)
                part._parameters[name] = nn.Parameter(moved, requires_grad=p.requires_grad)
        for name, x in part._buffers.items():
            if x is not None:
                part._buffers[name] = x.to(device=device, dtype=dtype if x.is_floating_point() else None)
    return module


class GpuRules(TorchDispatchMode):
    """Raises `RuleError` at an operation that a step on a GPU must not contain.

    Operands on different devices; copies to the host and other waits for the GPU; operations without a CUDA
    kernel, where this build of PyTorch has CUDA kernels at all; operations for which a GPU has no algorithm
    that repeats its results; matrix products whose operands have different
    dtypes, or not that of the precision; and TF32 where the precision is another one, or the reverse. Under
    bf16, products in full precision are allowed outside of the detectors (losses, their projections, and the
    backward pass of both) and in what a detector lists as `full_precision_modules`.

    Args:
        precision: Precision of the step.
        first: Whether it is the first step, which also makes on the host, and copies, what later ones use.

    Attributes:
        operations: Number of operations by name.
    """

    def __init__(self, precision: Precision, *, first: bool = False) -> None:
        super().__init__()
        self.precision, self.first = precision, first
        self.operations: dict[str, int] = {}
        self._modules: list[nn.Module] = []
        self._hooks = contextlib.ExitStack()

    def __enter__(self) -> GpuRules:
        """Follow the operations, and which module they belong to."""
        before = register_module_forward_pre_hook(lambda module, _: self._modules.append(module))
        after = register_module_forward_hook(lambda *_: self._modules.pop() and None, always_call=True)
        for hook in (before, after):
            self._hooks.callback(hook.remove)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        """Stop following."""
        self._hooks.close()
        super().__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Check an operation, and do it."""
        kwargs = dict(kwargs or {})
        if func is DEVICE_OF:
            return func(*args, **kwargs)
        name = func.name()
        operands = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        self.operations[name] = self.operations.get(name, 0) + 1
        if self.first and not any(x.device.type == "cuda" for x in operands):
            return func(*args, **kwargs)
        self._check_devices(name, args, kwargs, operands)
        self._check_waits(name, args)
        self._check_kernel(name)
        base = name.partition("::")[2].partition(".")[0]
        if base in OPERATIONS and (base not in OF_FLOATS or any(x.is_floating_point() for x in operands)):
            raise RuleError(f"{name} has no deterministic algorithm on a GPU")
        if base in PRODUCTS:
            self._check_product(name, operands)
        return func(*args, **kwargs)

    def _check_devices(self, name: str, args: Any, kwargs: dict[str, Any], operands: list[Tensor]) -> None:
        devices = {x.device.type for x in operands}
        target = None if kwargs.get("device") is None else torch.device(kwargs["device"]).type
        if name.startswith("aten::copy_"):
            target = args[0].device.type
        if target == "cpu" and "cuda" in devices:
            raise RuleError(f"{name} copies to the host")
        if name.startswith("aten::_to_copy") and target == "cuda" and "cpu" in devices:
            raise RuleError(f"{name} copies from the host within a step")
        if len(devices) > 1:
            raise RuleError(f"{name} has operands on {' and '.join(sorted(devices))}")

    def _check_waits(self, name: str, args: Any) -> None:
        if name in WAITS:
            raise RuleError(f"{name} {WAITS[name]}")
        if name.startswith(("aten::index.", "aten::index_put", "aten::_index_put")):
            indices = [x for x in args[1] if isinstance(x, Tensor)]
            if any(x.dtype in (torch.bool, torch.uint8) for x in indices):
                raise RuleError(f"{name} with a mask has a shape that depends on values")

    def _check_kernel(self, name: str) -> None:
        if torch.version.cuda is None:
            return
        has = torch._C._dispatch_has_kernel_for_dispatch_key
        if not any(has(name, key) for key in KERNELS):
            raise RuleError(f"{name} has no kernel for CUDA")

    def _check_product(self, name: str, operands: list[Tensor]) -> None:
        dtypes = {x.dtype for x in operands if x.is_floating_point()}
        if len(dtypes) > 1:
            raise RuleError(f"{name} has operands of {' and '.join(sorted(map(str, dtypes)))}")
        (dtype,) = dtypes
        rounded = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        if dtype == torch.float32 and rounded != (self.precision == "tf32",) * 2:
            raise RuleError(f"{name} has TF32 set to {rounded}, not as {self.precision} wants")
        wanted = torch.bfloat16 if self.precision == "bf16" else torch.float32
        inside = any(isinstance(module, Detector) for module in self._modules)
        if dtype != wanted and (inside or self.precision != "bf16") and not self._in_full_precision():
            where = " in ".join(type(module).__name__ for module in reversed(self._modules))
            raise RuleError(f"{name} computes in {dtype}, not in {self.precision}, in {where}")

    def _in_full_precision(self) -> bool:
        """Whether the current module is, or is within, one that stays in full precision."""
        full = {id(m) for module in self._modules for m in getattr(module, "full_precision_modules", ())}
        return any(id(module) in full for module in self._modules)


class CpuAsGpu(Device):
    """Device that is taken for a GPU and computes on the CPU, where copies and streams do nothing.

    Args:
        patch: Replaces what needs a GPU, until the end of the test.
        precision: Precision of the device.

    Attributes:
        pinned: Number of batches that were pinned.
    """

    def __init__(self, patch: pytest.MonkeyPatch, precision: Precision = "fp32") -> None:
        super().__init__("cpu", precision)
        self.torch = CUDA
        self.pinned = 0
        copies = SimpleNamespace(send=lambda batch: lambda: batch)
        patch.setattr(choice, "CopyStream", lambda device: copies)
        patch.setattr(ring, "collate", lambda crops, names, pinned: collate(crops, names))

    def pin(self, batch: Batch) -> Batch:
        """Count the batch."""
        self.pinned += 1
        return batch

    def move(self, batch: Batch) -> Batch:
        """Return the batch itself."""
        return batch

    def send(self, x: Tensor) -> Tensor:
        """Return the tensor itself."""
        return x

    def prepare_for_inference(self, model: nn.Module) -> nn.Module:
        """Return the model itself."""
        return model.eval()

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """Context without effect."""
        yield
