"""Reading of a pickle of data frames without executing code from it.

A pickle can call any function of any module by its name. Here only the names that a data frame needs are
allowed, and each is resolved to a placeholder that records the arguments of its call; arrays are then built
from these records. A pickle with any other name is rejected when the name is read, before anything is built.
"""

from __future__ import annotations

import pickle
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tal_bench.errors import DataError

FRAME = "pandas.core.frame.DataFrame"
BLOCKS = "pandas.core.internals.managers.BlockManager"
INDEX = "pandas.core.indexes.base._new_Index"
ARRAY = "numpy.core.multiarray._reconstruct"
DTYPE = "numpy.dtype"
ENCODE = "_codecs.encode"
OBJECT = "copy_reg._reconstructor"
ALLOWED = frozenset(
    {
        FRAME,
        BLOCKS,
        INDEX,
        ARRAY,
        DTYPE,
        ENCODE,
        OBJECT,
        "pandas.core.indexes.base.Index",
        "pandas.core.indexes.range.RangeIndex",
        "numpy.ndarray",
        "__builtin__.object",
        "__builtin__.slice",
    }
)
NUMBERS = {"f8": np.float64, "i8": np.int64}


class _Call:
    """Recorded call of a pickle: name, arguments, and state that is set afterwards."""

    __slots__ = ("args", "name", "state")

    def __init__(self, name: str, args: tuple[Any, ...]) -> None:
        self.name, self.args = name, args
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Placeholder:
    """Placeholder for a function or a class; calling it records the call."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *args: Any) -> _Call:
        return _Call(self.name, args)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError(f"sets attributes of {self.name}")


class _Reader(pickle.Unpickler):
    """Unpickler that resolves allowed names to placeholders and rejects all others."""

    def find_class(self, module: str, name: str, /) -> _Placeholder:
        full = f"{module}.{name}"
        if full not in ALLOWED:
            raise pickle.UnpicklingError(f"names {full}")
        return _Placeholder(full)


def read_frames(file: IO[bytes], where: object) -> dict[int, list[dict[str, NDArray[Any]]]]:
    """Read a pickled dictionary with a list of data frames per number.

    Args:
        file: Uncompressed pickle, as written by pandas 1.
        where: Place that error messages name.

    Returns:
        Data frames by number, each as arrays [N] by column name.

    Raises:
        DataError: The pickle is damaged, or has names other than those of data frames and arrays of numbers.
    """
    try:
        content = _Reader(file).load()
        return {_integer(key): [_frame(frame) for frame in frames] for key, frames in content.items()}
    except pickle.UnpicklingError as error:
        raise DataError(
            f"refused: the pickle {error}, expected only data frames of numbers",
            where=where,
            hint="the file may not be the original one; no code of it was executed",
        ) from None
    except Exception as error:
        raise DataError(
            f"not a dictionary of pickled data frames: {type(error).__name__}", where=where
        ) from None


def _call(value: Any, name: str) -> _Call:
    if not isinstance(value, _Call) or value.name != name:
        raise pickle.UnpicklingError(f"has a {type(value).__name__} in place of {name}")
    return value


def _integer(value: Any) -> int:
    if not isinstance(value, int):
        raise pickle.UnpicklingError(f"has a {type(value).__name__} in place of a number")
    return value


def _frame(value: Any) -> dict[str, NDArray[Any]]:
    """Return the columns of a data frame from its blocks of values."""
    manager = _call(_call(value, OBJECT).state["_data"], OBJECT)
    _, blocks, names, *_ = manager.state
    columns: dict[str, NDArray[Any]] = {}
    for block, index in zip(blocks, names, strict=True):
        labels = _array(_call(index, INDEX).args[1]["data"])
        columns |= dict(zip(map(str, labels), _array(block), strict=True))
    return columns


def _array(value: Any) -> NDArray[Any]:
    """Return an array of numbers from its bytes, or of strings from their list."""
    _, shape, dtype, column_major, data = _call(value, ARRAY).state
    kind = _call(dtype, DTYPE).args[0]
    if kind == "O8":
        return np.array([str(x) for x in data], dtype=np.str_).reshape(shape)
    if kind not in NUMBERS or _call(dtype, DTYPE).state[1] != "<":
        raise pickle.UnpicklingError(f"has an array of {kind!r}")
    text, codec = _call(data, ENCODE).args
    if codec != "latin1":
        raise pickle.UnpicklingError(f"has bytes encoded as {codec!r}")
    numbers: NDArray[Any] = np.frombuffer(text.encode("latin1"), NUMBERS[kind])
    return numbers.reshape(shape, order="F" if column_major else "C")
