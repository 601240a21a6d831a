"""Logistic regression on a file that is read in pieces: Parquet or CSV, in memory that does not grow with it.

    python examples/stream_parquet.py                         a table of 480 MB, made for the occasion
    python examples/stream_parquet.py flights.parquet late    a file of yours, and its column of labels

Every batch of rows that pyarrow reads is one call of `partial_fit`. In memory are one batch and what it was
read through: blocks of a CSV file; of a Parquet file some pages of every column, and its dictionary if it has
one. Row groups may be of any size. Columns are numbers or booleans, without nulls.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet
from rich.progress import Progress, TextColumn

from fastgd import GDClassifier

ROWS = 20_000  # of a batch
BUFFER = 2**16  # bytes of a column that are read at a time


def batches(path, columns=None):
    """Batches of rows of a file, of these columns or all, and the share of the file that is read by then."""
    if path.suffix == ".csv":
        options = csv.ConvertOptions(include_columns=columns)
        with path.open("rb") as file, csv.open_csv(file, convert_options=options) as reader:
            for batch in reader:
                yield batch, min(file.tell() / path.stat().st_size, 1.0)
        return
    # without a buffer_size the columns of a row group are read whole; pre_buffer would come to hold the file
    with parquet.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER) as file:
        rows = file.metadata.num_rows
        for number, batch in enumerate(file.iter_batches(ROWS, columns=columns, use_threads=False)):
            yield batch, min((number + 1) * ROWS / rows, 1.0)


def complete(batch, name):
    """A column, if it has no nulls."""
    if batch[name].null_count:
        sys.exit(f"Column {name!r} has nulls: fill them, or leave out their rows or the column.")
    return batch[name]


def anonymous_memory():
    """Bytes of this process that belong to no file (Linux)."""
    return next(1024 * int(s.split()[1]) for s in Path("/proc/self/status").open() if "RssAnon" in s)


def make_file(path, rows=3_000_000, columns=20):
    """Columns of very different scales, and a label that depends on all of them."""
    rng, scales = np.random.default_rng(0), 10.0 ** np.linspace(-3, 3, columns)[:, None]
    schema = pa.schema({f"x{j}": pa.float64() for j in range(columns)} | {"late": pa.string()})
    with parquet.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for _ in range(0, rows, ROWS):
            X = rng.standard_normal((columns, ROWS))
            late = np.where(X.sum(axis=0) / 2 + rng.logistic(size=ROWS) > 1, "yes", "no")
            writer.write_table(pa.table([*((X + 1) * scales), late], schema))


def train(path, label, start):
    """Learn from the file; start is the anonymous memory of before."""
    peak = start
    # the classes are announced: the first rows need not have them all
    found = (complete(batch, label).unique().to_pylist() for batch, _ in batches(path, [label]))
    classes = sorted(set().union(*found))
    model = GDClassifier(batch_size=32, alpha=1e-6, random_state=0)
    right, met, rows, began = 0, 0, 0, time.perf_counter()
    with Progress(*Progress.get_default_columns(), TextColumn("{task.fields[state]}")) as progress:
        task = progress.add_task(path.name, total=1.0, state="")
        for batch, share in batches(path):
            columns = [complete(batch, name).to_numpy(False) for name in batch.schema.names if name != label]
            X, y = np.column_stack(columns).astype(float, copy=False), complete(batch, label).to_numpy(False)
            if rows:  # not learned from yet
                right, met = right + np.sum(model.predict(X) == y), met + len(y)
            model.partial_fit(X, y, classes=classes)
            rows, peak = rows + len(y), max(peak, anonymous_memory())
            progress.update(task, completed=share, state=f"loss {model.loss_curve_[-1]:.4f}")
    told = f"{right / met:.1%} told right when met" if met else "all in one batch"
    print(f"{rows} rows in {time.perf_counter() - began:.1f} s, {told}")
    size, peak, growth = (f"{n / 1e6:.0f} MB" for n in (path.stat().st_size, peak, peak - start))
    print(f"{size} of file; peak of anonymous memory {peak}, {growth} more than before")


if __name__ == "__main__":
    start = anonymous_memory()
    if len(sys.argv) == 3:
        train(Path(sys.argv[1]), sys.argv[2], start)
    else:
        with tempfile.TemporaryDirectory() as folder:
            make_file(Path(folder) / "table.parquet")
            train(Path(folder) / "table.parquet", "late", start)
