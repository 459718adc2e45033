"""Random changes of samples on their way to the workers: what they are, and how they are named."""

from .grammar import parse_augment
from .mixup import Mixup, check_mixups
from .normalise import Normalise, take_normalise

__all__ = ["Mixup", "Normalise", "check_mixups", "parse_augment", "take_normalise"]
