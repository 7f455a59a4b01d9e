"""Terms of published methods that compare relations between time steps or channels."""
