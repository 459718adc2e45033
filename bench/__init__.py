"""Measured comparisons behind `dualshard bench`: small, real, each a ratio within one run."""
