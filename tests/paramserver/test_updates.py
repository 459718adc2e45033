"""What pushes do to a shard, by mode, against the formulas in float64."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from dualshard.common.job import OptimizerSection, OuterSection
from dualshard.common.rates import Segment
from dualshard.common.rules import make_rule
from dualshard.common.types import Array, Float32
from dualshard.paramserver.consistency import Crowd, Free, Who
from dualshard.paramserver.updates import AtOnce, Elastic, Held, Part, Schedule, Together, Update

ME: Who = (1, 0)
OTHER: Who = (2, 0)
SIZE = 1000
RATE = 0.125


def numbers(seed: int, size: int = SIZE) -> Float32:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def held(values: Float32 | None = None, rule: str = "sgd") -> Held:
    start = numbers(0) if values is None else values.copy()
    return Held(start, make_rule(section(rule)).state(start.size), (), Free(Crowd()))


def section(rule: str = "sgd") -> OptimizerSection:
    return OptimizerSection(rule=rule, lr=RATE)


def constant(progress: float) -> float:
    return 1.0


def at_once(
    kappa: float = 0.0, schedule: Schedule = constant, *, per: bool = True, lam: float = 0.0
) -> AtOnce:
    return AtOnce(make_rule(section()), schedule, kappa, per_minibatch=per, compensation=lam)


def push(
    update: Update, shard: Held, who: Who, part: Part, staleness: int, room: Float32 | None = None
) -> Float32 | None:
    """A push as the store makes it."""
    found = update.apply(shard, who, part, staleness, room)
    shard.version += 1
    return found


def close_to(found: Float32, expected: Array) -> None:
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("per_minibatch", [True, False])
@pytest.mark.parametrize(("staleness", "kappa"), [(0, 0.5), (3, 0.5), (3, 1.0), (7, 0.0)])
@pytest.mark.parametrize("count", [1, 5])
def test_a_push_steps_by_count_and_staleness(
    count: int, staleness: int, kappa: float, per_minibatch: bool
) -> None:
    shard, gradient = held(), numbers(1)
    factor = (count if per_minibatch else 1) * (1.0 + staleness) ** -kappa
    expected = shard.values.astype(float) - RATE * factor * gradient.astype(float)
    update = at_once(kappa, per=per_minibatch)
    assert update.apply(shard, ME, Part(gradient, count), staleness) is None
    assert shard.minibatches == count
    close_to(shard.values, expected)


def test_the_schedule_is_asked_where_the_shard_stands_before_the_push() -> None:
    asked: list[float] = []
    update = at_once(schedule=lambda progress: asked.append(progress) or 0.5)
    update.planned = 8
    shard = held()
    for count in (1, 3, 4):
        update.apply(shard, ME, Part(numbers(1), count), 0)
    assert asked == [0.0, 1 / 8, 4 / 8]
    close_to(shard.values, numbers(0).astype(float) - RATE * 0.5 * 8 * numbers(1).astype(float))


@pytest.mark.parametrize("rule", ["sgd", "rmsprop"])
def test_memory_that_is_ours_becomes_the_values(rule: str) -> None:
    """A received gradient is overwritten with what comes next; what was sent before stays."""
    shard, plain = held(rule=rule), held(rule=rule)
    update = AtOnce(make_rule(section(rule)), constant)
    for seed in range(3):
        before, sent = shard.values, shard.values.copy()
        gradient = numbers(seed)
        update.apply(shard, ME, Part(gradient, 1, ours=True), 0)
        assert shard.values is gradient
        np.testing.assert_array_equal(before, sent)
        update.apply(plain, ME, Part(numbers(seed), 1), 0)
        np.testing.assert_array_equal(shard.values, plain.values)


@pytest.mark.parametrize("update", [at_once(), Elastic(0.25)])
def test_values_on_their_way_are_never_written_again(update: Update) -> None:
    shard = held()
    shard.lent = True
    sent, kept = shard.values, shard.values.copy()
    update.apply(shard, ME, Part(numbers(1), 1), 0)
    np.testing.assert_array_equal(sent, kept)
    assert shard.values is not sent
    assert (shard.values != kept).any()
    own = shard.values
    update.apply(shard, ME, Part(numbers(2), 1), 0)
    assert shard.values is own, "copied once: nobody has these"


@pytest.mark.parametrize("staleness", [0, 1])
@pytest.mark.parametrize("update", [at_once(0.5, lam=1.0), Elastic(0.25)])
def test_who_shares_memory_gets_the_values_there(update: Update, staleness: int) -> None:
    shard, twin, room = held(), held(), np.full(SIZE, np.nan, np.float32)
    for one in (shard, twin):
        update.released(one, ME)
        push(update, one, OTHER, Part(numbers(2), 1), 0)
    found = push(update, shard, ME, Part(numbers(1), 1), staleness, room)
    fresh = push(update, twin, ME, Part(numbers(1), 1), staleness)
    np.testing.assert_array_equal(room, twin.values if fresh is None else fresh)
    assert found is None or found is room
    np.testing.assert_array_equal(shard.values, twin.values)


def test_compensation_spares_memory_that_is_ours() -> None:
    """The corrected gradient lies in scratch, which no shard may keep."""
    shard, other, update = held(), held(), at_once(lam=1.0)
    update.released(shard, ME)
    push(update, shard, OTHER, Part(numbers(2), 1), 0)
    push(update, shard, ME, Part(numbers(3), 1, ours=True), 1)
    kept = shard.values.copy()
    update.released(other, ME)
    push(update, other, OTHER, Part(numbers(4), 1), 0)
    push(update, other, ME, Part(numbers(5), 1, ours=True), 1)
    np.testing.assert_array_equal(shard.values, kept)


@pytest.mark.parametrize("lam", [0.04, 2.0])
def test_a_late_gradient_is_corrected_by_how_far_the_parameters_went(lam: float) -> None:
    """Zheng et al. 2017, equation 10: g + λ g² (w - w_then)."""
    shard, update = held(), at_once(lam=lam)
    update.released(shard, ME)
    then = shard.values.astype(float)
    push(update, shard, OTHER, Part(numbers(2), 1), 0)
    update.released(shard, OTHER)
    now, gradient = shard.values.astype(float), numbers(3)
    kept = gradient.copy()
    push(update, shard, ME, Part(gradient, 1), 1)
    g = kept.astype(float)
    close_to(shard.values, now - RATE * (g + lam * g * g * (now - then)))
    np.testing.assert_array_equal(gradient, kept, "the sender's buffer is lent, not given")


def test_what_a_participant_was_sent_last_is_what_counts() -> None:
    shard, update = held(), at_once(lam=1.0)
    for seed in (2, 3):
        update.released(shard, ME)
        last = shard.values.astype(float)
        push(update, shard, OTHER, Part(numbers(seed), 1), 0)
    now, g = shard.values.astype(float), numbers(4).astype(float)
    push(update, shard, ME, Part(numbers(4), 1), 1)
    close_to(shard.values, now - RATE * (g + g * g * (now - last)))


@pytest.mark.parametrize("known", [True, False])
def test_nothing_is_corrected_in_time_or_where_nothing_was_sent(known: bool) -> None:
    """In time the parameters have not moved; and of a sender that got no values by its pushes
    nothing is known."""
    plain, corrected = held(), held()
    one, other = at_once(), at_once(lam=3.0)
    if known:
        other.released(corrected, ME)
    push(one, plain, ME, Part(numbers(5), 2), 0 if known else 4)
    push(other, corrected, ME, Part(numbers(5), 2), 0 if known else 4)
    np.testing.assert_array_equal(plain.values, corrected.values)


def test_what_was_computed_on_other_values_is_left_alone() -> None:
    """Its sender has pulled since, or goes on with an older answer that came first."""
    plain, corrected = held(), held()
    one, other = at_once(), at_once(lam=3.0)
    for shard, update in ((plain, one), (corrected, other)):
        for seed in range(3):
            push(update, shard, OTHER, Part(numbers(seed), 1), 0)
        update.released(shard, ME)
        push(update, shard, OTHER, Part(numbers(3), 1), 0)
        for staleness in (2, 3):
            push(update, shard, ME, Part(numbers(4), 1), staleness)
    np.testing.assert_array_equal(plain.values, corrected.values)


def test_without_compensation_no_copies_are_kept() -> None:
    shard, update = held(), at_once(0.5)
    update.released(shard, ME)
    update.apply(shard, ME, Part(numbers(1), 1), 3)
    assert not shard.seen


def parts(weights: Sequence[int]) -> list[Part]:
    return [Part(numbers(10 + place), weight) for place, weight in enumerate(weights)]


@pytest.mark.parametrize("weights", [(1, 1), (1, 2, 5), (3, 3, 3, 3, 3, 3, 3)])
def test_a_step_follows_the_mean_weighed_by_minibatches(weights: Sequence[int]) -> None:
    shard = held()
    pushed = parts(weights)
    gradients = [part.gradient.astype(float) for part in pushed]
    mean = sum(w * g for w, g in zip(weights, gradients, strict=True)) / sum(weights)
    expected = shard.values.astype(float) - RATE * mean
    Together(make_rule(section()), constant).close(shard, pushed)
    close_to(shard.values, expected)
    assert shard.minibatches == sum(weights)
    for place, part in enumerate(pushed):
        np.testing.assert_array_equal(part.gradient, numbers(10 + place))


def test_the_step_of_one_part_is_the_rule_bit_for_bit() -> None:
    """However many minibatches are in it: one step along their mean."""
    alone, together = held(rule="rmsprop"), held(rule="rmsprop")
    rule = make_rule(section("rmsprop"))
    update = Together(rule, constant)
    for seed in range(3):
        rule.apply(alone.values, numbers(seed), alone.state, 1.0, ())
        update.close(together, [Part(numbers(seed), 4)])
    np.testing.assert_array_equal(alone.values, together.values)


def test_the_order_of_the_parts_is_the_order_of_the_sum() -> None:
    """Float32 sums depend on their order: equal orders, equal bits."""
    ends = []
    for order in ((0, 1, 2, 3, 4), (0, 1, 2, 3, 4), (4, 3, 2, 1, 0)):
        shard, pushed = held(), parts((1, 2, 3, 4, 5))
        Together(make_rule(section()), constant).close(shard, [pushed[place] for place in order])
        ends.append(shard.values)
    np.testing.assert_array_equal(ends[0], ends[1])
    assert (ends[0] != ends[2]).any()
    close_to(ends[2], ends[0])


@pytest.mark.parametrize("resting", [0, 1, 3])
def test_in_consensus_each_counts_the_same_and_those_at_rest_as_what_is_there(resting: int) -> None:
    """Boyd et al. 2011, section 7.1: pushed is z - (w + u), z becomes the mean of all w + u."""
    shard, pushed = held(), parts((1, 2, 5))
    z = shard.values.astype(float)
    answers = [z - part.gradient for part in pushed] + [z] * resting
    rule = make_rule(OuterSection())
    Together(rule, constant, evenly=True).close(shard, pushed, resting)
    close_to(shard.values, np.mean(answers, axis=0))
    assert shard.minibatches == 8
    other = held()
    Together(rule, constant).close(other, parts((1, 2, 5)), resting)
    weights = [1 / 8, 2 / 8, 5 / 8]
    steps = [weight * part.gradient for weight, part in zip(weights, pushed, strict=True)]
    close_to(other.values, z - np.sum(steps, axis=0))


def test_averaged_state_goes_all_the_way_whoever_rests() -> None:
    shard, pushed = held(), parts((1, 1))
    shard.segments = (Segment(0, SIZE // 2), Segment(SIZE // 2, SIZE, averaged=True))
    before, mean = shard.values.copy(), np.mean([part.gradient for part in pushed], axis=0)
    Together(make_rule(OuterSection()), constant, evenly=True).close(shard, pushed, 2)
    close_to(shard.values[: SIZE // 2], (before - mean / 2)[: SIZE // 2])
    close_to(shard.values[SIZE // 2 :], (before - mean)[SIZE // 2 :])


@pytest.mark.parametrize("alpha", [0.1, 0.5])
def test_elastic_averaging_moves_both_by_the_same_difference(alpha: float) -> None:
    """Zhang et al. 2015, equations 5 and 6."""
    shard, worker = held(), numbers(1)
    x, z = worker.astype(float), shard.values.astype(float)
    fresh = Elastic(alpha).apply(shard, ME, Part(worker, 16), 3)
    assert fresh is not None
    close_to(shard.values, z + alpha * (x - z))
    close_to(fresh, x - alpha * (x - z))
    assert fresh is not shard.values
    assert shard.minibatches == 16
    np.testing.assert_array_equal(worker, numbers(1))


def test_a_repeated_answer_moves_no_centre() -> None:
    shard, update, worker = held(), Elastic(0.25), numbers(1)
    update.apply(shard, ME, Part(worker, 1), 0)
    centre = shard.values.copy()
    again = update.again(shard, worker)
    assert again is not None
    np.testing.assert_array_equal(shard.values, centre)
    assert shard.minibatches == 1
    x, z = worker.astype(float), centre.astype(float)
    close_to(again, x - 0.25 * (x - z))
    for strange in (worker[:-1], worker.astype(np.float16)):
        assert update.again(shard, strange) is None


@pytest.mark.parametrize("update", [at_once(), Together(make_rule(section()), constant)])
def test_in_other_modes_a_repeat_gets_the_shards_own_values(update: Update) -> None:
    assert update.again(held(), numbers(1)) is None


def test_each_mode_takes_its_own_kind_of_push_alone() -> None:
    with pytest.raises(AssertionError, match="closes steps"):
        Together(make_rule(section()), constant).apply(held(), ME, Part(numbers(1), 1), 0)
    for update in (at_once(), Elastic(0.5)):
        with pytest.raises(AssertionError, match="at once"):
            update.close(held(), parts((1, 1)))


# ---- averaged state

AVERAGED = slice(300, 420)
TRAINED = np.ones(SIZE, bool)
TRAINED[AVERAGED] = False
SEGMENTS = (Segment(0, 300), Segment(300, 420, averaged=True), Segment(420, SIZE))


def half(progress: float) -> float:
    return 0.5


def with_averages(rule: str = "rmsprop") -> Held:
    made = held(rule=rule)
    made.segments = SEGMENTS
    return made


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("kappa", [0.0, 0.5])
@pytest.mark.parametrize("staleness", [0, 3])
@pytest.mark.parametrize(
    ("count", "chained", "times"), [(1, 1, 1), (5, 1, 1), (5, 8, 5), (5, 2, 2)]
)
def test_averages_move_by_their_part_of_what_is_concurrent(
    count: int, chained: int, times: int, staleness: int, kappa: float, ours: bool
) -> None:
    """Neither the schedule nor κ counts, and minibatches only as far as they follow each other."""
    rule = make_rule(section("rmsprop"))
    update = AtOnce(rule, half, kappa, chained=chained)
    shard, plain = with_averages(), held(rule="rmsprop")
    shard.version = staleness
    update.apply(shard, ME, Part(numbers(1), count, ours), staleness)
    AtOnce(rule, half, kappa).apply(plain, ME, Part(numbers(1), count), staleness)
    factor = np.float32(times / (1 + staleness))
    np.testing.assert_array_equal(
        shard.values[AVERAGED], numbers(0)[AVERAGED] - factor * numbers(1)[AVERAGED]
    )
    np.testing.assert_array_equal(shard.values[TRAINED], plain.values[TRAINED])


def test_averages_are_not_compensated_for_their_delay() -> None:
    shard, plain = with_averages("sgd"), held()
    update = at_once(lam=3.0)
    for one in (shard, plain):
        update.released(one, ME)
        push(update, one, OTHER, Part(numbers(2), 1), 0)
    before = shard.values.copy()
    push(update, shard, ME, Part(numbers(3), 1), 1)
    push(update, plain, ME, Part(numbers(3), 1), 1)
    expected = before[AVERAGED] - np.float32(0.5) * numbers(3)[AVERAGED]
    np.testing.assert_array_equal(shard.values[AVERAGED], expected)
    np.testing.assert_array_equal(shard.values[TRAINED], plain.values[TRAINED])


@pytest.mark.parametrize("rule", ["sgd", "nesterov", "adam"])
def test_a_step_moves_averages_by_the_mean_of_its_pushes(rule: str) -> None:
    shard, plain, weights = with_averages(rule), held(rule=rule), (1, 2, 5)
    update = Together(make_rule(section(rule)), half)
    expected = shard.values[AVERAGED].astype(float)
    for first in (0, 3):
        pushed = [Part(numbers(first + place), weight) for place, weight in enumerate(weights)]
        update.close(shard, pushed)
        update.close(plain, pushed)
        expected -= sum(p.count * p.gradient[AVERAGED].astype(float) for p in pushed) / 8
    close_to(shard.values[AVERAGED], expected)
    np.testing.assert_array_equal(shard.values[TRAINED], plain.values[TRAINED])


def test_elastic_averaging_treats_averages_like_all_else() -> None:
    shard, plain = with_averages(), held(rule="rmsprop")
    fresh = Elastic(0.25).apply(shard, ME, Part(numbers(1), 4), 0)
    assert fresh is not None
    np.testing.assert_array_equal(fresh, Elastic(0.25).apply(plain, ME, Part(numbers(1), 4), 0))
    np.testing.assert_array_equal(shard.values, plain.values)


def settled(pull: float, workers: int, factor: Callable[[int], float], rounds: int = 400) -> float:
    """How far an average is from the mean of the batches, after so many rounds, each worker in turn
    with a push W - 1 updates old, from 1 away; the largest distance of the last rounds."""
    values, distances = [1.0] * workers, []
    for _ in range(rounds * workers):
        values.append(values[-1] - factor(workers - 1) * pull * values[-workers])
        distances.append(abs(values[-1]))
        if distances[-1] > 1e9:
            break
    return max(distances[-workers:])


@pytest.mark.parametrize("pull", [0.1, 0.8147, 1.0])
@pytest.mark.parametrize("workers", [1, 2, 8, 32, 128])
def test_averages_settle_however_many_push(workers: int, pull: float) -> None:
    """`pull` is 1 - (1 - momentum)^n for pushes of n own steps: 0.1, 16 of these, and very many."""
    assert settled(pull, workers, lambda s: 1 / (1 + s)) < 1e-6


@pytest.mark.parametrize(
    ("kappa", "pull", "workers"), [(0.0, 0.1, 32), (0.0, 1.0, 8), (0.5, 0.8147, 8), (0.5, 1.0, 32)]
)
def test_other_scalings_let_them_run_away(kappa: float, pull: float, workers: int) -> None:
    assert settled(pull, workers, lambda s: (1 + s) ** -kappa) > 1e6


@pytest.mark.parametrize("workers", [1, 2, 8, 32, 128])
def test_a_variance_never_overshoots_below_zero(workers: int) -> None:
    """From 1 to a batch variance of 0, at the usual momentum; with κ = 1/2 it does, for 32."""
    values = [1.0] * workers
    for _ in range(400 * workers):
        values.append(values[-1] - 0.1 / workers * values[-workers])
    assert 0 <= min(values) < 1e-6
