"""Byte models without a tokenizer."""
