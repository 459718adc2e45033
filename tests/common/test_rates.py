"""Segments of the flat vector, against a mask of each element, and by hand."""

from fnmatch import fnmatchcase
from itertools import pairwise
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualshard.common.cluster import Parameter
from dualshard.common.errors import UserError
from dualshard.common.rates import (
    Segment,
    averaged_in,
    check_rates,
    make_segments,
    parse_rates,
)

NAMES = st.sampled_from(["a.weight", "a.bias", "b.weight", "b.bias", "c.scale"])
LAYOUTS = st.lists(
    st.builds(
        Parameter,
        NAMES,
        st.booleans(),
        st.lists(st.integers(1, 5), max_size=3).map(tuple),
        st.booleans(),
    ),
    max_size=6,
)
RATES = st.lists(st.sampled_from(["a.*:0.5", "*.bias:2", "b.weight:0", "*:1", "?.s*:3"]))
NET = (
    Parameter("dense1.weight", True, (2, 3)),
    Parameter("dense1.bias", False, (3,)),
    Parameter("dense2.weight", True, (3, 1)),
    Parameter("dense3.weight", True, (2,)),
    Parameter("scale", False, ()),
)


@given(LAYOUTS, RATES, st.sampled_from([0.0, 0.1]), st.data())
def test_segments_mark_each_element_as_its_parameter(
    layout: list[Parameter], rates: list[str], weight_decay: float, data: st.DataObject
) -> None:
    expected: list[tuple[float, bool, bool]] = []
    for parameter in layout:
        rate = 1.0
        for text in reversed(rates):
            pattern, multiplier = text.split(":")
            rate = float(multiplier) if fnmatchcase(parameter.name, pattern) else rate
        treated = (rate, parameter.decays and weight_decay > 0, False)
        expected += [(1.0, False, True) if parameter.averaged else treated] * prod(parameter.shape)
    begin = data.draw(st.integers(0, len(expected)))
    end = data.draw(st.integers(begin, len(expected)))
    segments = make_segments(layout, rates, weight_decay, begin, end)
    kinds = [(s.rate, s.decays, s.averaged) for s in segments]
    marked = [k for k, s in zip(kinds, segments, strict=True) for _ in range(s.begin, s.end)]
    assert marked == expected[begin:end]
    assert [s.begin for s in segments] == [0, *(s.end for s in segments)][: len(segments)]
    assert all(s.begin < s.end for s in segments)
    # as few as possible
    assert all(a != b for a, b in pairwise(kinds))
    spans = [range(end - begin)[span] for span in averaged_in(segments)]
    assert [at for span in spans for at in span] == [
        at for at, (_, _, averaged) in enumerate(expected[begin:end]) if averaged
    ]


def test_segments_by_hand() -> None:
    assert make_segments(NET) == (Segment(0, 15),)
    assert make_segments(NET, weight_decay=0.1) == (
        Segment(0, 6, decays=True),
        Segment(6, 9),
        Segment(9, 14, decays=True),
        Segment(14, 15),
    )
    assert make_segments(NET, ["dense[12].*:0.5", "*.bias:9"], 0.1, 4, 13) == (
        Segment(0, 2, 0.5, True),
        Segment(2, 5, 0.5, False),
        Segment(5, 8, 0.5, True),
        Segment(8, 9, 1.0, True),
    )
    assert make_segments(NET, [], 0.1, 4, 4) == make_segments(()) == ()


def test_averaged_state_is_cut_out_whatever_rates_and_decay_are() -> None:
    layout = (
        Parameter("norm.weight", False, (4,)),
        Parameter("norm.mean", True, (4,), averaged=True),
        Parameter("norm.variance", False, (4,), averaged=True),
        Parameter("dense.weight", True, (3, 2)),
    )
    for rates in ([], ["*:1"]):
        assert make_segments(layout, rates) == (
            Segment(0, 4),
            Segment(4, 12, averaged=True),
            Segment(12, 18),
        )
    frozen = make_segments(layout, ["*:0"], 0.1, 6, 15)
    assert frozen == (Segment(0, 6, averaged=True), Segment(6, 9, 0.0, True))
    assert averaged_in(frozen) == [slice(0, 6)]
    assert averaged_in(make_segments(NET)) == averaged_in(()) == []


def test_a_colon_may_stand_in_a_pattern() -> None:
    assert parse_rates(["a:b*:2", "*:1e-3"], "key") == (("a:b*", 2.0), ("*", 0.001))


@pytest.mark.parametrize("text", ["dense1", ":2", "a:", "a:b", "a:-1", "a:nan", "a:inf", "a:2x"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(UserError) as refused:
        parse_rates(["*:1", text], "optimizer.rates")
    assert str(refused.value) == (
        f"optimizer.rates = {text}: expected pattern:multiplier with a finite multiplier, 0 or "
        'more; for example optimizer.rates = ["dense1.*:0.1", "*.bias:2"]'
    )


def test_a_pattern_that_matches_no_parameter_is_refused() -> None:
    names = [parameter.name for parameter in NET]
    check_rates(["dense1.*:0.1", "sc*:2", "*:1"], names)
    with pytest.raises(UserError) as refused:
        check_rates(["*:1", "Dense1.*:0.1"], names, "outer.rates")
    assert str(refused.value) == (
        "outer.rates = Dense1.*: expected a pattern that matches a parameter of the model; "
        "the parameters are dense1.weight, dense1.bias, dense2.weight, dense3.weight, scale"
    )


def test_only_the_first_names_are_shown() -> None:
    with pytest.raises(UserError) as refused:
        check_rates(["x:1"], [f"p{n}" for n in np.arange(9)])
    assert refused.value.fix == "the parameters are p0, p1, p2, p3, p4, p5, p6, p7, ..."
