"""The model, from token ids to logits."""
