"""Automatic steps of mini-batches, as an array for an epoch."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastgd import _schedules
from fastgd._schedules import CappedSteps


@pytest.mark.parametrize("batch_size", [1, 3, 32])
@pytest.mark.parametrize("m", [1, 7, 100, 1001])
def test_automatic_steps_fall_and_are_capped_by_the_rows_of_their_batch(m, batch_size, monkeypatch):
    rng = np.random.default_rng(0)
    bounds, order, t = rng.exponential(size=m) + 0.01, rng.permutation(m), 12
    schedule = CappedSteps(bounds, 1.0, 500.0)
    batches = [order[i : i + batch_size] for i in range(0, m, batch_size)]
    age = (t - 1 + np.arange(len(batches))) * batch_size / 500
    expected = np.minimum(schedule.eta / (1 + age) ** 0.75, [1 / bounds[rows].mean() for rows in batches])
    steps = schedule.steps(t, order, batch_size)
    assert_allclose(steps, expected, rtol=1e-13)
    monkeypatch.setattr(_schedules, "BATCHES_AT_A_TIME", 5)
    assert_array_equal(schedule.steps(t, order, batch_size), steps)
