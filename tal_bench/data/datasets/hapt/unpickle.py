"""Reading a pickle of data frames without running anything that it names.

A pickle is a program: it may name any function of any module and have it called. Here every name is looked up
in a list of those that a data frame needs, and what is found is a stand-in that merely notes what it was
called with; arrays are then built from the notes. A pickle with any other name is refused when that name is
read, before anything is made of it.
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


class _Note:
    """What the pickle asked for: a name, what it was called with, and what it was set to."""

    __slots__ = ("args", "name", "state")

    def __init__(self, name: str, args: tuple[Any, ...]) -> None:
        self.name, self.args = name, args
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Name:
    """Stands in for a function or a class; calling it makes a note and nothing else."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *args: Any) -> _Note:
        return _Note(self.name, args)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError(f"sets attributes of {self.name}")


class _Reader(pickle.Unpickler):
    """Finds stand-ins alone."""

    def find_class(self, module: str, name: str, /) -> _Name:
        full = f"{module}.{name}"
        if full not in ALLOWED:
            raise pickle.UnpicklingError(f"names {full}")
        return _Name(full)


def read_frames(file: IO[bytes], where: object) -> dict[int, list[dict[str, NDArray[Any]]]]:
    """Read a pickled dictionary: number to a list of data frames, each as column name to array [N].

    Args:
        file: the pickle, uncompressed, as pandas 1 wrote it.
        where: named in errors.

    Raises:
        DataError: the pickle names anything but data frames and arrays of numbers, or is damaged.
    """
    try:
        content = _Reader(file).load()
        return {_integer(key): [_frame(frame) for frame in frames] for key, frames in content.items()}
    except pickle.UnpicklingError as error:
        raise DataError(
            f"refused: the pickle {error}, it should hold data frames of numbers and nothing else",
            where=where,
            hint="it may not be the file it claims to be; nothing in it was run",
        ) from None
    except Exception as error:
        raise DataError(
            f"not a dictionary of pickled data frames: {type(error).__name__}", where=where
        ) from None


def _note(value: Any, name: str) -> _Note:
    if not isinstance(value, _Note) or value.name != name:
        raise pickle.UnpicklingError(f"holds a {type(value).__name__} where {name} belongs")
    return value


def _integer(value: Any) -> int:
    if not isinstance(value, int):
        raise pickle.UnpicklingError(f"holds a {type(value).__name__} where a number belongs")
    return value


def _frame(value: Any) -> dict[str, NDArray[Any]]:
    """Columns of a data frame: blocks of values, each with the names of its rows."""
    manager = _note(_note(value, OBJECT).state["_data"], OBJECT)
    _, blocks, names, *_ = manager.state
    columns: dict[str, NDArray[Any]] = {}
    for block, index in zip(blocks, names, strict=True):
        labels = _array(_note(index, INDEX).args[1]["data"])
        columns |= dict(zip(map(str, labels), _array(block), strict=True))
    return columns


def _array(value: Any) -> NDArray[Any]:
    """An array of numbers from its bytes, or of strings from their list."""
    _, shape, dtype, column_major, data = _note(value, ARRAY).state
    kind = _note(dtype, DTYPE).args[0]
    if kind == "O8":
        return np.array([str(x) for x in data], dtype=np.str_).reshape(shape)
    if kind not in NUMBERS or _note(dtype, DTYPE).state[1] != "<":
        raise pickle.UnpicklingError(f"holds an array of {kind!r}")
    text, codec = _note(data, ENCODE).args
    if codec != "latin1":
        raise pickle.UnpicklingError(f"holds bytes encoded as {codec!r}")
    numbers: NDArray[Any] = np.frombuffer(text.encode("latin1"), NUMBERS[kind])
    return numbers.reshape(shape, order="F" if column_major else "C")
