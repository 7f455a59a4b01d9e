"""Networks of the original programs: outputs, detections, losses and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tal_bench.config import DecodeSpec, DetectorSpec
from tal_bench.converters.original_config import decode_spec, detector_spec, train_spec
from tal_bench.converters.original_keys import UNUSED, from_original
from tal_bench.data.batches import pack_segments, padded_length
from tal_bench.models.backbone import pyramid_divisor
from tal_bench.models.detector import Detector
from tal_bench.models.heads.trident import TridentHeads
from tal_bench.models.losses import detection_loss
from tal_bench.models.targets import Targets, assign, pyramid_points
from tal_bench.training.decoding.candidates import candidates
from tal_bench.training.prediction import decode
from tal_bench.types import Batch, DetectorOutput, VideoMeta

from ..fixtures import Fixture
from . import Compared, Kind, has
from .arrays import Arrays, default_device, equal, near, near_levels, relative, scaled
from .matching import Detections, Excuse, matched

OUTPUT, DOUBLE, LOSS, GRADIENT = 2e-5, 1e-9, 1e-5, 2e-3
NOISE = 1e-5
"""Share of the largest gradient in the network below which a gradient is rounding error in float32.

Gradients of key biases are analytically 0, because they add a constant to all scores of a softmax. Those of
temporal attention are nearly 0: the LayerNorm after it cancels its scale, so they are differences of numbers
a million times larger."""
ZERO = (".attention.projections.1.bias", ".attention.norms.1.bias")


@dataclass
class Network:
    """Detector with the original weights, and intermediate values of its last forward pass."""

    detector: Detector
    settings: dict[str, Any]
    recorded: dict[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> DetectorSpec:
        return self.detector.spec

    def run(self, feats: list[Tensor], length: int) -> DetectorOutput:
        """Detect in features [C, T_i] after padding them to a length."""
        x, mask = pad(feats, length)
        names = (*self.spec.primary, *self.spec.privileged)
        widths = [*self.spec.primary.values(), *self.spec.privileged.values()]
        features = dict(zip(names, x.split(widths, dim=1), strict=True))
        batch = Batch(features, mask, *pack_segments([torch.empty(0, 2)], [torch.empty(0)]), [])
        output: DetectorOutput = self.detector(batch)
        return output


def network(settings: dict[str, Any], state: dict[str, Tensor]) -> Network:
    """Build a network from constructor arguments and a state dict, without drop path but with its scales."""
    spec = detector_spec(settings, state).model_copy(update={"drop_path": 0.0})
    detector = Detector(spec)
    detector.load_state_dict(from_original(state))
    net = Network(detector, settings)

    def record(name: str, module: nn.Module | None) -> None:
        def hook(module: nn.Module, inputs: Any, result: Any) -> None:
            net.recorded[name] = result

        if module is not None:
            module.register_forward_hook(hook)

    def record_levels(module: Any, inputs: Any) -> None:
        net.recorded["backbone"] = inputs[0]

    detector.neck.register_forward_pre_hook(record_levels)
    record("neck", detector.neck)
    record("gated", detector.inputs.fusion)
    return net


def pad(feats: list[Tensor], length: int) -> tuple[Tensor, Tensor]:
    """Pad features [C, T_i] to [B, C, length] and return them with their mask [B, length]."""
    x = feats[0].new_zeros(len(feats), feats[0].shape[0], length)
    for row, f in zip(x, feats, strict=True):
        row[:, : f.shape[1]] = f
    lengths = torch.tensor([f.shape[1] for f in feats])
    return x, torch.arange(length) < lengths[:, None]


def check(fixture: Fixture) -> Iterator[Compared]:
    """Compare everything in the fixture; AssertionError if an array is not used."""
    arrays, meta = Arrays(fixture), fixture.meta
    state = arrays.tree("param")
    net = network(meta["model_kwargs"], state)
    unused = sum(state[name].numel() for name in UNUSED if name in state)
    ours = sum(p.numel() for p in net.detector.parameters()) + unused
    yield equal("parameters", ours, meta["num_params"])
    if meta.get("max_div_factor") is not None:
        yield equal("divisor", pyramid_divisor(net.spec), meta["max_div_factor"])
    net.detector.eval()
    with torch.no_grad():
        for case, facts in meta["eval"].items():
            yield from _evaluation(net, arrays, f"eval/{case}", facts)
        net.detector.double()
        for case, facts in meta["eval"].items():
            yield from _double(net, arrays, f"eval/{case}", facts)
    net.detector.float()
    yield from _training(net, arrays, meta["train"])
    arrays.finish()


def _evaluation(net: Network, arrays: Arrays, case: str, facts: dict[str, Any]) -> Iterator[Compared]:
    """Compare a single video: features, logits, offsets, candidates, segments in seconds."""
    feats = arrays.tensor(f"{case}/feats")
    spec = net.spec
    length = padded_length(feats.shape[1], max_length=spec.max_length, divisor=pyramid_divisor(spec))
    yield equal(f"{case}: padded length", length, facts["padded_T"])
    output = net.run([feats], facts["padded_T"])
    yield from _intermediate(net, arrays, case, output)
    yield from _outputs(net, arrays, case, output)
    if f"{case}/points/0" in arrays:
        theirs = arrays.several(f"{case}/points")
        points = pyramid_points(spec, [len(x) for x in theirs], default_device())
        columns = [points.position[:, None], points.reach, points.stride[:, None]]
        ours = torch.cat(columns, dim=1).split([len(x) for x in theirs])
        yield from near_levels(f"{case}/points", list(ours), theirs, 0.0)
    yield from _decoded(net, arrays, case, output, facts)


def _intermediate(net: Network, arrays: Arrays, case: str, output: DetectorOutput) -> Iterator[Compared]:
    """Compare the features between input and heads that the fixture contains."""
    first = net.spec.first_level
    for name, levels in (("backbone_feat", net.recorded["backbone"]), ("fpn_feat", net.recorded["neck"])):
        if theirs := arrays.several(f"{case}/{name}"):
            # the neck reads from its first level on; the original's backbone features are all levels
            ours = [x.transpose(1, 2) for x in levels]
            ours = ours[first:] if len(ours) > len(theirs) else ours
            yield from scaled(f"{case}/{name}", ours, theirs, OUTPUT)
    single: dict[str, Callable[[], Tensor]] = {
        "stem_out": lambda: output.stem,
        "flow": lambda: output.inputs[:, net.spec.primary_channels :],
        "gated": lambda: net.recorded["gated"].transpose(1, 2),
        "batched_inputs": lambda: output.inputs,
        "gate_batched_inputs": lambda: net.recorded["gated"].transpose(1, 2),
    }
    for name, value in single.items():
        if f"{case}/{name}" in arrays:
            yield from scaled(f"{case}/{name}", [value()], [arrays.tensor(f"{case}/{name}")], OUTPUT)


def _outputs(net: Network, arrays: Arrays, case: str, output: DetectorOutput) -> Iterator[Compared]:
    """Compare logits, offsets and masks per level, before the trident head computes distances."""
    yield from near_levels(f"{case}/mask", output.mask, arrays.several(f"{case}/mask"), 0.0)
    yield from near_levels(f"{case}/logits", output.logits, arrays.several(f"{case}/logits"), OUTPUT)
    for name, levels in _raw(net, output).items():
        if theirs := arrays.several(f"{case}/{name}"):
            yield from near_levels(f"{case}/{name}", levels, theirs, OUTPUT)


def _raw(net: Network, output: DetectorOutput) -> dict[str, list[Tensor]]:
    """Return the outputs of the original other than logits, in its shapes."""
    heads = net.detector.heads
    if not isinstance(heads, TridentHeads):
        return {"offsets": output.offsets}
    dtype = output.logits[0].dtype
    raw, _ = heads.raw(net.recorded["neck"], [m[:, :, None].to(dtype) for m in output.mask])
    return {
        "offsets": [x.flatten(2) for x in raw.bins],
        "start": [x.transpose(1, 2) for x in raw.start],
        "end": [x.transpose(1, 2) for x in raw.end],
    }


def _double(net: Network, arrays: Arrays, case: str, facts: dict[str, Any]) -> Iterator[Compared]:
    output = net.run([arrays.tensor(f"{case}/feats").double()], facts["padded_T"])
    for name, levels in {"logits": output.logits, **_raw(net, output)}.items():
        if theirs := arrays.several(f"{case}/{name}_f64"):
            yield from near_levels(f"{case}/{name}_f64", levels, theirs, DOUBLE)


def _decoded(
    net: Network, arrays: Arrays, case: str, output: DetectorOutput, facts: dict[str, Any]
) -> Iterator[Compared]:
    settings = decode_spec(net.settings["test_cfg"], tridet="num_bins" in net.settings)
    (before,) = candidates(output, settings)
    yield from matched(
        f"{case}/prenms", Detections(*before), _detections(arrays, f"{case}/prenms"), _at_threshold(settings)
    )
    video = VideoMeta(
        id=case,
        duration=facts["duration"],
        fps=facts["fps"],
        stride=facts["feat_stride"],
        window=facts["feat_num_frames"],
    )
    (after,) = decode(output, [video], settings)
    theirs = _detections(arrays, f"{case}/final")
    ours = Detections(after.segments, after.scores, after.labels)
    full = len(theirs.scores) >= settings.max_detections
    lowest = float(theirs.scores.min()) if full and len(theirs.scores) else settings.min_score
    yield equal(f"{case}/final: segments", len(ours.scores), len(theirs.scores))
    yield from matched(f"{case}/final", ours, theirs, lambda segment, score: _close(score, lowest))
    if settings.nms != "none":
        yield equal(f"{case}/final: by falling score", bool((np.diff(ours.scores) <= 0).all()), True)


def _detections(arrays: Arrays, name: str) -> Detections:
    return Detections(arrays(f"{name}/segments"), arrays(f"{name}/scores"), arrays(f"{name}/labels"))


def _at_threshold(settings: DecodeSpec) -> Excuse:
    """Excuse candidates at the score threshold or of minimal length, which may be on either side."""
    threshold = settings.min_score if settings.candidate_score is None else settings.candidate_score
    return lambda segment, score: (
        _close(score, threshold) or abs(segment[1] - segment[0] - settings.min_length) < 1e-4
    )


def _close(score: float, threshold: float) -> bool:
    return abs(float(score) - threshold) <= 2e-4 * threshold


def _training(net: Network, arrays: Arrays, facts: dict[str, Any]) -> Iterator[Compared]:
    """Compare a training batch: assignment, losses twice (the normalizer changes), gradients."""
    net.detector.train()
    output = net.run(arrays.several("train/feats"), net.spec.max_length)
    yield from _intermediate(net, arrays, "train", output)
    yield from _outputs(net, arrays, "train", output)
    settings = train_spec(net.settings["train_cfg"], net.settings)
    points = pyramid_points(net.spec, [x.shape[1] for x in output.logits], default_device())
    targets = assign(
        points,
        *pack_segments(arrays.several("train/segments"), arrays.several("train/labels")),
        net.spec.classes,
        settings.radius,
    )
    if "train/gt_cls/0" in arrays:
        yield from assignment("train", targets, arrays)
    if "train/decoded_offsets" in arrays:
        ours = torch.cat(output.offsets, dim=1)
        yield near("train/decoded_offsets", ours, arrays.tensor("train/decoded_offsets"), OUTPUT)
    before = torch.tensor(float(facts["loss_normalizer_before"]))
    loss = detection_loss(output, targets, before, settings)
    yield relative("train/normaliser", loss.normalizer, facts["loss_normalizer_after"], LOSS)
    positive = (targets.classes.sum(dim=2) > 0) & torch.cat(output.mask, dim=1)
    yield from _counts(facts, positive, targets, [x.shape[1] for x in output.logits])
    yield from losses("train", loss.classification, loss.regression, loss.total, facts["losses"])
    if "losses_second_call" in facts:
        again = detection_loss(output, targets, loss.normalizer.detach(), settings)
        second = facts["losses_second_call"]
        yield from losses("train, again", again.classification, again.regression, again.total, second)
    loss.total.backward()
    yield from gradients(net.detector, arrays.tree("grad"), facts)


def _counts(
    facts: dict[str, Any], positive: Tensor, targets: Targets, lengths: list[int]
) -> Iterator[Compared]:
    per_level = [int(x.sum()) for x in positive.split(lengths, dim=1)]
    pairs = (targets.classes > 0) & positive[:, :, None]
    several = int((pairs.sum(dim=2) > 1).sum())
    for name, ours in (
        ("num_pos", sum(per_level)),
        ("num_pos_per_level", per_level),
        ("num_pos_multilabel", several),
    ):
        if name in facts:
            yield equal(f"train/{name}", ours, facts[name])


def assignment(case: str, targets: Targets, arrays: Arrays) -> Iterator[Compared]:
    """Compare labels everywhere, and offsets where there is a label."""
    classes = torch.stack(arrays.several(f"{case}/gt_cls"))
    offsets = torch.stack(arrays.several(f"{case}/gt_offsets"))
    yield near(f"{case}/gt_cls", targets.classes, classes, 0.0)
    labelled = classes.sum(dim=2) > 0
    yield near(f"{case}/gt_offsets", targets.offsets[labelled], offsets[labelled], 1e-5)


def losses(
    case: str, classification: Tensor, regression: Tensor, total: Tensor, theirs: dict[str, float]
) -> Iterator[Compared]:
    """Compare the three losses, relative."""
    yield relative(f"{case}/cls_loss", classification, theirs["cls_loss"], LOSS)
    yield relative(f"{case}/reg_loss", regression, theirs["reg_loss"], LOSS)
    yield relative(f"{case}/final_loss", total, theirs["final_loss"], LOSS)


def gradients(model: nn.Module, original: dict[str, Tensor], facts: dict[str, Any]) -> Iterator[Compared]:
    """Compare every gradient relative to its largest entry, and which weights have none."""
    theirs = from_original(original)
    none = set(from_original({k: torch.empty(1) for k in facts["params_without_grad"]}))
    ours = {name: p.grad for name, p in model.named_parameters()}
    missing = {name for name, g in ours.items() if g is None or name not in theirs}
    if not facts.get("gradients_cut"):  # an excerpt contains only small gradients
        yield equal("parameters without gradient", sorted(missing), sorted(none))
    largest = max(float(g.abs().max()) for g in theirs.values())
    for name, g in ours.items():
        if g is None or name not in theirs or name.endswith(ZERO):
            continue
        scale = max(float(theirs[name].abs().max()), NOISE * largest)
        yield near(f"grad/{name}", g / scale, theirs[name] / scale, GRADIENT)
    for key in ("grad_total_norm", "grad_total_norm_before_clip"):
        if key in facts:
            norms = torch.stack([g.norm() for g in ours.values() if g is not None])
            yield relative(f"grad: {key}", norms.norm(), facts[key], GRADIENT)


KIND: Kind = Kind("networks", has("model_kwargs", "eval"), check)
