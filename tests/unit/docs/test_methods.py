"""docs/methods.md is what the declarations of the terms say."""

from __future__ import annotations

from pathlib import Path

from tal_bench.distill.methods_page import page

PAGE = Path(__file__).parents[3] / "docs" / "methods.md"


def test_the_page_is_current() -> None:
    command = "python -m tal_bench.distill.methods_page docs/methods.md"
    assert PAGE.read_text(encoding="utf-8") == page(), f"a declaration has changed: run {command}"
