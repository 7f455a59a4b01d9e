"""Declarations of the registered datasets, one file per family; `tal_bench.data.registry` imports them."""
