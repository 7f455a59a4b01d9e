"""From frames to features: optical flow, snippets, and the networks that look at them."""
