"""Baselines of concept models, and the accuracy that ranks predictions among all sentences."""

import torch


def story_features(x):
    """(last, mean, 1). Shapes: x (B, T, c) -> (B, 2c + 1)."""
    return torch.cat((x[:, -1], x.mean(1), x.new_ones(len(x), 1)), -1)


def fit_ridge(features, targets, penalty):
    """Ridge regression by Cholesky's factors. Shapes: features (n, f), targets (n, c) -> (f, c)."""
    gram = features.T @ features
    gram.diagonal().add_(penalty)
    return torch.cholesky_solve(features.T @ targets, torch.linalg.cholesky(gram))


def contrastive_accuracy(predictions, table, rows):
    """Share of the other rows of the table that are farther away than the right one (arXiv:2412.08821 §2.5).

    Shapes: predictions (n, c), table (N, c), rows (n,) -> (n,).
    """
    distances = torch.cdist(predictions, table, compute_mode="donot_use_mm_for_euclid_dist")
    farther = distances > distances.gather(1, rows[:, None])
    return farther.sum(1).to(predictions.dtype) / (len(table) - 1)
