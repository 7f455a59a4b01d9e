"""Losses between predictions of a detection head: boundaries, and class scores weighted by them."""
