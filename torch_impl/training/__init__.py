"""Losses, optimisers and the training step."""
