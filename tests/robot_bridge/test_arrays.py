"""Numbers from outside are numbers, finite and as many as there should be, or are refused by name."""

from __future__ import annotations

import numpy as np
import pytest

from robot_bridge.arrays import finite, vector
from robot_bridge.errors import BadAction, BadArray


@pytest.mark.parametrize("values", [[1, 2.5], np.ones((2, 3), np.float32), 7, []])
def test_finite_numbers_of_any_shape_pass_as_float64(values) -> None:
    found = finite(values, thing="it")
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("values", [[np.nan], [np.inf, 0], [["a"]], [[1], [2, 3]], None, object()])
def test_anything_else_is_refused_with_the_error_asked_for(values) -> None:
    with pytest.raises(BadArray, match="the thing"):
        finite(values, thing="the thing")
    with pytest.raises(BadAction, match="the thing"):
        finite(values, thing="the thing", error=BadAction)


@pytest.mark.parametrize("values", [[1, 2], [[1, 2, 3]], 1.0, [1, 2, 3, 4]])
def test_a_vector_has_as_many_numbers_as_it_should(values) -> None:
    assert vector([1, 2, 3], 3, thing="it").tolist() == [1, 2, 3]
    with pytest.raises(BadArray, match="it must be 3 numbers"):
        vector(values, 3, thing="it")
