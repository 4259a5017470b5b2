"""Lesson 4: one step of Muon (Keller Jordan, 2024; the scale: arXiv:2502.16982).

    B = mu B + (1 - mu) G                        momentum
    U = mu B + (1 - mu) G                        Nesterov's look ahead, with the new B
    W = W (1 - lr weight_decay) - lr 0.2 sqrt(max(rows, columns)) orthogonalise(U)

    param, grad (..., rows, columns), state {"momentum"} -> new param, new state

Nothing is changed in place; ``orthogonalise`` takes a stack of matrices as well.
"""

import math

from numpy_ref.training.muon import orthogonalise


def muon(param, grad, state, lr, momentum=0.95, weight_decay=0.0):
    raise NotImplementedError
