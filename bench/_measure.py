"""Fair timing: runs in turn A B A B, medians, one process, Markdown tables on standard output.

In: functions without arguments, or arrays. Out: seconds, bytes, or rows of a printed table.
Nothing here knows fastgd; the tables are built in ``bench_linear.py`` and its neighbours.
"""

import argparse
import multiprocessing
import os
import platform
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from math import ceil
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

import numpy as np
from threadpoolctl import threadpool_info

REST = 0.15  # seconds: OpenBLAS's idle threads spin for 0.1 s and more
WARM_UP = 0.1  # seconds


def seconds_of(run, number=1):
    """Seconds per call of ``run``, over ``number`` calls."""
    start = perf_counter()
    for _ in range(number):
        run()
    return (perf_counter() - start) / number


def alternate(*runs, rounds=7, number=1):
    """Median seconds per call of each run, in turn so that a drift of the machine meets all alike.

    Idle threads of BLAS and OpenMP spin for a while before they sleep, each in the other's way:
    before every timing there is a rest for those of the run before. A processor that has rested
    takes tens of milliseconds to its full speed: calls below a second are made once before one
    counts, and short ones for a while.
    """
    first = [seconds_of(run) for run in runs]
    timings = [[] for _ in runs]
    for _ in range(rounds):
        for run, once, kept in zip(runs, first, timings, strict=True):
            sleep(REST)
            warm = perf_counter() + WARM_UP
            while once < 1 and perf_counter() < warm:
                run()
            kept.append(seconds_of(run, number))
    return [median(kept) for kept in timings]


def alternate_epochs(*fits, rounds=5, long_enough=0.3):
    """Median seconds per epoch of each ``fit(n_epochs)``, in turn.

    A long fit minus a fit of one epoch, so that what a fit costs once cancels.
    """
    extras = [_extra_epochs(fit, long_enough) for fit in fits]
    short = [lambda fit=fit: fit(1) for fit in fits]
    long = [lambda fit=fit, n=1 + n: fit(n) for fit, n in zip(fits, extras, strict=True)]
    times = alternate(*short, *long, rounds=rounds)
    spans = zip(times[: len(fits)], times[len(fits) :], extras, strict=True)
    return [(long_time - short_time) / extra for short_time, long_time, extra in spans]


def _extra_epochs(fit, long_enough):
    """Epochs that take about ``long_enough`` seconds."""
    fit(1)
    one, four = (min(seconds_of(lambda n=n: fit(n)) for _ in range(3)) for n in (1, 4))
    return min(2000, max(2, ceil(3 * long_enough / max(four - one, one / 20))))


def streaming_readers(X):
    """Functions that read every byte of X once, one thread per slice.

    The fastest of them measures the read bandwidth: of X itself, so that a cache which holds X
    serves both sides of a comparison.
    """
    flat = X.ravel(order="K")
    assert np.shares_memory(flat, X), "X must be contiguous: a copy would be read instead"
    slices = np.array_split(flat, n_cpus())
    pool = ThreadPoolExecutor(n_cpus())
    return [lambda reduce=reduce: list(pool.map(reduce, slices)) for reduce in (np.sum, np.max)]


def n_cpus():
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def in_fresh_process(function, *args):
    """Result of ``function(*args)`` in a new interpreter, whose memory starts from nothing."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def resident_bytes():
    """(now, peak) of the resident memory of this process. Linux only.

    The peak is VmHWM, which starts anew with a process; ru_maxrss would inherit its parent's.
    """
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").open())
    return tuple(1024 * int(fields[name].split()[0]) for name in ("VmRSS", "VmHWM"))


def machine():
    """One line: processor, and the versions of the packages that are compared."""
    model = platform.processor() or platform.machine()
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        lines = (line.partition(":") for line in cpuinfo.open())
        model = next((value.strip() for key, _, value in lines if "model name" in key), model)
    parts = [model, f"{n_cpus()} processors", f"Python {platform.python_version()}"]
    return ", ".join([*parts, versions("fastgd", "scikit-learn", "numpy", "scipy"), blas_kernels()])


def blas_kernels():
    """For which processor OpenBLAS has kernels at work; OPENBLAS_CORETYPE may ask for a lesser one."""
    known = {info["architecture"] for info in threadpool_info() if info["internal_api"] == "openblas"}
    return f"OpenBLAS for {' and '.join(sorted(known)) or 'no known processor'}"


def versions(*packages):
    """Names of packages with their versions."""
    return ", ".join(map(_versioned, packages))


@contextmanager
def neighbours():
    """Print how busy other processes kept the machine meanwhile (Linux): they spoil any timing."""
    if not Path("/proc/stat").exists():
        yield
        return
    busy, own, start = _busy_seconds(), sum(os.times()[:4]), perf_counter()
    yield
    others = _busy_seconds() - busy - (sum(os.times()[:4]) - own)
    share = others / (perf_counter() - start) / os.cpu_count()
    print(f"\nOther processes took {max(share, 0):.0%} of the processors meanwhile.", flush=True)


def _busy_seconds():
    fields = Path("/proc/stat").open().readline().split()[1:9]
    user, nice, system, _idle, _waiting, irq, softirq, steal = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _versioned(name):
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} (not installed)"


def show_seconds(seconds):
    """Three digits and the unit that suits them: 8.91 s, 42.1 ms, 137 us."""
    unit, name = (1, "s") if seconds >= 0.9995 else (1e-3, "ms")
    if seconds < 0.9995e-3:
        unit, name = 1e-6, "us"
    number = seconds / unit
    return f"{number:.3g} {name}" if number < 999.5 else f"{number:.0f} {name}"


def show_ratio(ratio):
    """How many times: 0.87x, 1.35x, 12.4x."""
    return f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.1f}x"


def print_table(title, header, rows, note=""):
    """A Markdown table, columns aligned, that can be pasted into README.md."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    print(f"\n### {title}\n", *([note, ""] if note else []), sep="\n")
    for row in cells:
        print("|", " | ".join(map(str.ljust, row, widths)), "|", flush=True)


# ---- the command line that all benchmarks share -------------------------------------------------


def command_line(doc, sections, **more):
    """--quick, --only SECTION ..., and more options by name; ``only`` of the answer is never empty."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller tables")
    parser.add_argument("--only", nargs="+", choices=sections, metavar="SECTION", help=", ".join(sections))
    for name, settings in more.items():
        parser.add_argument(f"--{name}", **settings)
    options = parser.parse_args()
    options.only = options.only or list(sections)
    warnings.simplefilter("ignore")  # short runs do not converge: the tables show where they ended
    return options


def main(doc, sections):
    """A benchmark whose sections are functions of nothing but whether to be quick."""
    options = command_line(doc, sections)
    run_sections(options, lambda name: sections[name](options.quick))


def run_sections(options, run):
    """run(name) for each section asked for, and after it what the neighbours took meanwhile."""
    print(machine())
    for name in options.only:
        with neighbours():
            run(name)
