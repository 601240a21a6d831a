"""The compiled kernels, called by themselves, against their NumPy twins on every kind of array."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference import CLASSIFICATION, LOSSES, REGRESSION, SOFTMAX, mean_loss, shuffled, softmax_loss
from scipy.special import expit, softmax
from scipy.stats import chisquare
from shared import assert_releases_the_gil, read_only
from threadpoolctl import threadpool_limits

from fastgd import GDClassifier, GDRegressor
from fastgd._compiled import epochs, linear, moments
from fastgd._losses import classification_loss, regression_loss
from fastgd.kernels import gradient_descent, loss_gradient

ALL_LOSSES = sorted({*REGRESSION, *CLASSIFICATION})
TOLERANCE = {np.float64: 1e-11, np.float32: 1e-4}


def make(m=120, d=5, k=None, dtype=np.float64, loss="squared_error", seed=0):
    """X (m, d), y (m,) or (m, k), w (d,) or (d, k), s (m,)."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(m, d))
    w = rng.normal(size=d if k is None else (d, k))
    y = X @ w / 3 + rng.normal(size=(m,) if k is None else (m, k))
    if loss in ("poisson", "gamma"):
        y = np.exp(y)
    elif loss in set(CLASSIFICATION) - set(REGRESSION):
        y = np.where(y > 0, 1.0, -1.0)
    s = np.where(np.arange(m) % 7 == 3, 0.0, rng.uniform(0.2, 2, size=m))
    return tuple(a.astype(dtype) for a in (X, y, w, s))


def twin_descent(X, y, w, learning_rate, n_iter):
    for _ in range(n_iter):
        w = w - learning_rate * X.T @ (X @ w - y) / len(X)
    return w


def twin_gradient(X, y, w, loss, s=None):
    X, y, w = (np.asarray(a, float) for a in (X, y, w))
    slope = LOSSES[loss].slope(y, X @ w, 0.1, 0.5)
    s = np.ones(len(X)) if s is None else np.asarray(s, float)
    return mean_loss(loss, y, X @ w, s).sum(), X.T @ (slope.T * s).T / s.sum()


def assert_twins(ours, twin, tol):
    assert_allclose(ours[0], twin[0], rtol=tol)
    assert ours[1].shape == twin[1].shape
    assert_allclose(ours[1], twin[1], rtol=tol, atol=tol * np.abs(twin[1]).max(initial=1e-300))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("order", "CF")
def test_loss_gradient_is_its_numpy_twin_for_any_number_of_columns(order, dtype):
    for d in range(1, 70):
        X, y, w, _ = make(m=23, d=d, dtype=dtype)
        X = np.asarray(X, order=order)
        assert_twins(loss_gradient(X, y, w), twin_gradient(X, y, w, "squared_error"), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("k", [None, 3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_loss_gradient_is_its_numpy_twin(loss, weighted, k, dtype):
    X, y, w, s = make(k=k, dtype=dtype, loss=loss)
    s = s if weighted else None
    value, gradient = loss_gradient(X, y, w, loss, s)
    assert gradient.dtype == dtype
    assert_twins((value, gradient), twin_gradient(X, y, w, loss, s), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("loss", SOFTMAX)
@pytest.mark.parametrize("k", [2, 3])
def test_softmax_gradient_is_its_numpy_twin(k, loss, dtype):
    X, y, w, s = make(k=k, dtype=dtype)
    codes = np.argmax(y, axis=1)
    rows, slope = softmax_loss(loss, codes, X.astype(float) @ w)
    twin = np.average(rows, weights=s), X.T @ (slope * s[:, None]) / s.sum()
    assert_twins(loss_gradient(X, codes.astype(dtype), w, loss, s), twin, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_curvatures_of_the_rows_are_second_derivatives(loss, weighted, dtype):
    """0 on linear pieces; of the Brier score, which is not convex, Gauss and Newton's."""
    X, y, w, s = make(loss=loss, dtype=dtype)
    y, z = y.astype(float), X.astype(float) @ w
    expected = np.zeros(len(X))
    if loss == "brier_score":
        expected = 4 * (expit(z) * expit(-z)) ** 2
    elif LOSSES[loss].curvature:
        expected = LOSSES[loss].curvature(y, z, 0.1, 0.5)
    kind = regression_loss(loss, 0.1, 0.5) if loss in REGRESSION else classification_loss(loss, 2, 0.1)
    curvature, theta = np.full((1, len(X)), np.nan, dtype), np.append(w, 0)[None].astype(float)
    weight = s if weighted else None
    linear.Pass(X, 1).run(X, y.astype(dtype)[None], weight, theta, kind.id, kind.array, 1, curvature)
    assert_allclose(curvature[0], expected * (s if weighted else 1), rtol=TOLERANCE[dtype], atol=1e-12)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_log_loss_of_rows_told_apart_keeps_its_digits(dtype):
    tol = {np.float64: 1e-13, np.float32: 1e-5}[dtype]
    for m in (1, 7, 16, 33, 500, 513, 3000):
        for low, high in [(1e-8, 1e-3), (5, 30), (35, 80), (-3, 600), (-900, -600), (750, 900)]:
            z = np.linspace(low, high, m).astype(dtype)
            value, gradient = loss_gradient(z[:, None], np.ones(m, dtype), np.ones(1, dtype), "log_loss")
            z = z.astype(float)
            assert_allclose(value, np.logaddexp(0, -z).mean(), rtol=tol, atol=np.finfo(dtype).tiny)
            assert_allclose(gradient, [-(z * expit(-z)).mean()], rtol=tol, atol=1e3 * np.finfo(dtype).tiny)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_log_loss_of_nothing_is_log_2_for_any_number_of_rows(dtype):
    for m in [*range(1, 70), 255, 256, 257, 511, 512, 513, 1024, 5000]:
        X = np.ones((m, 2), dtype, order="F")  # whose blocks are longest
        value, _ = loss_gradient(X, np.ones(m, dtype), np.zeros(2, dtype), "log_loss")
        assert_allclose(value, np.log(2), rtol=TOLERANCE[dtype])


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_gradient_is_the_finite_difference_of_the_loss(loss):
    X, y, w, s = make(loss=loss)
    gradient = loss_gradient(X, y, w, loss, s)[1]
    h = 1e-6
    for j, unit in enumerate(np.eye(len(w))):
        difference = (
            loss_gradient(X, y, w + h * unit, loss, s)[0] - loss_gradient(X, y, w - h * unit, loss, s)[0]
        )
        assert_allclose(gradient[j], difference / (2 * h), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("k", [None, 1, 4])
def test_gradient_descent_is_the_textbook_line(k, dtype):
    X, y, w, _ = make(k=k, dtype=dtype)
    ours = gradient_descent(X, y, w, 0.1, 50)
    assert ours.dtype == dtype and ours.shape == w.shape
    assert_allclose(ours, twin_descent(X, y, w, 0.1, 50), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_no_iteration_returns_a_copy_of_w():
    X, y, w, _ = make()
    result = gradient_descent(X, y, w, 0.1, 0)
    assert_array_equal(result, w)
    assert not np.shares_memory(result, w)


LAYOUTS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "every second row": lambda a: np.repeat(a, 2, axis=0)[::2],
    "reversed rows": lambda a: a[::-1].copy()[::-1],
    "every second column": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "columns of a wider table": lambda a: np.pad(a, [(0, 0)] * (a.ndim - 1) + [(1, 1)])[..., 1:-1],
    "rows of a longer Fortran table": lambda a: np.asfortranarray(np.concatenate([a, a]))[: len(a)],
    "read-only": read_only,
    "read-only Fortran": lambda a: read_only(np.asfortranarray(a).T).T,
}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_changes_nothing_and_inputs_stay_as_they_were(layout, dtype):
    for k in (None, 3):
        plain = make(k=k, dtype=dtype)
        X, y, w, s = (LAYOUTS[layout](a) for a in plain)
        assert_array_equal(X, plain[0])
        tol = TOLERANCE[dtype]
        assert_twins(loss_gradient(X, y, w, "huber", s), twin_gradient(*plain[:3], "huber", plain[3]), tol)
        assert_allclose(
            gradient_descent(X, y, w, 0.1, 5), twin_descent(*plain[:3], 0.1, 5), rtol=tol, atol=tol
        )
        for ours, before in zip((X, y, w, s), plain, strict=True):
            assert_array_equal(ours, before)


def test_memory_mapped_data_is_read_in_place(tmp_path):
    X, y, w, _ = make()
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert_array_equal(gradient_descent(mapped, y, w, 0.1, 5), gradient_descent(X, y, w, 0.1, 5))


def test_integers_are_read_as_floats():
    rng = np.random.default_rng(0)
    X, y, w = rng.integers(-3, 4, size=(50, 4)), rng.integers(-5, 6, size=50), np.arange(4)
    assert_allclose(gradient_descent(X, y, w, 0.05, 20), twin_descent(X, y, w, 0.05, 20), rtol=1e-12)
    assert_twins(loss_gradient(X, y, w), twin_gradient(X, y, w, "squared_error"), 1e-12)


@pytest.mark.parametrize(
    "m, d", [(1, 1), (1, 7), (7, 1), (2, 300), (3, 64), (65, 33), (1000, 129), (4097, 3), (1301, 1537)]
)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_every_shape_has_its_remainders_handled(m, d, dtype):
    for order in "CF":
        for k in (None, 1, 2, 5):
            X, y, w, _ = make(m, d, k, dtype)
            X = np.asarray(X, order=order)
            tol = TOLERANCE[dtype]
            assert_twins(loss_gradient(X, y, w), twin_gradient(X, y, w, "squared_error"), tol)
            expected = twin_descent(X, y, w, 0.5 / d, 3)
            assert_allclose(gradient_descent(X, y, w, 0.5 / d, 3), expected, rtol=tol, atol=tol)


@pytest.mark.parametrize(
    "kernel", [loss_gradient, lambda X, y, w, **o: gradient_descent(X, y, w, 0.1, 5, **o)]
)
def test_out_receives_the_result(kernel):
    for k in (None, 3):
        X, y, w, _ = make(k=k)
        expected = kernel(X, y, w)
        out = np.full_like(w, np.nan)
        result = kernel(X, y, w, out=out)
        if isinstance(result, tuple):
            assert result[0] == expected[0]
            result, expected = result[1], expected[1]
        assert result is out
        assert_array_equal(out, expected)
        for wrong in (np.empty(len(w) + 1), read_only(w)):
            with pytest.raises((ValueError, TypeError)):
                kernel(X, y, w, out=wrong)


@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1e30, 1e150])
def test_huge_and_tiny_columns_give_exact_gradients(scale):
    X, y, w, _ = make()
    X[:, 2] *= scale
    w[2] /= scale
    value, gradient = loss_gradient(X, y, w)
    twin = twin_gradient(X, y, w, "squared_error")
    assert_allclose(value, twin[0], rtol=1e-12)
    assert_allclose(gradient, twin[1], rtol=1e-9)


@pytest.mark.parametrize("dtype, large", [(np.float64, 1e4), (np.float32, 1e3)])
def test_large_margins_overflow_in_no_loss(dtype, large):
    X, w = np.array([[large], [-large]], dtype), np.ones(1, dtype)
    for sign in (1, -1):
        y = np.array([sign, -sign], dtype)
        value, gradient = loss_gradient(X, y, w, "log_loss")
        assert_allclose(value, 0 if sign > 0 else large, rtol=1e-6)
        assert_allclose(gradient, [0 if sign > 0 else large], rtol=1e-6)
    Z = np.array([[1, -1, 0]], dtype)
    value, gradient = loss_gradient(X[:1], np.array([1], dtype), Z, "log_loss")
    assert_allclose(value, 2 * large, rtol=1e-6)
    assert_allclose(gradient, [[large, -large, 0]], rtol=1e-6)


def test_log_loss_keeps_its_digits_where_it_is_tiny():
    value, gradient = loss_gradient(np.ones((1, 1)), np.ones(1), np.array([50.0]), "log_loss")
    assert_allclose(value, np.exp(-50.0), rtol=1e-12)
    assert_allclose(gradient, [-np.exp(-50.0)], rtol=1e-12)


def test_float32_sums_over_many_rows_in_double():
    m = 300_000
    X, y = np.full((m, 1), 0.1, np.float32), np.full(m, 0.3, np.float32)
    value, gradient = loss_gradient(X, y, np.zeros(1, np.float32))
    assert_allclose(value, 0.045, rtol=1e-6)
    assert_allclose(gradient, [-0.03], rtol=1e-6)


def test_nan_and_infinity_stay_visible():
    for bad in (np.nan, np.inf):
        X, y, w, _ = make()
        X[50, 2] = bad
        value, gradient = loss_gradient(X, y, w)
        assert not np.isfinite(value) and not np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("order", "CF")
def test_one_thread_and_two_give_the_same_bits(order, dtype):
    for m, d, k in (
        (30_001, 64, None),
        (20_000, 33, 3),
        (700, 1500, None),
        (1300, 1601, None),
        (501, 1550, 3),
    ):
        X, y, w, s = make(m, d, k, dtype)
        X = np.asarray(X, order=order)
        results = []
        for threads in (1, 2, 3, 20):
            with threadpool_limits(threads):
                results.append((*loss_gradient(X, y, w, sample_weight=s), gradient_descent(X, y, w, 0.01, 3)))
        for one, *others in zip(*results, strict=True):
            for other in others:
                assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("order", "CF")
def test_any_number_of_outputs_shares_the_rows(order, dtype):
    for k in range(1, 14):
        for m, d in ((37, 3), (530, 18), (301, 41), (90, 70)):
            X, y, w, _ = make(m, d, k, dtype)
            X = np.asarray(X, order=order)
            twin = twin_gradient(X, y, w, "squared_error")
            assert_twins(loss_gradient(X, y, w), twin, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_wrong_label_is_seen_among_many(dtype):
    m = 300_000
    X, y = np.ones((m, 1), dtype), np.ones(m, dtype)
    y[::2] = -1
    loss_gradient(X, y, [0.0], loss="hinge")
    for wrong in (0, 2, np.nan, np.nextafter(dtype(1), dtype(2))):
        for place in (0, m // 2, m - 1):
            labels = y.copy()
            labels[place] = wrong
            with pytest.raises(ValueError, match="y must be -1 or 1"):
                loss_gradient(X, labels, [0.0], loss="hinge")


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("loss", ["squared_error", "log_loss", "softmax_log_loss"])
def test_wide_tables_in_fortran_order_have_the_gradients_of_c_order(loss, dtype):
    """Threads share their columns; rows in strips, of which the first and the last are shorter."""
    for m, d, k in ((1400, 1536, 1), (1303, 1600, 3), (401, 5000, 2), (1250, 1625, 17)):
        X, Y, w, s = make(m, d, k, dtype)
        if loss == "softmax_log_loss":
            Y = (np.arange(m) % max(k, 2))[:, None].astype(dtype)
            w = np.concatenate([w, -w], axis=1)[:, : max(k, 2)]
        elif loss == "log_loss":
            Y = np.where(Y > 0, 1.0, -1.0).astype(dtype)
        k, Y = w.shape[1], np.ascontiguousarray(Y.T)
        theta = np.hstack([w.T, np.arange(k)[:, None]]).astype(float, order="C") / np.sqrt(d)
        taller = np.asfortranarray(np.concatenate([X[:5], X]))[5:]
        for weight in (None, s):
            results = []
            for A in (X, np.asfortranarray(X), taller):
                curvature = np.full((k, m), np.nan, dtype)
                one_pass = linear.Pass(A, k)
                arguments = A, Y, weight, theta, linear.LOSS_IDS[loss], np.ones(4), 2, curvature
                first = one_pass.run(*arguments)
                assert_array_equal(one_pass.run(*arguments)[1], first[1])  # the buffers are as they were
                results.append((*first, curvature))
            for expected, *others in zip(*results, strict=True):
                atol = TOLERANCE[dtype] * np.abs(expected).max()
                for other in others:
                    assert_allclose(other, expected, rtol=TOLERANCE[dtype], atol=atol)


def test_kernels_release_the_gil():
    X, y, w, _ = make(20_000, 50)
    assert_releases_the_gil(gradient_descent, X, y, w, 1e-3, 500)


@pytest.mark.parametrize("kernel", [loss_gradient, lambda X, y, w: gradient_descent(X, y, w, 0.1, 5)])
@pytest.mark.parametrize(
    "shapes, named",
    [
        (((0, 3), (0,), (3,)), "row|sample"),
        (((5, 3), (4,), (3,)), r"\by\b"),
        (((5, 3), (5,), (4,)), r"\bw\b"),
        (((5, 3), (5, 2), (3, 3)), r"\b[yw]\b"),
        (((5, 3), (5, 2), (3,)), r"\b[yw]\b"),
        (((15,), (5,), (3,)), r"\bX\b"),
        (((5, 3, 1), (5,), (3,)), r"\bX\b"),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit_are_named(shapes, named, kernel):
    with pytest.raises(ValueError, match=named):
        kernel(*(np.ones(shape) for shape in shapes))


def test_arguments_that_mean_nothing_are_refused():
    X, y, w, s = make()
    with pytest.raises(ValueError, match="(?s)huber.*quantile"):  # the known names
        loss_gradient(X, y, w, "no such loss")
    with pytest.raises(ValueError, match="sample_weight"):
        loss_gradient(X, y, w, "huber", s[:-1])
    with pytest.raises(ValueError, match="n_iter"):
        gradient_descent(X, y, w, 0.1, -1)
    with pytest.raises((TypeError, ValueError)):
        loss_gradient(np.full(X.shape, "a"), y, w)


@pytest.mark.parametrize(
    "message, change",
    [
        ("X has dtype complex128", {"X": 1j * np.ones((4, 2))}),
        ("y has dtype complex128", {"y": 1j * np.ones(4)}),
        ("w has dtype complex64", {"w": np.ones(2, np.complex64)}),
        ("sample_weight has dtype complex128", {"sample_weight": 1j * np.ones(4)}),
        ("sums to zero", {"sample_weight": np.zeros(4)}),
        ("must be -1 or 1", {"y": [0, 1, 1, 0], "loss": "log_loss"}),
        ("must be -1 or 1", {"y": np.ones((4, 2)) * [1, 0], "w": np.ones((2, 2)), "loss": "hinge"}),
        ("class indices in 0 .. 1", {"y": [0, 1, 2, 0], "w": np.ones((2, 2)), "loss": "brier_score"}),
        ("Shapes do not fit", {"y": [0, 0, 0, 0], "w": np.ones((2, 1)), "loss": "log_loss"}),
    ],
)
def test_numbers_that_would_be_misread_are_refused(message, change):
    with pytest.raises(ValueError, match=message):
        loss_gradient(**{"X": np.ones((4, 2)), "y": np.ones(4), "w": np.ones(2)} | change)


@pytest.mark.parametrize("out", [np.zeros(2, int), [0.0, 0.0]], ids=["integers", "list"])
@pytest.mark.parametrize(
    "kernel", [loss_gradient, lambda *args, out: gradient_descent(*args, 0.1, 5, out=out)]
)
def test_out_must_be_able_to_hold_the_result(kernel, out):
    with pytest.raises(TypeError, match="cast|ndarray"):
        kernel(np.ones((4, 2)), np.ones(4), np.zeros(2), out=out)
    assert list(out) == [0, 0]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize(
    "m, d", [(40, 1), (40, 23), (40, 24), (40, 47), (40, 130), (1, 5), (3000, 60), (300, 290), (150, 1030)]
)
def test_a_gram_matrix_is_symmetric_and_that_of_numpy(m, d, order, dtype):
    X, _, _, s = make(m=m, d=d, dtype=dtype)
    shift, weight = np.linspace(-1, 1, d), s.astype(np.float64)
    gram = moments.weighted_gram(np.asarray(X, order=order), weight, shift, 2)
    rows = np.column_stack([X.astype(np.float64) - shift, np.ones(len(X))])
    assert_array_equal(gram, gram.T)
    assert_allclose(gram, (rows.T * weight) @ rows, rtol=1e-11, atol=1e-11 * m)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("d, k", [(1, 1), (22, 3), (23, 1), (60, 30), (270, 2), (700, 3)])
def test_moments_of_parts_are_those_of_numpy(d, k, order, dtype):
    X, Y, _, s = make(m=900, d=d, k=k, dtype=dtype)
    parts = np.split(np.random.default_rng(1).permutation(len(X))[:850], [100, 100, 830])  # one has no rows
    rows, ends = np.concatenate(parts), np.cumsum([len(part) for part in parts])
    shift, weight = np.linspace(-1, 1, d), s.astype(np.float64)
    Y = np.ascontiguousarray(Y.T, dtype=np.float64)
    arguments = np.asarray(X, order=order), Y, rows, weight[rows], list(ends), shift
    results = moments.moments_of_parts(*arguments, 1)
    Z = np.column_stack([X.astype(np.float64) - shift, np.ones(len(X))])
    for part, squares, products, gram in zip(parts, *results, strict=True):
        z, y, h = Z[part], Y[:, part], weight[part]
        assert_allclose(squares, (h * y**2).sum(axis=1), rtol=1e-11)
        assert_allclose(products, (h * y) @ z, rtol=1e-11, atol=1e-9)
        assert_array_equal(gram, gram.T)
        assert_allclose(gram, (z.T * h) @ z, rtol=1e-11, atol=1e-9)
    for one, two in zip(results, moments.moments_of_parts(*arguments, 2), strict=True):
        assert_array_equal(one, two)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("m, d", [(1, 1), (3, 7), (4, 16), (15, 2), (16, 3), (17, 33), (50, 5), (5003, 20)])
def test_column_moments_and_lengths_of_rows_are_those_of_numpy(m, d, order, dtype):
    X, _, _, s = make(m=m, d=d, dtype=dtype)
    X += 3
    X[:, 0] = 7  # about which nothing is left, not even rounding
    X = np.asarray(X, order=order)
    wide = X.astype(np.float64)
    for weight in (None, s):
        h = np.ones(m) if weight is None else weight.astype(np.float64)
        results = [moments.column_moments(X, weight, n) for n in (1, 2)]
        start, first, second = results[0]
        assert_array_equal(start, wide[0])
        assert_allclose(first, h @ (wide - start), rtol=1e-11, atol=1e-11 * m)
        assert_allclose(second, h @ (wide - start) ** 2, rtol=1e-11, atol=1e-11)
        assert first[0] == second[0] == 0
        for one, two in zip(*results, strict=True):
            assert_array_equal(one, two)
    shift, scale = np.linspace(1, 2, d), np.linspace(0.5, 3, d)
    lengths = moments.row_norms(X, shift, scale, 2)
    assert_allclose(lengths, (((wide - shift) * scale) ** 2).sum(axis=1), rtol=1e-11)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("d", [100, 400])
@pytest.mark.parametrize("solver", ["gd", "momentum"])
@pytest.mark.parametrize("target", ["one output", "two outputs", "two classes", "three classes"])
def test_batches_longer_than_what_a_cache_holds_take_the_textbook_steps(target, solver, d, dtype):
    rng, m, n, rate, l2 = np.random.default_rng(0), 430, 170, 0.1, 0.3
    X = rng.normal(size=(m, d)).astype(dtype)
    s = rng.integers(0, 3, size=m).astype(float)
    k, z = {"one output": 1, "two classes": 1}.get(target, 3 if target == "three classes" else 2), X @ X[:3].T
    y = {"one output": z[:, 0], "two outputs": z[:, :2], "two classes": z[:, 0] > 0}.get(target, z.argmax(1))
    Estimator = GDClassifier if "classes" in target else GDRegressor
    model = Estimator(
        batch_size=n, solver=solver, learning_rate=rate, alpha=l2, max_iter=3, tol=None, shuffle=False
    ).fit(X, y, sample_weight=s)

    def slope(Z, rows):
        if target == "three classes":
            return softmax(Z, axis=1) - np.eye(3)[y[rows]]
        if target == "two classes":
            return expit(Z) - y[rows, None]
        return Z - y[rows].reshape(len(rows), k)

    A, theta, moved = np.column_stack([X, np.ones(m)]).astype(float), np.zeros((k, d + 1)), 0.0
    for rows in 3 * [np.arange(first, min(first + n, m)) for first in range(0, m, n)]:
        gradient = (s[rows, None] * slope(A[rows] @ theta.T, rows)).T @ A[rows] / len(rows)
        gradient[:, :-1] += l2 * theta[:, :-1]
        moved = (0.9 * moved if solver == "momentum" else 0.0) + gradient
        theta = theta - rate * moved
    learned = np.column_stack([np.atleast_2d(model.coef_), model.intercept_])
    assert_allclose(learned, theta, rtol=0, atol=1e-12 if dtype is np.float64 else 2e-5)


def test_orders_of_rows_are_those_of_the_generator_and_equally_likely():
    for m in (0, 1, 2, 1000):
        order = np.arange(m, dtype=np.intp)
        epochs.shuffle(order, np.random.RandomState(5).randint(2**63, dtype=np.uint64))
        assert_array_equal(order, shuffled(m, np.random.RandomState(5)))
    orders, counts = np.tile(np.arange(4), (24_000, 1)), {}
    for seed, order in enumerate(orders):
        epochs.shuffle(order, seed)
        counts[tuple(order)] = counts.get(tuple(order), 0) + 1
    assert chisquare(list(counts.values())).pvalue > 1e-3 and len(counts) == 24


def single_rows(
    loss, X, Y, s, theta, order, steps, *, l2, l1, first, scale=None, shift=0.0, max_move=np.inf, pa=0
):
    """Descent row by row as the textbook has it, output by output.

    In the columns (x - shift) * scale with L1's smallest subgradient; else in those of X with L1 paid as
    a cumulative penalty, or with passive-aggressive steps. Returns theta, the average from update number
    `first`, and the losses met.
    """
    value, slope = LOSSES[loss][:2]
    C = (X.astype(float) - shift) * (1.0 if scale is None else scale)
    square = np.ones(X.shape[1]) if scale is None else scale.astype(float) ** 2
    u, mean, totals = theta.astype(float), np.zeros(theta.shape), np.zeros(len(Y))
    for k, y in enumerate(Y.astype(float)):
        w, b, paid, owed = u[k, :-1], u[k, -1], np.zeros(X.shape[1]), 0.0
        for t, (i, a) in enumerate(zip(order, steps, strict=True)):
            z = C[i] @ w + b
            met, g = value(y[i], z, 0.1, 0.5), slope(y[i], z, 0.1, 0.5)
            totals[k] += met if pa else s[i] * met
            if pa:
                length = C[i] @ C[i]
                step = s[i] * g * (min(a, met / length) if pa == 1 else met / (length + 0.5 / a))
            else:
                step = np.clip(a * s[i] * g, -max_move, max_move)
            move = step * C[i] + a * l2 * square * w
            if scale is not None and l1:
                most = a * l1 * scale
                after = w - (move + np.where(w != 0, np.sign(w) * most, -np.clip(move, -most, most)))
                after[after * w < 0] = 0
                w = after
            else:
                w = w - move
            b -= step
            u[k] = np.append(w, b)  # an average sees a weight before it pays
            if t >= first:
                mean[k] += u[k] / (len(order) - first)
            if scale is None:
                owed += a * l1
                after = np.where(w > 0, np.maximum(0, w - (owed + paid)), np.minimum(0, w + (owed - paid)))
                after = np.where(w == 0, 0, after)
                paid += after - w
                w = after
            u[k] = np.append(w, b)
    return u, mean, totals


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("l1", [0.0, 0.05])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("loss", ["squared_error", "log_loss", "hinge", "poisson", "epsilon_insensitive"])
def test_single_rows_take_the_textbook_steps(loss, scaled, l1, averaged, dtype):
    kernel = classification_loss(loss, 2) if loss in ("log_loss", "hinge") else regression_loss(loss)
    for d, m, k in (
        (1, 9, 1),
        (3, 1, 1),
        (10, 150, 3),
        (30, 60, 1),
        (64, 70, 2),
        (65, 40, 1),
        (130, 300, 2),
        (1030, 20, 1),
    ):
        X, y, _, s = make(m, d, k, dtype, loss)
        rng = np.random.default_rng(d)
        theta = np.where(rng.random((k, d + 1)) < 0.3, 0, rng.normal(size=(k, d + 1)) / d**0.5).astype(dtype)
        order, steps = rng.permutation(m), rng.uniform(0.1, 1, m) / (4 * d)
        Y, first = np.ascontiguousarray(np.clip(y.T, -3, 3)), m // 3 if averaged else m
        options = dict(l2=0.3, l1=l1, first=first)
        ours, mean, count = theta.copy(), np.zeros_like(theta), np.zeros(1)
        data = (X, Y, s, ours, order, 1, steps, kernel.id, kernel.array, 0.3, l1, True)
        if scaled:
            scale, shift = rng.uniform(0.3, 1, d).astype(dtype), rng.normal(size=d).astype(dtype)
            scale[rng.random(d) < 0.1] = 0
            options.update(scale=scale, shift=shift, max_move=0.02)
            empty = np.empty((0, theta.size), dtype)
            hyper = (0, (0.9, 0.9, 0.999), empty, 0.0, 0.0, scale, shift, 0.02)
            total = epochs.rule_epoch(*data, *hyper, mean, count, first)
        else:
            owed = np.zeros((k, d) if l1 else (0, 0), dtype)
            total = epochs.sgd_epoch(*data, 0, owed, np.zeros(1), mean, count, first)
        twin, twin_mean, twin_total = single_rows(loss, X, Y, s, theta, order, steps, **options)
        tolerance = 10 * TOLERANCE[dtype]
        assert_allclose(ours, twin, rtol=tolerance, atol=tolerance)
        if dtype is np.float64:
            assert_array_equal(ours == 0, twin == 0)
        assert_allclose(total, twin_total, rtol=tolerance)
        if averaged:
            assert count == m - first
            assert_allclose(mean, twin_mean, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("variant", [1, 2])
@pytest.mark.parametrize("loss", ["hinge", "epsilon_insensitive"])
def test_passive_aggressive_rows_take_the_textbook_steps(loss, variant, averaged, dtype):
    kernel = classification_loss(loss, 2) if loss == "hinge" else regression_loss(loss)
    for d, m, k in ((1, 9, 1), (10, 150, 3), (65, 40, 2), (600, 20, 1)):
        X, y, _, s = make(m, d, k, dtype, loss)
        order, first, theta = (
            np.random.default_rng(d).permutation(m),
            m // 3 if averaged else m,
            np.zeros((k, d + 1), dtype),
        )
        ours, mean, count, none = theta.copy(), np.zeros_like(theta), np.zeros(1), np.empty((0, 0), dtype)
        Y, steps = np.ascontiguousarray(y.T), np.full(m, 0.05)
        data = (X, Y, s, ours, order, 1, steps, kernel.id, kernel.array, 0.1, 0.0, True)
        total = epochs.sgd_epoch(*data, variant, none, np.zeros(1), mean, count, first)
        options = dict(l2=0.1, l1=0.0, first=first, pa=variant)
        twin, twin_mean, twin_total = single_rows(loss, X, Y, s, theta, order, steps, **options)
        tolerance = 10 * TOLERANCE[dtype]
        assert_allclose(ours, twin, rtol=tolerance, atol=tolerance)
        assert_allclose(total, twin_total, rtol=tolerance)
        if averaged:
            assert_allclose(mean, twin_mean, rtol=tolerance, atol=tolerance)
        X[order[0]] = 0  # PA-I passes over a row of nothing, PA-II moves the intercept
        before = ours.copy()
        epochs.sgd_epoch(
            X, Y, s, ours, order[:1], 1, steps[:1], *data[7:], variant, none, np.zeros(1), mean, count, 1
        )
        if variant == 1:
            assert_array_equal(ours, before)


@pytest.mark.parametrize("l1, averaged", [(0, False), (0, True), (1e-12, False), (1e-12, True)])
def test_a_weak_penalty_is_not_lost_in_float32(l1, averaged):
    m, a, l2 = 100_000, 2.5e-4, 1e-4  # 1 - a l2 is 1 in float32
    X, Y = np.zeros((m, 1), np.float32), np.zeros((1, m), np.float32)
    theta, mean = np.array([[1.0, 0]], np.float32), np.zeros((1, 2), np.float32)
    loss = regression_loss("squared_error")
    owed = np.zeros((1, 1) if l1 else (0, 0), np.float32)
    order, first = np.arange(m), m - 1 if averaged else m
    data = (X, Y, None, theta, order, 1, np.full(m, a), loss.id, loss.array, l2, l1, True)
    epochs.sgd_epoch(*data, 0, owed, np.zeros(1), mean, np.zeros(1), first)
    assert_allclose(theta[0, 0], (1 - a * l2) ** m, rtol=1e-6)
    if averaged:
        assert_allclose(mean[0, 0], theta[0, 0], rtol=1e-6)
