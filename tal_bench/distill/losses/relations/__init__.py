"""Losses between relations: similarities of time steps, samples or channels."""
