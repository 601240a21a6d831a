"""What a loss tells of its targets before a descent; values and slopes are in test_kernels.py."""

import numpy as np
import pytest

from fastgd._losses import _weighted_quantile


@pytest.mark.parametrize("level", [0.01, 0.1, 0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("m", [1, 2, 3, 10, 101])
def test_a_quantile_is_that_of_rows_repeated_by_their_weights(m, level):
    rng = np.random.default_rng(m)
    y, weight = rng.normal(size=m), rng.integers(0, 4, size=m).astype(float)
    weight[0] = 1
    assert _weighted_quantile(y, None, level) == np.quantile(y, level, method="inverted_cdf")
    repeated = np.repeat(y, weight.astype(int))
    assert _weighted_quantile(y, weight, level) == _weighted_quantile(repeated, None, level)
