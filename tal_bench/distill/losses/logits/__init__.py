"""Losses between class logits of student and teacher, [B, T, K]."""
