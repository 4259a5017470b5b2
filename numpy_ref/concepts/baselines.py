"""What a concept model has to beat: the last concept, the mean of all, and a linear map of both."""

import numpy as np


def story_features(x):
    """The last concept, the mean of the concepts, and a 1 for the constant, side by side.

    Shapes: x (B, T, c) -> (B, 2c + 1). No vjp: baselines do not learn by gradient.
    """
    return np.concatenate([x[:, -1], np.mean(x, axis=1), np.ones_like(x[:, 0, :1])], axis=-1)


def fit_ridge(features, targets, penalty):
    """The linear map with the least squared error plus a penalty on its size (Hoerl and Kennard 1970).

        W = (F^T F + penalty I)^-1 F^T Y        prediction = F W

    The constant among the features is held down like all others: of thousands of rows nobody sees that.

    Shapes: features F (n, f), targets Y (n, c), penalty > 0 -> (f, c).
    """
    gram = features.T @ features + penalty * np.eye(features.shape[1], dtype=features.dtype)
    return np.linalg.solve(gram, features.T @ targets)


def contrastive_accuracy(predictions, table, rows):
    """The share of the other sentences that are farther from a prediction than the right one (arXiv:2412.08821, 2.5).

    A half is chance. It says little where several successors are equally right: a sampled one that is valid may be far. In
    the paper the others are those of a batch without the neighbours of the right one; here each sentence counts once.

    Shapes: predictions (n, c), table (N, c) of all sentences' concepts, rows (n,) of the right ones -> (n,).
    """
    apart = predictions[:, None] - table
    distances = np.sum(apart * apart, axis=-1)
    own = distances[np.arange(len(rows)), rows]
    return np.sum(distances > own[:, None], axis=1) / (len(table) - 1)
