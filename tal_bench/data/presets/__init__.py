"""Declared datasets, one file per family; importing this package declares them all."""

from tal_bench.data.presets import sprites as _sprites  # noqa: F401  (declares)

# isort: split
from tal_bench.data.presets import hapt as _hapt  # noqa: F401  (declares)

# isort: split
from tal_bench.data.presets import activitynet as _activitynet  # noqa: F401  (declares)
from tal_bench.data.presets import ego4d as _ego4d  # noqa: F401  (declares)
from tal_bench.data.presets import epic as _epic  # noqa: F401  (declares)
from tal_bench.data.presets import hacs as _hacs  # noqa: F401  (declares)
from tal_bench.data.presets import thumos as _thumos  # noqa: F401  (declares)
