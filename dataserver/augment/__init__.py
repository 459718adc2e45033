"""Random changes of samples on their way to the workers: what they are, and how they are named."""

from .grammar import parse_augment

__all__ = ["parse_augment"]
