"""Semantic decoding with thought units: text, hidden states or codes between a question and its answer."""
