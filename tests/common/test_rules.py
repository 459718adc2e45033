"""Update rules against plain NumPy in float64, against PyTorch, and shard by shard."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualshard.common import rule_kernels
from dualshard.common.clipping import clip
from dualshard.common.job import OptimizerSection, OuterSection
from dualshard.common.rates import Segment, Segments
from dualshard.common.rule_kernels import finite, read_only
from dualshard.common.rules import (
    RULES,
    Adagrad,
    Adam,
    Momentum,
    Nesterov,
    RmsProp,
    Rule,
    RuleState,
    Sgd,
    make_rule,
)
from dualshard.common.schedules import make_schedule
from dualshard.common.sharding import Shards
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


def nesterov(g: Array, state: dict[str, Array], t: int) -> Array:
    return g + 0.9 * momentum(g, state, t)


def adam(g: Array, state: dict[str, Array], t: int) -> Array:
    state["mean"] = 0.9 * state.get("mean", 0) + 0.1 * g
    state["squares"] = 0.999 * state.get("squares", 0) + 0.001 * g**2
    return state["mean"] / (1 - 0.9**t) / (np.sqrt(state["squares"] / (1 - 0.999**t)) + 1e-8)


RHO = 0.99
REFERENCES: dict[str, Reference] = {
    "sgd": sgd,
    "momentum": momentum,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "nesterov": nesterov,
    "adam": adam,
    "adamw": adam,
}


def rule(name: str, lr: float = LR, weight_decay: float = 0.0) -> Rule:
    return make_rule(OptimizerSection(rule=name, lr=lr, weight_decay=weight_decay))


def decaying(size: int, spans: Sequence[tuple[int, int]], rates: Any = lambda n: 1.0) -> Segments:
    """Segments of a slice that decay in `spans` and nowhere else; the n-th has the rate of n."""
    borders = sorted({0, size, *(border for span in spans for border in span)})
    inside = [any(a <= begin < b for a, b in spans) for begin in borders]
    pairs = enumerate(zip(pairwise(borders), inside, strict=False))
    return [Segment(begin, end, rates(n), decays) for n, ((begin, end), decays) in pairs]


def cut(segments: Segments, begin: int, end: int) -> Segments:
    """What of `segments` lies in [begin, end), counted from `begin`."""
    return [
        Segment(max(s.begin, begin) - begin, min(s.end, end) - begin, s.rate, s.decays)
        for s in segments
        if max(s.begin, begin) < min(s.end, end)
    ]


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
    made, p = rule(name, weight_decay=0.1), start(1003)
    spans = [(10, 500), (777, 1003)]
    segments = decaying(p.size, spans, lambda n: (1.0, 0.5, 0.0, 3.0)[n])
    rates, decayed = np.ones(p.size), np.zeros(p.size, bool)
    decayed[10:500] = decayed[777:1003] = True
    rates[10:500], rates[500:777], rates[777:1003] = 0.5, 0.0, 3.0
    rates, state = rates.astype(dtype), made.state(p.size)
    expected, remembered = p.astype(dtype), dict[str, Array]()
    for t, g in enumerate(gradients(p.size, 100), start=1):
        scale = float(rng.uniform(0.1, 2))
        made.apply(p, g, state, scale, segments)
        direction = REFERENCES[name](g.astype(dtype), remembered, t)
        expected = expected - dtype(scale * LR) * rates * (
            direction + dtype(0.1) * expected * decayed
        )
    assert expected.dtype == dtype
    close(p, expected)
    assert state.steps == 100
    assert set(state.slots) == set(remembered) == set(made.slots)
    for slot in made.slots:
        close(state.slots[slot], remembered[slot])


def torch_optimizer(torch: Any, name: str, groups: Any, decay: float) -> Any:
    optim = torch.optim
    if name in ("adam", "adamw"):
        return optim.AdamW(groups, lr=LR, weight_decay=decay)
    if name == "rmsprop":
        return optim.AdamW(groups, lr=LR, betas=(0.0, RHO), eps=1e-8, weight_decay=decay)
    assert decay == 0  # PyTorch's other rules add it to the gradient: not what we do
    if name == "adagrad":
        return optim.Adagrad(groups, lr=LR)
    if name == "sgd":
        return optim.SGD(groups, lr=LR)
    return optim.SGD(groups, lr=LR, momentum=0.9, nesterov=name == "nesterov")


DECAYS = [*((name, 0.0) for name in RULES), ("rmsprop", 0.1), ("adam", 0.1), ("adamw", 0.1)]


@pytest.mark.parametrize(("name", "decay"), DECAYS)
def test_a_hundred_steps_equal_pytorch(name: str, decay: float) -> None:
    torch = pytest.importorskip("torch")
    made, p = rule(name, weight_decay=decay), start(1003)
    state = made.state(p.size)
    parameter = torch.nn.Parameter(torch.from_numpy(p.copy()))
    optimizer = torch_optimizer(torch, name, [parameter], decay)
    for g in gradients(p.size, 100):
        made.apply(p, g, state, segments=[Segment(0, p.size, decays=True)])
        parameter.grad = torch.from_numpy(g)
        optimizer.step()
    close(p, parameter.detach().numpy())


CLIPS = [{"clip": 3.0}, {"clip_value": 0.5}, {"clip_value": 0.5, "clip": 3.0}]


@pytest.mark.parametrize("clips", CLIPS)
@pytest.mark.parametrize(("name", "decay"), DECAYS)
def test_clipping_groups_and_a_schedule_together_equal_pytorch(
    name: str, decay: float, clips: dict[str, float]
) -> None:
    """Three parameters, each a group: one at a tenth of the rate, one plain, one not decaying."""
    torch = pytest.importorskip("torch")
    section = OptimizerSection(rule=name, lr=LR, weight_decay=decay, schedule="cosine", **clips)
    made, schedule, p = make_rule(section), make_schedule(section), start(903)
    state, borders = made.state(p.size), (0, 300, 700, 903)
    rates, decays = (0.1, 1.0, 2.0), (True, True, False)
    segments = [
        Segment(*span, rate, does)
        for span, rate, does in zip(pairwise(borders), rates, decays, strict=True)
    ]
    spans = [slice(*span) for span in pairwise(borders)]
    theirs = [torch.nn.Parameter(torch.from_numpy(p[span].copy())) for span in spans]
    groups = [
        {"params": [one], "lr": LR * rate, **({} if does else {"weight_decay": 0.0})}
        for one, rate, does in zip(theirs, rates, decays, strict=True)
    ]
    optimizer = torch_optimizer(torch, name, groups, decay)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda t: 0.01 + 0.99 * (1 + np.cos(np.pi * t / 100)) / 2
    )
    for step, g in enumerate(gradients(p.size, 100)):
        for one, span in zip(theirs, spans, strict=True):
            one.grad = torch.from_numpy(g[span].copy())
        clip(g, section)
        made.apply(p, g, state, schedule.factor(step / 100), segments)
        if section.clip_value:
            torch.nn.utils.clip_grad_value_(theirs, section.clip_value)
        if section.clip:
            torch.nn.utils.clip_grad_norm_(theirs, section.clip)
        optimizer.step()
        scheduler.step()
    close(p, np.concatenate([one.detach().numpy() for one in theirs]))


# ---- shards


@settings(deadline=None)  # the first example may compile a kernel
@given(st.sampled_from(sorted(RULES)), st.integers(0, 300), st.integers(1, 90), st.data())
def test_shard_by_shard_equals_the_whole_vector_bit_for_bit(
    name: str, size: int, shard_elements: int, data: st.DataObject
) -> None:
    borders = sorted(data.draw(st.sets(st.integers(0, size), max_size=6)))
    spans = list(zip(borders[::2], borders[1::2], strict=False))
    segments = decaying(size, spans, lambda n: (1.0, 0.3, 2.0)[n % 3])
    scale = data.draw(st.floats(0.01, 4))
    made = rule(name, weight_decay=0.1)
    whole, parts = start(size), start(size)
    shards = Shards(size, shard_elements)
    spans = [shards.span(s) for s in range(shards.count)]
    state = made.state(size)
    states = [made.state(end - begin) for begin, end in spans]
    for g in gradients(size, 3):
        made.apply(whole, g, state, scale, segments)
        for (begin, end), part in zip(spans, states, strict=True):
            local = cut(segments, begin, end)
            made.apply(parts[begin:end], g[begin:end], part, scale, local)
    assert whole.tobytes() == parts.tobytes()
    for slot in made.slots:
        joined = b"".join(part.slots[slot].tobytes() for part in states)
        assert state.slots[slot].tobytes() == joined


@settings(deadline=None)  # the first example may compile a kernel
@given(st.sampled_from(sorted(RULES)), st.integers(0, 70), st.floats(0.01, 4))
def test_scale_multiplies_the_step_and_never_the_statistics(
    name: str, size: int, scale: float
) -> None:
    made = rule(name)
    plain, scaled = np.zeros(size, np.float32), np.zeros(size, np.float32)
    one, other = made.state(size), made.state(size)
    (g,) = gradients(size, 1)
    made.apply(plain, g, one)
    made.apply(scaled, g, other, scale)
    np.testing.assert_allclose(scaled, np.float32(scale) * plain, rtol=1e-6)
    for slot in made.slots:
        assert np.array_equal(one.slots[slot], other.slots[slot])


@pytest.mark.parametrize("name", RULES)
def test_only_the_slice_is_written_and_the_gradient_is_only_read(name: str) -> None:
    made, vector = rule(name), start(20)
    before, g = vector.copy(), np.frombuffer(start(9).tobytes(), np.float32)
    assert not g.flags.writeable
    made.apply(vector[5:14], g, made.state(9))
    assert np.array_equal(vector[:5], before[:5])
    assert np.array_equal(vector[14:], before[14:])
    assert (vector[5:14] != before[5:14]).all()


def test_a_gradient_in_the_middle_of_a_frame_may_be_unaligned() -> None:
    made, values = rule("sgd", lr=0.5), np.arange(9, dtype=np.float32)
    g = np.frombuffer(b"." + values.tobytes(), np.float32, offset=1)
    assert not g.flags.aligned
    p = np.zeros(9, np.float32)
    made.apply(p, g, made.state(9))
    assert p.tolist() == (-0.5 * values).tolist()
    assert finite(g)


@pytest.mark.parametrize("name", RULES)
def test_weight_decay_needs_segments_and_touches_no_statistics(name: str) -> None:
    made, p = rule(name, lr=0.5, weight_decay=0.5), np.ones(6, np.float32)
    state = made.state(6)
    made.apply(p, np.zeros(6, np.float32), state)
    assert p.tolist() == [1, 1, 1, 1, 1, 1]
    segments = [Segment(0, 2), Segment(2, 4, 1.0, True), Segment(4, 5, 1.0, True), Segment(5, 6)]
    made.apply(p, np.zeros(6, np.float32), state, 2, segments)
    assert p.tolist() == [1, 1, 0.5, 0.5, 0.5, 1]
    assert all(not state.slots[slot].any() for slot in made.slots)


FADING = [
    ("momentum", "velocity", 0.9),
    ("nesterov", "velocity", 0.9),
    ("rmsprop", "squares", RHO),
    ("adam", "mean", 0.9),
    ("adam", "squares", 0.999),
]


@pytest.mark.parametrize(("name", "slot", "keep"), FADING)
def test_a_fading_slot_ends_at_zero_and_never_becomes_denormal(
    name: str, slot: str, keep: float
) -> None:
    made = rule(name)
    state = made.state(2)
    normal = np.finfo(np.float32).smallest_normal
    state.slots[slot][:] = [1.5 * normal / keep, 0.9 * normal / keep]
    made.apply(np.zeros(2, np.float32), np.zeros(2, np.float32), state)
    assert state.slots[slot][0] > normal
    assert state.slots[slot][1] == 0


@pytest.mark.parametrize("name", ["momentum", "nesterov", "adam"])
def test_a_fading_slot_below_zero_ends_there_too(name: str) -> None:
    made = rule(name)
    state, slot = made.state(1), made.slots[0]
    state.slots[slot][:] = -np.finfo(np.float32).smallest_normal
    made.apply(np.zeros(1, np.float32), np.zeros(1, np.float32), state)
    assert state.slots[slot][0] == 0


@pytest.mark.parametrize("name", RULES)
def test_a_copy_of_the_fresh_values_has_their_bits(name: str) -> None:
    made, segments = rule(name, weight_decay=0.1), decaying(1003, [(10, 500)], lambda n: n + 0.5)
    plain, copied, copy = start(1003), start(1003), np.zeros(1005, np.float32)
    one, other = made.state(1003), made.state(1003)
    for g in gradients(1003, 3):
        made.apply(plain, g, one, 0.7, segments)
        made.apply(copied, g, other, 0.7, segments, copy[1:1004])
        assert plain.tobytes() == copied.tobytes() == copy[1:1004].tobytes()
    assert copy[0] == copy[1004] == 0


@pytest.mark.parametrize("name", RULES)
def test_read_only_gradients_and_segments_compile_nothing_anew(name: str) -> None:
    made, p, g = rule(name), start(9), start(9)
    made.apply(p, g, made.state(9))
    made.apply(p, g, made.state(9), copy_to=start(9))
    made.apply(p, start(9), made.state(9), absorb=True)
    kernel = getattr(rule_kernels, made.kernel)
    compiled = len(kernel.signatures)
    made.apply(p, read_only(g), made.state(9), 2, decaying(9, [(3, 7)]))
    made.apply(p, read_only(g), made.state(9), copy_to=start(11)[1:10])
    made.apply(p, start(11)[1:10], made.state(9), absorb=True)
    assert len(kernel.signatures) == compiled == 3


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_shows_in_its_own_element_only(name: str, bad: float) -> None:
    made, p = rule(name), np.ones(9, np.float32)
    g = np.ones(9, np.float32)
    g[3] = bad
    made.apply(p, g, made.state(9))
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
    settings = {"lr": 0.1, "momentum": 0.5, "beta2": 0.95, "eps": 1e-4, "weight_decay": 0.01}
    made = {name: make_rule(OptimizerSection(rule=name, **settings)) for name in RULES}
    common = {"lr": 0.1, "weight_decay": 0.01}
    assert made == {
        "sgd": Sgd(**common),
        "momentum": Momentum(**common, momentum=0.5),
        "nesterov": Nesterov(**common, momentum=0.5),
        "adagrad": Adagrad(**common, eps=1e-4),
        "rmsprop": RmsProp(**common, decay=0.95, eps=1e-4),
        "adam": Adam(**common, momentum=0.5, decay=0.95, eps=1e-4),
        "adamw": Adam(**common, momentum=0.5, decay=0.95, eps=1e-4),
    }


def test_zero_stands_for_the_constants_of_the_rule() -> None:
    assert make_rule(OptimizerSection()) == RmsProp(lr=0.002, decay=0.99, eps=1e-8)
    assert rule("adam") == Adam(lr=LR, momentum=0.9, decay=0.999, eps=1e-8)
    assert rule("adagrad") == Adagrad(lr=LR, eps=1e-10)
    assert make_rule(OuterSection()) == Sgd(lr=1.0)


def test_every_rule_of_the_job_file_is_there() -> None:
    assert tuple(RULES) == OptimizerSection.rules()["rule"].choices


def test_checking_a_job_does_not_import_numba() -> None:
    code = (
        "import sys; from dualshard.common.rules import make_rule; "
        "from dualshard.common.job import OptimizerSection; "
        "make_rule(OptimizerSection()).state(3); sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
