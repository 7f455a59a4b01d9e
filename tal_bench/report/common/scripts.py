"""JavaScript that pages of reports include; each file says at its top what elements of a page it needs."""

from __future__ import annotations

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


def script(name: str) -> str:
    """Return a script of this folder, to be put between `<script>` and `</script>` as it is."""
    text = resources.files("tal_bench.report.common").joinpath(name).read_text(encoding="utf-8")
    if "</script" in text.lower():
        raise ValueError(f"{name} contains the end of a script element")
    return text
