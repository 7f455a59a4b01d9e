"""Losses between features of student and teacher, [B, C, T]."""
