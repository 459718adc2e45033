"""Shards in pieces: planned and packed by a worker, unpacked as a server does."""

from itertools import pairwise

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualshard.common.factors import MOST_PIECES, Piece, unpack
from dualshard.common.sharding import Shards
from dualshard.worker.factors import Part, ShardPlan, factored, pack, plan
from dualshard.worker.layout import Layout
from dualshard.worker.zoo import mlp

CIRESAN = (784, 2500, 2000, 1500, 1000, 500, 10)


def dense_rows(*widths):
    """Layout rows of a perceptron, and the names of its weights."""
    rows = []
    for number, (m, n) in enumerate(pairwise(widths)):
        rows += [[f"dense{number}.weight", True, False, m, n]]
        rows += [[f"dense{number}.bias", False, False, n]]
    return rows, [row[0] for row in rows if len(row) == 5]


def made_up(rows, names, samples, seed=0):
    """Factors, and the flat gradient in float64 whose weights are their products."""
    rng, factors, parts = np.random.default_rng(seed), {}, []
    for name, _, _, *shape in rows:
        if name in names:
            pair = tuple(rng.standard_normal((samples, n), dtype=np.float32) for n in shape)
            factors[name] = pair
            parts.append((pair[0].T.astype(float) @ pair[1].astype(float)).ravel())
        else:
            parts.append(rng.standard_normal(np.prod(shape), dtype=np.float32).astype(float))
    return factors, np.concatenate(parts)


def through_the_wire(shard, gradient, factors, elements):
    """What the server makes of it, and the numbers sent."""
    buffer = np.full(elements, np.nan, np.float32)
    payload = pack(shard, gradient, factors, buffer)
    assert payload.size == shard.numbers <= elements
    assert np.shares_memory(payload, buffer)
    assert np.isnan(buffer[payload.size :]).all()
    pieces = msgpack.unpackb(msgpack.packb(shard.pieces))
    out = np.full(elements, np.nan, np.float32)
    unpack(pieces, np.frombuffer(payload.tobytes(), np.float32), out)
    return out


def check(rows, names, shard_elements, samples):
    """Every shard arrives as its dense gradient; returns the plans."""
    factors, exact = made_up(rows, names, samples)
    shards = Shards(exact.size, shard_elements)
    plans = plan(rows, shards, samples, names, worth=1)
    assert len(plans) == shards.count
    unread = exact.astype(np.float32)
    for name, (begin, end) in Layout({row[0]: tuple(row[3:]) for row in rows}).spans().items():
        if name in factored(plans):
            unread[begin:end] = np.nan
    for number, shard in enumerate(plans):
        if shard is not None:
            begin, end = shards.span(number)
            got = through_the_wire(shard, unread, factors, end - begin)
            np.testing.assert_allclose(got, exact[begin:end], rtol=1e-5, atol=1e-5)
    return plans


@given(
    widths=st.lists(st.integers(1, 60), min_size=2, max_size=5),
    shard_elements=st.integers(1, 3000),
    samples=st.integers(1, 5),
)
def test_any_net_in_any_shards_arrives_as_the_dense_gradient(widths, shard_elements, samples):
    rows, names = dense_rows(*widths)
    check(rows, names, shard_elements, samples)


@pytest.mark.parametrize(
    ("widths", "shard_elements", "samples"),
    [
        ((41, 53, 37, 3), 10_000, 3),  # all in one shard, biases between
        ((41, 53, 37, 3), 997, 3),  # rows cut at both ends
        ((41, 53, 37, 3), 530, 1),  # at row borders at first, and then not
        ((300, 1), 100, 1),  # rows of one element: factors are longer
        ((1, 300), 100, 1),  # one row: factors are longer
        ((2, 300), 700, 1),
    ],
)
def test_shapes_that_are_odd(widths, shard_elements, samples):
    plans = check(*dense_rows(*widths), shard_elements, samples)
    assert any(plans) == (min(widths[:2]) > 1)


def test_a_plan_written_out():
    rows = [
        ["a.weight", True, False, 4, 5],
        ["a.bias", False, False, 5],
        ["b.weight", True, False, 5, 2],
    ]
    plans = plan(rows, Shards(35, 18), 1, ["a.weight", "b.weight"], worth=1)
    assert plans == [
        ShardPlan((Part(Piece(18, 5, 0, 1), 0, "a.weight", 0, 0),)),
        ShardPlan(
            (
                Part(Piece(2), 18, "a.weight", 3, 3),  # shorter so, and multiplied by the worker
                Part(Piece(5), 20),
                Part(Piece(10, 2, 0, 1), 25, "b.weight", 0, 0),
            )
        ),
    ]
    assert [shard.numbers for shard in plans] == [4 + 5, 7 + 5 + 2]
    assert plans[1].pieces == [[7, 0, 0, 0], [10, 2, 0, 1]]
    assert factored(plans) == {"a.weight", "b.weight"}


def test_a_piece_that_begins_inside_of_a_row():
    rows = [["bias", False, False, 3], ["weight", True, False, 9, 8]]
    plans = plan(rows, Shards(75, 40), 1, ["weight"], worth=1)
    assert plans[0].parts == (Part(Piece(3), 0), Part(Piece(37, 8, 0, 1), 3, "weight", 0, 0))
    assert plans[1].parts == (Part(Piece(35, 8, 5, 1), 40, "weight", 4, 5),)
    assert plans[1].numbers == 5 + 8


def test_the_end_of_a_weight_that_is_too_small_is_multiplied_before_it_is_sent():
    rows, names = dense_rows(20, 30, 1)
    plans = check(rows, names, 590, 2)
    assert plans[1].pieces == [[71, 0, 0, 0]]
    assert [part.weight for part in plans[1].parts] == [names[0], "", "", ""]
    assert factored(plans) == {names[0]}


def test_weights_without_factors_stay_dense():
    rows, names = dense_rows(40, 50, 30)
    assert plan(rows, Shards(3580, 1000), 2, [], worth=1) == [None] * 4
    plans = plan(rows, Shards(3580, 1000), 2, names[1:], worth=1)
    assert plans[0] is plans[1] is None
    assert factored(plans) == set(names[1:])


def test_factors_go_where_they_are_worth_it():
    rows, names = dense_rows(40, 50)
    for samples, worth in ((11, 0.5), (16, 0.75), (22, 1)):  # 90 numbers a sample, for 2000
        assert plan(rows, Shards(2050), samples, names, worth) != [None]
        assert plan(rows, Shards(2050), samples + 1, names, worth) == [None]
    assert plan(rows, Shards(2050), 16, names) != [None]
    assert plan(rows, Shards(2050), 17, names) == [None]


def test_a_shard_of_too_many_pieces_goes_dense():
    rows, names = dense_rows(*[20] * (MOST_PIECES // 2 + 2))
    size, last = 420 * (MOST_PIECES // 2 + 1), 420
    (shard,) = plan(rows[:-2], Shards(size - last), 1, names, worth=1)
    assert len(shard.pieces) == MOST_PIECES
    assert plan(rows, Shards(size), 1, names, worth=1) == [None]


def test_such_a_shard_is_multiplied_where_the_next_one_has_factors():
    rows, names = dense_rows(*[20] * (MOST_PIECES // 2 + 2))
    plans = check(rows, names, 420 * (MOST_PIECES // 2) + 30, 1)
    assert plans[0].pieces == [[plans[0].numbers, 0, 0, 0]]
    assert {part.weight for part in plans[0].parts} == {names[-1], ""}
    assert factored(plans) == {names[-1]}


def test_a_plan_is_for_batches_of_one_size():
    rows, names = dense_rows(40, 50)
    factors, exact = made_up(rows, names, 3)
    (shard,) = plan(rows, Shards(2050), 2, names, worth=1)
    with pytest.raises(AssertionError, match="other batches"):
        pack(shard, exact.astype(np.float32), factors, np.empty(2050, np.float32))


@pytest.mark.parametrize("shard_elements", [10**6, 1237])
def test_a_real_net_sends_the_gradient_that_it_computed(shard_elements):
    net, rng = mlp(60, (50, 40), 10), np.random.default_rng(5)
    layout = Layout(net.shapes())
    parameters = layout.views(np.empty(layout.size, np.float32))
    gradients = layout.views(np.full(layout.size, np.nan, np.float32))
    net.start(parameters, rng)
    batch = rng.standard_normal((4, 60), dtype=np.float32), rng.integers(0, 10, 4)
    net.gradients(parameters, gradients, batch, rng)
    exact, names = gradients.flat.copy(), net.factors().keys()
    rows = [[name, net.decayed(name), False, *shape] for name, shape in layout.shapes.items()]
    shards = Shards(layout.size, shard_elements)
    plans = plan(rows, shards, 4, names)
    assert all(plans)
    net.skip_products(factored(plans))
    gradients.flat[:] = np.nan
    net.gradients(parameters, gradients, batch, rng)
    for number, shard in enumerate(plans):
        begin, end = shards.span(number)
        got = through_the_wire(shard, gradients.flat, net.factors(), end - begin)
        np.testing.assert_allclose(got, exact[begin:end], rtol=1e-5, atol=1e-6)


def test_a_large_net_sends_a_quarter():
    """The net of Ciresan et al. 2010 at 32 samples: each shard repeats D, which is most of it."""
    rows, names = dense_rows(*CIRESAN)
    size = sum(int(np.prod(row[3:])) for row in rows)
    shards = Shards(size)
    plans = plan(rows, shards, 32, names)
    sent = sum(
        shard.numbers if shard else shards.span(number)[1] - shards.span(number)[0]
        for number, shard in enumerate(plans)
    )
    assert 0.2 < sent / size < 0.26
    assert factored(plans) >= set(names[:5])
