"""Lanes of a stepper in threads of their own, for tests of what they might share by mistake."""

from collections.abc import Callable
from threading import Thread

import numpy as np

from dualshard.worker.step import Stepper


def check_lanes(
    stepper: Stepper, compute: Callable[[Stepper, int, int], object], times: int
) -> None:
    """Two lanes compute `times` minibatches at once: each gradient is what it is alone.

    `compute(stepper, lane, seed)` fills the lane's gradient.
    """
    alone = []
    for seed in range(times):
        compute(stepper, 0, seed)
        alone.append(stepper.gradients[0].copy())
    found: list[list[np.ndarray]] = [[], []]

    def work(lane: int) -> None:
        for seed in range(times):
            compute(stepper, lane, seed)
            found[lane].append(stepper.gradients[lane].copy())

    threads = [Thread(target=work, args=(lane,)) for lane in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for gradients in found:
        np.testing.assert_array_equal(gradients, alone)
