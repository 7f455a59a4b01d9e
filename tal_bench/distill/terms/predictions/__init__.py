"""Terms of published methods that compare logits and boundaries."""
