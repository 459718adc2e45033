"""The hostfile: what each line means, and which lines are refused."""

import shlex
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualshard.common.errors import UserError
from dualshard.common.types import Role
from dualshard.deploy.launch.hostfile import Host, lonely_loopback, read_hosts

PLAIN = string.ascii_letters + string.digits
names = st.builds(
    lambda first, rest: first + rest,
    st.sampled_from(PLAIN),
    st.text(PLAIN + "._-", max_size=12),
)
paths = st.text(string.ascii_letters + " /._-'\"$&", min_size=1, max_size=20).map("/".__add__)


def test_every_form_of_a_line():
    text = """
    # the hosts
    one
    two slots=3      # three workers
    alice@three:4
    10.0.0.9 address=10.1.0.9
    """
    hosts = read_hosts(text, "hosts.txt")
    assert [(host.target, host.slots) for host in hosts] == [
        ("one", 1),
        ("two", 3),
        ("alice@three", 4),
        ("10.0.0.9", 1),
    ]
    assert [host.line for host in hosts] == [3, 4, 5, 6]
    assert [host.name for host in hosts] == ["one", "two", "three", "10.0.0.9"]
    assert [host.reached_at for host in hosts] == ["one", "two", "three", "10.1.0.9"]


def test_every_key_of_a_line():
    (host,) = read_hosts(
        "gpu address=gpu.lan bind=10.0.0.4 interface=eth1 device=cuda:1 threads=2 slots=8 "
        'roles=worker,dataserver directory="/srv/my job" command=/opt/ds keys=/etc/keys',
        "hosts.txt",
    )
    assert host == Host(
        target="gpu",
        slots=8,
        address="gpu.lan",
        bind="10.0.0.4",
        interface="eth1",
        device="cuda:1",
        threads=2,
        roles=frozenset({Role.WORKER, Role.DATASERVER}),
        directory="/srv/my job",
        command=("/opt/ds",),
        keys="/etc/keys",
        line=1,
    )


def test_a_star_is_for_all_lines_below():
    text = "first\n* python=/v/bin/python slots=2\nsecond\nthird slots=5 command=ds\n"
    first, second, third = read_hosts(text, "hosts.txt")
    assert (first.command, first.slots) == (("dualshard",), 1)
    assert second.command == ("/v/bin/python", "-P", "-m", "dualshard.deploy")
    assert (second.slots, third.slots, third.command) == (2, 5, ("ds",))


@pytest.mark.parametrize(
    ("line", "listening", "reached"),
    [
        ("host", "0.0.0.0", "host"),
        ("10.0.0.4", "10.0.0.4", "10.0.0.4"),
        ("host address=10.0.0.4", "10.0.0.4", "10.0.0.4"),
        ("host address=10.0.0.4 bind=0.0.0.0", "0.0.0.0", "10.0.0.4"),
        ("localhost", "127.0.0.1", "127.0.0.1"),
    ],
)
def test_where_roles_listen_and_are_reached(line, listening, reached):
    (host,) = read_hosts(line, "hosts.txt")
    assert (host.listening, host.reached_at) == (listening, reached)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "a\nb slots=0",
            "hosts.txt line 2 = slots=0: expected a whole number from 1 to 4096; correct it",
        ),
        (
            "a\n\na",
            "hosts.txt line 3 = a: expected a host that is not there yet; line 1 has it already: "
            "join the two, with slots=N for more workers",
        ),
        (
            "a slot=3",
            "hosts.txt line 1 = slot=3: expected a key of the hostfile; did you mean slots?",
        ),
        (
            "a:2 slots=3",
            "hosts.txt line 1 = slots: expected each key once; leave one of the two out",
        ),
        (
            "a b",
            "hosts.txt line 1 = b: expected key=value behind the host; write one host a line",
        ),
        (
            "a device=gpu",
            "hosts.txt line 1 = device=gpu: expected auto, cpu or cuda:N; for example "
            'device = "cuda:0"',
        ),
        (
            "a roles=worker,paramservers",
            "hosts.txt line 1 = roles=worker,paramservers: expected roles with commas between; "
            "did you mean paramserver?",
        ),
        (
            "a address=10.0.0.1:80",
            "hosts.txt line 1 = address=10.0.0.1:80: expected a host name or an IPv4 address; "
            "write it without a port, for example address=10.0.0.12",
        ),
        (
            "a directory='/x",
            "hosts.txt line 1 = a directory='/x: expected balanced quotes; no closing quotation",
        ),
        ("# a", "--hostfile = hosts.txt: expected at least one host; write one host name a line"),
    ],
)
def test_a_wrong_line_is_refused_with_its_number(text, error):
    with pytest.raises(UserError) as refused:
        read_hosts(text, "hosts.txt")
    assert str(refused.value) == error


@pytest.mark.parametrize(
    "line",
    ["-oProxyCommand=x", "a@-b", "fe80::1", "a:x", "a:", "@a", "a;b", "a$(b)", "a slots=", "a =3"],
)
def test_what_could_be_an_option_or_a_command_is_no_host(line):
    with pytest.raises(UserError):
        read_hosts(line, "hosts.txt")


@given(names, st.integers(1, 4096), paths, paths)
def test_whatever_a_line_says_comes_back(name, slots, directory, keys):
    pairs = [f"slots={slots}", f"directory={directory}", f"keys={keys}"]
    line = " ".join([name, *map(shlex.quote, pairs)])
    (host,) = read_hosts(f"{line}  # remark", "hosts.txt")
    assert (host.target, host.slots) == (name, slots)
    assert (host.directory, host.keys) == (directory, keys)


@given(st.lists(names, min_size=1, max_size=8, unique_by=str.lower))
def test_hosts_keep_their_order(hosts):
    assert [host.target for host in read_hosts("\n".join(hosts), "f")] == hosts


@given(st.text(max_size=60))
def test_any_text_is_hosts_or_one_line_of_error(text):
    try:
        hosts = read_hosts(text, "hosts.txt")
    except UserError as refused:
        hosts, error = (), str(refused)
    else:
        error = ""
    assert bool(hosts) != bool(error)
    assert "\n" not in error
    assert not any(host.target.startswith("-") for host in hosts)


def test_an_address_that_leads_everyone_to_itself_is_found():
    both = read_hosts("localhost\nb", "f")
    assert [host.name for host in lonely_loopback(both)] == ["localhost"]
    assert list(lonely_loopback(both[:1])) == []
    assert list(lonely_loopback(read_hosts("localhost address=10.0.0.1\nb", "f"))) == []
