"""Terms of published methods that compare features."""
