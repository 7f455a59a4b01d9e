"""Tables of the cost of detectors from one record per model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from tal_bench.report.common.markup import markdown as as_markdown
from tal_bench.report.common.tables import DASH, csv_table, markdown_table, plain_table

PARTS = ("hallucination", "backbone", "neck", "heads")
GRAPHS = (
    "At batch 1 the latency on a GPU is that of Python, which launches operation by operation; `graph` is\n"
    "the median where all of them are launched at once, as a CUDA graph."
)
Record = Mapping[str, Any]
"""Record of a model: `name`, the documented fields of `profile --json`, `frames`, `parts` (`params` and
`gmacs` by name), `lengths` (list of `frames`, `gmacs`, `latency_ms` with `p5`, `median`, `p95`, `iqr`),
`batch`, `videos_per_second`."""


def headings(records: Sequence[Record]) -> list[str]:
    """Return the headings of the table."""
    first = records[0]
    lengths = [at["frames"] for at in first["lengths"]]
    return [
        "model",
        "params (M)",
        "GMACs",
        *PARTS,
        *(f"ms at {length}" for length in lengths),
        *([f"graph at {first['frames']}"] if _with_graphs(records) else []),
        f"p5 – p95 at {first['frames']}",
        f"videos/s, batch {first['batch']}",
        "MB",
    ]


def _with_graphs(records: Sequence[Record]) -> bool:
    """Whether a model was also measured as a CUDA graph, which is so on GPUs."""
    return any("graph" in record["latency_ms"] for record in records)


def rows(records: Sequence[Record]) -> list[list[str]]:
    """Return the cells of every model."""
    graphs = _with_graphs(records)
    return [_cells(record, graphs=graphs) for record in records]


def _cells(record: Record, *, graphs: bool) -> list[str]:
    parts = record["parts"]
    latency = next(at for at in record["lengths"] if at["frames"] == record["frames"])["latency_ms"]
    return [
        record["name"],
        f"{record['params'] / 1e6:.1f}",
        number(record["gmacs"]),
        *(number(parts[name]["gmacs"]) if parts else DASH for name in PARTS),
        *(number(at["latency_ms"]["median"]) for at in record["lengths"]),
        *([number(record["latency_ms"].get("graph", 0.0))] if graphs else []),
        f"{number(latency['p5'])} – {number(latency['p95'])}",
        number(record["videos_per_second"]),
        f"{record['peak_memory_mb']:.0f}",
    ]


def number(value: float) -> str:
    """Format a number with about three digits, and 0 as a dash."""
    return DASH if value == 0 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def title(records: Sequence[Record]) -> str:
    """Return the conditions of the measurement."""
    first = records[0]
    return f"T = {first['frames']}, {first['precision']}, threads: {first['threads']}, {first['device']}"


def markdown(records: Sequence[Record], provenance: Sequence[str]) -> str:
    """Return the table with its provenance as Markdown."""
    text = [
        "# Cost of detectors",
        "",
        f"- {title(records)}",
        *(f"- {as_markdown(line)}" for line in provenance),
        "",
    ]
    text += [
        "GMACs (1e9 multiply-accumulates) of the model and of its parts at T. Latency of a forward pass at",
        "batch 1 with random weights: median at each length, 5th and 95th percentile at T. Memory: peak of",
        "weights, inputs and activations.",
        *([GRAPHS] if _with_graphs(records) else []),
        "",
        markdown_table(plain_table(headings(records), rows(records))),
    ]
    return "\n".join(text) + "\n"


def csv(records: Sequence[Record]) -> str:
    """Return CSV with a line per model and length."""
    graphs, lines = _with_graphs(records), []
    for record in records:
        parts = record["parts"]
        launched = {"latency_ms_graph": record["latency_ms"].get("graph")} if graphs else {}
        shared = {f"gmacs_{name}": parts[name]["gmacs"] if parts else None for name in PARTS}
        shared |= {f"params_{name}": parts[name]["params"] if parts else None for name in PARTS}
        for at in record["lengths"]:
            at_t = at["frames"] == record["frames"]
            lines.append(
                {
                    "model": record["name"],
                    "params": record["params"],
                    "frames": at["frames"],
                    "gmacs": at["gmacs"],
                    **{f"latency_ms_{key}": value for key, value in at["latency_ms"].items()},
                    **{key: value if at_t else None for key, value in (launched | shared).items()},
                    "batch": record["batch"] if at_t else None,
                    "videos_per_second": record["videos_per_second"] if at_t else None,
                    "peak_memory_mb": record["peak_memory_mb"] if at_t else None,
                    **{key: record[key] for key in ("threads", "device", "precision")},
                }
            )
    return csv_table(pd.DataFrame(lines, dtype=object))
