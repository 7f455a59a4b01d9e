"""Feature extraction from video: decoding, optical flow, snippets and backbone networks."""
