"""Heads of a detector, and what distillation can read of it."""
