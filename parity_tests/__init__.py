"""The proof that the two wings agree, and every other test. ``python -m parity_tests`` writes the report."""
