"""Clipping a whole gradient in place, before it is pushed: by value, then by global norm. Pure.

The norm is that of all trained parameters together, so only a worker can clip by it: a server sees
shards. What averaged state is to move by is no gradient, and is neither counted nor clipped.
numba is imported by the first call that clips.
"""

from collections.abc import Sequence

import numpy as np

from .job import OptimizerSection
from .types import Float32

EPS = 1e-6


def clip(gradient: Float32, section: OptimizerSection, averaged: Sequence[slice] = ()) -> None:
    """Clip `gradient`, contiguous float32 (n,), in place as `clip_value` and `clip` ask, but not
    where it is `averaged`.

    By value as PyTorch's clip_grad_value_: each element into [-clip_value, clip_value]; NaN stays.
    By norm as clip_grad_norm_: g *= min(1, clip / (|g| + 1e-6)), Pascanu et al. 2013, algorithm 1;
    the squares are summed in float64. One NaN makes all elements NaN there, and one infinity
    becomes NaN, so that servers refuse the push. Any thread may call it.
    """
    if not (section.clip_value or section.clip):
        return
    from . import rule_kernels as kernels

    kept = [gradient[span].copy() for span in averaged]
    for span in averaged:
        gradient[span] = 0
    if section.clip_value:
        kernels.clip_values(gradient, np.float32(section.clip_value))
    if section.clip:
        kernels.clip_norm(gradient, section.clip, EPS)
    for span, values in zip(averaged, kept, strict=True):
        gradient[span] = values
