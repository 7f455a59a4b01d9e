"""Networks of every structure against plain references, and their invariances."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from tal_bench.config import DetectorSpec, TrainSpec, parse_spec
from tal_bench.converters.original_config import decode_spec, detector_spec, train_spec
from tal_bench.distill.terms.offsets import offsets as offsets_term
from tal_bench.errors import InputError
from tal_bench.models.backbone import pyramid_divisor
from tal_bench.models.blocks.attention import local_attention
from tal_bench.models.blocks.sgp import wide_kernel
from tal_bench.models.detector import Detector
from tal_bench.models.heads.point import Heads
from tal_bench.models.heads.trident import expected_offsets
from tal_bench.models.losses import detection_loss, diou_loss, focal_loss
from tal_bench.models.neck import FpnNeck
from tal_bench.models.targets import Targets, pyramid_points
from tal_bench.types import DetectorOutput

RANGES = ((0.0, 4.0), (4.0, 8.0), (8.0, 10000.0))
VARIATIONS: dict[str, dict[str, Any]] = {
    "actionformer": {"structure": "actionformer"},
    "full attention": {"structure": "actionformer", "attention_window": 1},
    "relative": {"structure": "actionformer", "relative_positions": True},
    "mixed windows": {"structure": "actionformer", "attention_window": (5, -1, 9)},
    "conv": {"structure": "conv"},
    "conv-dw": {"structure": "conv-dw"},
    "temporalmaxer": {"structure": "temporalmaxer", "stem_blocks": 0},
    "tridet": {"structure": "tridet"},
    "trident": {"structure": "tridet", "trident": True, "bins": 4},
    "average pooling": {"structure": "tridet", "sgp_pool": "avg", "sgp_window": (1, 3, 5)},
    "trident on conv": {"structure": "conv", "trident": True, "bins": 3, "boundary_kernel": 5},
    "fpn": {"structure": "conv", "neck": "fpn", "neck_width": 24},
    "second level": {"structure": "conv", "first_level": 1, "regression_ranges": RANGES[1:]},
    "fpn from second level": {
        "structure": "conv",
        "neck": "fpn",
        "first_level": 1,
        "regression_ranges": RANGES[1:],
    },
    "projections": {"structure": "conv", "projection": (24, 8)},
    "no norms": {"structure": "conv", "embed_norm": False, "neck_norm": False, "head_norm": False},
    "no norms, fpn": {"structure": "conv", "neck": "fpn", "neck_norm": False},
    "wide kernels": {"structure": "conv", "embed_kernel": 5, "head_kernel": 7},
    "no scales": {"structure": "actionformer", "residual_scale": False},
}


def build(**changes: Any) -> Detector:
    """Return a small detector in eval mode, with all weights changed from their initial values."""
    value = {
        "inputs": "all",
        "primary": {"rgb": 6},
        "privileged": {"flow": 4},
        "classes": 3,
        "max_length": 64,
        "width": 32,
        "head_width": 16,
        "attention_window": 5,
        "branch_blocks": 2,
        "stem_blocks": 1,
        "regression_ranges": RANGES,
        **changes,
    }
    torch.manual_seed(0)
    detector = Detector(parse_spec(DetectorSpec, value, where="test"))
    for p in detector.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return detector.eval()


@torch.no_grad()
def detect(detector: Detector, lengths: list[int], padded: int, seed: int = 0) -> DetectorOutput:
    """Detect in random features, which for a given length do not depend on the batch."""
    names = {**detector.spec.primary, **detector.spec.privileged}
    features = {name: torch.zeros(len(lengths), c, padded) for name, c in names.items()}
    for i, length in enumerate(lengths):
        generator = torch.Generator().manual_seed(seed + length)
        for name, c in names.items():
            features[name][i, :, :length] = torch.randn(c, length, generator=generator)
    return detector.detect(features, torch.arange(padded) < torch.tensor(lengths)[:, None])


def assert_same(x: DetectorOutput, y: DetectorOutput, row: int) -> None:
    """Compare the only video of x with one of y, on the valid steps of x."""
    for mine, other, mask in zip(
        (*x.logits, *x.offsets), (*y.logits, *y.offsets), (*x.mask, *x.mask), strict=True
    ):
        steps = int(mask[0].sum())
        torch.testing.assert_close(mine[0, :steps], other[row, :steps], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", VARIATIONS)
def test_a_video_does_not_depend_on_the_rest_of_the_batch(name: str) -> None:
    detector = build(**VARIATIONS[name])
    assert_same(detect(detector, [37], 64), detect(detector, [64, 37, 20], 64), 1)


@pytest.mark.parametrize("name", [n for n, v in VARIATIONS.items() if v["structure"] != "tridet"])
def test_more_padding_changes_nothing(name: str) -> None:
    detector = build(**VARIATIONS[name])
    assert_same(detect(detector, [37], 64), detect(detector, [37], 96), 0)


def test_padding_matters_to_sgp_as_in_the_original() -> None:
    detector = build(**VARIATIONS["tridet"])
    x, y = detect(detector, [37], 64), detect(detector, [37], 96)
    assert not torch.allclose(x.logits[0][0, :37], y.logits[0][0, :37], atol=1e-3)


@pytest.mark.parametrize("name", VARIATIONS)
def test_shapes_masks_and_gradients(name: str) -> None:
    detector = build(**VARIATIONS[name])
    spec = detector.spec
    output = detect(detector, [50], 64)
    assert [x.shape[1] for x in output.logits] == [64 // s for s in spec.level_strides]
    assert all(x.shape[2] == 3 for x in output.logits)
    for logits, offsets, mask in zip(output.logits, output.offsets, output.mask, strict=True):
        assert offsets.shape[2:] == ((3, 2) if spec.trident else (2,))
        assert offsets.shape[:2] == logits.shape[:2]
        assert offsets.min() >= 0
        assert not logits[~mask].any()
    detector.train()
    features = {n: torch.randn(1, c, 64) for n, c in {**spec.primary, **spec.privileged}.items()}
    live = detector.detect(features, torch.ones(1, 64, dtype=torch.bool))
    sum(x.square().sum() for x in (*live.logits, *live.offsets)).backward()
    dead = [n for n, p in detector.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert dead == []


def test_relative_bias_is_added_by_distance() -> None:
    torch.manual_seed(1)
    B, H, T, d, window = 2, 2, 23, 4, 7
    q, k, v = torch.randn(3, B, H, T, d)
    relative = torch.randn(H, window)
    mask = torch.ones(B, T)
    ours = local_attention(q, k, v, mask, window, relative)
    for t in range(T):
        keys = range(max(0, t - 3), min(T, t + 4))
        scores = torch.stack(
            [(q[:, :, t] * k[:, :, s]).sum(dim=-1) / 2 + relative[:, s - t + 3] for s in keys], dim=-1
        )
        expected = (scores.softmax(dim=-1)[..., None] * v[:, :, keys.start : keys.stop]).sum(dim=2)
        torch.testing.assert_close(ours[:, :, t], expected, atol=1e-5, rtol=1e-5)


def test_relative_bias_does_not_decay() -> None:
    detector = build(**VARIATIONS["relative"])
    biases = [p for n, p in detector.named_parameters() if n.endswith("attention.relative")]
    assert len(biases) == 3
    assert all(p.ndim == 1 for p in biases)


def test_fpn_agrees_with_a_plain_implementation() -> None:
    neck = build(**VARIATIONS["fpn"]).neck
    assert isinstance(neck, FpnNeck)
    features = [torch.randn(1, 16 // 2**i, 32) for i in range(3)]
    masks = [torch.ones(1, 16 // 2**i, 1) for i in range(3)]
    for mask in masks:
        mask[:, mask.shape[1] // 2 :] = 0
    top_down: list[Tensor] = []
    for i in (2, 1, 0):
        x = F.conv1d((features[i]).transpose(1, 2), neck.lateral[i].weight) * masks[i].transpose(1, 2)
        if top_down:
            x = x + F.interpolate(top_down[0], scale_factor=2, mode="nearest")
        top_down.insert(0, x)
    for i, (ours, x) in enumerate(zip(neck(features, masks), top_down, strict=True)):
        y = F.conv1d(x, neck.smooth[i].weight, padding=1, groups=24) * masks[i].transpose(1, 2)
        torch.testing.assert_close(ours, neck.norms[i](y.transpose(1, 2)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kernel", [1, 3, 5, 9])
def test_the_heads_keep_levels_apart(kernel: int) -> None:
    spec = build(structure="conv", head_kernel=kernel).spec
    heads = Heads(spec)
    features = [torch.randn(2, 16 // 2**i, 32) for i in range(3)]
    masks = [torch.ones(2, 16 // 2**i, 1) for i in range(3)]
    together = heads(features, masks)[0]
    zeros = [torch.zeros_like(x) for x in features]
    for level in range(3):
        alone = heads([features[i] if i == level else zeros[i] for i in range(3)], masks)[0][level]
        torch.testing.assert_close(together[level], alone)
        x = features[level].transpose(1, 2)
        for conv, norm in zip(heads.classifier.convs, heads.classifier.norms, strict=True):
            x = F.conv1d(x, conv.weight, padding=kernel // 2)
            x = norm(x.transpose(1, 2)).relu().transpose(1, 2)
        plain = F.conv1d(x, heads.classifier.out.weight, heads.classifier.out.bias, padding=kernel // 2)
        torch.testing.assert_close(alone, plain.transpose(1, 2), atol=1e-5, rtol=1e-4)


@given(st.integers(1, 6), st.integers(1, 12), st.integers(1, 3), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_expected_offsets_agree_with_a_plain_loop(bins: int, T: int, K: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    votes = torch.randn(1, T, 2, bins + 1, generator=g)
    start, end = torch.randn(2, 1, T, K, generator=g)
    ours = expected_offsets(votes, start, end)
    for t in range(T):
        for c in range(K):
            before = torch.tensor([start[0, t - i, c] if t >= i else 0.0 for i in range(bins, -1, -1)])
            after = torch.tensor([end[0, t + i, c] if t + i < T else 0.0 for i in range(bins + 1)])
            left = (before + votes[0, t, 0]).softmax(0) @ torch.arange(bins, -1, -1.0)
            right = (after + votes[0, t, 1]).softmax(0) @ torch.arange(bins + 1.0)
            torch.testing.assert_close(ours[0, t, c], torch.stack([left, right]), atol=1e-5, rtol=1e-5)


def test_detection_loss_with_offsets_per_class_and_iou_power() -> None:
    torch.manual_seed(2)
    B, P, K = 2, 7, 3
    logits = torch.randn(B, P, K)
    offsets = torch.rand(B, P, K, 2)
    mask = torch.rand(B, P) > 0.2
    classes = (torch.rand(B, P, K) > 0.7).float()
    targets = Targets(classes, torch.rand(B, P, 2))
    output = DetectorOutput([logits], [offsets], [mask], logits, logits)
    settings = TrainSpec(iou_power=0.2, regression_weight=2.0, label_smoothing=0.1)
    loss = detection_loss(output, targets, torch.tensor(10.0), settings)
    points = int((classes.any(dim=2) & mask).sum())
    normalizer = 0.9 * 10 + 0.1 * max(points, 1)
    hard, regression = 0.0, 0.0
    for b, p, c in ((b, p, c) for b in range(B) for p in range(P) for c in range(K) if mask[b, p]):
        y = float(classes[b, p, c])
        entry = float(focal_loss(logits[b, p, c], torch.tensor(y * 0.9 + 0.1 / (K + 1))))
        if y:
            a, t = offsets[b, p, c], targets.offsets[b, p]
            shared = float(torch.minimum(a, t).sum())
            entry *= (shared / (float(a.sum() + t.sum()) - shared)) ** 0.2
            regression += float(diou_loss(a, t))
        hard += entry
    assert float(loss.classification) == pytest.approx(hard / normalizer, rel=1e-5)
    assert float(loss.regression) == pytest.approx(regression / normalizer, rel=1e-5)
    assert float(loss.total) == pytest.approx((hard + 2 * regression) / normalizer, rel=1e-5)


def test_a_trident_that_overlaps_nothing_has_a_finite_gradient() -> None:
    offsets = torch.zeros(1, 1, 1, 2, requires_grad=True)
    output = DetectorOutput(
        [torch.zeros(1, 1, 1)], [offsets], [torch.ones(1, 1, dtype=torch.bool)], *[offsets] * 2
    )
    targets = Targets(torch.ones(1, 1, 1), torch.ones(1, 1, 2))
    detection_loss(output, targets, torch.tensor(1.0), TrainSpec(iou_power=0.2)).total.backward()
    assert offsets.grad is not None
    assert offsets.grad.isfinite().all()


def test_offsets_per_class_are_comparable_with_common_offsets() -> None:
    student, teacher = (detect(build(**VARIATIONS[n]), [40], 64) for n in ("conv", "trident"))
    assert offsets_term(teacher, teacher, 1.0) == 0
    assert offsets_term(student, teacher, 1.0) > 0


def test_empty_classes_start_at_a_lower_probability() -> None:
    detector = Detector(build(structure="conv", empty_classes=(1,)).spec)
    bias = detector.heads.classifier.out.bias
    assert isinstance(bias, nn.Parameter)
    assert bias.sigmoid().tolist() == pytest.approx([0.01, 1e-6, 0.01], rel=1e-3)


def test_points_of_a_pyramid_that_starts_later() -> None:
    points = pyramid_points(build(**VARIATIONS["second level"]).spec, [4, 2])
    assert points.position.tolist() == [0, 2, 4, 6, 0, 4]
    assert points.stride.tolist() == [2, 2, 2, 2, 4, 4]


def test_divisors() -> None:
    defaults = DetectorSpec(structure="actionformer", inputs="primary", primary={"rgb": 1024}, classes=20)
    assert pyramid_divisor(defaults) == 576
    assert pyramid_divisor(build(structure="actionformer", attention_window=19).spec) == 72
    assert pyramid_divisor(build(structure="actionformer", attention_window=(19, 9, -1)).spec) == 18
    assert pyramid_divisor(build(structure="conv", attention_window=-1).spec) == 4
    assert pyramid_divisor(build(structure="tridet", sgp_window=(1, 1, 5)).spec) == 20


def test_wide_kernels_are_odd() -> None:
    assert [wide_kernel(1, k) for k in (1.5, 2.0, 5.0)] == [3, 5, 11]
    assert wide_kernel(3, 5.0) == 21


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"projection": (8, 8)}, "projection"),
        ({"attention_window": (5, 5)}, "attention_window"),
        ({"neck_width": 16}, "neck_width"),
        ({"empty_classes": (3,)}, "empty_classes"),
        ({"head_kernel": 4}, "head_kernel"),
        ({"structure": "tridet", "width": 40}, "width"),
        ({"neck": "fpn", "temporal_attention": True}, "temporal_attention"),
    ],
)
def test_impossible_architectures_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(**{"structure": "conv", **changes})


ORIGINAL: dict[str, Any] = {
    "backbone_type": "convTransformer",
    "backbone_arch": (2, 2, 2),
    "scale_factor": 2,
    "fpn_type": "identity",
    "input_dim": [6, 4],
    "embd_dim": [24, 8],
    "fpn_dim": 32,
    "head_dim": 16,
    "n_head": 4,
    "n_mha_win_size": [5, 5, -1],
    "use_rel_pe": True,
    "use_abs_pe": True,
    "embd_kernel_size": 3,
    "head_kernel_size": 3,
    "head_num_layers": 3,
    "embd_with_ln": True,
    "fpn_with_ln": True,
    "head_with_ln": False,
    "num_classes": 3,
    "max_seq_len": 64,
    "regression_range": RANGES,
    "train_cfg": {"droppath": 0.1, "head_empty_cls": [2]},
}


def test_original_arguments() -> None:
    spec = detector_spec(ORIGINAL, ["backbone.stem.0.drop_path_attn.scale"])
    assert (spec.width, spec.projection, spec.input_widths) == (32, (24, 8), (6, 4))
    assert (spec.windows, spec.empty_classes, spec.head_norm) == ((5, 5, -1), (2,), False)
    assert spec.residual_scale
    assert not spec.temporal_attention
    assert not detector_spec(ORIGINAL, []).residual_scale
    assert detect(Detector(spec).eval(), [40], 64).logits[0].shape == (1, 64, 3)


def test_original_settings_without_counterpart_are_refused() -> None:
    with pytest.raises(InputError, match="scale_factor 3"):
        detector_spec({**ORIGINAL, "scale_factor": 3}, [])
    with pytest.raises(InputError, match="backbone_type 'lstm'"):
        detector_spec({**ORIGINAL, "backbone_type": "lstm"}, [])


def test_original_training_and_decoding() -> None:
    train = train_spec({"center_sample": "none", "loss_weight": -1, "clip_grad_l2norm": -1})
    assert (train.radius, train.regression_weight, train.clip) == (None, "balanced", None)
    test_cfg = {
        "pre_nms_thresh": 0.01,
        "min_score": 0.002,
        "pre_nms_topk": 100,
        "duration_thresh": 0.1,
        "nms_method": "none",
        "nms_sigma": 0.75,
        "iou_threshold": 0.2,
        "max_seg_num": 50,
        "multiclass_nms": False,
        "voting_thresh": 0.9,
    }
    decode = decode_spec(test_cfg, tridet=True)
    assert (decode.candidate_score, decode.min_score, decode.nms) == (0.01, 0.002, "none")
    assert (decode.class_agnostic, decode.voting_weight) == (True, "score")
    assert math.isclose(decode.nms_sigma, 0.75)
