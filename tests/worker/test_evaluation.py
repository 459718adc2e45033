"""The test split, gathered portion by portion."""

import numpy as np

from dualshard.common.messages import Portion
from dualshard.worker import evaluation as evaluating  # pytest would take HeldOut for a test


def part(number: int, last: bool = False) -> Portion:
    labels = np.full(2, number, np.int64)
    return Portion(0, number, last, np.zeros((2, 1), np.float32), labels)


def test_the_test_split_takes_its_portions_in_order_and_once() -> None:
    split = evaluating.HeldOut()
    for portion in (part(1), part(0), part(0), part(2), part(1), part(2, last=True), part(3)):
        split.add(portion)
    assert split.complete
    assert [int(labels[0]) for _, labels in split.portions] == [0, 1, 2]


def test_a_split_of_one_portion() -> None:
    split = evaluating.HeldOut()
    assert not split.complete
    split.add(part(0, last=True))
    assert split.complete
