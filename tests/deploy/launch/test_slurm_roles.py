"""Which task of Slurm's is which role, where the controller is, and where roles listen."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualshard.common.errors import UserError
from dualshard.common.types import Role
from dualshard.deploy.launch.slurm_roles import (
    FIRST_PORT,
    PORTS,
    Task,
    controller_address,
    listens_on,
    role_of,
)

COUNTS = {"controller": 1, "paramserver": 2, "dataserver": 1, "worker": 3}
SLURM = {
    "SLURM_PROCID": "1",
    "SLURM_NTASKS": "7",
    "SLURMD_NODENAME": "n2",
    "SLURM_JOB_NODELIST": "n[1-3]",
    "SLURM_JOB_ID": "41234",
}


def task(number=1, node="n2", nodes=("n1", "n2", "n3"), tasks=7, job=41234):
    return Task(number, tasks, node, nodes, job)


def test_a_task_reads_itself_from_slurms_variables():
    assert Task.of(SLURM) == task()


def test_the_nodes_of_the_step_come_before_those_of_the_job():
    found = Task.of({**SLURM, "SLURM_STEP_NODELIST": "n[2-3],n2"})
    assert found.nodes == ("n2", "n3")


@pytest.mark.parametrize("name", list(SLURM))
def test_a_missing_variable_is_named(name):
    rest = {key: value for key, value in SLURM.items() if key != name}
    with pytest.raises(UserError, match=f"^{name} = '': expected to be set by Slurm; start it"):
        Task.of(rest)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"SLURM_PROCID": "one"}, "SLURM_PROCID = one: expected a number; "),
        ({"SLURM_PROCID": "-1"}, "SLURM_PROCID = -1: expected a number; "),
        ({"SLURM_PROCID": "7"}, "SLURM_PROCID = 7: expected a number below SLURM_NTASKS = 7; "),
        ({"SLURM_JOB_NODELIST": "n[1"}, "SLURM_JOB_NODELIST = n[1: expected a list of nodes "),
        (
            {"SLURM_PROCID": "0"},
            "SLURMD_NODENAME = n2: expected task 0 on the first node, n1; start the tasks with "
            "srun --distribution=cyclic or block",
        ),
    ],
)
def test_what_is_malformed_is_refused_in_one_line(change, words):
    with pytest.raises(UserError) as refused:
        Task.of({**SLURM, **change})
    assert str(refused.value).startswith(words)


def test_tasks_become_roles_in_order():
    roles = [role_of(task(number), COUNTS) for number in range(7)]
    assert roles == [
        (Role.CONTROLLER, 0),
        (Role.PARAMSERVER, 0),
        (Role.PARAMSERVER, 1),
        (Role.DATASERVER, 0),
        (Role.WORKER, 0),
        (Role.WORKER, 1),
        (Role.WORKER, 2),
    ]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
def test_every_role_is_there_once(servers, data, workers):
    counts = {"controller": 1, "paramserver": servers, "dataserver": data, "worker": workers}
    tasks = sum(counts.values())
    roles = [role_of(task(number, tasks=tasks), counts) for number in range(tasks)]
    assert len(set(roles)) == tasks
    assert Counter(str(role) for role, _ in roles) == counts
    assert all(rank < counts[role] for role, rank in roles)


def test_another_number_of_tasks_is_refused():
    with pytest.raises(UserError) as refused:
        role_of(task(tasks=6), COUNTS)
    assert str(refused.value) == (
        "SLURM_NTASKS = 6: expected 7: 1 controller, 2 paramserver, 1 dataserver, 3 worker; "
        "submit the job with --ntasks of that number"
    )


def test_the_controller_is_on_the_first_node_at_the_jobs_port():
    assert controller_address(task(), 0) == "n1:21234"
    assert controller_address(task(), 7077) == "n1:7077"
    assert controller_address(task(nodes=("n2",)), 0) == "127.0.0.1:21234"


@given(st.integers(1, 2**32), st.integers(1, PORTS - 1))
def test_jobs_that_share_a_node_have_different_ports(first, distance):
    one, other = (
        int(controller_address(task(job=number), 0).rpartition(":")[2])
        for number in (first, first + distance)
    )
    assert one != other
    assert FIRST_PORT <= one < FIRST_PORT + PORTS <= 32768


@pytest.mark.parametrize(
    ("nodes", "own", "other", "listens"),
    [
        (("n1", "n2"), "10.0.0.2", "10.0.0.1", "10.0.0.2"),
        (("n1", "n2"), "127.0.1.2", "127.0.1.1", "127.0.1.2"),
        (("n1", "n2"), "127.0.1.1", "10.0.0.1", "0.0.0.0"),
        (("n2",), "10.0.0.2", "10.0.0.2", "127.0.0.1"),
    ],
)
def test_a_role_listens_where_others_look_for_it(nodes, own, other, listens):
    assert listens_on(task(nodes=nodes), own, other) == listens


def test_the_node_to_compare_with_is_another_one():
    assert task(number=1, node="n2").other == "n1"
    assert task(number=0, node="n1").other == "n3"
