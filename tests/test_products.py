"""The matrix product of our own, against NumPy."""

from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastgd._compiled import network

UNIT = {np.float64: 2.0**-53, np.float32: 2.0**-24}
both_dtypes = pytest.mark.parametrize("dtype", UNIT)
either_side = pytest.mark.parametrize("transpose_a", [False, True], ids=["A", "A^T"])
SIZES = [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 33, 47, 48, 49, 50, 63, 65, 70]
DEPTHS = [1, 2, 5, 70, 127, 128, 129, 300]


def operands(m, n, k, dtype, transpose_a=False, margin=0, seed=0):
    """A, B, C with rows longer by `margin` than what the product sees, and NaN there."""
    rng = np.random.default_rng(seed)
    arrays = []
    for rows, columns in [(k, m) if transpose_a else (m, k), (k, n), (m, n)]:
        array = np.full((max(rows, 1), max(columns, 1) + margin), np.nan, dtype)
        array[:rows, :columns] = rng.normal(size=(rows, columns))
        arrays.append(array)
    return arrays


def seen(A, B, m, n, k, transpose_a):
    """op(A) and B as the product sees them."""
    return (A[:k, :m].T if transpose_a else A[:m, :k]), B[:k, :n]


def assert_is_product(m, n, k, dtype, transpose_a, margin, add):
    A, B, C = operands(m, n, k, dtype, transpose_a, margin)
    a, b = (x.astype(np.float64) for x in seen(A, B, m, n, k, transpose_a))
    before = C.copy()
    if not add:
        C[:m, :n] = np.nan  # what is there must not matter
    network.add_product(A, B, C, transpose_a, m, n, k, add)
    old = before[:m, :n].astype(np.float64) * add
    bound = (k + 2) * UNIT[dtype] * (np.abs(a) @ np.abs(b) + np.abs(old))  # Higham 2002, section 3.5
    assert (np.abs(C[:m, :n] - (a @ b + old)) <= bound).all(), (m, n, k)
    before[:m, :n] = C[:m, :n]
    assert_array_equal(C, before)  # nothing was written beside it


@both_dtypes
@either_side
@pytest.mark.parametrize("add", [False, True], ids=["set", "add"])
def test_products_of_all_shapes_are_those_of_numpy(dtype, transpose_a, add):
    for i, (m, n) in enumerate(product(SIZES, SIZES)):
        assert_is_product(m, n, DEPTHS[i % len(DEPTHS)], dtype, transpose_a, i % 4, add)
    for k in range(1, 71):
        assert_is_product(9, 50, k, dtype, transpose_a, k % 3, add)


@both_dtypes
@either_side
@pytest.mark.parametrize("l2", [0, 0.5])
def test_a_step_down_a_product_is_that_of_numpy(dtype, transpose_a, l2):
    rate = 0.25
    for i, (m, n) in enumerate(product(SIZES, SIZES)):
        k = DEPTHS[i % len(DEPTHS)]
        A, B, C = operands(m, n, k, dtype, transpose_a, margin=i % 4)
        a, b = (x.astype(np.float64) for x in seen(A, B, m, n, k, transpose_a))
        before = C.copy()
        old = before[:m, :n].astype(np.float64)
        network.descend_by_product(A, B, C, transpose_a, m, n, k, rate, l2)
        terms = rate * (np.abs(a) @ np.abs(b) + l2 * np.abs(old)) + np.abs(old)
        assert (np.abs(C[:m, :n] - (old - rate * (a @ b + l2 * old))) <= (k + 6) * UNIT[dtype] * terms).all()
        before[:m, :n] = C[:m, :n]
        assert_array_equal(C, before)  # nothing was written beside it


@both_dtypes
@either_side
def test_a_sum_without_terms_is_zero_and_one_without_places_writes_nothing(dtype, transpose_a):
    for m, n, k in [(9, 50, 0), (0, 50, 7), (9, 0, 7), (0, 0, 0)]:
        for add in (False, True):
            assert_is_product(m, n, k, dtype, transpose_a, 1, add)


@both_dtypes
@either_side
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_spoils_its_row_or_column_alone(dtype, transpose_a, value):
    m, n, k = 13, 59, 140
    for operand, i, j in [(0, 12, 130), (0, 0, 0), (1, 139, 58), (1, 3, 20)]:
        A, B, C = operands(m, n, k, dtype, transpose_a)
        a, b = seen(A, B, m, n, k, transpose_a)  # views
        (a, b)[operand][i, j] = value
        network.add_product(A, B, C, transpose_a, m, n, k, False)
        with np.errstate(invalid="ignore"):
            twin = a.astype(np.float64) @ b.astype(np.float64)
        assert not np.isfinite(twin).all()
        assert_allclose(C, twin, rtol=1e-3 if dtype == np.float32 else 1e-10, atol=1e-4)


@both_dtypes
@either_side
def test_pieces_of_a_product_are_the_product_to_the_bit(dtype, transpose_a):
    m, n, k = 37, 110, 300
    A, B, C = operands(m, n, k, dtype, transpose_a)
    network.add_product(A, B, C, transpose_a, m, n, k, False)
    for rows, columns in [(1, 1), (5, 48), (8, 17), (36, 110)]:
        for i, j in product(range(0, m, rows), range(0, n, columns)):
            a = np.ascontiguousarray(A[:, i : i + rows] if transpose_a else A[i : i + rows])
            b = np.ascontiguousarray(B[:, j : j + columns])
            part = np.empty((min(rows, m - i), min(columns, n - j)), dtype)
            network.add_product(a, b, part, transpose_a, *part.shape, k, False)
            assert_array_equal(part, C[i : i + rows, j : j + columns])
