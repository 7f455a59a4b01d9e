"""Benchmark and ablation suite for two-stream to RGB-only distillation in temporal action localization."""

import os

# torch reads it once: tensors of 2 MB and more then ask the system for large pages, a tenth of a bf16 step
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
