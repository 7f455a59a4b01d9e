"""How PyTorch computes on a device: the precision of products, and algorithms that repeat their results."""
