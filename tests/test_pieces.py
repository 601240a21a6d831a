"""Data in pieces: chunks for partial_fit, files that are larger than the memory."""

import json
import re
import subprocess
import sys
import time
import tracemalloc
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference import mean_loss
from scipy.sparse import csr_array
from shared import SOLVERS, assert_same_weights, weights_of
from sklearn.base import clone

from fastgd import DivergenceError, GDClassifier, GDRegressor
from fastgd._linear import LinearProblem
from fastgd._losses import regression_loss
from fastgd._network import Architecture, NetworkProblem
from fastgd._penalties import Penalty

LINUX = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc/self/status")
TARGETS = {"y": GDRegressor, "Y": GDRegressor, "binary": GDClassifier, "three": GDClassifier}
targets = pytest.mark.parametrize("target", TARGETS)
models = pytest.mark.parametrize(
    "model",
    [
        GDRegressor(batch_size=5, learning_rate=0.01, random_state=0),
        GDRegressor(batch_size=1, learning_rate="invscaling", penalty="l1", alpha=0.01),
        GDRegressor(batch_size=5, solver="adam", learning_rate=0.01, average=True, random_state=0),
        GDRegressor(),
        GDRegressor(loss="poisson", solver="adam"),
        GDRegressor(hidden_layer_sizes=(4,), batch_norm=True, random_state=0),
        GDRegressor(hidden_layer_sizes=(4,), solver="momentum", learning_rate=0.01, random_state=0),
    ],
    ids=["gd", "l1", "average", "auto", "poisson", "network", "network-momentum"],
)


def chunks(data, target, sizes):
    """X, y and weights of consecutive rows."""
    edges = np.cumsum([0, *sizes])
    y = getattr(data, target)
    return [(data.X[a:b], y[a:b], data.s[a:b]) for a, b in zip(edges[:-1], edges[1:], strict=True)]


def announced(data, target):
    return {"classes": np.unique(getattr(data, target))} if TARGETS[target] is GDClassifier else {}


@targets
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("hidden", [(), (4,)], ids=["linear", "network"])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_calls_over_the_chunks_of_an_epoch_are_one_epoch_of_fit(data, solver, hidden, target, weighted):
    model = TARGETS[target](
        solver=solver, hidden_layer_sizes=hidden, batch_size=5, learning_rate=0.01, shuffle=False,
        penalty="elasticnet", alpha=0.01, max_iter=2, tol=None, random_state=0,
    )  # fmt: skip
    calls = clone(model)
    for _ in range(2):
        for X, y, s in chunks(data, target, [60, 5, 25, 10, 50]):
            calls.partial_fit(X, y, sample_weight=s if weighted else None, **announced(data, target))
    epochs = model.fit(data.X, getattr(data, target), sample_weight=data.s if weighted else None)
    assert_same_weights(calls, epochs)
    assert calls.t_ == epochs.t_
    assert len(calls.loss_curve_) == 10 and len(epochs.loss_curve_) == 2


def test_the_loss_of_an_epoch_is_the_mean_of_what_its_chunks_report(data):
    model = GDRegressor(batch_size=5, learning_rate=0.01, shuffle=False, penalty=None, max_iter=1, tol=None)
    calls, sizes = clone(model), [60, 5, 25, 10, 50]
    for X, y, _ in chunks(data, "y", sizes):
        calls.partial_fit(X, y)
    assert_allclose(np.average(calls.loss_curve_, weights=sizes), model.fit(data.X, data.y).loss_curve_[0])


@pytest.mark.parametrize(
    "params", [{"average": True}, {"learning_rate": "optimal", "alpha": 0.1}, {"batch_size": 1}]
)
@targets
def test_averages_schedules_and_single_rows_go_on_over_chunks(data, target, params):
    model = TARGETS[target](**{"batch_size": 5, "learning_rate": 0.01, **params})
    model.set_params(shuffle=False, tol=None, max_iter=1)
    calls = clone(model)
    for X, y, _ in chunks(data, target, [60, 5, 25, 10, 50]):
        calls.partial_fit(X, y, **announced(data, target))
    assert_same_weights(calls, model.fit(data.X, getattr(data, target)))


@targets
@pytest.mark.parametrize("hidden", [(), (4,)], ids=["linear", "network"])
def test_chunks_of_any_size_are_learned_from_as_even_ones_are(data, target, hidden):
    y, scores = getattr(data, target), []
    for sizes in ([1, 70, 2, 40, 1, 36], [25] * 6):
        model = TARGETS[target](hidden_layer_sizes=hidden, random_state=0)
        for _ in range(30):
            for X, part, _ in chunks(data, target, sizes):
                model.partial_fit(X, part, **announced(data, target))
        assert len(model.loss_curve_) == 180
        scores.append(model.score(data.X, y))
    assert scores[0] > scores[1] - 0.2


@targets
def test_single_rows_are_chunks(data, target):
    model = TARGETS[target](batch_size=1, learning_rate=0.01, shuffle=False, max_iter=1, tol=None)
    rows = clone(model)
    for X, y, _ in chunks(data, target, [1] * 150):
        rows.partial_fit(X, y, **announced(data, target))
    assert_same_weights(rows, model.fit(data.X, getattr(data, target)))


@pytest.mark.parametrize("loss", ["squared_error", "huber", "poisson", "gamma"])
@pytest.mark.parametrize(
    "params",
    [{}, {"learning_rate": 0.01}, {"solver": "adam", "learning_rate": 0.01}, {"hidden_layer_sizes": 4}],
    ids=["auto", "rate", "adam", "network"],
)
def test_a_chunk_that_is_next_to_no_loss_is_no_divergence(loss, params):
    """Half deviances are none where y = 1, squared errors where y = 0, and nothing is predicted."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(300, 3))
    y = rng.poisson(np.exp(X @ [0.3, -0.3, 0.2])) + float(loss == "gamma")
    model = GDRegressor(loss, random_state=0, **params)
    for row in range(len(X)):
        model.partial_fit(X[row : row + 1], y[row : row + 1])
    fitted = GDRegressor(loss, random_state=0, max_iter=200, tol=None, **params)
    y += 200 * (loss in ("squared_error", "huber"))
    fitted.fit(X, y)
    for _ in range(2):
        fitted.partial_fit(X[:1], [float(loss == "gamma")])
        fitted.partial_fit(X[:50], y[:50])


def test_what_a_few_first_counts_lead_to_is_made_up_for():
    """Their columns hardly vary, so that the next rows seem far out."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 6))
    y = rng.poisson(np.exp(X @ [0.5, -0.5, 0.25, 0, 0.25, 0.5])).astype(float)
    for seed in range(10):
        order, model = np.random.default_rng(seed).permutation(2000), GDRegressor("poisson")
        for row in order[:100]:
            model.partial_fit(X[[row]], y[[row]])
        assert np.abs(model.coef_).max() < 100


def test_a_stream_that_explodes_is_told_from_one_that_jumps(data):
    model = GDRegressor(learning_rate=0.1, batch_size=5).partial_fit(data.X, data.y)
    model.partial_fit(data.X, 1e9 * data.y)
    with pytest.raises(DivergenceError, match="learning rate 10"):
        for _ in range(20):
            model.set_params(learning_rate=10.0).partial_fit(data.X, data.y)


@pytest.mark.parametrize("loss", ["poisson", "gamma"])
@pytest.mark.parametrize("weight", [1.0, 1000.0])
@pytest.mark.parametrize("params", [{}, {"learning_rate": 1e-4, "shuffle": False}], ids=["auto", "rate"])
def test_a_stream_of_exponentials_that_explodes_is_an_error(loss, weight, params):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    y = rng.poisson(np.exp(X @ [0.5, -0.5, 0.2])) + 1.0
    model = GDRegressor(loss, random_state=0, **params).partial_fit(X, y, sample_weight=np.full(300, weight))
    with pytest.raises(DivergenceError):
        for _ in range(20):
            model.partial_fit(1000 * X, y, sample_weight=np.full(300, weight))


def test_the_weights_of_a_stream_make_no_explosion_small():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 3))
    y = rng.poisson(50 * np.exp(X @ [0.1, 0.2, 0.3]))
    model = GDRegressor("poisson", alpha=0, shuffle=False, learning_rate=1e-4)
    with pytest.raises(DivergenceError):
        for chunk in range(4):
            rows = slice(500 * chunk, 500 * (chunk + 1))
            model.partial_fit(X[rows], y[rows], sample_weight=np.full(500, 1000.0))


def test_predicting_nothing_costs_the_same_whatever_predicts(data):
    Y, X = np.ascontiguousarray(np.column_stack([data.counts, 300 * data.counts + 2]).T), data.X
    for loss in map(regression_loss, ("squared_error", "poisson")):
        linear = LinearProblem(X, Y, data.s, loss, Penalty(), k=2, fit_intercept=True, n_threads=1)
        architecture = Architecture((6, 3, 2), "tanh", False, True)
        network = NetworkProblem(X, Y, data.s, loss, Penalty(), architecture, batch_size=10, n_threads=1)
        value = mean_loss(loss.name, Y.T, 0 * Y.T, data.s).sum() - np.sum(linear.floor)
        for problem in (linear, network):
            assert_allclose(problem.loss_of_nothing(), value * data.s.mean())


@pytest.mark.parametrize("hidden", [(), (8,)], ids=["linear", "network"])
def test_counts_of_zero_may_come_first(hidden):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 1))
    y = rng.poisson(np.exp(X[:, 0] / 2))
    model = GDRegressor("poisson", hidden_layer_sizes=hidden, random_state=0).partial_fit([[0.5]], [0])
    for _ in range(20):
        model.partial_fit(X, y)
    assert_allclose(model.predict(X).mean(), y.mean(), rtol=0.05)


@pytest.mark.parametrize("n", [1, 2, 20])
@pytest.mark.parametrize("form", [np.asarray, csr_array], ids=["dense", "sparse"])
@pytest.mark.parametrize("average", [False, True])
def test_a_networks_first_chunks_may_be_short(n, form, average):
    """Scales of columns and targets are those of the first hundred rows, not of the first chunk."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 4)) * [1e-2, 1, 10, 1e3]
    X[rng.random(X.shape) < 0.3] = 0
    y = 5e4 + 1e4 * X @ [1e2, -1, 0.1, 1e-3]
    scores = []
    for short in ([], [slice(n), slice(n, 2 * n)]):
        model = GDRegressor(hidden_layer_sizes=8, random_state=0, average=average)
        for chunk in [*short, *20 * [slice(i, i + 100) for i in range(0, 1000, 100)]]:
            model.partial_fit(form(X[chunk]), y[chunk])
        scores.append(model.score(X, y))
    assert min(scores) > 0.8 and scores[1] > scores[0] - 0.05, scores


def test_a_networks_first_rows_are_its_own_and_those_with_a_weight(data):
    """Whatever happens to the arrays they came in."""
    models = [GDRegressor(hidden_layer_sizes=3, random_state=0) for _ in range(3)]
    X, y = np.empty((30, 6)), np.empty(30)
    for a in range(0, 150, 30):
        rows = slice(a, a + 30)
        X[:], y[:] = data.X[rows] * (a + 1), data.y[rows]
        models[0].partial_fit(X, y)
        models[1].partial_fit(X.copy(), y.copy())
    assert_same_weights(*models[:2])
    weight = np.zeros(150)
    weight[:3] = 1
    models[2].partial_fit(data.X, data.y, sample_weight=weight)
    assert models[2]._training["first_rows"] is not None
    models[2].partial_fit(data.X, data.y)
    assert models[2]._training["first_rows"] is None


def test_a_networks_second_chunk_is_not_copied_for_its_scales():
    model = GDRegressor(hidden_layer_sizes=2, random_state=0).partial_fit(np.ones((1, 50)), [1.0])
    X = np.random.default_rng(0).normal(size=(40_000, 50))
    tracemalloc.start()
    model.partial_fit(X, X[:, 0])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.8 * X.nbytes


@pytest.mark.parametrize("average", [False, True])
def test_a_rate_set_between_a_networks_first_chunks_leaves_what_was_learned(data, average):
    model = GDRegressor(hidden_layer_sizes=8, average=average, random_state=0)
    X, y = 100 * data.X + 500, 50 * data.y + 1000
    model.partial_fit(X[:40], y[:40])
    for rate in (1e-12, "auto"):
        before = model.predict(X)
        model.set_params(learning_rate=rate).partial_fit(X[:20], y[:20])
        assert np.abs(model.predict(X) - before).max() < 0.5 * np.ptp(y)


def test_classes_are_announced_before_they_are_met(data):
    model = GDClassifier(batch_size=5, random_state=0)
    model.partial_fit(data.X[:1], data.three[:1], classes=[2, 0, 1])
    assert_array_equal(model.classes_, [0, 1, 2])
    assert model.coef_.shape == (3, 6)
    assert model.predict_proba(data.X).shape == (150, 3)
    before = [w.copy() for w in weights_of(model)]
    for X, y, classes in ((data.X, data.three + 1, None), (data.X, data.three, [0, 1])):
        with pytest.raises(ValueError, match="class"):
            model.partial_fit(X, y, classes=classes)
    for ours, theirs in zip(weights_of(model), before, strict=True):
        assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match="greater than one"):
        GDClassifier().partial_fit(data.X[:1], data.three[:1])


@models
def test_a_chunk_without_weight_moves_the_counters_only(data, model):
    X, y = data.X, data.counts
    with_gap, plain = clone(model).partial_fit(X, y), clone(model).partial_fit(X, y)
    kept, updates, curve = weights_of(with_gap), with_gap.t_ - 1, list(with_gap.loss_curve_)
    with_gap.partial_fit(X[::-1], y, sample_weight=np.zeros(150))
    for ours, theirs in zip(weights_of(with_gap), kept, strict=True):
        assert_array_equal(ours, theirs)
    assert with_gap.t_ == plain.t_ + updates
    assert with_gap.loss_curve_[:-1] == curve and np.isfinite(with_gap.loss_curve_[-1])
    for learner in (with_gap, plain):
        learner.partial_fit(X, y)
    rested = model.learning_rate == 0.01 and model.solver != "adam"  # neither schedule nor bias correction
    if rested:
        assert_same_weights(with_gap, plain)


@models
def test_a_stream_may_begin_without_weight(data, model):
    late, plain = clone(model), clone(model).partial_fit(data.X, data.counts)
    late.partial_fit(data.X[:60], data.counts[:60], sample_weight=np.zeros(60))
    assert np.isfinite(late.predict(data.X)).all()
    late.partial_fit(data.X, data.counts)
    if model.learning_rate == 0.01 and model.solver != "adam":
        assert_same_weights(late, plain)
    else:
        assert late.score(data.X, data.counts) > plain.score(data.X, data.counts) - 0.2
    assert late.t_ > plain.t_


def test_fit_without_any_weight_is_an_error_and_changes_nothing(data):
    weightless = {"sample_weight": np.zeros(150)}
    for model, y in (
        (GDRegressor(), data.y),
        (GDRegressor(batch_size=10), data.y),
        (GDClassifier(), data.binary),
    ):
        with pytest.raises(ValueError, match="zero"):
            model.fit(data.X, y, **weightless)
        assert not hasattr(model, "coef_")
    with pytest.raises(ValueError, match="zero"):
        GDClassifier(class_weight={"yes": 0, "no": 0}).fit(data.X, data.binary)


def test_rows_without_weight_are_no_rows_in_a_stream(data):
    model = GDRegressor(batch_size=1, learning_rate=0.01, penalty=None, shuffle=False)
    rows = data.s > 0
    some = clone(model).partial_fit(data.X, data.y, sample_weight=data.s)
    assert_same_weights(some, model.partial_fit(data.X[rows], data.y[rows], sample_weight=data.s[rows]))


def test_verbose_prints_rows_loss_and_time_of_every_chunk(data, capsys):
    model = GDClassifier(batch_size=5, random_state=0, verbose=1)
    for X, y, _ in chunks(data, "three", [60, 1, 89]):
        model.partial_fit(X, y, **announced(data, "three"))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for number, (line, rows) in enumerate(zip(lines, [60, 1, 89], strict=True)):
        found = re.fullmatch(rf"Chunk {number + 1}, {rows} rows, objective (\S+), (\S+) s", line)
        assert_allclose(float(found[1]), model.loss_curve_[number], rtol=1e-6)
        assert 0 < float(found[2]) < 60


# ------------------------------------------------------------------------------------------------
# files
# ------------------------------------------------------------------------------------------------

SIZE, COLUMNS = 208_000_000, 100
BUDGET = 40_000_000  # bytes that a fit may take, a fifth of the file
FITS = {
    "least squares": "GDRegressor()",
    "weighted": "GDRegressor(alpha=0.1), s",
    "huber": "GDRegressor(loss='huber', max_iter=2)",
    "lasso": "GDRegressor(penalty='l1', alpha=0.01)",
    "logistic": "GDClassifier(max_iter=4)",
    "sparse logistic": "GDClassifier(penalty='l1', alpha=0.01, max_iter=1), s",
    "adam": "GDRegressor(solver='adam', learning_rate=0.1, batch_size='full', max_iter=3)",
    "stochastic": "GDRegressor(batch_size=1, learning_rate=1e-4, max_iter=1, random_state=0)",
    "mini-batch": "GDClassifier(batch_size=64, max_iter=1, random_state=0), s",
    "network": "GDRegressor(hidden_layer_sizes=(4,), max_iter=1, random_state=0), s",
}
SCRIPT = """
import json, resource, sys, threading, time, warnings
import numpy as np
from fastgd import GDClassifier, GDRegressor

def status(name):
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return 1024 * int(lines[name].split()[0])

path, dtype, order, budget, fits = sys.argv[1:4] + [int(sys.argv[4]), json.loads(sys.argv[5])]
warnings.simplefilter("ignore")
X = np.memmap(path, dtype, mode="r").reshape(-1, 100) if order == "C" else np.memmap(path, dtype, mode="r")
X = X if order == "C" else X.reshape(100, -1).T
assert X.flags.f_contiguous == (order == "F")
y = X[:, 0] - X[:, 1] + 0.5 * X[:, 2] ** 2
labels, s = (y > 0).astype(int), (np.arange(len(y)) % 7).astype(X.dtype)

def run(fit, X, rows):
    model, *weight = fit if isinstance(fit, tuple) else (fit,)
    model.set_params(tol=None if model.max_iter < 1000 else 1e-4, n_jobs=1)
    target = labels if isinstance(model, GDClassifier) else y
    model.fit(X, target[rows], sample_weight=weight[0][rows] if weight else None)
    return float(model.score(X[:2000], target[:2000]))

peak, done = {}, threading.Event()
def watch():
    while not done.wait(0.002):
        peak[name] = max(peak.get(name, 0), status("RssAnon"))

fits = {name: eval(fit) for name, fit in fits.items()}
small = np.array(X[:5000])  # threads, code and caches, before anything is measured
for name, fit in fits.items():
    run(fit, small, slice(5000))
del small
watcher = threading.Thread(target=watch)
name = "before"
watcher.start()
time.sleep(0.02)
resource.setrlimit(resource.RLIMIT_DATA, (status("VmData") + budget,) * 2)
scores = {}
try:
    for name, fit in fits.items():
        scores[name] = run(fit, X, slice(None))
finally:
    done.set()
    watcher.join()
print(json.dumps({"rss": {k: peak[k] - peak["before"] for k in fits}, "scores": scores}))
"""


@pytest.fixture(scope="module")
def file_of_numbers(tmp_path_factory):
    """A file of standard normal numbers for each dtype: rows in C order, columns in Fortran order."""

    def make(dtype):
        path = folder / f"{dtype}.dat"
        if not path.exists():
            rng = np.random.default_rng(0)
            with path.open("wb") as file:
                for _ in range(4):
                    part = rng.standard_normal(SIZE // 40 // 8, dtype=dtype)
                    for shift in range(10 if dtype == "float64" else 20):
                        np.roll(part, shift).tofile(file)
        return path

    folder = tmp_path_factory.mktemp("numbers")
    yield make
    for path in folder.iterdir():
        path.unlink()


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_fit_of_a_memory_mapped_file_takes_a_fraction_of_its_size(file_of_numbers, dtype, order):
    # anonymous memory as sampled, and a limit (RLIMIT_DATA) at which any larger allocation fails
    path = file_of_numbers(dtype)
    assert path.stat().st_size == SIZE
    by_rows = {"stochastic", "mini-batch", "network"}  # in Fortran order they copy X, as documented
    names = FITS if (dtype == "float64") == (order == "C") else ("least squares", "logistic", "mini-batch")
    fits = {name: FITS[name] for name in names if order == "C" or name not in by_rows}
    arguments = [path, dtype, order, str(BUDGET), json.dumps(fits)]
    result = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    measured = json.loads(result.stdout)
    assert max(measured["rss"].values()) < BUDGET, measured["rss"]
    assert min(measured["scores"].values()) > 0.05, measured["scores"]


@pytest.fixture(scope="module")
def streaming():
    """The example that streams a file; `run` is a run of its own, seen from outside."""
    pytest.importorskip("pyarrow")
    pytest.importorskip("rich")
    path = Path(__file__).parent.parent / "examples" / "stream_parquet.py"
    spec = spec_from_file_location("stream_parquet", path)
    example = module_from_spec(spec)
    spec.loader.exec_module(example)

    def run(file):
        """Its exit status, what it printed, and the peak of its anonymous memory."""
        command, peak = [sys.executable, path, file, "late"], 0
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            while process.poll() is None:
                status = Path(f"/proc/{process.pid}/status").read_text()
                peak = max([peak, *(1024 * int(kB) for kB in re.findall(r"RssAnon:\s*(\d+)", status))])
                time.sleep(0.002)
            return process.returncode, process.stdout.read(), peak

    example.run = run
    return example


@LINUX
@pytest.mark.slow
def test_the_example_streams_a_file_in_memory_that_does_not_grow_with_it(streaming, tmp_path):
    from pyarrow import csv, parquet

    small, large, text = (tmp_path / name for name in ("small.parquet", "large.parquet", "small.csv"))
    streaming.make_file(small, rows=60_000)
    streaming.make_file(large, rows=400_000)
    table = parquet.read_table(large)
    parquet.write_table(table, large, row_group_size=len(table), use_dictionary=False)
    assert parquet.ParquetFile(large).num_row_groups == 1 and large.stat().st_size > 60e6
    csv.write_csv(table.slice(0, 60_000), text)
    peak = {}
    for file in (small, large, text):
        code, output, peak[file] = streaming.run(file)
        assert code == 0, output
        assert 75 < float(re.search(r"([\d.]+)% told right", output)[1]) < 85
        printed = 1e6 * float(re.search(r"peak of anonymous memory (\d+) MB", output)[1])
        assert abs(printed - peak[file]) < 20e6, (printed, peak)
    assert peak[large] - peak[small] < 0.3 * large.stat().st_size, peak


@LINUX
@pytest.mark.slow
def test_the_example_takes_booleans_and_names_columns_with_nulls(streaming, tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    late, file = np.arange(1000) % 3 == 0, tmp_path / "table.parquet"
    number, null = np.where(late, 0.5, 0.6), pa.array([None, *late[1:]])
    for columns, expected in (
        ({"a": number, "b": late, "late": late}, "1000 rows"),
        ({"a": number, "b": null, "late": late}, "Column 'b' has nulls"),
        ({"a": number, "b": late, "late": null}, "Column 'late' has nulls"),
    ):
        parquet.write_table(pa.table(columns), file)
        code, output, _ = streaming.run(file)
        assert expected in output and code == ("nulls" in expected), output
