"""Hyperbolic space of curvature -c, in PyTorch."""
