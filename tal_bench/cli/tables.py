"""Tables on standard output; `report/common/terminal_tables.py` lays them out."""

from __future__ import annotations

from tal_bench.report.common.terminal_tables import print_groups, print_table
from tal_bench.system.console import output_console

__all__ = ["output_console", "print_groups", "print_table"]
