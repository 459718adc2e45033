"""Where nets are cut: as the job names it, or by themselves; and what is said of wrong cuts."""

from itertools import combinations, pairwise
from math import prod
from typing import Any

import numpy as np
import pytest
from part_cases import DATA, HERE, conv, dense, make

from dualshard.common.cluster import DataShape
from dualshard.common.errors import UserError
from dualshard.worker.nn.sequential import Sequential
from dualshard.worker.parts.cutting import cut, starts
from dualshard.worker.parts.places import Place, choose
from dualshard.worker.parts.stepper import PartStepper


def said(**sections: Any) -> str:
    """What a job of the dense net is refused with."""
    cuts = sections.pop("cuts", [])
    with pytest.raises(UserError) as refused:
        cut(make(sections.pop("net", "dense"), cuts, **sections), DATA)
    return str(refused.value)


def names_of(cuts: list[str], net: str = "dense") -> list[list[str]]:
    """The parameters of each part."""
    return [list(part.shapes()) for part in cut(make(net, cuts), DATA)]


def test_a_cut_lies_behind_the_layer_that_it_names() -> None:
    expected = [["dense1.weight", "dense1.bias"], ["dense2.weight", "dense2.bias"]]
    above = ["dense3.weight", "dense3.bias", "dense4.weight", "dense4.bias"]
    assert names_of(["relu1", "tanh1"]) == [*expected, above]
    assert names_of(["dense1", "dense2"]) == [*expected, above]


def test_parts_lie_one_behind_the_other() -> None:
    parts = cut(make("conv", ["maxpool1", "tanh1"]), DATA)
    sizes = [sum(prod(shape) for shape in part.shapes().values()) for part in parts]
    assert starts(parts) == [0, sizes[0], sizes[0] + sizes[1]]
    together = {name: shape for part in parts for name, shape in part.shapes().items()}
    assert list(together.items()) == list(conv().shapes().items())


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_by_itself_the_work_is_evened_out(parts: int) -> None:
    """Against all ways to cut behind layers without parameters; conv counts its pixels."""
    job = make("conv", [], partition={"parts": parts}, worker={"count": parts})
    found = [
        sum(WORK[name.partition(".")[0]] for name in part.shapes() if "weight" in name)
        for part in cut(job, DATA)
    ]
    ways = [[a, *b] for a, b in _splits(list(WORK.values()), parts)]
    assert sum(work**2 for work in found) == min(sum(w**2 for w in way) for way in ways)


WORK = {"conv2d1": 64 * 9 * 4, "conv2d2": 4 * 9 * 4 * 5, "dense1": 20 * 6, "dense2": 6 * 3}


def _splits(work: list[int], parts: int) -> list[tuple[int, list[int]]]:
    found = []
    for borders in combinations(range(1, len(work)), parts - 1):
        cuts = [0, *borders, len(work)]
        sums = [sum(work[a:b]) for a, b in pairwise(cuts)]
        found.append((sums[0], sums[1:]))
    return found


def test_of_equal_places_the_narrower_is_taken() -> None:
    parts = cut(make("conv", [], partition={"parts": 2}), DATA)
    outputs: Any = parts[0]
    assert outputs.outputs == (4, 4, 4)  # behind the pool, not before


def test_places_are_chosen_for_their_work_first() -> None:
    places = [Place("a", 3, 1), Place("b", 1, 9), Place("c", 0, 2), Place("d", 5, 3)]
    assert choose(places, 4, 2) == ["c"]
    assert choose(places, 4, 3) == ["c", "d"]
    assert choose(places, 0, 4) is None
    assert choose([], 1, 2) is None


def test_a_name_that_is_no_layer() -> None:
    assert said(cuts=["rellu1"]) == (
        "partition.cuts = rellu1: expected a place in part_cases:dense to cut behind: dense1, "
        "relu1, dense2, tanh1, dense3, relu2; did you mean relu1?"
    )
    assert said(cuts=["xyz"]).endswith('write partition.cuts = ["dense1"] for example')


def test_an_order_that_is_not_the_nets() -> None:
    assert said(cuts=["tanh1", "relu1"]) == (
        'partition.cuts = ["tanh1", "relu1"]: expected places in the order of the net; '
        'write partition.cuts = ["relu1", "tanh1"]'
    )


def test_nothing_above_the_last_cut() -> None:
    assert said(cuts=["relu1", "dense4"]) == (
        "partition.cuts = dense4: expected layers above the last cut; cut behind an earlier layer, "
        "one of dense1, relu1, dense2, tanh1, dense3, relu2"
    )


def test_a_part_without_parameters() -> None:
    assert said(cuts=["dense1", "relu1"]) == (
        'partition.cuts = ["dense1", "relu1"]: expected a layer with parameters in each part; '
        "part 1 would be relu1 alone"
    )


def test_more_parts_than_the_net_has_places() -> None:
    assert said(partition={"parts": 6}, worker={"count": 6}) == (
        "partition.parts = 6: expected at most 4: part_cases:dense can be cut behind layers "
        "without parameters, such as activations, with some on both sides; write partition.parts "
        "= 4, or name layers in partition.cuts"
    )


def test_a_net_of_one_layer_has_no_place() -> None:
    found = said(model={"ref": "mlp", "args": {"hidden": []}})
    assert found.endswith("name a layer in partition.cuts, or choose another train.mode")


def test_samples_of_another_shape() -> None:
    with pytest.raises(UserError, match=r"model.args.sample_shape = \(8, 8\): expected \(9, 8\)"):
        cut(make("dense", ["relu1"]), DataShape(10, 10, 3, (9, 8), 4))


@pytest.mark.parametrize("name", ["Plain", "own"])
def test_a_model_that_cannot_be_cut(name: str) -> None:
    assert said(model={"ref": f"user_parts:{name}"}).endswith(
        "expected a net that can be cut: a Sequential that computes its own gradients, or a Model "
        "that is a dualshard.worker.parts.part.Cuttable, with cut_points() and cut(points); write "
        "one of these, or choose another train.mode"
    )


def test_a_users_model_is_cut_where_it_says() -> None:
    model = {"ref": "user_parts:Lines"}
    parts = cut(make("", ["two"], model=model), DATA)
    assert [list(part.shapes()) for part in parts] == [["w1", "w2"], ["w3"]]
    even = cut(make("", [], model=model, partition={"parts": 3}, worker={"count": 3}), DATA)
    assert [list(part.shapes()) for part in even] == [["w1"], ["w2"], ["w3"]]


@pytest.mark.parametrize(
    ("name", "cuts", "words"),
    [
        (
            "Lines",
            ["three"],
            "partition.cuts = three: expected a place in user_parts:Lines to cut behind: one, two",
        ),
        (
            "TooFew",
            ["one"],
            "expected cut() to return 2 instances of Part for 1 points; it returned 1, of type "
            "Scales",
        ),
        ("Turned", ["one"], "expected parameters in the order w1, w2, w3; cut it changed"),
        (
            "Whole",
            ["one"],
            "expected no error while asking for its cut points; it raised TypeError",
        ),
        (
            "Narrow",
            ["one"],
            "expected what backward() returns to have the shape of the inputs; it is (40, 1) where "
            "they are (40, 64)",
        ),
        (
            "Lazy",
            ["one"],
            "expected every gradient to be written at each call; 64 of the 64 elements of "
            "gradients['w1'] were not",
        ),
        (
            "Wide",
            ["one"],
            "expected forward() of a part to return (40, ...) float32 for 40 samples; it returned "
            "float64 of shape (40, 64)",
        ),
    ],
)
def test_what_a_users_parts_do_wrong(name: str, cuts: list[str], words: str) -> None:
    job = make("", cuts, model={"ref": f"user_parts:{name}"})
    with pytest.raises(UserError) as refused:
        _ = [PartStepper(job, DATA, part) for part in (0, 1)]
    assert words in str(refused.value)


@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("net", [dense, conv])
def test_parts_have_the_slopes_of_differences_in_float64(net: Any, l2: float) -> None:
    """The stretch between two cuts, by its parameters and its inputs, L2 included."""
    model: Sequential = net(l2)
    cuts = ["relu1", "tanh1"] if net is dense else ["maxpool1", "relu2"]
    job = make(net.__name__, cuts, model={"ref": f"{HERE}:{net.__name__}", "args": {"l2": l2}})
    part: Any = cut(job, DATA)[1]
    random = np.random.default_rng(0)
    own = {name: random.normal(size=shape) for name, shape in part.shapes().items()}
    x = random.normal(size=(3, *part.sample))
    aim = random.normal(size=(3, *part.outputs))

    def objective() -> float:
        squares = sum(float(np.sum(w**2)) for name, w in own.items() if part.decayed(name))
        return float(np.sum(aim * part.forward(own, x, None))) + model.l2 / 2 * squares

    part.forward(own, x, random)
    slopes = {name: np.zeros_like(w) for name, w in own.items()}
    slopes["x"] = part.backward(own, slopes, aim)
    for name, values in {**own, "x": x}.items():
        for place in random.integers(values.size, size=6):
            spot = values.reshape(-1)
            was = spot[place]
            ends = []
            for step in (1e-6, -1e-6):
                spot[place] = was + step
                ends.append(objective())
            spot[place] = was
            found = (ends[0] - ends[1]) / 2e-6
            assert slopes[name].reshape(-1)[place] == pytest.approx(found, rel=1e-4, abs=1e-6)
