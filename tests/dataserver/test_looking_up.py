"""Questions of the parts that see no inputs, one message at a time."""

import numpy as np
import pytest
from serving_bench import FACTS, ONE, TWO, Bench

from dualshard.common.job import Job
from dualshard.common.messages import AskSamples, Fetch, Portion, Refused, Samples
from dualshard.dataserver.events import LookedUp, LookUp, Opened


def told(bench: Bench, begin: int = 20) -> LookedUp:
    """The store's answer to a question."""
    return LookedUp(LookUp(0, begin, True), np.array([begin, 3]), np.array([7, 8]), ["a.png: bad"])


def samples(message: object) -> list[list[int]]:
    assert isinstance(message, Samples)
    return [message.indices.tolist(), message.labels.tolist()]


def test_a_question_is_answered_when_it_has_been_looked_up() -> None:
    bench = Bench()
    assert bench.say(ONE, AskSamples(0, 20, True)) == []
    assert bench.wondered == [LookUp(0, 20, True)]
    bench.post(told(bench))
    (reply,) = bench.replies(ONE)
    assert samples(reply) == [[20, 3], [7, 8]]


def test_it_depends_on_no_leg() -> None:
    bench = Bench()
    bench.say(ONE, AskSamples(0, 20, True))
    bench.serve(0, 0, 1, 2)
    bench.serve(1, 0, 1)
    bench.post(told(bench))
    assert len(bench.replies(ONE)) == 1
    bench.say(ONE, AskSamples(0, 20, True))
    assert len(bench.wondered) == 2, "an epoch that is over is as good as any"


def test_those_who_ask_the_same_at_once_share_the_work() -> None:
    bench = Bench()
    bench.say(ONE, AskSamples(0, 20, True))
    bench.say(TWO, AskSamples(0, 20, True))
    bench.say(TWO, AskSamples(0, 20, False))
    bench.say(TWO, AskSamples(0, 21, True))
    assert bench.wondered == [LookUp(0, 20, True), LookUp(0, 20, False), LookUp(0, 21, True)]
    bench.post(told(bench))
    assert samples(bench.replies(ONE)[0]) == samples(bench.replies(TWO)[0])
    assert bench.state.report()["looked_up"] == 2


def test_a_question_before_the_data_is_open_waits() -> None:
    bench = Bench(opened=False)
    assert bench.say(ONE, AskSamples(0, 20, True)) == []
    assert bench.say(ONE, AskSamples(0, 20, True), sequence=1) == []
    assert bench.say(ONE, AskSamples(0, 300, True)) == []
    assert bench.wondered == []
    bench.post(Opened(FACTS))
    assert bench.wondered == [LookUp(0, 20, True)]
    bench.post(told(bench))
    refused, reply = bench.replies(ONE)
    assert isinstance(refused, Refused)
    assert isinstance(reply, Samples)


def test_a_lost_answer_is_looked_up_again_and_one_under_way_is_not() -> None:
    bench = Bench()
    bench.say(ONE, AskSamples(0, 20, True))
    assert bench.say(ONE, AskSamples(0, 20, True), sequence=1) == []
    assert len(bench.wondered) == 1
    bench.post(told(bench))
    assert len(bench.replies(ONE)) == 1
    bench.say(ONE, AskSamples(0, 20, True), sequence=1)
    assert len(bench.wondered) == 2
    bench.post(told(bench))
    first, second = bench.replies(ONE)
    assert samples(first) == samples(second)
    assert not any(
        isinstance(answer, Samples)
        for window in bench.state.courier._windows.values()
        for answer in window.answers.values()
    )


@pytest.mark.parametrize(
    ("epoch", "begin", "sentence"),
    [
        (-1, 0, "there is no epoch -1, expected one of 0 to 9"),
        (10, 0, "there is no epoch 10, expected one of 0 to 9"),
        (0, -1, "no portion begins at position -1, expected one of 0 to 299, the order of an "
                "epoch"),
        (9, 300, "no portion begins at position 300, expected one of 0 to 299, the order of an "
                 "epoch"),
    ],
)  # fmt: skip
def test_a_place_that_no_epoch_has_is_refused(epoch: int, begin: int, sentence: str) -> None:
    bench = Bench()
    bench.state.configure(Job.from_dict({"job": {"epochs": 10}}))
    assert bench.say(ONE, AskSamples(epoch, begin, True)) == [Refused("portion", sentence)]
    assert bench.wondered == []


def test_damage_that_a_question_finds_is_reported_once() -> None:
    bench = Bench()
    bench.serve(0, 0)
    bench.acknowledge()
    bench.reports()
    bench.say(ONE, AskSamples(0, 20, True))
    bench.post(told(bench))
    assert [report.skipped for report in bench.reports()] == [["a.png: bad"]]
    assert bench.state.report()["corrupt_skipped"] == 1


def test_a_portion_without_labels_has_all_its_inputs() -> None:
    bench = Bench()
    bench.serve(0, 4)
    (portion,) = bench.say(ONE, Fetch(False, 0, labels=False))
    assert isinstance(portion, Portion)
    assert portion.inputs.shape == (2, 2)
    assert portion.labels.shape == (0,)
    (again,) = bench.say(ONE, Fetch(False, 0, labels=False), sequence=1)
    assert isinstance(again, Portion)
    np.testing.assert_array_equal(again.inputs, portion.inputs)
    assert again.labels.shape == (0,)
