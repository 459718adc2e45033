"""Update rules against plain NumPy in float64, against PyTorch, and shard by shard."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualshard.common.errors import UserError
from dualshard.common.rule_kernels import finite
from dualshard.common.rules import RULES, Adagrad, Momentum, RmsProp, Rule, RuleState, make_rule
from dualshard.common.sharding import Shards, clip
from dualshard.common.types import Array, Float32

LR = 0.03
Reference = Callable[[Array, dict[str, Array], int], Array]


def sgd(g: Array, state: dict[str, Array], t: int) -> Array:
    return g


def momentum(g: Array, state: dict[str, Array], t: int) -> Array:
    state["velocity"] = 0.9 * state.get("velocity", 0) + g
    return state["velocity"]


def adagrad(g: Array, state: dict[str, Array], t: int) -> Array:
    state["squares"] = state.get("squares", 0) + g**2
    return g / (np.sqrt(state["squares"]) + 1e-10)


def rmsprop(g: Array, state: dict[str, Array], t: int) -> Array:
    state["squares"] = RHO * state.get("squares", 0) + (1 - RHO) * g**2
    return g / (np.sqrt(state["squares"] / (1 - RHO**t)) + 1e-8)


RHO = RmsProp(lr=LR).decay
REFERENCES: dict[str, Reference] = {
    "sgd": sgd,
    "momentum": momentum,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
}


def gradients(size: int, steps: int, seed: int = 0) -> Iterator[Float32]:
    """Float32 gradients of very different sizes, with zeros, some of them for ever."""
    rng = np.random.default_rng(seed)
    sizes = 10.0 ** rng.uniform(-4, 2, size) * (rng.random(size) < 0.9)
    for _ in range(steps):
        drawn = rng.standard_normal(size) * sizes * (rng.random(size) < 0.8)
        yield drawn.astype(np.float32)


def start(size: int) -> Float32:
    return np.random.default_rng(1).standard_normal(size).astype(np.float32)


def close(ours: Array, reference: Array) -> None:
    """Equal to float32 accuracy, relative to the largest element where terms cancel."""
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, reference, rtol=2e-5, atol=2e-6 * np.abs(reference).max())


# ---- against references


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", RULES)
def test_a_hundred_steps_equal_the_reference(name: str, dtype: type) -> None:
    rng = np.random.default_rng(2)
    rule = make_rule(name, lr=LR, weight_decay=0.1)
    p = start(1003)
    state, decayed = rule.state(p.size), np.zeros(p.size, bool)
    decayed[10:500] = decayed[777:1003] = True
    expected, remembered = p.astype(dtype), dict[str, Array]()
    for t, g in enumerate(gradients(p.size, 100), start=1):
        scale = float(rng.uniform(0.1, 2))
        rule.apply(p, g, state, scale, [(10, 500), (777, 1003)])
        direction = REFERENCES[name](g.astype(dtype), remembered, t)
        expected = expected - dtype(scale * LR) * (direction + dtype(0.1) * expected * decayed)
    assert expected.dtype == dtype
    close(p, expected)
    assert state.steps == 100
    assert set(state.slots) == set(remembered) == set(rule.slots)
    for slot in rule.slots:
        close(state.slots[slot], remembered[slot])


def torch_optimizer(torch: Any, name: str, parameter: Any, decay: float) -> Any:
    optim = torch.optim
    if name == "rmsprop":
        return optim.AdamW([parameter], lr=LR, betas=(0.0, RHO), eps=1e-8, weight_decay=decay)
    assert decay == 0  # PyTorch's other rules add it to the gradient: not what we do
    if name == "adagrad":
        return optim.Adagrad([parameter], lr=LR)
    return optim.SGD([parameter], lr=LR, momentum=0.9 if name == "momentum" else 0.0)


@pytest.mark.parametrize(("name", "decay"), [*((name, 0.0) for name in RULES), ("rmsprop", 0.1)])
def test_a_hundred_steps_equal_pytorch(name: str, decay: float) -> None:
    torch = pytest.importorskip("torch")
    rule, p = make_rule(name, lr=LR, weight_decay=decay), start(1003)
    state = rule.state(p.size)
    parameter = torch.nn.Parameter(torch.from_numpy(p.copy()))
    optimizer = torch_optimizer(torch, name, parameter, decay)
    for g in gradients(p.size, 100):
        rule.apply(p, g, state, decayed=[(0, p.size)])
        parameter.grad = torch.from_numpy(g)
        optimizer.step()
    close(p, parameter.detach().numpy())


# ---- shards


@settings(deadline=None)  # the first example may compile a kernel
@given(st.sampled_from(sorted(RULES)), st.integers(0, 300), st.integers(1, 90), st.data())
def test_shard_by_shard_equals_the_whole_vector_bit_for_bit(
    name: str, size: int, shard_elements: int, data: st.DataObject
) -> None:
    borders = sorted(data.draw(st.sets(st.integers(0, size), max_size=6)))
    decayed = list(zip(borders[::2], borders[1::2], strict=False))
    scale = data.draw(st.floats(0.01, 4))
    rule = make_rule(name, lr=LR, weight_decay=0.1)
    whole, parts = start(size), start(size)
    shards = Shards(size, shard_elements)
    spans = [shards.span(s) for s in range(shards.count)]
    state = rule.state(size)
    states = [rule.state(end - begin) for begin, end in spans]
    for g in gradients(size, 3):
        rule.apply(whole, g, state, scale, decayed)
        for (begin, end), part in zip(spans, states, strict=True):
            local = clip(decayed, begin, end)
            rule.apply(parts[begin:end], g[begin:end], part, scale, local)
    assert whole.tobytes() == parts.tobytes()
    for slot in rule.slots:
        joined = b"".join(part.slots[slot].tobytes() for part in states)
        assert state.slots[slot].tobytes() == joined


@settings(deadline=None)  # the first example may compile a kernel
@given(st.sampled_from(sorted(RULES)), st.integers(0, 70), st.floats(0.01, 4))
def test_scale_multiplies_the_step_and_never_the_statistics(
    name: str, size: int, scale: float
) -> None:
    rule = make_rule(name, lr=LR)
    plain, scaled = np.zeros(size, np.float32), np.zeros(size, np.float32)
    one, other = rule.state(size), rule.state(size)
    (g,) = gradients(size, 1)
    rule.apply(plain, g, one)
    rule.apply(scaled, g, other, scale)
    np.testing.assert_allclose(scaled, np.float32(scale) * plain, rtol=1e-6)
    for slot in rule.slots:
        assert np.array_equal(one.slots[slot], other.slots[slot])


@pytest.mark.parametrize("name", RULES)
def test_only_the_slice_is_written_and_the_gradient_is_only_read(name: str) -> None:
    rule, vector = make_rule(name, lr=LR), start(20)
    before, g = vector.copy(), np.frombuffer(start(9).tobytes(), np.float32)
    assert not g.flags.writeable
    rule.apply(vector[5:14], g, rule.state(9))
    assert np.array_equal(vector[:5], before[:5])
    assert np.array_equal(vector[14:], before[14:])
    assert (vector[5:14] != before[5:14]).all()


def test_a_gradient_in_the_middle_of_a_frame_may_be_unaligned() -> None:
    rule, values = make_rule("sgd", lr=0.5), np.arange(9, dtype=np.float32)
    g = np.frombuffer(b"." + values.tobytes(), np.float32, offset=1)
    assert not g.flags.aligned
    p = np.zeros(9, np.float32)
    rule.apply(p, g, rule.state(9))
    assert p.tolist() == (-0.5 * values).tolist()
    assert finite(g)


@pytest.mark.parametrize("name", RULES)
def test_weight_decay_needs_ranges_and_touches_no_statistics(name: str) -> None:
    rule, p = make_rule(name, lr=0.5, weight_decay=0.5), np.ones(6, np.float32)
    state = rule.state(6)
    rule.apply(p, np.zeros(6, np.float32), state)
    assert p.tolist() == [1, 1, 1, 1, 1, 1]
    rule.apply(p, np.zeros(6, np.float32), state, scale=2, decayed=[(1, 1), (2, 4), (4, 5)])
    assert p.tolist() == [1, 1, 0.5, 0.5, 0.5, 1]
    assert all(not state.slots[slot].any() for slot in rule.slots)


@pytest.mark.parametrize(("name", "keep"), [("momentum", 0.9), ("rmsprop", RHO)])
def test_a_fading_slot_ends_at_zero_and_never_becomes_denormal(name: str, keep: float) -> None:
    rule = make_rule(name, lr=LR)
    state = rule.state(2)
    (slot,) = rule.slots
    normal = np.finfo(np.float32).smallest_normal
    state.slots[slot][:] = [1.5 * normal / keep, 0.9 * normal / keep]
    rule.apply(np.zeros(2, np.float32), np.zeros(2, np.float32), state)
    assert state.slots[slot][0] > normal
    assert state.slots[slot][1] == 0


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_shows_in_its_own_element_only(name: str, bad: float) -> None:
    rule, p = make_rule(name, lr=LR), np.ones(9, np.float32)
    g = np.ones(9, np.float32)
    g[3] = bad
    rule.apply(p, g, rule.state(9))
    assert not np.isfinite(p[3])
    assert np.isfinite(np.delete(p, 3)).all()


# ---- state and settings


def test_a_fresh_state_is_zero() -> None:
    assert RULES["sgd"](lr=LR).state(5).slots == {}
    state = RULES["momentum"](lr=LR).state(5)
    assert isinstance(state, RuleState)
    assert state.steps == 0
    assert state.slots["velocity"].dtype == np.float32
    assert state.slots["velocity"].tolist() == [0] * 5


def test_settings_reach_the_rule() -> None:
    made: Rule = make_rule("momentum", lr=0.1, momentum=0.5, weight_decay=0.01)
    assert made == Momentum(lr=0.1, momentum=0.5, weight_decay=0.01)
    assert make_rule("adagrad", lr=1, momentum=0.5) == Adagrad(lr=1)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"name": "rmspop"},
            "optimizer.rule = rmspop: expected one of sgd, momentum, adagrad, rmsprop; "
            'write rule = "rmsprop"',
        ),
        (
            {"name": "adagard", "section": "outer"},
            "outer.rule = adagard: expected one of sgd, momentum, adagrad, rmsprop; "
            'write rule = "adagrad"',
        ),
        (
            {"lr": 0.0},
            "optimizer.lr = 0.0: expected a finite number above 0; try lr = 0.001",
        ),
        (
            {"momentum": 1.0},
            "optimizer.momentum = 1.0: expected a number from 0 up to, but not including, 1; "
            "try momentum = 0.9",
        ),
        (
            {"weight_decay": -0.1},
            "optimizer.weight_decay = -0.1: expected a finite number, 0 or more; "
            "write weight_decay = 0.0 for none",
        ),
    ],
)
def test_bad_settings_name_their_key(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as error:
        make_rule(**{"name": "sgd", "lr": 0.1, **changed})
    assert str(error.value) == sentence


@pytest.mark.parametrize("key", ["lr", "momentum", "weight_decay"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, "0.1", True, None])
def test_settings_that_are_no_usable_number_are_refused(key: str, value: Any) -> None:
    with pytest.raises(UserError) as error:
        make_rule(**{"name": "sgd", "lr": 0.1, key: value})
    assert error.value.key == f"optimizer.{key}"


def test_checking_a_job_does_not_import_numba() -> None:
    code = (
        "import sys; from dualshard.common.rules import make_rule; "
        "make_rule('rmsprop', lr=0.1).state(3); sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# ---- NaN and infinity


BLOCK = 4096


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("size", "at"),
    [
        (1, 0),
        (7, 6),
        (BLOCK, 0),
        (BLOCK, BLOCK - 1),
        (BLOCK + 1, BLOCK),
        (3 * BLOCK + 5, BLOCK - 1),
        (3 * BLOCK + 5, BLOCK),
        (3 * BLOCK + 5, 2 * BLOCK + 17),
        (3 * BLOCK + 5, 3 * BLOCK),
        (3 * BLOCK + 5, 3 * BLOCK + 4),
    ],
)
def test_one_bad_element_anywhere_is_found(size: int, at: int, bad: float) -> None:
    array = start(size)
    assert finite(array)
    array[at] = bad
    assert not finite(array)


def test_every_finite_float_is_finite() -> None:
    info = np.finfo(np.float32)
    edges = [0.0, -0.0, info.max, info.min, info.tiny, info.smallest_subnormal]
    array = np.resize(np.array(edges, np.float32), 2 * BLOCK + 3)
    assert finite(array)
    assert finite(-array)
    assert finite(np.empty(0, np.float32))


@settings(deadline=None)  # the first example may compile a kernel
@given(st.lists(st.integers(0, 2**32 - 1), max_size=80))
def test_any_bits_are_judged_as_numpy_does(bits: list[int]) -> None:
    array = np.array(bits, np.uint32).view(np.float32)
    assert finite(array) == bool(np.isfinite(array).all())


def test_a_signalling_nan_is_found() -> None:
    assert not finite(np.array([0, 0x7F800001], np.uint32).view(np.float32))
