"""Parts `small` and `sixty` of `bench admm`: glued accuracy, bytes and rounds of a cut net, beside
exact backprop, large minibatches, local SGD and EASGD at equal compute."""

from dataclasses import replace

from .admm_jobs import (
    FOUR,
    LATE,
    PASSES,
    UNDER_WAY,
    agreeing,
    backprop,
    large_batch,
    sigmoid,
    whole,
)
from .admm_runs import (
    ALL,
    SMALL,
    Found,
    Ground,
    Side,
    accuracy_row,
    ceiling_row,
    percent,
    promise_row,
    traffic_rows,
    within_row,
)
from .report import Row, compare

SWEEPS = 4
A, BACKPROP, LARGE = "A, 2 parts", "backprop, 2 parts", "backprop, minibatches of 1024"
LOCAL, EASGD = "local SGD, 2 workers", "EASGD, 2 workers"
A_SIGMOID, A_FOUR, A_LATE, A_X10 = "A, sigmoid", "A, 4 parts", "A, late targets", "A, literal x10"
B_HEAD, B_BARE = "B, with a head", "B, without a head"
PROMISED = {A: 95.5, A_SIGMOID: 95.0, A_FOUR: 94.0, A_LATE: 93.5, B_HEAD: 94.5}
"""Test accuracy in per cent, 12,000 images."""
BARE_CEILING = 94.0
"""What B stays below where nothing teaches the layers below the boundary."""
WITHIN, COPIES = 0.5, 1.0
"""Points."""
FEWER_BYTES = PASSES * (1 - 1e-12)
"""Times, against backprop: as many as there are passes, but for the rounding of a quotient."""
LATENESS = 5.0
"""Rounds by which targets must have been late on the mean, or nothing was shown: of 0 to 11 it is
5.5."""

A_ONE, A_THREE, A_FOUR_THREE = "A, 1 sweep", "A, 3 sweeps", "A, 4 parts, 3 sweeps"
BACKPROP_THREE, BACKPROP_NINE = "backprop, 3 epochs", "backprop, 9 epochs"
SIXTY_PROMISED = {A_ONE: 97.0, A_THREE: 97.5, A_FOUR_THREE: 97.0}


def small_sides() -> dict[str, Side]:
    """Those that are compared on 12,000 images, but for the data."""
    epochs = SWEEPS * PASSES
    settings = {
        A: agreeing(SWEEPS),
        BACKPROP: backprop(epochs),
        LARGE: large_batch(epochs),
        LOCAL: whole("local", epochs),
        EASGD: whole("easgd", epochs),
        A_SIGMOID: sigmoid(SWEEPS),
        A_FOUR: agreeing(SWEEPS, FOUR),
        A_LATE: agreeing(SWEEPS, admm_wait=False, admm_ahead=UNDER_WAY),
        B_HEAD: agreeing(SWEEPS, coupling="weights"),
        B_BARE: agreeing(SWEEPS, coupling="weights", admm_head=False),
        A_X10: agreeing(SWEEPS, admm_schedule="x10"),
    }
    sides = {name: Side(job) for name, job in settings.items()}
    return {**sides, A_LATE: Side(settings[A_LATE], slow=1, times=LATE)}


def sixty_sides() -> dict[str, Side]:
    """Those on 60,000 images."""
    settings = {
        A_ONE: agreeing(1),
        A_THREE: agreeing(3),
        A_FOUR_THREE: agreeing(3, FOUR),
        BACKPROP_THREE: backprop(PASSES),
        BACKPROP_NINE: backprop(3 * PASSES),
        LARGE: large_batch(3 * PASSES),
        LOCAL: whole("local", 3 * PASSES),
        EASGD: whole("easgd", 3 * PASSES),
    }
    return {name: Side(job) for name, job in settings.items()}


def on(sides: dict[str, Side], source: str) -> dict[str, Side]:
    """The same sides with their data."""
    return {
        name: replace(side, settings={"data.source": source, **side.settings})
        for name, side in sides.items()
    }


def bench_small(ground: Ground) -> list[Row]:
    """12,000 images, four sweeps or twelve epochs."""
    return small_rows(ground.run(on(small_sides(), ground.source(SMALL)), "small"))


def bench_sixty(ground: Ground) -> list[Row]:
    """60,000 images (50,000 of a validation split), one sweep and three."""
    return sixty_rows(ground.run(on(sixty_sides(), ground.source(ALL)), "sixty"))


def small_rows(found: Found) -> list[Row]:
    """Every promise for 12,000 images, and what stands beside it."""
    ours, exact = found[A], found[BACKPROP]
    rows = [promise_row(f"12k, {name}", found[name], PROMISED[name]) for name in PROMISED]
    rows.insert(1, within_row(f"12k, {A}", percent(ours), percent(exact), WITHIN, f"{BACKPROP},"))
    rows[2:2] = traffic_rows(f"12k, {A}", ours, BACKPROP, exact, FEWER_BYTES)
    lateness = [run.lateness for run in found[A_LATE]]
    rows += [
        compare(
            f"12k, {A_LATE}: lateness, against {LATENESS:g}",
            "rounds",
            lateness,
            [LATENESS] * len(lateness),
            1.0,
        ),
        copies_row(f"12k, {B_HEAD}", found),
        ceiling_row(f"12k, {B_BARE}", found[B_BARE], BARE_CEILING),
    ]
    for name in (BACKPROP, LARGE, LOCAL, EASGD, A_X10):
        rows.append(accuracy_row(f"12k, {A}, against {name}", ours, found[name]))
    for name in (LARGE, LOCAL, EASGD):
        rows += traffic_rows(f"12k, {A}", ours, name, found[name], None)
    return rows


def copies_row(name: str, found: Found) -> Row:
    """That the net is as good with either copy of the boundary layer: the worst seed, the lower of
    the two accuracies against the higher one less a point."""
    pairs = [sorted((100 * run.accuracy, 100 * run.copy_accuracy)) for run in found[B_HEAD]]
    low, high = max(pairs, key=lambda pair: pair[1] - pair[0])
    what = f"{name}: accuracy with the worse copy, against the better one less {COPIES:g}"
    return compare(what, "%", [low], [high - COPIES], 1.0)


def sixty_rows(found: Found) -> list[Row]:
    """Every promise for 60,000 images, and what stands beside it."""
    rows = [
        promise_row(f"60k, {name}", found[name], promise)
        for name, promise in SIXTY_PROMISED.items()
    ]
    for ours, exact in ((A_ONE, BACKPROP_THREE), (A_THREE, BACKPROP_NINE)):
        name = f"60k, {ours}"
        rows.append(accuracy_row(f"{name}, against {exact}", found[ours], found[exact]))
        rows += traffic_rows(name, found[ours], exact, found[exact], FEWER_BYTES)
    for other in (LARGE, LOCAL, EASGD):
        name = f"60k, {A_THREE}"
        rows.append(accuracy_row(f"{name}, against {other}", found[A_THREE], found[other]))
        rows += traffic_rows(name, found[A_THREE], other, found[other], None)
    return rows
