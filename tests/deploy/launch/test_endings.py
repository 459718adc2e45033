"""What it means that a role's ssh has ended."""

import pytest

from dualshard.common.session import PUT_OUT, TURNED_AWAY
from dualshard.common.types import Role
from dualshard.deploy.launch.endings import Verdict, how, judge


@pytest.mark.parametrize(
    ("role", "status", "how_it_was", "verdict"),
    [
        (Role.WORKER, 0, {}, Verdict.DONE),
        (Role.WORKER, 255, {}, Verdict.LOST),
        (Role.CONTROLLER, 255, {}, Verdict.LOST),
        (Role.WORKER, 255, {"ran": False, "joining": True}, Verdict.UNREACHABLE),
        (Role.WORKER, 255, {"ran": False}, Verdict.LOST),
        (Role.WORKER, 127, {"ran": False, "joining": True}, Verdict.ABSENT),
        (Role.WORKER, 1, {"ran": False, "joining": True}, Verdict.ABSENT),
        (Role.WORKER, 0, {"ran": False, "joining": True}, Verdict.ABSENT),
        (Role.WORKER, 2, {"ran": False}, Verdict.MORTAL),
        (Role.WORKER, 1, {}, Verdict.MORTAL),
        (Role.DATASERVER, 137, {}, Verdict.MORTAL),
        (Role.PARAMSERVER, 137, {}, Verdict.FATAL),
        (Role.CONTROLLER, 1, {}, Verdict.FATAL),
        (Role.WORKER, 1, {"joining": True}, Verdict.FATAL),
        (Role.WORKER, 2, {}, Verdict.FATAL),
        (Role.WORKER, 1, {"words": f"{PUT_OUT}: too many bad pushes"}, Verdict.PUT_OUT),
        (Role.WORKER, 2, {"words": f"it {TURNED_AWAY}: taken"}, Verdict.TURNED_AWAY),
        (Role.WORKER, 2, {"words": f"it {TURNED_AWAY}", "joining": True}, Verdict.FATAL),
    ],
)
def test_whose_fault_an_end_is(role, status, how_it_was, verdict):
    known = {"ran": True, "joining": False, "words": "it broke", **how_it_was}
    assert judge(role, status, **known) is verdict


def test_an_end_in_words():
    assert how(137, "x") == "was ended by SIGKILL"
    assert how(1, "it broke") == "ended with status 1: it broke"
