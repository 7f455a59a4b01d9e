"""Odd and malformed versions of a file: every one must be refused in one line, or be read as it was meant."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from malformed import places

VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 0.5, 3, 10**18, 10**400, 1e300, -1e300),
    *(float("nan"), float("inf"), float("-inf")),
    *("", " ", "x", "1", "NA", "007", "\0", "\ud800", "a\nb", "é", "e\u0301", "\u202ex", "k" * 300),
    *([], {}, [[]], [1], [1, 2, 3], {"a": 1}, ["x", "y"]),
)
"""Values in place of any value of a file."""


@dataclass(frozen=True)
class Odd:
    """An odd version of a file.

    Attributes:
        name: What is odd.
        write: Writes it to a path.
        same: Whether it says the same as the valid file, and must give the same results where it is accepted.
    """

    name: str
    write: Callable[[Path], object]
    same: bool = False


def content(name: str, data: bytes, *, same: bool = False) -> Odd:
    return Odd(name, lambda path: path.write_bytes(data), same)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def of_text(good: str) -> Iterator[Odd]:
    """Yield odd encodings, parts and kinds of a text file."""
    raw = good.encode()
    yield Odd("no file", lambda path: path.unlink())
    yield Odd("a directory", _directory)
    yield Odd("a link to itself", _loop)
    yield content("byte order mark", codecs.BOM_UTF8 + raw, same=True)
    yield content("CRLF", raw.replace(b"\n", b"\r\n"), same=True)
    yield content("blank lines at the end", raw + b"\n\n\n", same=True)
    yield content("UTF-16", good.encode("utf-16"), same=True)
    yield content("UTF-16 without mark", good.encode("utf-16-le"))
    yield content("UTF-32", good.encode("utf-32"), same=True)
    yield content("latin-1", good.replace("run", "rün").encode("latin-1"))
    for name, data in {
        "empty": b"",
        "a space": b" ",
        "a line end": b"\n",
        "a NUL byte": b"\0",
        "NUL bytes": b"\0" * 5000,
        "NUL inside": raw[:40] + b"\0" + raw[40:],
        "NUL at the end": raw + b"\0",
        "a gzip header": b"\x1f\x8b\x08\0" + raw,
        "a zip header": b"PK\x03\x04" + raw,
        "a pickle": b"\x80\x04\x95" + raw,
        "twice": raw + raw,
        "something behind": raw + b"}",
        "an unclosed quote": raw + b'"',
        "null": b"null",
        "true": b"true",
        "a number": b"3",
        "a string": b'"x"',
        "a list": b"[]",
        "an object": b"{}",
        "nested lists": b"[" * 50_000,
        "nested objects": b'{"database":' * 20_000,
        "closed nested lists": b"[" * 5_000 + b"]" * 5_000,
        "a long number": b"9" * 10_000,
        "HTML": b"<!DOCTYPE html><html><body>404</body></html>\n",
        "a stored pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    }.items():
        yield content(name, data)
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        yield content(f"cut at {share:.0%}", raw[: int(share * len(raw))])
    yield content("cut by one byte", raw.rstrip()[:-1])


def of_json(good: Any, chosen: tuple[tuple[Any, ...], ...]) -> Iterator[Odd]:
    """Yield a JSON file with odd values at the chosen places, and without them."""
    text = json.dumps(good)
    for place in chosen:
        assert place in set(places(good)), place
        for value in VALUES:
            changed = replaced(good, place, value)
            yield content(f"{'/'.join(map(str, place))} = {value!r:.30}", json.dumps(changed).encode())
        if place:
            key = json.dumps(place[-1])
            yield content(f"without {'/'.join(map(str, place))}", json.dumps(removed(good, place)).encode())
            if isinstance(place[-1], str) and f"{key}: " in text:
                yield content(
                    f"{place[-1]} twice", text.replace(f"{key}: ", f"{key}: 1, {key}: ", 1).encode()
                )


def of_yaml(good: dict[str, Any], keys: tuple[str, ...]) -> Iterator[Odd]:
    """Yield a YAML file with odd values under some of its keys."""
    for number, key in enumerate(keys):
        for value in VALUES[number % 2 :: 2]:
            if value != "\ud800":
                text = yaml.safe_dump({**good, key: value}, allow_unicode=True)
                yield content(f"{key}: {value!r:.30}", text.encode())


def replaced(good: Any, place: tuple[Any, ...], value: Any) -> Any:
    """Return a copy with another value at a place."""
    if not place:
        return value
    copy = json.loads(json.dumps(good))
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return copy


def removed(good: Any, place: tuple[Any, ...]) -> Any:
    """Return a copy without the value at a place."""
    copy = json.loads(json.dumps(good))
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    del inner[place[-1]]
    return copy


TABLE = "video,start,end,label,score\n" + "".join(
    f"v{n},{s}.0,{s + 2}.0,{label},0.5\n" for n in range(3) for s, label in ((1, "run"), (5, "jump"))
)
"""Perfect detections for the ground truth of `test_odd_inputs.py`."""


def of_table(good: str) -> Iterator[Odd]:
    """Yield odd tables."""
    head, *lines = good.splitlines()
    semicolons, tabs = good.replace(",", ";"), good.replace(",", "\t")
    spaced = good.replace(",", ", ")
    quoted = "\n".join(",".join(f'"{v}"' for v in line.split(",")) for line in good.splitlines())
    for name, text in {
        "semicolons": semicolons,
        "tabs": tabs,
        "spaces after commas": spaced,
        "all in quotes": quoted,
        "a column of line numbers": "\n".join([f",{head}", *(f"{k},{line}" for k, line in enumerate(lines))]),
        "capital letters in the header": good.replace(head, head.upper()),
        "blank lines": good.replace("\n", "\n\n"),
        "padded names": good.replace("run,", "run  ,").replace("v1,", "v1 ,"),
        "numbers with spaces": good.replace("0.5", " 0.5 "),
        "exponents": good.replace("0.5", "5e-1"),
        "another column": "\n".join([f"{head},more", *(f"{line},x" for line in lines)]),
    }.items():
        yield content(name, text.encode(), same=True)
    for name, text in {
        "no header": "\n".join(lines),
        "only a header": head,
        "a header twice": f"{head}\n{good}",
        "two score columns": good.replace(head, f"{head},score").replace(",0.5\n", ",0.5,0.1\n"),
        "no label column": good.replace("label", "labels"),
        "decimal commas": semicolons.replace("0.5", "0,5"),
        "a title above": f"detections\n{good}",
        "a quote inside": good.replace("run", 'r"un'),
        "an open quote": good.replace("run", '"run', 1),
        "text behind a quote": good.replace("run", '"ru"n', 1),
        "a long field": good.replace("run", "r" * 200_000, 1),
        "a short line": good + "v0,1.0\n",
        "a long line": good + "v0,1.0,2.0,run,0.5,1,2,3\n",
        "one separator too many": good.replace("\n", ",\n"),
        "a comment": f"# made by hand\n{good}",
        "vertical bars": good.replace(",", "|"),
        **{
            f"{column} {value!r}": good.replace(lines[0], with_field(lines[0], index, value), 1)
            for index, column in enumerate(head.split(","))
            for value in (
                "",
                " ",
                "nan",
                "NA",
                "inf",
                "-1",
                "1e999",
                "1_0",
                "0x1",
                "１",
                "1,5",
                '"',
                "None",
                "٣",
            )
        },
    }.items():
        yield content(name, text.encode())


def with_field(line: str, index: int, value: str) -> str:
    fields = line.split(",")
    return ",".join([*fields[:index], value, *fields[index + 1 :]])
