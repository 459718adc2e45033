"""The digits inside scikit-learn (Alpaydin and Kaynak, UCI 1998): 1,797 images of 8x8."""

import numpy as np

from .samples import Origin, Part, Samples, checked


def read_digits(origin: Origin, part: Part) -> Samples | None:
    """All samples: inputs (1797, 8, 8) float32 in [0, 1], labels 0 to 9; there is no test part."""
    if part == "test":
        return None
    # scikit-learn takes a second to import, which only this source should cost.
    from sklearn.datasets import load_digits

    digits = load_digits()
    inputs = (digits.images / 16).astype(np.float32)
    return checked(Samples(inputs, digits.target, "digits", "digits", origin))
