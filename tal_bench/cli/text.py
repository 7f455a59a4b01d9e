"""Text from files, made safe to print."""

from __future__ import annotations

from tal_bench.system.text import printable, replace_unencodable

__all__ = ["printable", "replace_unencodable"]
