"""Checksums: whether a file still says what was written."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from tal_bench.errors import DataError

END = "\n}"
SEAL = re.compile(r',\n "checksum": "sha256:([0-9a-f]{64})"\n\}\s*\Z')
HINT = "delete it and run again"


def seal(text: str) -> str:
    """A JSON object, written with an indent of one, with the checksum of its text as the last entry."""
    if not text.endswith(END):
        raise ValueError("not a JSON object with an indent of one")
    return f'{text.removesuffix(END)},\n "checksum": "sha256:{_hash(text)}"{END}\n'


def unseal(content: bytes, where: Path) -> bytes:
    """The object without its seal; one that has none, from another version, comes as it is.

    Raises:
        DataError: the text is not the one that was sealed.
    """
    text = content.decode(errors="replace")
    found = SEAL.search(text)
    if found is None:
        return content
    text = text[: found.start()] + END
    if _hash(text) != found.group(1):
        raise DataError("damaged: its checksum is another", where=where, hint=HINT)
    return text.encode()


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def check_digest(file: Path, expected: str) -> None:
    """The file is the one whose digest was taken; one that is not there is another matter.

    Raises:
        DataError: it is another.
    """
    if file.is_file() and digest(file) != expected:
        raise DataError("damaged: its checksum is another", where=file, hint=HINT)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
