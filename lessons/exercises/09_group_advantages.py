"""Lesson 9: each answer's reward beside those of the other answers to the same prompt.

    "deviation"    (R - mean) / (s + eps),  s^2 = sum (R - mean)^2 / (n - 1)      GRPO, arXiv:2402.03300
    "mean"         R - mean                                                       Dr. GRPO, arXiv:2503.20783
    "rloo"         R - mean of the others                                         arXiv:2402.14740

A group whose rewards are all equal says nothing: its advantages are exactly 0.

    rewards (P, G), a row for each prompt, G >= 2 -> (P, G)
"""

import numpy as np


def group_advantages(rewards, kind="deviation", eps=1e-4):
    raise NotImplementedError
