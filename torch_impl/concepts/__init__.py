"""Language models over sentences: a sentence becomes one vector, and the next vector is predicted (arXiv:2412.08821)."""
