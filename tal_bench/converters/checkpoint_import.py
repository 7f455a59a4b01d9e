"""Checkpoints of the original programs: read, matched weight by weight, and turned into a model of ours."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tal_bench.config import DetectorSpec
from tal_bench.converters.original_keys import from_original, is_unused
from tal_bench.converters.original_shapes import detector_spec_from_shapes
from tal_bench.converters.original_yaml import PROGRAMS, read_settings
from tal_bench.errors import InputError
from tal_bench.models.checkpoint import FeatureGrid, ModelCard
from tal_bench.models.detector import Detector

EMA, RAW = "state_dict_ema", "state_dict"
PARALLEL = "module."
"""What DataParallel puts before every name."""
_scalar: Callable[..., Any] = np.float64(0).__reduce__()[0]  # type: ignore[assignment]
SCALARS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (np.dtype, "numpy.dtype"),
    *((type(np.dtype(kind)), f"numpy.dtypes.{type(np.dtype(kind)).__name__}") for kind in ("f4", "f8", "i8")),
    (_scalar, "numpy.core.multiarray.scalar"),  # as numpy 1 writes it
    (_scalar, "numpy._core.multiarray.scalar"),
]
"""TemporalMaxer keeps its best mAP, a number of numpy's, beside the weights: nothing else may be made."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A checkpoint that fits.

    Attributes:
        model: with its weights, in eval mode.
        card: what it is.
        part: `state_dict_ema`, `state_dict`, or empty for a file that is a state dict itself.
        matched: number of the file's tensors that are in the model.
        unused: names of those that the original never reads.
        epoch: that the file names, or none.
        notes: what a person should know.
    """

    model: Detector
    card: ModelCard
    part: str
    matched: int
    unused: tuple[str, ...]
    epoch: int | None
    notes: tuple[str, ...]


def import_checkpoint(
    path: Path,
    program: str,
    *,
    name: str = "",
    config: Path | None = None,
    raw: bool = False,
    channels: Mapping[str, int] | None = None,
) -> Imported:
    """Read a checkpoint; nothing in it is run, and nothing is written.

    Args:
        path: `.pth.tar` as the program writes it, or a bare state dict.
        program: key of `PROGRAMS`.
        name: of the model; by default the program's and the file's.
        config: the program's YAML file; without it, what weights do not tell is as published for THUMOS14.
        raw: the weights themselves instead of their moving average.
        channels: modality to width, the first is what students see; by default two halves, RGB and flow.

    Raises:
        InputError: not such a file, or it does not fit; the message says what.
    """
    known = PROGRAMS[program]
    content = read_pickle(path)
    state, part, notes = choose(content, path, raw=raw)
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    inferred = detector_spec_from_shapes(shapes, where=path)
    _check_program(inferred, program, path)
    decode, grid = known.decode, None
    spec = inferred
    if config is None:
        notes += (
            f"no --config: attention windows, lengths and ranges as {known.title} has them for THUMOS14",
        )
    else:
        settings = read_settings(config, program, inferred, list(shapes))
        spec, decode, notes = settings.detector, settings.decode, notes + settings.notes
        grid = None if settings.grid is None else FeatureGrid.model_validate(settings.grid)
    spec = spec if channels is None else with_channels(spec, channels)
    detector = Detector(spec)
    matched = fill(detector, state, path)
    card = ModelCard(
        name=name or f"{program}-{stem(path)}",
        program=known.title,
        detector=spec,
        decode=decode,
        features=grid,
    )
    epoch = content.get("epoch")
    return Imported(
        model=detector.eval(),
        card=card,
        part=part,
        matched=matched,
        unused=tuple(key for key in state if is_unused(key)),
        epoch=epoch if isinstance(epoch, int) else None,
        notes=notes,
    )


def stem(path: Path) -> str:
    """`epoch_034` of `epoch_034.pth.tar`, in characters that files and tables take."""
    plain = re.sub(r"(\.(pth|pt|ckpt|tar|bin))+$", "", path.name)
    return re.sub(r"[^\w.-]", "_", plain)


def read_pickle(path: Path) -> dict[str, Any]:
    """Read a file of PyTorch's as plain data.

    Raises:
        InputError: missing, empty, damaged, or it asks for more than data.
    """
    if not path.is_file():
        raise InputError("no such file" if not path.exists() else "not a file", where=path)
    if path.stat().st_size == 0:
        raise InputError("empty file", where=path)
    try:
        with torch.serialization.safe_globals(SCALARS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old formats
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"(?:GLOBAL|Unsupported class|callable) ([\w.]+)", str(error))
        if asked:
            raise InputError(
                f"it wants to run '{asked[1]}', which weights do not need: refused, not run", where=path
            ) from None
        raise InputError("not a checkpoint of PyTorch", where=path) from None
    except MemoryError:
        raise
    except Exception as error:  # torch and zip raise many kinds on damaged files
        raise InputError(
            f"not a checkpoint of PyTorch, or damaged ({type(error).__name__})", where=path
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"holds a {type(content).__name__}, need a dict of weights", where=path)
    return content


def choose(
    content: Mapping[str, Any], path: Path, *, raw: bool
) -> tuple[dict[str, Tensor], str, tuple[str, ...]]:
    """The state dict that was asked for, its place in the file, and what is odd about it.

    Raises:
        InputError: it is not there, or is not made of tensors.
    """
    notes: tuple[str, ...] = ()
    wanted, other = (RAW, EMA) if raw else (EMA, RAW)
    if wanted in content:
        state, part = content[wanted], wanted
        if (
            isinstance(state, dict)
            and isinstance(content.get(other), dict)
            and content[other].keys() != state.keys()
        ):
            notes = (f"'{other}' is of another network than '{wanted}' (C2MS-Net keeps its teacher there)",)
    elif other in content:
        flag = "leave --raw out" if raw else "give --raw for the other weights"
        raise InputError(f"no '{wanted}' in it, but '{other}'", where=path, hint=flag)
    else:
        state, part = content, ""
    if not isinstance(state, dict) or not state:
        raise InputError(f"'{part}' holds no weights" if part else "holds no weights", where=path)
    strange = [
        key for key, value in state.items() if not isinstance(key, str) or not isinstance(value, Tensor)
    ]
    if strange:
        place = f"'{part}'" if part else "it"
        raise InputError(
            f"{place} is no state dict: {strange[0]!r:.60} is no tensor",
            where=path,
            hint=f"need '{wanted}', or a file of weights alone",
        )
    plain = {key.removeprefix(PARALLEL): value for key, value in state.items()}
    if len(plain) != len(state):
        raise InputError(f"names that differ only in '{PARALLEL}'", where=path)
    return {key: _float(value) for key, value in plain.items()}, part, notes


def fill(detector: Detector, state: Mapping[str, Tensor], path: Path) -> int:
    """Put the original's weights into a detector; the number that were matched.

    Raises:
        InputError: names that are left over or missing, or shapes that differ, counted, the first ones named.
    """
    theirs = {key: key for key in state if not is_unused(key)}
    ours = from_original(state)
    own = {name: tuple(value.shape) for name, value in detector.state_dict().items()}
    extra, missing = sorted(ours.keys() - own.keys()), sorted(own.keys() - ours.keys())
    wrong = [name for name in sorted(own.keys() & ours.keys()) if own[name] != tuple(ours[name].shape)]
    if extra or missing or wrong:
        parts = [
            f"{len(names)} {what} ({', '.join(names[:2])}{', …' if len(names) > 2 else ''})"
            for what, names in (("unknown", extra), ("missing", missing), ("of another shape", wrong))
            if names
        ]
        raise InputError(
            f"of {len(state)} weights, these do not fit: {'; '.join(parts)}",
            where=path,
            hint="is it a checkpoint of another program, or of a changed network?",
        )
    broken = [name for name, value in ours.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise InputError(f"{len(broken)} weights are not finite, for instance {broken[0]}", where=path)
    detector.load_state_dict(ours)
    return len(theirs)


def with_channels(spec: DetectorSpec, channels: Mapping[str, int]) -> DetectorSpec:
    """The architecture with modalities of these names and widths.

    Raises:
        InputError: they do not sum to what the weights read.
    """
    where = "--channels " + ",".join(f"{name}={width}" for name, width in channels.items())
    items = list(channels.items())
    primary, privileged = dict(items[:1]), dict(items[1:])
    reads = sum(channels.values())
    if reads != spec.input_channels:
        raise InputError(f"{reads} channels, the weights read {spec.input_channels}", where=where)
    if spec.projection and tuple(channels.values()) != spec.input_widths:
        widths = ", ".join(map(str, spec.input_widths))
        raise InputError(f"the weights read streams of {widths} channels", where=where)
    if (spec.inputs == "hallucinated" or spec.gated_fusion) and items[0][1] != spec.primary_channels:
        raise InputError(f"the weights' first stream has {spec.primary_channels} channels", where=where)
    return spec.model_copy(update={"primary": primary, "privileged": privileged})


def _check_program(spec: DetectorSpec, program: str, path: Path) -> None:
    """Weights of another program than the person said.

    Raises:
        InputError: names the program that has such weights.
    """
    special = spec.temporal_attention or spec.inputs == "hallucinated" or spec.gated_fusion
    fits = {
        name: spec.structure in known.structures
        and (name == "c2ms" or not special)
        and (name == "tridet") >= spec.trident
        and (name != "tridet" or spec.trident or spec.structure == "sgp")
        for name, known in PROGRAMS.items()
    }
    if not fits[program]:
        others = [name for name, fit in fits.items() if fit]
        raise InputError(
            f"no weights of {PROGRAMS[program].title}",
            where=path,
            hint=f"they look like --as {' or '.join(others)}" if others else "of no program known here",
        )


def _float(value: Tensor) -> Tensor:
    return value.detach().float() if value.is_floating_point() else value.detach()
