"""Detectors: one architecture in several structures, registered as teachers and students."""

from tal_bench.models import students as _students  # noqa: F401  (declares)
from tal_bench.models import teachers as _teachers  # noqa: F401  (declares)
