"""Benchmark and ablation suite for two-stream to RGB-only distillation in temporal action localization."""
