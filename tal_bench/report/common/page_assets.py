"""Scripts, styles and security policy of pages; each script says at its top what elements it needs."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources

INTERACTIVE_TABLES = "interactive_tables.js"
"""Tables that can be sorted, filtered and opened row by row."""
INTERACTIVE_TABLES_STYLE = """
  .needs-script[hidden] { display: none; }
  button.sort, button.open { all: unset; cursor: pointer; font: inherit; color: inherit; }
  button.sort:focus-visible, button.open:focus-visible { outline: 2px solid #0072b2; outline-offset: 2px; }
  th[aria-sort] button.sort::after { content: " ↕"; opacity: .35; font-weight: 400; }
  th[aria-sort="ascending"] button.sort::after { content: " ▲"; opacity: 1; }
  th[aria-sort="descending"] button.sort::after { content: " ▼"; opacity: 1; }
  tr.openable { cursor: pointer; }
  button.open::before { content: "▸ "; color: var(--soft, #666); }
  button.open[aria-expanded="true"]::before { content: "▾ "; }
  @media print { th[aria-sort] button.sort::after { content: ""; } }
"""
"""Style of the elements that `INTERACTIVE_TABLES` adds."""
FIGURE_VALUES = "figure_values.js"
"""Values under the pointer, and rows to switch on and off, in figures."""
VIDEO_TIMELINE = "video_timeline.js"
"""Timeline of a test video with ground truth and the detections of two rows."""


PAGE_STYLE = """
  :root { color-scheme: light dark; --line: #d9d9d9; --faint: #eee; --soft: #666; --text: #1a1a1a;
          --paper: #fff; --code: #f3f3f3; --link: #0060a0; }
  @media (prefers-color-scheme: dark) {
    :root { --line: #444; --faint: #2c2c2c; --soft: #a0a0a0; --text: #e4e4e4; --paper: #161616;
            --code: #282828; --link: #6cb6f0; } }
  body { margin: 0 auto; max-width: 1140px; padding: 1rem 1.2rem 3rem;
         color: var(--text); background: var(--paper);
         font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
  h1 { margin: .4rem 0 0; font-size: 1.6rem; }
  p { margin: .4rem 0; max-width: 46rem; }
  a { color: var(--link); }
  @media (max-width: 640px) { body { padding: .6rem .7rem 2rem; } }
"""
"""Colours, font and margins of every page."""


def policy(scripts: Sequence[str]) -> str:
    """Return the content security policy of a page: its own scripts, styles and pictures, and no request."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src {allowed}; base-uri 'none'; form-action 'none'"
    )


def script(name: str) -> str:
    """Return a script of this folder, to be put between `<script>` and `</script>` as it is."""
    text = resources.files("tal_bench.report.common").joinpath(name).read_text(encoding="utf-8")
    if "</script" in text.lower():
        raise ValueError(f"{name} contains the end of a script element")
    return text
