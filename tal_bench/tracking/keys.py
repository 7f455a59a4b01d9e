"""Keys of params, metrics and tags that MLflow accepts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from tal_bench.config import content_hash

KEY_LIMIT = 250
"""Maximum length of a key; MLflow refuses longer ones."""


def plain(name: str) -> str:
    """Return a name that MLflow accepts as a key: known characters, no part `.` or none, not too long."""
    parts = [re.sub(r"[^\w. -]", "_", part) for part in name.split("/")]
    kept = "/".join("_" if part in ("", ".", "..") else part for part in parts)
    return kept if len(kept) <= KEY_LIMIT else _with_hash(kept, name)


def distinct_keys(names: Iterable[str]) -> dict[str, str]:
    """Return the key of each name: `plain`, with a hash where different names would have the same key.

    A name that is a key itself stays as it is.
    """
    keys = {name: plain(name) for name in names}
    count = Counter(keys.values())
    return {
        name: key if count[key] == 1 or key == name else _with_hash(key, name) for name, key in keys.items()
    }


def _with_hash(key: str, name: str) -> str:
    return f"{key[: KEY_LIMIT - 9]}_{content_hash(name)[:8]}"
