"""Training loop: reproducibility, frozen teachers, reported losses, and lazy outputs of teachers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import FAST, tiny_spec
from torch import Tensor, nn

from tal_bench.config import DistillSpec, TeacherUse, TermUse
from tal_bench.data.dataset import Video, open_dataset
from tal_bench.data.registry import read_dataset_file
from tal_bench.distill.objective import DistillationObjective
from tal_bench.errors import InputError
from tal_bench.models.checkpoint import ModelCard, load_weights, save_model
from tal_bench.models.input_fusion import fit_whitening
from tal_bench.models.registry import detector_spec, get_model
from tal_bench.profiling.inputs import random_batch
from tal_bench.training.device import Device
from tal_bench.training.ema import Ema
from tal_bench.training.teacher_cache import TeacherCache
from tal_bench.training.teachers import Teachers
from tal_bench.training.teachers_ahead import outputs_ahead
from tal_bench.training.train import batch_length, initialise_from, train
from tal_bench.types import Batch

STUDENT, TEACHER = "conv-dw-hallucinated", "actionformer"


def arch(name: str) -> Any:
    spec = detector_spec(get_model(name), tiny_spec(), 3)
    return spec.model_copy(update={"width": 16, "head_width": 16})


def net(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return get_model(name).build(arch(name))


def card(name: str) -> ModelCard:
    return ModelCard(name="x", model=name, detector=arch(name))


@pytest.fixture(scope="module")
def videos(dataset_file: Path) -> list[Video]:
    return open_dataset(read_dataset_file(dataset_file), ("rgb", "flow")).videos("train+validation")


def distillation() -> DistillSpec:
    return DistillSpec(
        teachers={"modal": TeacherUse(run="0", model=TEACHER)},
        terms=(
            TermUse(name="logits-binary", teacher="modal", weight=8.0, temperature_power=2),
            TermUse(name="hallucination", teacher="modal", weight=2.0),
            TermUse(name="stem", teacher="modal", weight=1.0),
        ),
    )


def trained(
    videos: list[Video],
    *,
    seed: int = 0,
    distilled: bool = False,
    student: nn.Module | None = None,
    precision: str = "student",
    teacher_cache: TeacherCache | None = None,
) -> nn.Module:
    torch.manual_seed(99)
    spec = distillation().model_copy(update={"precision": precision})
    objective = DistillationObjective(spec, arch(STUDENT), {"modal": arch(TEACHER)}) if distilled else None
    return train(
        student or net(STUDENT),
        arch(STUDENT),
        videos,
        FAST,
        seed=seed,
        device=Device("cpu"),
        teachers={"modal": net(TEACHER, 5)} if distilled else None,
        objective=objective,
        teacher_cache=teacher_cache,
    )


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("distilled", [False, True])
def test_the_same_seed_gives_bitwise_the_same_training(videos: list[Video], distilled: bool) -> None:
    first = trained(videos, distilled=distilled)
    torch.rand(17)  # other random numbers in between have no effect
    assert same(first, trained(videos, distilled=distilled))
    assert not same(first, trained(videos, distilled=distilled, seed=1))


def test_the_average_is_returned_and_the_student_trained_in_place(videos: list[Video]) -> None:
    student, untouched = net(STUDENT), net(STUDENT)
    average = trained(videos, student=student)
    assert average is not student
    assert not same(student, untouched)
    assert not same(average, student)
    assert not average.training
    assert not any(p.requires_grad for p in average.parameters())


def test_teachers_are_frozen_in_evaluation_mode_and_unchanged(videos: list[Video]) -> None:
    teacher, student = net(TEACHER, 5), net(STUDENT)
    modes: list[bool] = []
    teacher.heads.register_forward_hook(lambda module, given, out: modes.append(module.training))
    objective = DistillationObjective(distillation(), arch(STUDENT), {"modal": arch(TEACHER)})
    train(
        student, arch(STUDENT), videos, FAST, seed=0, device=Device("cpu"),
        teachers={"modal": teacher}, objective=objective,
    )  # fmt: skip
    assert modes
    assert not any(modes)
    assert same(teacher, net(TEACHER, 5))
    assert all(p.grad is None for p in teacher.parameters())


def test_distillation_changes_what_is_learned(videos: list[Video]) -> None:
    assert not same(trained(videos), trained(videos, distilled=True))


def test_losses_are_named_and_reported_after_every_epoch(videos: list[Video]) -> None:
    seen: list[tuple[int, dict[str, float]]] = []

    def after(epoch: int, losses: dict[str, float], model: nn.Module) -> bool:
        seen.append((epoch, losses))
        return epoch == 2

    spec = FAST.model_copy(update={"epochs": 5})
    objective = DistillationObjective(distillation(), arch(STUDENT), {"modal": arch(TEACHER)})
    train(
        net(STUDENT), arch(STUDENT), videos, spec, seed=0, device=Device("cpu"),
        teachers={"modal": net(TEACHER)}, objective=objective, after_epoch=after,
    )  # fmt: skip
    assert [epoch for epoch, _ in seen] == [1, 2], "training stops when the callback returns True"
    names = {"total", "classification", "regression", "labels", "logits-binary", "hallucination", "stem"}
    for _, losses in seen:
        assert losses.keys() == names
        hard = losses["labels"]
        soft = 8 * 4 * losses["logits-binary"] + 2 * losses["hallucination"] + losses["stem"]
        assert losses["total"] == pytest.approx(0.4 * hard + 0.6 * soft, rel=1e-4)


def test_fewer_videos_than_a_batch_are_refused(videos: list[Video]) -> None:
    with pytest.raises(InputError, match="are fewer than the batch size"):
        trained(videos[:1])


def test_ema_is_the_running_average() -> None:
    module = nn.Linear(3, 2)
    ema, expected = Ema(module, 0.9), module.weight.detach().clone()
    for step in range(4):
        module.weight.data += step + 1.0
        ema.update()
        expected = 0.9 * expected + 0.1 * module.weight.detach()
    torch.testing.assert_close(ema.module.weight, expected)


def test_matching_weights_are_copied_from_a_teacher() -> None:
    student, teacher = net("conv-dw-hallucinated"), net("conv", 5)
    before = {k: v.clone() for k, v in student.state_dict().items()}
    copied = set(initialise_from(student, teacher))
    theirs = teacher.state_dict()
    assert copied
    assert copied < before.keys()
    for name, value in student.state_dict().items():
        assert torch.equal(value, theirs[name] if name in copied else before[name]), name


def test_weights_are_loaded_as_they_were_saved(tmp_path: Path) -> None:
    first, second = net(STUDENT), net(STUDENT, 1)
    assert not same(first, second)
    save_model(first, tmp_path / "runs" / "x.safetensors", card(STUDENT))
    load_weights(second, tmp_path / "runs" / "x.safetensors")
    assert same(first, second)
    assert [f.name for f in (tmp_path / "runs").iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\x80\x04."])
def test_invalid_weights_files_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.safetensors: the weights do not fit this architecture"):
        load_weights(net(STUDENT), file)
    with pytest.raises(InputError, match="no such weights"):
        load_weights(net(STUDENT), tmp_path / "missing.safetensors")
    save_model(net("conv"), file, card("conv"))
    with pytest.raises(InputError, match="the weights do not fit this architecture"):
        load_weights(net(STUDENT), file)


def test_teachers_compute_only_the_outputs_that_are_read() -> None:
    """Reading the inputs runs no layer of the network; reading the stem runs neither branch nor heads."""
    torch.manual_seed(0)
    teacher = net(TEACHER, 5)
    reached: list[str] = []
    for name in ("backbone.stem.0", "heads"):
        teacher.get_submodule(name).register_forward_hook(lambda *_, name=name: reached.append(name))
    teachers = Teachers({"modal": teacher, "structure": teacher}, Device("cpu"))
    batch = random_batch(arch(TEACHER), 32)
    answers = teachers(batch)
    assert answers["modal"] is answers["structure"]
    _ = answers["modal"].inputs
    assert reached == []
    stem = answers["modal"].stem
    assert reached == ["backbone.stem.0"]
    _ = answers["modal"].logits
    assert reached == ["backbone.stem.0", "heads"]
    whole = teacher(batch)
    assert torch.equal(stem, whole.stem)
    for mine, theirs in zip(answers["structure"].offsets, whole.offsets, strict=True):
        assert torch.equal(mine, theirs)


def test_teachers_of_the_same_modalities_share_their_inputs() -> None:
    modal, structure, other = net(TEACHER, 5), net("conv", 6), net("actionformer-primary", 7)
    batch = random_batch(arch(TEACHER), 32)
    answers = Teachers({"modal": modal, "structure": structure, "other": other}, Device("cpu"))(batch)
    read = {role: answer.inputs.data_ptr() for role, answer in answers.items()}
    assert read["modal"] == read["structure"] != read["other"]
    for role, teacher in (("modal", modal), ("structure", structure), ("other", other)):
        expected = teacher(batch)
        assert torch.equal(answers[role].logits[0], expected.logits[0])
        assert torch.equal(answers[role].inputs, expected.inputs)


def test_teachers_with_another_whitening_do_not_share_their_inputs() -> None:
    modal, structure = net(TEACHER, 5), net("conv", 6)
    fit_whitening(structure, {"rgb": (torch.ones(8), torch.eye(8)), "flow": (torch.ones(6), torch.eye(6))})
    assert not torch.equal(structure.inputs.whitening.modalities[0].mean, torch.zeros(8))
    batch = random_batch(arch(TEACHER), 32)
    answers = Teachers({"modal": modal, "structure": structure}, Device("cpu"))(batch)
    for role, teacher in (("modal", modal), ("structure", structure)):
        assert torch.equal(answers[role].inputs, teacher(batch).inputs)


def test_teachers_may_compute_in_another_precision(videos: list[Video]) -> None:
    teacher = net(TEACHER, 5)
    batch = random_batch(arch(TEACHER), 32)
    half = Teachers({"modal": teacher}, Device("cpu", "bf16"))(batch)["modal"]
    exact = teacher(batch)
    assert teacher.backbone.embedding[0].weight.dtype == torch.float32
    assert half.stem.dtype == torch.bfloat16
    assert half.logits[0].dtype == torch.float32
    torch.testing.assert_close(half.logits[0], exact.logits[0], atol=0.1, rtol=0.1)
    full, halved = (trained(videos, distilled=True, precision=precision) for precision in ("student", "bf16"))
    assert not same(full, halved)


def test_batches_are_padded_fully_only_where_padding_matters() -> None:
    """Their length suffices for the student and all teachers."""
    quiet, noisy = FAST, FAST.model_copy(update={"input_noise": 0.1})
    plain = DistillationObjective(distillation(), arch(STUDENT), {"modal": arch(TEACHER)})
    counted = distillation().model_copy(update={"count_padding": True})
    lengths = [
        batch_length(networks, 64, spec, objective)(20)
        for networks, spec, objective in (
            ([net(STUDENT)], quiet, None),
            ([net(STUDENT), net(TEACHER)], quiet, plain),
            ([net(STUDENT), net("tridet")], quiet, plain),
            ([net(STUDENT), nn.Identity()], quiet, plain),
            ([net("conv-primary-ta")], quiet, None),
            ([net(STUDENT)], noisy, None),
            ([net(STUDENT)], quiet, DistillationObjective(counted, arch(STUDENT), {"modal": arch(TEACHER)})),
        )
    ]
    assert lengths == [48, 48, 64, 64, 64, 64, 64]
    assert batch_length([net(STUDENT)], 64, quiet, None)(50) == 64


def ragged(count: int) -> list[Batch]:
    """Batches of different lengths."""
    batches = []
    for i in range(count):
        batch, length = random_batch(arch(TEACHER), 64), 32 + 16 * (i % 3)
        valid = torch.arange(64) < length - 8 - torch.tensor([[0], [3]])[: len(batch.mask)]
        cut = {n: (x * valid[:, None] + i * valid[:, None])[:, :, :length] for n, x in batch.features.items()}
        batches.append(replace(batch, features=cut, mask=valid[:, :length]))
    return batches


def test_outputs_ahead_are_those_of_every_batch() -> None:
    torch.manual_seed(0)
    networks = {"modal": net(TEACHER, 5), "structure": net("conv", 6)}
    batches = ragged(11)
    teachers = Teachers(networks, Device("cpu"))
    seen = []
    for batch, answers in outputs_ahead(teachers, batches, Device("cpu")):
        for role, network in networks.items():
            expected, found = network(batch), answers[role]
            steps = batch.mask[:, None]
            torch.testing.assert_close(found.stem * steps, expected.stem * steps, atol=1e-5, rtol=1e-4)
            assert torch.equal(found.inputs, expected.inputs)
            for name in ("logits", "offsets", "mask"):
                mine, theirs = getattr(found, name), getattr(expected, name)
                torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)
        seen.append(batch)
    assert all(x is y for x, y in zip(seen, batches, strict=True))


def test_outputs_are_computed_once_for_the_same_batches_and_weights() -> None:
    teacher, batches, cache = net(TEACHER, 5), ragged(5), TeacherCache()
    reached: list[str] = []

    def outputs(teacher: nn.Module, batches: list[Batch]) -> list[Tensor]:
        reached.clear()
        teachers = Teachers({"modal": teacher}, Device("cpu"))
        teachers.networks[0].get_submodule("heads").register_forward_hook(lambda *_: reached.append("heads"))
        return [
            x
            for _, answers in outputs_ahead(teachers, batches, Device("cpu"), cache)
            for x in (*answers["modal"].logits, answers["modal"].stem)
        ]

    first = outputs(teacher, batches)
    assert reached == ["heads"], "five batches are read at once"
    again = outputs(teacher, batches)
    assert reached == []
    assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))
    other = [replace(b, features={n: x + 1e-3 for n, x in b.features.items()}) for b in batches]
    assert not torch.equal(outputs(teacher, other)[0], first[0])
    assert reached == ["heads"], "other features have other outputs"
    with torch.no_grad():
        next(teacher.parameters()).add_(0.1)
    assert not torch.equal(outputs(teacher, batches)[0], first[0])
    assert reached == ["heads"], "other weights have other outputs"


def test_a_training_with_kept_outputs_is_the_same(videos: list[Video]) -> None:
    cache = TeacherCache()
    first = trained(videos, distilled=True, teacher_cache=cache)
    assert cache.nbytes > 0
    assert same(first, trained(videos, distilled=True, teacher_cache=cache))
    assert same(first, trained(videos, distilled=True))


def test_the_cache_has_a_limit_and_drops_the_teachers_used_least_recently() -> None:
    cache = TeacherCache(limit=3 * 40)
    computed: list[str] = []

    def read(teachers: str, key: str) -> None:
        def compute() -> list[Tensor]:
            computed.append(teachers + key)
            return [torch.zeros(10)]

        cache.get(teachers, key, "logits", compute)

    for key in ("1", "2", "1", "3", "4", "4", "1"):
        read("a", key)
    assert computed == ["a1", "a2", "a3", "a4", "a4"], "what one run has first is kept"
    assert cache.nbytes == 120
    computed.clear()
    for teachers, key in (("b", "1"), ("b", "1"), ("c", "1"), ("c", "2"), ("b", "1"), ("c", "3"), ("c", "4")):
        read(teachers, key)
    assert computed == ["b1", "c1", "c2", "c3", "c4"]
    assert cache.nbytes == 120
    computed.clear()
    read("a", "1")
    assert computed == ["a1"]
