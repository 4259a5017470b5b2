"""Lesson 7: answers that did not end by themselves pay for it.

    r - penalty, or with ``replace`` -penalty whatever r was

    rewards (B,), ended bool (B,) -> (B,) in the format of the rewards
"""

import numpy as np


def missing_end_penalty(rewards, ended, penalty=1.0, replace=False):
    raise NotImplementedError
