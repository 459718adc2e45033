"""Averaged state under every rule: p -= g, and nothing else of the rule; its neighbours as ever."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualshard.common import rule_kernels
from dualshard.common.job import OptimizerSection
from dualshard.common.rates import Segment, Segments
from dualshard.common.rule_kernels import read_only
from dualshard.common.rules import RULES, Rule, make_rule
from dualshard.common.types import Array, Float32

SIZE = 1003
AVERAGED = (slice(0, 40), slice(500, 777), slice(1002, 1003))
SEGMENTS = (
    Segment(0, 40, averaged=True),
    Segment(40, 300, 0.5, True),
    Segment(300, 500),
    Segment(500, 777, averaged=True),
    Segment(777, 1002, 2.0, True),
    Segment(1002, 1003, averaged=True),
)
MASK = np.zeros(SIZE, bool)
for _span in AVERAGED:
    MASK[_span] = True


def rule(name: str) -> Rule:
    return make_rule(OptimizerSection(rule=name, lr=0.03, weight_decay=0.1))


def numbers(seed: int, size: int = SIZE) -> Float32:
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def trained_alone(segments: Segments) -> list[Segment]:
    """The segments that are left when the averaged elements are taken out of the slice."""
    made, begin = list[Segment](), 0
    for segment in segments:
        if not segment.averaged:
            end = begin + segment.end - segment.begin
            made.append(Segment(begin, end, segment.rate, segment.decays))
            begin = end
    return made


@pytest.mark.parametrize("way", ["in place", "copied", "absorbed"])
@pytest.mark.parametrize("name", RULES)
def test_averaged_elements_move_by_what_is_pushed_alone(name: str, way: str) -> None:
    made, p = rule(name), numbers(1)
    state, expected = made.state(SIZE), p.copy()
    alone, lone = made.state(int((~MASK).sum())), p[~MASK].copy()
    for step in range(20):
        g, scale = numbers(10 + step), 0.1 + step
        expected[MASK] -= g[MASK]
        made.apply(lone, g[~MASK].copy(), alone, scale, trained_alone(SEGMENTS))
        if way == "absorbed":
            before = p.tobytes()
            made.apply(p, g, state, scale, SEGMENTS, absorb=True)
            assert p.tobytes() == before
            p = g
        else:
            copy = np.zeros(SIZE, np.float32) if way == "copied" else None
            made.apply(p, read_only(g), state, scale, SEGMENTS, copy)
            assert copy is None or copy.tobytes() == p.tobytes()
    np.testing.assert_array_equal(p[MASK], expected[MASK])
    np.testing.assert_array_equal(p[~MASK], lone)
    assert state.steps == alone.steps == 20
    for slot in made.slots:
        assert not state.slots[slot][MASK].any()
        np.testing.assert_array_equal(state.slots[slot][~MASK], alone.slots[slot])


@pytest.mark.parametrize("name", RULES)
def test_their_own_factor_takes_the_place_of_rate_and_scale(name: str) -> None:
    made, p, g = rule(name), numbers(1), numbers(2)
    before = p.copy()
    made.apply(p, g, made.state(SIZE), 1e-3, SEGMENTS, averaged=0.25)
    np.testing.assert_array_equal(p[MASK], before[MASK] - np.float32(0.25) * g[MASK])


@settings(deadline=None)  # the first example may compile a kernel
@given(
    st.sampled_from(sorted(RULES)),
    st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=5),
    st.data(),
)
def test_a_slice_may_be_cut_anywhere(
    name: str, pieces: list[tuple[int, bool]], data: st.DataObject
) -> None:
    made, segments, size = rule(name), list[Segment](), 0
    for length, averaged in pieces:
        segments.append(Segment(size, size + length, averaged=averaged))
        size += length
    cut = data.draw(st.integers(0, size))
    whole, parts, g = numbers(1, size), numbers(1, size), numbers(2, size)
    made.apply(whole, g, made.state(size), 1.0, segments)
    for begin, end in ((0, cut), (cut, size)):
        within = [s for s in segments if s.begin < end and begin < s.end]
        local: list[Segment] = [
            Segment(max(s.begin, begin) - begin, min(s.end, end) - begin, averaged=s.averaged)
            for s in within
        ]
        if local:
            made.apply(parts[begin:end], g[begin:end], made.state(end - begin), 1.0, local)
    assert whole.tobytes() == parts.tobytes()


def test_they_compile_no_kernel_but_those_of_sgd() -> None:
    made, p = rule("sgd"), numbers(1)
    ways: list[tuple[Array | None, bool]] = [(None, False), (numbers(3), False), (None, True)]
    for copy, absorb in ways:
        made.apply(p, numbers(2), made.state(SIZE), 1.0, (), copy, absorb=absorb)
    compiled = len(rule_kernels.sgd.signatures)  # type: ignore[attr-defined]
    for copy, absorb in ways:
        made.apply(p, numbers(2), made.state(SIZE), 1.0, SEGMENTS, copy, absorb=absorb)
    assert len(rule_kernels.sgd.signatures) == compiled  # type: ignore[attr-defined]
