"""Named parameters as views of one flat vector."""

import numpy as np
import pytest

from dualshard.worker.layout import Layout, Parameters

LAYOUT = Layout({"weight": (2, 3), "scale": (), "bias": (3,)})


def test_parameters_lie_one_after_the_other() -> None:
    assert LAYOUT.size == 10
    assert LAYOUT.spans() == {"weight": (0, 6), "scale": (6, 7), "bias": (7, 10)}
    views = LAYOUT.views(np.arange(10, dtype=np.float32))
    np.testing.assert_array_equal(views["weight"], [[0, 1, 2], [3, 4, 5]])
    assert views["scale"] == 6
    np.testing.assert_array_equal(views["bias"], [7, 8, 9])
    assert list(views) == ["weight", "scale", "bias"]
    assert len(views) == 3


def test_writing_a_view_writes_the_vector() -> None:
    flat = np.zeros(10, np.float32)
    views = LAYOUT.views(flat)
    assert isinstance(views, Parameters)
    assert views.flat is flat
    views["weight"][1, 0] = 5
    views["scale"][...] = 2
    np.testing.assert_array_equal(flat, [0, 0, 0, 5, 0, 0, 2, 0, 0, 0])
    assert all(np.shares_memory(view, flat) for view in views.values())


@pytest.mark.parametrize(
    "flat", [np.zeros(9, np.float32), np.zeros(10), np.zeros((2, 5), np.float32)]
)
def test_another_size_or_dtype_is_our_own_fault(flat: np.ndarray) -> None:
    with pytest.raises(AssertionError):
        LAYOUT.views(flat)


def test_no_parameters() -> None:
    assert Layout({}).size == 0
    assert len(Layout({}).views(np.zeros(0, np.float32))) == 0
