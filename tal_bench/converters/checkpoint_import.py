"""Import of checkpoints of the original programs: reading, matching of weights, and conversion."""

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
"""Prefix that DataParallel adds to every name."""
_scalar: Callable[..., Any] = np.float64(0).__reduce__()[0]  # type: ignore[assignment]
SCALARS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (np.dtype, "numpy.dtype"),
    *((type(np.dtype(kind)), f"numpy.dtypes.{type(np.dtype(kind)).__name__}") for kind in ("f4", "f8", "i8")),
    (_scalar, "numpy.core.multiarray.scalar"),  # the name in files written with numpy 1
    (_scalar, "numpy._core.multiarray.scalar"),
]
"""The only globals allowed in a file: TemporalMaxer stores its best mAP as a numpy scalar."""


@dataclass(frozen=True, slots=True)
class ImportedCheckpoint:
    """Imported checkpoint.

    Attributes:
        model: Model with its weights, in eval mode.
        card: Card of the model.
        part: `state_dict_ema`, `state_dict`, or empty for a file that is a state dict itself.
        matched: Number of tensors of the file that were loaded into the model.
        unused: Names of tensors that the original program never reads.
        epoch: Epoch stored in the file, or None.
        notes: Remarks for the user.
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
) -> ImportedCheckpoint:
    """Read a checkpoint, without executing code in it and without writing files.

    Args:
        path: `.pth.tar` file of the program, or a file with only a state dict.
        program: Key of `PROGRAMS`.
        name: Name of the model; by default that of the program and the file.
        config: Configuration file (YAML) of the program. Without it, settings that cannot be inferred from
            the weights are those published for THUMOS14.
        raw: Whether to read the raw weights instead of their moving average.
        channels: Channels by modality; the first is primary. By default two halves, RGB and flow.

    Raises:
        InputError: If the file is not such a checkpoint, or does not fit the program or configuration.
    """
    known = PROGRAMS[program]
    content = read_pickle(path)
    state, part, notes = select_state_dict(content, path, raw=raw)
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    inferred = detector_spec_from_shapes(shapes, where=path)
    _check_program(inferred, program, path)
    decode, grid = known.decode, None
    spec = inferred
    if config is None:
        notes += (
            f"no --config: attention windows, lengths and ranges are those of {known.title} for THUMOS14",
        )
    else:
        settings = read_settings(config, program, inferred, list(shapes))
        spec, decode, notes = settings.detector, settings.decode, notes + settings.notes
        grid = None if settings.grid is None else FeatureGrid.model_validate(settings.grid)
    spec = spec if channels is None else with_channels(spec, channels)
    detector = Detector(spec)
    matched = load_original_weights(detector, state, path)
    card = ModelCard(
        name=name or f"{program}-{file_stem(path)}",
        program=known.title,
        detector=spec,
        decode=decode,
        features=grid,
    )
    epoch = content.get("epoch")
    return ImportedCheckpoint(
        model=detector.eval(),
        card=card,
        part=part,
        matched=matched,
        unused=tuple(key for key in state if is_unused(key)),
        epoch=epoch if isinstance(epoch, int) else None,
        notes=notes,
    )


def file_stem(path: Path) -> str:
    """Return the file name without suffixes (`epoch_034` of `epoch_034.pth.tar`), in safe characters."""
    plain = re.sub(r"(\.(pth|pt|ckpt|tar|bin))+$", "", path.name)
    return re.sub(r"[^\w.-]", "_", plain)


def read_pickle(path: Path) -> dict[str, Any]:
    """Read a file written by `torch.save` as plain data.

    Raises:
        InputError: If the file is missing, empty or damaged, or contains anything but data.
    """
    if not path.is_file():
        raise InputError("no such file" if not path.exists() else "not a file", where=path)
    if path.stat().st_size == 0:
        raise InputError("empty file", where=path)
    try:
        with torch.serialization.safe_globals(SCALARS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old formats
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code = re.search(r"(?:GLOBAL|Unsupported class|callable) ([\w.]+)", str(error))
        if code:
            raise InputError(
                f"the file would run '{code[1]}' when loaded: refused, not run", where=path
            ) from None
        raise InputError("not a PyTorch checkpoint", where=path) from None
    except MemoryError:
        raise
    except Exception as error:  # torch and zip raise many kinds on damaged files
        raise InputError(
            f"not a PyTorch checkpoint, or damaged ({type(error).__name__})", where=path
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"contains a {type(content).__name__}, expected a dict of weights", where=path)
    return content


def select_state_dict(
    content: Mapping[str, Any], path: Path, *, raw: bool
) -> tuple[dict[str, Tensor], str, tuple[str, ...]]:
    """Return the requested state dict, its key in the file, and remarks about it.

    Raises:
        InputError: If it is missing or contains anything but tensors.
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
            notes = (
                f"'{other}' belongs to another network than '{wanted}' (C2MS-Net stores its teacher there)",
            )
    elif other in content:
        hint = "omit --raw" if raw else "use --raw to read the raw weights"
        raise InputError(f"the file has no '{wanted}', only '{other}'", where=path, hint=hint)
    else:
        state, part = content, ""
    if not isinstance(state, dict) or not state:
        raise InputError(f"'{part}' contains no weights" if part else "contains no weights", where=path)
    invalid = [
        key for key, value in state.items() if not isinstance(key, str) or not isinstance(value, Tensor)
    ]
    if invalid:
        place = f"'{part}'" if part else "the file"
        raise InputError(
            f"{place} is not a state dict: {invalid[0]!r:.60} is not a tensor",
            where=path,
            hint=f"give a file with '{wanted}', or with weights only",
        )
    plain = {key.removeprefix(PARALLEL): value for key, value in state.items()}
    if len(plain) != len(state):
        raise InputError(f"duplicate names apart from the prefix '{PARALLEL}'", where=path)
    return {key: _float(value) for key, value in plain.items()}, part, notes


def load_original_weights(detector: Detector, state: Mapping[str, Tensor], path: Path) -> int:
    """Load original weights into a detector and return the number of matched tensors.

    Raises:
        InputError: If names are unknown or missing or shapes differ; the message counts them and names the
            first ones.
    """
    converted = from_original(state)
    own = {name: tuple(value.shape) for name, value in detector.state_dict().items()}
    extra, missing = sorted(converted.keys() - own.keys()), sorted(own.keys() - converted.keys())
    wrong = [
        name for name in sorted(own.keys() & converted.keys()) if own[name] != tuple(converted[name].shape)
    ]
    if extra or missing or wrong:
        parts = [
            f"{len(names)} {what} ({', '.join(names[:2])}{', …' if len(names) > 2 else ''})"
            for what, names in (("unknown", extra), ("missing", missing), ("of another shape", wrong))
            if names
        ]
        raise InputError(
            f"the file's {len(state)} weights do not fit: {'; '.join(parts)}",
            where=path,
            hint="check that the checkpoint is of this program, and of an unchanged network",
        )
    nonfinite = [name for name, value in converted.items() if not bool(torch.isfinite(value).all())]
    if nonfinite:
        raise InputError(f"{len(nonfinite)} weights are not finite, for instance {nonfinite[0]}", where=path)
    detector.load_state_dict(converted)
    return sum(not is_unused(key) for key in state)


def with_channels(spec: DetectorSpec, channels: Mapping[str, int]) -> DetectorSpec:
    """Return the architecture with modalities of the given names and widths.

    Raises:
        InputError: If the widths do not fit the weights.
    """
    where = "--channels " + ",".join(f"{name}={width}" for name, width in channels.items())
    items = list(channels.items())
    primary, privileged = dict(items[:1]), dict(items[1:])
    total = sum(channels.values())
    if total != spec.input_channels:
        raise InputError(f"{total} channels, the weights read {spec.input_channels}", where=where)
    if spec.projection and tuple(channels.values()) != spec.input_widths:
        widths = ", ".join(map(str, spec.input_widths))
        raise InputError(f"the weights read streams of {widths} channels", where=where)
    if (spec.inputs == "hallucinated" or spec.gated_fusion) and items[0][1] != spec.primary_channels:
        raise InputError(f"the weights' first stream has {spec.primary_channels} channels", where=where)
    return spec.model_copy(update={"primary": primary, "privileged": privileged})


def _check_program(spec: DetectorSpec, program: str, path: Path) -> None:
    """Check that the weights are of the given program.

    Raises:
        InputError: If they are not; the hint names the programs that they fit.
    """
    special = spec.temporal_attention or spec.inputs == "hallucinated" or spec.gated_fusion
    fits = {
        name: spec.structure in known.structures
        and (name == "c2ms" or not special)
        and (name == "tridet") >= spec.trident
        and (name != "tridet" or spec.trident or spec.structure == "tridet")
        for name, known in PROGRAMS.items()
    }
    if not fits[program]:
        others = [name for name, fit in fits.items() if fit]
        raise InputError(
            f"not weights of {PROGRAMS[program].title}",
            where=path,
            hint=f"try --as {' or '.join(others)}" if others else "they fit none of the known programs",
        )


def _float(value: Tensor) -> Tensor:
    return value.detach().float() if value.is_floating_point() else value.detach()
