"""The parts of a transformer, from the embedding to the whole."""
