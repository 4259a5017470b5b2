"""Proximal policy optimisation: a critic says what was to be expected, and no step goes far."""
