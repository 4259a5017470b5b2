"""Lesson 4: Muon's heart (Keller Jordan, 2024): push all singular values of a matrix towards one.

    X = G / max(||G||, eps)                      Frobenius norm
    X = a X + (b A + c A A) X,    A = X X^T      ``steps`` times; a, b, c as below

Each singular value s becomes a s + b s^3 + c s^5, so small ones grow fast. A matrix with more rows than columns is
transposed before and after, so that A is the smaller product.

    matrix (rows, columns) -> the same shape
"""

import numpy as np

a, b, c = 3.4445, -4.7750, 2.0315


def orthogonalise(matrix, steps=5, eps=1e-7):
    raise NotImplementedError
