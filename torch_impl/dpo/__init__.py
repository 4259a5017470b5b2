"""Direct preference optimisation: preferences without a reward model."""
