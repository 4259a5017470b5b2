"""Words in context."""
