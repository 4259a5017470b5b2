"""Supervised fine-tuning: what is learnt in which order, adapters, and how answers are judged."""
