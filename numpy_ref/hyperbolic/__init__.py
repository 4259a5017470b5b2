"""Hyperbolic space of curvature -c: where trees fit, because a circle's length grows exponentially with its radius."""
