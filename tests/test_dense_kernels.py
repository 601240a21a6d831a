"""Dense, activation and softmax kernels: against NumPy, SciPy, finite differences; torch where it is."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from shared import assert_releases_the_gil, read_only
from threadpoolctl import threadpool_limits

from fastgd import kernels

TOLERANCE = {np.float64: 1e-12, np.float32: 2e-5}


def stable_logistic(z):
    return np.exp(-np.logaddexp(0, -z))


# name -> f(z), f'(z)
TWINS = {
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2),
    "logistic": (stable_logistic, lambda z: stable_logistic(z) * stable_logistic(-z)),
    "relu": (lambda z: np.maximum(z, 0), lambda z: 1.0 * (z > 0)),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1, 0.01)),
    "elu": (lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))), lambda z: np.exp(np.minimum(z, 0))),
}
# largest error in units in the last place that the docstrings promise
ULPS = {
    ("tanh", np.float64): 2.6,
    ("tanh", np.float32): 2.4,
    ("logistic", np.float64): 2.4,
    ("logistic", np.float32): 2.4,
    ("elu", np.float64): 1.3,
    ("elu", np.float32): 1.0,
}


def forward(name):
    return getattr(kernels, f"{name}_forward")


def backward(name):
    return getattr(kernels, f"{name}_backward")


def normal(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def layer(m=7, d=5, k=3, dtype=np.float64):
    """X (m, d), W (d, k), b (k,), dZ (m, k)."""
    return tuple(normal(*s, dtype=dtype, seed=i) for i, s in enumerate([(m, d), (d, k), (k,), (m, k)]))


def assert_close(ours, expected, dtype=np.float64):
    """Equal to rounding, relative to the largest element."""
    assert ours.dtype == dtype and ours.shape == np.shape(expected)
    atol = TOLERANCE[dtype] * np.abs(expected).max(initial=0)
    assert_allclose(ours, expected, rtol=TOLERANCE[dtype], atol=atol)


def two_of(function):
    return lambda a, out=None: function(a, a, out=out)


# Every kernel as a function of one array (m, k), with a result of that shape.
KERNELS = {
    "dense_forward": lambda a, out=None: kernels.dense_forward(
        a, np.eye(a.shape[1])[::-1].tolist(), [1] * a.shape[1], out=out
    ),
    "softmax_forward": kernels.softmax_forward,
    "softmax_backward": two_of(kernels.softmax_backward),
    **{f"{name}_forward": forward(name) for name in TWINS},
    **{f"{name}_backward": two_of(backward(name)) for name in TWINS},
}
every_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
both_dtypes = pytest.mark.parametrize("dtype", TOLERANCE)
every_activation = pytest.mark.parametrize("name", TWINS)

SHAPES = [(1, 1, 1), (1, 7, 3), (7, 1, 3), (7, 5, 1), (64, 33, 10), (1000, 17, 130), (300, 784, 10)]


# --- dense ----------------------------------------------------------------------------------


@both_dtypes
@pytest.mark.parametrize("m, d, k", SHAPES)
def test_dense_layer_is_its_numpy_twin(m, d, k, dtype):
    X, W, b, dZ = layer(m, d, k, dtype)
    exact = [a.astype(np.float64) for a in (X, W, b, dZ)]
    assert_close(kernels.dense_forward(X, W, b), exact[0] @ exact[1] + exact[2], dtype)
    dX, dW, db = kernels.dense_backward(X, W, dZ)
    assert_close(dX, exact[3] @ exact[1].T, dtype)
    assert_close(dW, exact[0].T @ exact[3], dtype)
    assert_close(db, exact[3].sum(axis=0), dtype)


def test_no_rows_no_inputs_and_no_outputs_give_sums_without_terms():
    for m, d, k in [(0, 5, 3), (7, 0, 3), (7, 5, 0), (0, 0, 0)]:
        X, W, b, dZ = layer(m, d, k)
        assert_array_equal(kernels.dense_forward(X, W, b), X @ W + b)
        twins = (dZ @ W.T, X.T @ dZ, dZ.sum(axis=0))
        outs = tuple(np.full(twin.shape, np.nan) for twin in twins)
        for ours, twin in zip(kernels.dense_backward(X, W, dZ, out=outs), twins, strict=True):
            assert_allclose(ours, twin, rtol=1e-12)
            assert ours.shape == twin.shape


def test_bias_gradient_of_float32_is_summed_in_double():
    m = 300_000
    dZ = np.full((m, 1), 0.1, np.float32)
    db = kernels.dense_backward(np.ones((m, 1), np.float32), np.ones((1, 1), np.float32), dZ)[2]
    assert_allclose(db, [m * np.float64(np.float32(0.1))], rtol=1e-7)


def test_dense_backward_fills_three_outs():
    X, W, _, dZ = layer()
    expected = kernels.dense_backward(X, W, dZ)
    outs = (np.empty(X.shape, order="F"), np.empty(W.shape), np.empty(2 * W.shape[1])[::2])
    result = kernels.dense_backward(X, W, dZ, out=outs)
    for ours, out, twin in zip(result, outs, expected, strict=True):
        assert ours is out
        assert_array_equal(out, twin)


def test_dense_gradients_are_finite_differences():
    X, W, b, dZ = layer()
    arrays = {"X": X, "W": W, "b": b}
    gradients = dict(zip(arrays, kernels.dense_backward(X, W, dZ), strict=True))
    h = 1e-6
    for name, array in arrays.items():
        for index in np.ndindex(array.shape):
            sums = []
            for sign in (1, -1):
                moved = {**arrays, name: array.copy()}
                moved[name][index] += sign * h
                sums.append((kernels.dense_forward(**moved) * dZ).sum())
            assert_allclose(gradients[name][index], (sums[0] - sums[1]) / (2 * h), rtol=1e-6, atol=1e-8)


# --- activations ----------------------------------------------------------------------------


@every_activation
@both_dtypes
def test_activation_and_its_derivative_are_the_numpy_twins(name, dtype):
    Z, dA = 3 * normal(70, 31, dtype=dtype), normal(70, 31, dtype=dtype, seed=1)
    f, slope = TWINS[name]
    A = forward(name)(Z)
    assert_close(A, f(Z.astype(np.float64)), dtype)
    assert_close(backward(name)(A, dA), dA * slope(Z.astype(np.float64)), dtype)


@every_activation
def test_derivative_is_the_finite_difference_of_the_activation(name):
    Z, h = normal(200), 1e-6
    f = forward(name)
    difference = (f(Z + h) - f(Z - h)) / (2 * h)
    assert_allclose(backward(name)(f(Z), np.ones(200)), difference, rtol=1e-7, atol=1e-9)


@every_activation
@both_dtypes
def test_special_values_come_out_as_limits(name, dtype):
    info = np.finfo(dtype)
    tiny, huge = info.smallest_subnormal, info.max
    lower = {"tanh": -1, "logistic": 0, "relu": 0, "leaky_relu": -np.inf, "elu": -1}[name]
    upper = {"tanh": 1, "logistic": 1}.get(name, np.inf)
    f = forward(name)
    assert_array_equal(f(np.array([-np.inf, np.inf, np.nan], dtype)), np.array([lower, upper, np.nan], dtype))
    near = f(np.array([0, tiny, -tiny, info.tiny, -info.tiny], dtype))
    if name == "logistic":
        assert_array_equal(near, np.full(5, 0.5, dtype))
    else:  # f(z) = z near zero from the right, and from the left with the slope there
        left = {"relu": 0, "leaky_relu": 0.01}.get(name, 1)
        expected = [0, tiny, left * -tiny, info.tiny, left * -info.tiny]
        assert_array_equal(near, np.array(expected, dtype))
        assert np.signbit(f(np.array([-0.0], dtype)))[0] and not np.signbit(near[0])
    largest = f(np.array([-huge, huge], dtype))
    assert largest[0] == (-huge / dtype(100) if name == "leaky_relu" else lower)
    assert largest[1] == (1 if upper == 1 else huge)


def test_logistic_keeps_its_digits_where_it_is_tiny():
    Z = np.array([-30.0, -700.0, -740.0])
    assert_allclose(kernels.logistic_forward(Z), np.exp(Z), rtol=1e-12, atol=5e-324)


def test_tanh_and_elu_keep_their_digits_near_zero():
    Z = -np.logspace(-320, -9, 500)
    assert_allclose(kernels.tanh_forward(Z), Z, rtol=1e-15, atol=0)
    assert_allclose(kernels.elu_forward(Z), np.expm1(Z), rtol=1e-15, atol=0)


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="no extended precision to compare with")
@pytest.mark.parametrize("name, dtype", ULPS)
def test_errors_are_as_small_as_documented(name, dtype):
    """Dense grids, logarithmic grids, and random bit patterns."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2 ** (8 * np.dtype(dtype).itemsize) - 1, 100_000, dtype=f"u{dtype().itemsize}")
    signs = rng.choice([-1, 1], 200_000)
    grids = [np.linspace(-b, b, 200_001) for b in (0.7, 3, 40, 760)] + [
        2 ** rng.uniform(-60, 10, 200_000) * signs
    ]
    Z = np.concatenate([a.astype(dtype) for a in grids] + [bits.view(dtype)])
    Z = Z[np.isfinite(Z)]
    wide = Z.astype(np.longdouble)
    e = np.exp(-np.abs(wide))
    exact = {
        "tanh": lambda: np.tanh(wide),
        "logistic": lambda: np.where(wide < 0, e, 1) / (1 + e),
        "elu": lambda: np.where(wide < 0, np.expm1(np.minimum(wide, 0)), wide),
    }[name]()
    exponent = np.maximum(np.frexp(exact)[1], np.finfo(dtype).minexp + 1)
    ulp = np.ldexp(np.longdouble(1), exponent - np.finfo(dtype).nmant - 1)
    assert (np.abs(forward(name)(Z) - exact) / ulp).max() < ULPS[name, dtype]


@every_activation
@pytest.mark.parametrize("shape", [(), (5,), (0,), (2, 3, 4), (1, 1), (3, 0, 2)])
def test_activations_take_and_return_any_shape(name, shape):
    Z = np.asarray(normal(*shape))
    A = forward(name)(Z)
    dZ = backward(name)(A, np.ones(shape))
    f, slope = TWINS[name]
    assert A.shape == dZ.shape == shape
    assert_allclose(A, f(Z), rtol=1e-14)
    assert_allclose(dZ, slope(Z), rtol=1e-12)


# --- softmax --------------------------------------------------------------------------------


@both_dtypes
@pytest.mark.parametrize("k", [1, 2, 3, 7, 8, 10, 16, 33, 100, 1000, 2049, 40_000])
def test_softmax_is_that_of_scipy_for_any_number_of_classes(k, dtype):
    for m in (1, 2, 65):
        Z = 4 * normal(m, k, dtype=dtype)
        P = kernels.softmax_forward(Z)
        assert_close(P, softmax(Z.astype(np.float64), axis=1), dtype)
        assert_allclose(P.sum(axis=1, dtype=np.float64), 1, rtol=TOLERANCE[dtype])


def jacobian_twin(P, dP):
    return np.array([(np.diag(p) - np.outer(p, p)) @ dp for p, dp in zip(P, dP, strict=True)])


@both_dtypes
@pytest.mark.parametrize("k", [1, 2, 10, 130, 1100])
def test_softmax_backward_is_the_full_jacobian(k, dtype):
    P = softmax(normal(9, k), axis=1).astype(dtype)
    dP = normal(9, k, dtype=dtype, seed=1)
    expected = jacobian_twin(P.astype(np.float64), dP.astype(np.float64))
    ours = kernels.softmax_backward(P, dP)
    assert ours.dtype == dtype
    # where p is 1 - rounding, all terms cancel: the scale is that of the terms
    assert_allclose(ours, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * np.abs(P * dP).max())


def test_softmax_gradient_is_the_finite_difference():
    Z, dP, h = normal(4, 6), normal(4, 6, seed=1), 1e-6
    dZ = kernels.softmax_backward(kernels.softmax_forward(Z), dP)
    for index in np.ndindex(Z.shape):
        step = np.zeros_like(Z)
        step[index] = h
        rise = (kernels.softmax_forward(Z + step) - kernels.softmax_forward(Z - step)) * dP
        assert_allclose(dZ[index], rise.sum() / (2 * h), rtol=1e-6, atol=1e-9)


@both_dtypes
def test_logits_of_ten_thousand_overflow_nothing(dtype):
    Z = np.array([[1e4, 0, -1e4], [-1e4, -1e4, -1e4], [1e4, 1e4, 0], [1e4, 1e4 - 1, 0]], dtype)
    expected = np.array([[1, 0, 0], [1 / 3] * 3, [0.5, 0.5, 0], [1 / (1 + np.exp(-1)), 1 / (1 + np.e), 0]])
    assert_allclose(kernels.softmax_forward(Z), expected, rtol=1e-6)
    largest = np.finfo(dtype).max
    assert_array_equal(kernels.softmax_forward(np.array([[largest, -largest, 0]], dtype)), [[1, 0, 0]])


@both_dtypes
@pytest.mark.parametrize("k", [3, 40, 3000])
def test_nan_and_infinite_logits_make_rows_of_nan_and_zero_probabilities(k, dtype):
    for place in {0, 1, k // 2, k - 1}:
        Z = normal(5, k, dtype=dtype)
        Z[1, place], Z[2, place], Z[3, place], Z[4] = np.nan, np.inf, -np.inf, -np.inf
        P = kernels.softmax_forward(Z)
        with np.errstate(invalid="ignore"):
            assert_close(P[[0, 3]], softmax(Z[[0, 3]].astype(np.float64), axis=1), dtype)
            assert_array_equal(np.isnan(P), np.isnan(softmax(Z, axis=1)))
        assert P[3, place] == 0 and np.isnan(P[[1, 2, 4]]).all()
        assert np.isnan(kernels.softmax_backward(P, np.ones_like(P))[[1, 2, 4]]).all()


def test_float32_rows_of_many_classes_are_summed_in_double():
    P = kernels.softmax_forward(np.full((1, 5_000_000), 0.3, np.float32))
    assert_allclose(P, 1 / 5_000_000, rtol=1e-6)
    Z = np.zeros((1, 5_000_000), np.float32)
    Z[0, 0] = 3
    assert_allclose(kernels.softmax_forward(Z)[0, -1], 1 / (4_999_999 + np.exp(3)), rtol=1e-6)


# --- what holds for all ---------------------------------------------------------------------


@every_kernel
@both_dtypes
def test_layout_and_read_only_inputs_change_nothing(kernel, dtype):
    plain = normal(6, 8, dtype=dtype)
    unaligned = np.frombuffer(b"0" + plain.tobytes(), dtype, offset=1).reshape(plain.shape)
    layouts = [
        np.asfortranarray(plain),
        np.repeat(plain, 2, axis=0)[::2],
        np.repeat(plain, 2, axis=1)[:, ::2],
        plain[::-1].copy()[::-1],
        read_only(plain),
        unaligned,
    ]
    expected = kernel(plain)
    assert expected.dtype == dtype
    for a in layouts:
        assert_array_equal(kernel(a), expected)
        assert_array_equal(a, plain)


@every_kernel
def test_lists_integers_and_half_precision_are_read_as_float64(kernel):
    whole = np.arange(-3, 3).reshape(2, 3)
    expected = kernel(whole.astype(np.float64))
    assert expected.dtype == np.float64
    for a in (whole, whole.astype(np.int8), whole.astype(np.float16), whole.astype(object)):
        assert_array_equal(kernel(a), expected)


def test_lists_take_the_precision_of_the_arrays_beside_them():
    X, W, b, dZ = layer(dtype=np.float32)
    assert_array_equal(kernels.dense_forward(X, W.tolist(), b.tolist()), kernels.dense_forward(X, W, b))
    assert kernels.dense_forward(X.tolist(), W.tolist(), b.tolist()).dtype == np.float64
    assert kernels.tanh_backward(dZ, dZ.tolist()).dtype == np.float32
    assert kernels.tanh_forward([0, 1]).dtype == np.float64


@every_kernel
@pytest.mark.parametrize("order", ["C", "F", "every second row"])
def test_out_receives_the_result(kernel, order):
    a = normal(6, 8)
    expected = kernel(a)
    out = (
        np.full((12, 8), np.nan)[::2] if order == "every second row" else np.full((6, 8), np.nan, order=order)
    )
    assert kernel(a, out=out) is out
    assert_array_equal(out, expected)


@every_kernel
def test_out_may_be_the_input_or_overlap_it(kernel):
    for shift in (0, 1, 2):
        buffer = normal(8, 8)
        a, out = buffer[:6], buffer[shift : shift + 6]
        expected = kernel(a.copy())
        assert kernel(a, out=out) is out
        assert_array_equal(out, expected)


def test_an_empty_batch_gives_an_empty_result():
    empty = np.empty((0, 4))
    assert kernels.softmax_forward(empty).shape == kernels.softmax_backward(empty, empty).shape == (0, 4)
    assert kernels.softmax_forward(np.empty((4, 0))).shape == (4, 0)


@every_kernel
def test_one_thread_and_two_give_the_same_bits(kernel):
    a = normal(5000, 130)
    results = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="openmp"):
            results.append(kernel(a))
    assert_array_equal(*results)


def test_the_gil_is_released():
    A = normal(1500, 1500)
    assert_releases_the_gil(kernels.dense_forward, A, A, A[0])


@every_activation
def test_large_arrays_are_cut_without_a_gap(name):
    for n in (16_385, 16_384 * 32, 16_384 * 32 + 1, 16_384 * 33 - 1):
        Z = normal(n)
        A = forward(name)(Z)
        assert_allclose(A, TWINS[name][0](Z), rtol=1e-14)
        assert_allclose(backward(name)(A, Z), Z * TWINS[name][1](Z), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", [n for n in kernels.__all__ if n.endswith("ward")])
def test_public_kernels_are_documented_and_know_their_names(name):
    function = getattr(kernels, name)
    assert function.__name__ == name
    assert pickle.loads(pickle.dumps(function)) is function
    for part in ("Parameters", "Returns", "Examples", f">>> {name}(" if "dense" not in name else name):
        assert part in function.__doc__


# --- errors ---------------------------------------------------------------------------------


def ones(*shape):
    return np.ones(shape)


SHAPE_ERRORS = {
    "X of other width": (
        lambda: kernels.dense_forward(ones(5, 3), ones(4, 2), ones(2)),
        r"X \(5, 3\), W \(4, 2\)",
    ),
    "b of other length": (
        lambda: kernels.dense_forward(ones(5, 3), ones(3, 2), ones(3)),
        r"b \(3,\).*b \(k,\)",
    ),
    "X of one axis": (lambda: kernels.dense_forward(ones(3), ones(3, 2), ones(2)), r"X \(3,\).*X \(m, d\)"),
    "dZ of other rows": (lambda: kernels.dense_backward(ones(5, 3), ones(3, 2), ones(4, 2)), r"dZ \(4, 2\)"),
    "dZ of other columns": (
        lambda: kernels.dense_backward(ones(5, 3), ones(3, 2), ones(5, 3)),
        r"dZ \(m, k\)",
    ),
    "logits of one axis": (lambda: kernels.softmax_forward(ones(3)), r"Z \(3,\).*Z \(m, k\)"),
    "dP of other shape": (lambda: kernels.softmax_backward(ones(5, 3), ones(5, 2)), r"dP \(5, 2\)"),
    "dA of other shape": (
        lambda: kernels.tanh_backward(ones(5, 3), ones(3, 5)),
        r"A.*\(5, 3\).*dA.*\(3, 5\)",
    ),
}


@pytest.mark.parametrize("call, message", SHAPE_ERRORS.values(), ids=SHAPE_ERRORS)
def test_shapes_that_do_not_fit_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_mixed_precision_and_numbers_that_are_not_real_are_refused():
    X, W, b, _ = layer()
    with pytest.raises(ValueError, match="X float32, W float64"):
        kernels.dense_forward(X.astype(np.float32), W, b)
    with pytest.raises(ValueError, match="Z has dtype complex128"):
        kernels.tanh_forward([1j])
    with pytest.raises(ValueError, match="Z has dtype <U1"):
        kernels.softmax_forward([["a"]])


@every_kernel
def test_an_out_that_does_not_fit_is_refused(kernel):
    a = normal(6, 8)
    fixed = a.copy()
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match=r"out has shape \(8, 6\) .* expected shape \(6, 8\)"):
        kernel(a, out=np.empty((8, 6)))
    with pytest.raises(ValueError, match="dtype float32, expected .* float64"):
        kernel(a, out=np.empty((6, 8), np.float32))
    with pytest.raises(ValueError, match="out is read-only"):
        kernel(a, out=fixed)
    with pytest.raises(TypeError, match="ndarray .* list"):
        kernel(a, out=[0.0])


def test_outs_of_dense_backward_are_named_one_by_one():
    X, W, _, dZ = layer()
    with pytest.raises(TypeError, match="tuple of three"):
        kernels.dense_backward(X, W, dZ, out=np.empty(3))
    with pytest.raises(ValueError, match=r"out's dW has shape \(3, 5\)"):
        kernels.dense_backward(X, W, dZ, out=(np.empty(X.shape), np.empty((3, 5)), np.empty(3)))


# --- torch.autograd -------------------------------------------------------------------------


def torch_gradients(function, inputs, slope):
    torch = pytest.importorskip("torch")
    tensors = [torch.tensor(a, requires_grad=True) for a in inputs]
    result = function(torch, *tensors)
    result.backward(torch.tensor(slope))
    return result.detach().numpy(), [t.grad.numpy() for t in tensors]


def test_dense_agrees_with_torch_autograd():
    X, W, b, dZ = layer(50, 20, 10)
    Z, gradients = torch_gradients(lambda _, X, W, b: X @ W + b, (X, W, b), dZ)
    assert_close(kernels.dense_forward(X, W, b), Z)
    for ours, theirs in zip(kernels.dense_backward(X, W, dZ), gradients, strict=True):
        assert_close(ours, theirs)


TORCH = {
    "tanh": lambda torch, Z: torch.tanh(Z),
    "logistic": lambda torch, Z: torch.sigmoid(Z),
    "relu": lambda torch, Z: torch.relu(Z),
    "leaky_relu": lambda torch, Z: torch.nn.functional.leaky_relu(Z),
    "elu": lambda torch, Z: torch.nn.functional.elu(Z),
    "softmax": lambda torch, Z: torch.softmax(Z, dim=1),
}


@pytest.mark.parametrize("name", TORCH)
def test_activation_agrees_with_torch_autograd(name):
    Z, dA = 2 * normal(50, 10), normal(50, 10, seed=1)
    Z[0, :3] = 0  # the corner of the piecewise ones
    A, (dZ,) = torch_gradients(TORCH[name], (Z,), dA)
    ours = forward(name)(Z)
    assert_allclose(ours, A, rtol=1e-12)
    assert_allclose(backward(name)(ours, dA), dZ, rtol=1e-12, atol=1e-15)
