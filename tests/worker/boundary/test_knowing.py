"""Which questions go to data servers, and what is remembered of the answers."""

import numpy as np
import pytest

from dualshard.common.messages import AskSamples, Samples
from dualshard.worker.boundary.encoding import Misfit
from dualshard.worker.boundary.knowing import KEPT, Knowing


def samples(count: int = 8, first: int = 0, labels: bool = True) -> Samples:
    numbers = np.arange(first, first + count)
    return Samples(numbers, numbers % 3 if labels else np.empty(0, np.int64))


def test_a_question_is_asked_once_and_once_more_if_its_server_is_gone() -> None:
    knowing = Knowing(labels=True)
    knowing.want((1, 8))
    knowing.want((1, 0))
    knowing.want((1, 8))
    assert knowing.ask() == [AskSamples(1, 8, True), AskSamples(1, 0, True)]
    assert knowing.ask() == []
    knowing.forget_asked((1, 0))
    knowing.forget_asked((7, 7))  # nobody asked that
    assert knowing.ask() == [AskSamples(1, 0, True)]
    knowing.know((1, 0), samples(), [])
    knowing.forget_asked((1, 0))
    knowing.want((1, 0))
    assert knowing.ask() == []


def test_rows_are_those_of_the_portion() -> None:
    knowing = Knowing(labels=True)
    knowing.want((0, 0))
    assert knowing.rows((0, 0), 2, 3) is None
    knowing.know((0, 0), samples(8, first=50), [])
    known = knowing.rows((0, 0), 2, 3)
    assert known is not None
    assert known.indices.tolist() == [52, 53, 54]
    assert known.labels.tolist() == [1, 2, 0]
    assert knowing.size((0, 0)) == 8
    with pytest.raises(Misfit, match="rows = 6 to 9: expected up to 8"):
        knowing.rows((0, 0), 6, 3)


def test_without_labels_none_are_asked_for_or_taken() -> None:
    knowing = Knowing(labels=False)
    knowing.want((0, 0))
    assert knowing.ask() == [AskSamples(0, 0, False)]
    with pytest.raises(Misfit, match="labels"):
        knowing.know((0, 0), samples(), [])
    knowing.know((0, 0), samples(labels=False), [])
    known = knowing.rows((0, 0), 0, 2)
    assert known is not None
    assert known.labels.size == 0


@pytest.mark.parametrize(
    "wrong",
    [
        Samples(np.arange(8, dtype=np.int32), np.arange(8)),
        Samples(np.arange(8).reshape(4, 2), np.arange(4)),
        Samples(np.arange(8), np.arange(7)),
    ],
)
def test_what_is_no_answer_is_not_kept(wrong: Samples) -> None:
    knowing = Knowing(labels=True)
    knowing.want((0, 0))
    with pytest.raises(Misfit):
        knowing.know((0, 0), wrong, [])
    assert knowing.rows((0, 0), 0, 1) is None


def test_soft_labels_are_rows_too() -> None:
    knowing = Knowing(labels=True)
    knowing.want((0, 0))
    knowing.know((0, 0), Samples(np.arange(4), np.ones((4, 3), np.float32)), [])
    known = knowing.rows((0, 0), 1, 2)
    assert known is not None
    assert known.labels.shape == (2, 3)


def test_an_answer_to_no_question_is_dropped_and_old_ones_go() -> None:
    knowing = Knowing(labels=True)
    knowing.know((9, 9), samples(), [])
    assert knowing.rows((9, 9), 0, 1) is None
    keys = [(0, 8 * number) for number in range(KEPT + 3)]
    for key in keys:
        knowing.want(key)
        knowing.know(key, samples(), in_use=[keys[0]])
    here = [key for key in keys if knowing.rows(key, 0, 1) is not None]
    assert here == [keys[0], *keys[-KEPT:]]
