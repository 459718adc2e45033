"""Settings that consensus between whole nets has no use for."""

from typing import Any

import pytest

from dualshard.common.errors import UserError
from dualshard.common.job import Job

REPLICAS: dict[str, dict[str, Any]] = {
    "train": {"mode": "admm"},
    "partition": {"coupling": "replicas"},
}
REFUSED = {
    "admm.schedule = residual: expected capped, x10 or fixed with coupling replicas; each replica "
    "would come to a ρ of its own, and their multipliers not to zero": {
        "admm": {"schedule": "residual"}
    },
    "worker.device = cuda:0: expected cpu with coupling replicas; leave it out: only the CPU's "
    "steps know of the penalty": {"worker": {"device": "cuda:0"}},
    "train.compression = topk: expected one that keeps every element with coupling replicas; they "
    "push where they are, not gradients: write train.compression = int8": {
        "train": {"mode": "admm", "compression": "topk"}
    },
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_each_is_refused_in_a_sentence(sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        Job.from_dict({**REPLICAS, **REFUSED[sentence]})
    assert str(caught.value) == sentence
    other = {"train": {"mode": "local"}, **REFUSED[sentence]}
    other["train"] = {**other["train"], "mode": "local"}
    Job.from_dict({**other, "partition": {"coupling": "replicas"}})


@pytest.mark.parametrize("schedule", ["capped", "x10", "fixed"])
def test_threads_and_schedules_that_go_on_by_rounds_are_fine(schedule: str) -> None:
    Job.from_dict({**REPLICAS, "admm": {"schedule": schedule}, "worker": {"threads": 3}})
