"""Decoding by units of thought."""
