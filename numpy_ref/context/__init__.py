"""Context-aware semantics: what a word means where it stands, from what came before it."""
