"""Whose a name is: the first who speaks under it, or whom the view names."""

from dualshard.common.transport.names import Names

WORKER, THIEF = "worker", "worker-thief"


def test_the_first_who_speaks_under_a_name_has_it() -> None:
    names = Names()
    bearer = names.claim(b"a", WORKER)
    assert bearer is not None
    assert names.claim(b"a", THIEF) is None
    assert names.claim(b"a", WORKER) is bearer is names.get(b"a")


def test_a_binding_takes_the_name_from_whoever_had_it() -> None:
    names = Names()
    names.claim(b"a", THIEF)
    names.bind(b"a", WORKER)
    assert names.claim(b"a", THIEF) is None
    bearer = names.claim(b"a", WORKER)
    assert bearer is not None
    assert (bearer.key, bearer.route) == ("", b"")
    names.bind(b"a", WORKER)
    assert names.get(b"a") is bearer


def test_nobody_crowds_out_the_names_of_another() -> None:
    names = Names(limit=3)
    names.claim(b"mine", WORKER)
    for number in range(10):
        names.claim(b"%d" % number, THIEF)
    assert len(names) == 4
    assert names.claim(b"mine", THIEF) is None
    assert names.get(b"6") is None
    assert names.get(b"7") is not None


def test_a_name_that_was_taken_away_leaves_room() -> None:
    names = Names(limit=2)
    names.claim(b"a", THIEF)
    names.claim(b"b", THIEF)
    names.bind(b"a", WORKER)
    names.claim(b"c", THIEF)
    assert len(names) == 3


def test_whoever_has_a_withdrawn_key_cannot_be_reached() -> None:
    names = Names()
    first, second = names.claim(b"a", WORKER), names.claim(b"b", THIEF)
    assert first is not None
    assert second is not None
    first.key, first.route = "kept", b"1"
    second.key, second.route = "withdrawn", b"2"
    names.keep_keys({"kept"}.__contains__)
    assert (first.key, first.route) == ("kept", b"1")
    assert (second.key, second.route) == ("", b"")
    assert names.claim(b"b", WORKER) is None  # the name stays its holder's
