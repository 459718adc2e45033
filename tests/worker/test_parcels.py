"""In which form a shard is pushed: whole, compressed or as factors; what arrives is the same."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dualshard.common.codecs import encoded_bytes
from dualshard.common.factors import unpack
from dualshard.common.job import Job
from dualshard.common.messages import Portion
from dualshard.common.sharding import Shards
from dualshard.common.types import Float32
from dualshard.worker.batches import Lease, Minibatch
from dualshard.worker.exchange import Exchange
from dualshard.worker.model import Factors
from dualshard.worker.parcels import Parcel, Parcels

INPUTS, OUTPUTS, SAMPLES = 40, 30, 4
LAYOUT: list[list[Any]] = [
    ["dense1.weight", True, False, INPUTS, OUTPUTS],
    ["dense1.bias", False, False, OUTPUTS],
]
SIZE = INPUTS * OUTPUTS + OUTPUTS
NAMES = ("dense1.weight",)


def exchange(number: int = 0, samples: int = SAMPLES, seed: int = 1) -> Exchange:
    """A lane with one minibatch whose weight's gradient has factors."""
    made = Exchange(number, np.empty(SIZE, np.float32), 1)
    left, right = factors(samples, seed)[NAMES[0]]
    made.gradient[: INPUTS * OUTPUTS] = (left.T @ right).ravel()
    made.gradient[INPUTS * OUTPUTS :] = np.arange(OUTPUTS)
    inputs, labels = np.zeros((samples, INPUTS), np.float32), np.zeros(samples, np.int64)
    lease = Lease("tcp://there:1", Portion(0, 0, True, inputs, labels), 1)
    made.batches = [Minibatch(lease, 0, inputs, labels)]
    return made


def factors(samples: int = SAMPLES, seed: int = 1) -> dict[str, Factors]:
    random = np.random.default_rng(seed)
    left = random.standard_normal((samples, INPUTS), dtype=np.float32)
    return {NAMES[0]: (left, random.standard_normal((samples, OUTPUTS), dtype=np.float32))}


def parcels(elements: int = 500, **settings: Any) -> Parcels:
    tables: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        section, name = key.split("__")
        tables.setdefault(section, {})[name] = value
    return Parcels(Job.from_dict(tables), Shards(SIZE, elements), LAYOUT, NAMES)


def arrived(parcel: Parcel, size: int) -> Float32:
    out = np.empty(size, np.float32)
    unpack(list(parcel.pieces), parcel.gradient, out)
    return out


def is_plain(parcel: Parcel, lane: Exchange, begin: int, end: int) -> bool:
    return parcel.encoding == "f32" and np.shares_memory(parcel.gradient, lane.gradient[begin:end])


@pytest.mark.parametrize("elements", [SIZE, 500, 331])
def test_factors_arrive_as_the_gradient_and_are_fewer_bytes(elements: int) -> None:
    lane, packer, shards = exchange(), parcels(elements), Shards(SIZE, elements)
    assert packer.skipped(SAMPLES) == {NAMES[0]}
    dense = lane.gradient.copy()
    lane.gradient[: INPUTS * OUTPUTS] = np.nan  # nobody reads it
    sent = 0
    for shard in range(shards.count):
        begin, end = shards.span(shard)
        parcel = packer.pack(lane, shard, factors())
        sent += parcel.nbytes
        found = parcel.gradient
        if parcel.encoding == "factors":
            found = arrived(parcel, end - begin)
        np.testing.assert_allclose(found, dense[begin:end], rtol=1e-4, atol=1e-5)
    assert sent < 4 * SIZE
    if elements == SIZE:
        assert sent == 4 * (SAMPLES * (INPUTS + OUTPUTS) + OUTPUTS)


def test_without_factors_or_with_too_many_samples_the_gradient_goes_as_it_is() -> None:
    lane, packer = exchange(), parcels()
    assert is_plain(packer.pack(lane, 0, {}), lane, 0, 500)
    big = exchange(samples=64)
    assert packer.skipped(64) == frozenset()
    assert is_plain(packer.pack(big, 1, factors(64)), big, 500, 1000)


@pytest.mark.parametrize(
    "settings",
    [
        {"train__factors": "off"},
        {"optimizer__clip": 1.0},
        {"optimizer__clip_value": 1.0},
        {"train__n_push": 2},
        {"train__mode": "bsp", "train__n_push": 2},
        {"train__n_fetch": 2},
        {"train__mode": "local"},
        {"train__mode": "easgd", "train__n_push": 1},
    ],
)
def test_what_is_not_the_plain_gradient_of_one_minibatch_has_no_factors(
    settings: dict[str, Any],
) -> None:
    lane, packer = exchange(), parcels(**settings)
    assert packer.skipped(SAMPLES) == frozenset()
    assert is_plain(packer.pack(lane, 0, factors()), lane, 0, 500)


@pytest.mark.parametrize("mode", ["async", "ssp", "bsp"])
def test_every_mode_of_gradients_has_factors(mode: str) -> None:
    packer = parcels(train__mode=mode)
    assert packer.pack(exchange(), 0, factors()).encoding == "factors"


@pytest.mark.parametrize("name", ["f16", "bf16", "int8", "topk"])
def test_compression_promises_its_bytes(name: str) -> None:
    lane, packer = exchange(), parcels(train__compression=name, train__topk=0.1)
    assert packer.skipped(SAMPLES) == frozenset()
    for shard, size in ((0, 500), (2, 230)):
        parcel = packer.pack(lane, shard, factors())
        assert parcel.encoding == name
        assert parcel.nbytes == encoded_bytes(name, size, 0.1)


MEAN = [["mean", False, True, 7]]


@pytest.mark.parametrize("name", ["f16", "bf16", "int8", "topk"])
def test_averaged_state_is_never_compressed(name: str) -> None:
    """It goes beside the code, whatever the shard: the others have the bytes of a gradient with
    nothing in its place."""
    shards, size = Shards(SIZE + 7, 500), SIZE + 7
    settings = Job.from_dict({"train": {"compression": name, "topk": 0.1}})
    one, two = (
        Parcels(settings, shards, [*LAYOUT, *last], NAMES)
        for last in (MEAN, [["b", False, False, 7]])
    )
    gradient = np.concatenate([exchange().gradient, 1e-9 * np.arange(1, 8, dtype=np.float32)])
    plain = replace(exchange(), gradient=gradient.copy())
    plain.gradient[-7:] = 0
    lane, found = replace(exchange(), gradient=gradient.copy()), list[float]()
    for shard in range(shards.count):
        parcel, other = one.pack(lane, shard, {}), two.pack(plain, shard, {})
        np.testing.assert_array_equal(parcel.gradient, other.gradient)
        np.testing.assert_array_equal(parcel.extra, other.extra)
        assert parcel.nbytes == other.nbytes + parcel.averaged.nbytes
        found += parcel.averaged.tolist()
    assert found == gradient[-7:].tolist()
    assert size % 500 == 237, "the last shard holds all of it"


def test_a_shard_holds_its_part_of_the_averages() -> None:
    packer = Parcels(
        Job.from_dict({"train": {"compression": "int8"}}),
        Shards(SIZE + 7, SIZE + 3),
        [*LAYOUT, *MEAN],
        NAMES,
    )
    lane = replace(exchange(), gradient=np.arange(SIZE + 7, dtype=np.float32))
    parts = [packer.pack(lane, shard, {}).averaged.tolist() for shard in (0, 1)]
    assert parts == [[SIZE, SIZE + 1, SIZE + 2], [SIZE + 3, SIZE + 4, SIZE + 5, SIZE + 6]]


def test_beside_factors_averaged_state_goes_as_it_is() -> None:
    packer = Parcels(Job(), Shards(SIZE + 7, SIZE + 7), [*LAYOUT, *MEAN], NAMES)
    mean = np.arange(7, dtype=np.float32)
    lane = replace(exchange(), gradient=np.concatenate([exchange().gradient, mean]))
    parcel = packer.pack(lane, 0, factors())
    assert parcel.encoding == "factors"
    found = arrived(parcel, SIZE + 7)
    np.testing.assert_array_equal(found[SIZE:], mean)
    np.testing.assert_allclose(found[:SIZE], exchange().gradient, rtol=1e-4, atol=1e-5)


def test_each_lane_keeps_what_it_left_out() -> None:
    """Error feedback: the second push of a lane holds what its first one dropped; another lane's
    does not."""
    one = {"train__compression": "topk", "train__topk": 1 / 500}
    packer, lane, other = parcels(**one), exchange(0), exchange(1)
    for place in (lane, other):
        place.gradient[:] = 0
        place.gradient[[3, 8]] = 4, 3
    assert packer.pack(lane, 0, {}).extra.tolist() == [3]
    lane.gradient[[3, 8]] = 1, 0.5
    second = packer.pack(lane, 0, {})
    assert (second.extra.tolist(), second.gradient.tolist()) == ([8], [3.5])
    assert packer.pack(other, 0, {}).extra.tolist() == [3]


def test_without_error_feedback_nothing_is_kept() -> None:
    settings = {"train__compression": "topk", "train__topk": 1 / 500}
    packer, lane = parcels(**settings, train__error_feedback=False), exchange()
    lane.gradient[:] = 0
    lane.gradient[[3, 8]] = 4, 3
    assert [packer.pack(lane, 0, {}).extra.tolist() for _ in range(2)] == [[3], [3]]


def test_buffers_of_lanes_and_shards_are_apart() -> None:
    """They are lent until the reply, and lanes reply when they like."""
    packer, lane, other = parcels(), exchange(0, seed=1), exchange(1, seed=2)
    sent = [packer.pack(lane, shard, factors(seed=1)) for shard in (0, 1)]
    kept = [parcel.gradient.copy() for parcel in sent]
    sent.append(packer.pack(other, 0, factors(seed=2)))
    for parcel, copy in zip(sent, kept, strict=False):
        np.testing.assert_array_equal(parcel.gradient, copy)
    assert (sent[0].gradient != sent[2].gradient).any()


@pytest.mark.parametrize("name", ["none", "f16", "int8", "topk"])
def test_a_part_packs_its_shards_as_a_whole_net_would(name: str) -> None:
    """Of a net that is cut at 700 the upper part's gradient begins there; what it leaves out of one
    push goes with the next."""
    shards = Shards(SIZE, 500, starts=(0, 700))
    numbers = shards.of_part(1)
    settings = Job.from_dict({"train": {"compression": name, "factors": "off"}})
    whole = Parcels(settings, shards, LAYOUT, NAMES)
    part = Parcels(settings, shards, LAYOUT, NAMES, numbers)
    for seed in (1, 2):
        lane = exchange(seed=seed)
        upper = replace(lane, gradient=lane.gradient[700:].copy())
        for shard in numbers:
            one, other = whole.pack(lane, shard, {}), part.pack(upper, shard, {})
            assert one.encoding == other.encoding
            np.testing.assert_array_equal(one.gradient, other.gradient)
            np.testing.assert_array_equal(one.extra, other.extra)


def test_a_part_takes_its_own_averages_out() -> None:
    """Averages at the end of the net, in the second of two parts."""
    shards = Shards(SIZE + 7, 500, starts=(0, 700))
    settings = Job.from_dict({"train": {"compression": "int8"}})
    packer = Parcels(settings, shards, [*LAYOUT, *MEAN], NAMES, shards.of_part(1))
    gradient = np.arange(700, SIZE + 7, dtype=np.float32)
    lane = replace(exchange(), gradient=gradient)
    found = [packer.pack(lane, shard, {}).averaged.tolist() for shard in shards.of_part(1)]
    assert found == [[], [float(SIZE + n) for n in range(7)]]
